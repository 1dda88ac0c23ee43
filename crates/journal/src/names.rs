//! The names of files in a stream's folder.
//!
//! `<seq>.seg` is a segment, sealed or not; `<seq>-<acked at>.acked` is one that the portal has taken; `.tmp` is one being written by recovery. Numbers
//! are 16 hexadecimal digits. The state stands in the name so that a start with a day of retained segments lists the folder and opens only the rest.

use std::path::{Path, PathBuf};

/// The folder for segments that the portal refused, inside the journal's folder.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The folder for damaged originals, inside the journal's folder.
pub(crate) const DAMAGED: &str = "damaged";

/// What a file in a stream's folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Segment { seq: u64 },
    Acked { seq: u64, acked_at: i64 },
    Unfinished,
    Other,
}

impl Name {
    pub fn parse(name: &str) -> Self {
        let Some((stem, ending)) = name.rsplit_once('.') else { return Self::Other };
        match ending {
            "seg" => number(stem).map_or(Self::Other, |seq| Self::Segment { seq }),
            "acked" => {
                let parts = stem.split_once('-').and_then(|(seq, at)| Some((number(seq)?, number(at)?)));
                parts.map_or(Self::Other, |(seq, at)| Self::Acked { seq, acked_at: at.cast_signed() })
            }
            "tmp" => Self::Unfinished,
            _ => Self::Other,
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Where a segment stands until it is acked.
pub(crate) fn segment(stream_dir: &Path, seq: u64) -> PathBuf {
    stream_dir.join(format!("{seq:016x}.seg"))
}

/// Where recovery writes a segment before it takes its name.
pub(crate) fn unfinished(stream_dir: &Path, seq: u64) -> PathBuf {
    stream_dir.join(format!("{seq:016x}.tmp"))
}

/// Where a segment stands after it was acked.
pub(crate) fn acked(stream_dir: &Path, seq: u64, acked_at: i64) -> PathBuf {
    stream_dir.join(format!("{seq:016x}-{:016x}.acked", acked_at.cast_unsigned()))
}

/// A name in `folder` that no file has yet: `<stream>-<seq>.seg`, then with `.1`, `.2`, ..
pub(crate) fn set_aside(folder: &Path, stream: u32, seq: u64) -> PathBuf {
    let plain = first_set_aside(folder, stream, seq);
    let numbered = (1u32..).map(|n| folder.join(format!("{stream}-{seq:016x}.seg.{n}")));
    std::iter::once(plain.clone()).chain(numbered).find(|path| !path.exists()).unwrap_or(plain)
}

/// The name that a segment takes in `folder` if it is the first of its number there.
pub(crate) fn first_set_aside(folder: &Path, stream: u32, seq: u64) -> PathBuf {
    folder.join(format!("{stream}-{seq:016x}.seg"))
}

/// The stream and seq of a file that was set aside.
pub(crate) fn parse_set_aside(name: &str) -> Option<(u32, u64)> {
    let (stream, rest) = name.split_once('-')?;
    let (seq, _) = rest.split_once(".seg")?;
    Some((stream.parse().ok()?, number(seq)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let dir = Path::new("/d");
        for (path, name) in [
            (segment(dir, 0x1f), Name::Segment { seq: 0x1f }),
            (acked(dir, 7, -1), Name::Acked { seq: 7, acked_at: -1 }),
            (unfinished(dir, 7), Name::Unfinished),
            (dir.join("head"), Name::Other),
            (dir.join("000000000000001F.seg"), Name::Other),
            (dir.join("1f.seg"), Name::Other),
        ] {
            assert_eq!(Name::parse(path.file_name().and_then(|n| n.to_str()).unwrap()), name, "{}", path.display());
        }
    }
}
