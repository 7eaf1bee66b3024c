//! A directory that appears under its name only when it is complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, ErrorKind, Result};

/// Filled beside its final place and moved there by [`commit`](Self::commit). Dropped before that,
/// it leaves nothing behind. It never replaces anything but an empty directory.
#[derive(Debug)]
pub(crate) struct AtomicDirectory {
    draft: TempDir,
    path: PathBuf,
}

impl AtomicDirectory {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        ensure_absent(path)?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".data-diet-").suffix(".draft");
        #[cfg(unix)]
        {
            // With the permissions of an ordinary new directory.
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            builder.permissions(permissions);
        }
        let draft = builder.tempdir_in(parent).map_err(|error| Error::io("create", path, error))?;
        Ok(Self { draft, path: path.to_owned() })
    }

    /// Returns the path at which to write a file of the directory, after creating its parent
    /// directories.
    pub(crate) fn place(&self, file: &Path) -> Result<PathBuf> {
        let place = self.draft.path().join(file);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| Error::io("create", &self.path.join(file), error))?;
        }
        Ok(place)
    }

    /// Moves the directory to its name.
    pub(crate) fn commit(self) -> Result<()> {
        ensure_absent(&self.path)?;
        let failed = |error: io::Error| Error::io("write", &self.path, error);
        if self.path.exists() {
            fs::remove_dir(&self.path).map_err(failed)?;
        }
        fs::rename(self.draft.path(), &self.path).map_err(failed)?;
        // Nothing is left to remove.
        let _moved = self.draft.keep();
        Ok(())
    }
}

fn ensure_absent(path: &Path) -> Result<()> {
    let taken = |what: &str| {
        let message = format!(
            "output: expected a directory that is new or empty, got {}, which {what}",
            path.display()
        );
        Err(Error::new(ErrorKind::AlreadyExists, message))
    };
    match fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                taken("holds something")
            } else {
                Ok(())
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) if path.is_file() => taken("is a file"),
        Err(error) => Err(Error::io("list", path, error)),
    }
}
