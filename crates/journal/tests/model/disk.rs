//! What a disk holds after a power loss: of each page that was not flushed, either its new or its old bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::files;

pub type Files = BTreeMap<PathBuf, Vec<u8>>;

const PAGE: usize = 4096;

/// A small generator for choices (SplitMix64), seeded by the test case.
pub struct Choices(pub u64);

impl Choices {
    pub fn flip(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

/// The seq that a file of a stream holds, whatever its state; `None` for others.
fn seq(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    (name.ends_with(".seg") || name.ends_with(".acked")).then(|| name.get(..16)).flatten()
}

/// The seq of a segment that is not acked.
pub fn waiting_seq(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    path.starts_with("0").then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

/// The folder was flushed: files have the names that they have now, and of their pages what was flushed before.
pub fn flush_names(flushed: &mut Files, now: &Files) {
    let renamed = |(path, bytes): (&PathBuf, &Vec<u8>)| Some((successor(now, path)?.to_owned(), bytes.clone()));
    *flushed = flushed.iter().filter_map(renamed).collect();
}

/// The last name that a segment of `flushed` has in `now`, if it is still there.
fn successor<'a>(now: &'a Files, flushed: &Path) -> Option<&'a Path> {
    if let Some((path, _)) = now.get_key_value(flushed) {
        return Some(path);
    }
    let wanted = seq(flushed)?;
    now.keys().find(|path| path.parent() == flushed.parent() && seq(path) == Some(wanted)).map(PathBuf::as_path)
}

/// Mixes the files as they were when last flushed with those there are now. Lengths are as they are now: they belong to calls that flush.
pub fn after_power_loss(flushed: &Files, now: &Files, choices: &mut Choices) -> Files {
    let mut left = Files::new();
    let mut taken = std::collections::BTreeSet::new();
    for (path, old) in flushed {
        // A segment that went into quarantine has no page that was not flushed.
        let Some(next) = successor(now, path) else { continue };
        let new = &now[next];
        taken.insert(next.to_owned());
        let mut bytes = new.clone();
        for (index, page) in bytes.chunks_mut(PAGE).enumerate() {
            let before = old.get(index * PAGE..index * PAGE + page.len());
            if let Some(before) = before.filter(|before| *before != page)
                && choices.flip()
            {
                page.copy_from_slice(before);
            }
        }
        // A renaming that was not flushed may be undone.
        let name = if next != path && choices.flip() { path.clone() } else { next.to_owned() };
        left.insert(name, bytes);
    }
    let mut names_kept = true;
    for (path, new) in now.iter().filter(|(path, _)| !taken.contains(*path)) {
        if path.starts_with("quarantine") {
            left.insert(path.clone(), new.clone());
            continue;
        }
        // A file made since: any of its pages may be missing, and so may its name. File systems keep names in the order in which they were made.
        names_kept = names_kept && choices.flip();
        if names_kept {
            let mut bytes = new.clone();
            bytes.chunks_mut(PAGE).for_each(|page| {
                if choices.flip() {
                    page.fill(0);
                }
            });
            left.insert(path.clone(), bytes);
        }
    }
    left
}

pub fn write(dir: &Path, contents: &Files) {
    for (path, bytes) in contents {
        let target = dir.join(path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, bytes).unwrap();
    }
}

/// What all files take, in whole pages, but the identity.
pub fn used(dir: &Path) -> u64 {
    let all = files(dir);
    all.iter()
        .filter(|(path, _)| path.as_path() != Path::new("journal"))
        .map(|(_, bytes)| (bytes.len() as u64).next_multiple_of(4096))
        .sum()
}
