//! The folder that holds everything a local stack keeps.
//!
//! ```text
//! <data>/lock        held while a stack runs
//! <data>/postgres/   the private cluster
//! <data>/gateway/    the gateway's journal and its last good policy
//! <data>/secrets/    the database password, the gateway's credential (mode 0600)
//! <data>/logs/       one file a process
//! <data>/run/        process ids, so that what a killed run left behind is stopped
//! ```

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// An opened data folder; the lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    _lock: File,
}

/// The folder that is used when none is named: per user, and for root one that the `postgres` account may enter.
pub fn default_path() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/tollkeeper".into());
    }
    #[allow(clippy::disallowed_methods, reason = "the folder is a setting of this module")]
    let (data_home, home) = (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"));
    let base = data_home.map(PathBuf::from).or_else(|| home.map(|home| Path::new(&home).join(".local/share")));
    Ok(base.context("neither XDG_DATA_HOME nor HOME is set; choose a data folder with --data-dir")?.join("tollkeeper"))
}

/// A folder for a stack of which nothing is to be kept, removed when it is dropped. The account of a Postgres that root starts may pass through.
pub fn temporary(prefix: &str) -> anyhow::Result<TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp").context("cannot create a temporary folder")
}

impl DataDir {
    /// Makes the folder where it is missing, and takes its lock.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        for folder in ["", "gateway", "secrets", "logs", "run"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}; choose another folder with --data-dir", folder.display()))?;
        }
        // Postgres runs under another account when root starts it, and must be able to pass through.
        fs::set_permissions(root, fs::Permissions::from_mode(0o711))?;
        fs::set_permissions(root.join("secrets"), fs::Permissions::from_mode(0o700))?;
        fs::set_permissions(root.join("logs"), fs::Permissions::from_mode(0o700))?;
        let lock = File::options().create(true).truncate(false).write(true).open(root.join("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another stack is running on {}; stop it first, or choose another folder with --data-dir", root.display());
        }
        Ok(Self { root: root.canonicalize()?, _lock: lock })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Removes all that a stack has kept here. The lock stays held.
    pub fn wipe(&self) -> anyhow::Result<()> {
        for folder in ["postgres", "gateway", "secrets", "logs", "run"] {
            let folder = self.root.join(folder);
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            if !folder.ends_with("postgres") {
                fs::create_dir(&folder)?;
            }
        }
        fs::set_permissions(self.root.join("secrets"), fs::Permissions::from_mode(0o700))?;
        Ok(fs::set_permissions(self.root.join("logs"), fs::Permissions::from_mode(0o700))?)
    }

    /// A secret of this stack; `None` before it was written.
    pub fn secret(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.root.join("secrets").join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Keeps a secret, readable by this user only.
    pub fn keep_secret(&self, name: &str, secret: &str) -> anyhow::Result<()> {
        let path = self.root.join("secrets").join(name);
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        file.write_all(secret.as_bytes())?;
        Ok(file.sync_all()?)
    }
}
