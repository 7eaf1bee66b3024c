//! A file that appears under its name only when it is complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, ErrorKind, Result};

/// Written beside its final place and moved there by [`commit`](Self::commit). Dropped before that,
/// it leaves nothing behind, and an existing file stays as it was.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    draft: NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Self::create_in(path, directory)
    }

    /// Like `create`, but written in another directory of the same file system, where readers take
    /// every file they see for a finished one.
    pub(crate) fn create_in(path: &Path, directory: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::invalid(format!(
                "output: expected a file name, got the directory {}",
                path.display()
            )));
        }
        // A rename would replace the device or pipe that other programs write to.
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::invalid(format!(
                "output: expected the name of an ordinary file, got {}, which is not one",
                path.display()
            )));
        }
        let draft = tempfile::Builder::new()
            .prefix(".data-diet-")
            .suffix(".draft")
            .make_in(directory, |path| File::options().write(true).create_new(true).open(path))
            .map_err(|error| Error::io("create", path, error))?;
        // `make_in` carries any file type; a named file gets the permissions of an ordinary new
        // file.
        Ok(Self { draft, path: path.to_owned() })
    }

    /// Returns the final name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.draft.as_file_mut()
    }

    /// Moves the file to its name, and fails if the name exists.
    pub(crate) fn commit_new(self) -> Result<()> {
        let Self { draft, path } = self;
        let failed = |error: io::Error| Error::io("write", &path, error);
        draft.as_file().sync_all().map_err(failed)?;
        draft.persist_noclobber(&path).map(drop).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => Error::new(
                ErrorKind::AlreadyExists,
                format!("{} already exists and is never replaced", path.display()),
            ),
            _ => failed(error.error),
        })
    }

    /// Moves the file to its name.
    pub(crate) fn commit(self) -> Result<()> {
        let Self { draft, path } = self;
        let failed = |error: io::Error| Error::io("write", &path, error);
        draft.as_file().sync_all().map_err(failed)?;
        // The file keeps the permissions of the one it replaces.
        if let Ok(metadata) = fs::metadata(&path) {
            draft.as_file().set_permissions(metadata.permissions()).map_err(failed)?;
        }
        draft.persist(&path).map(drop).map_err(|error| failed(error.error))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_is_no_ordinary_file_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = AtomicFile::create(&path).unwrap_err();
        assert!(error.to_string().contains("expected the name of an ordinary file"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let [drafts, table] = ["drafts", "table"].map(|name| directory.path().join(name));
        fs::create_dir(&drafts).unwrap();
        fs::create_dir(&table).unwrap();
        let path = table.join("part");
        let mut file = AtomicFile::create_in(&path, &drafts).unwrap();
        file.write_all(b"mine").unwrap();
        assert_eq!(fs::read_dir(&table).unwrap().count(), 0, "drafts are out of sight");
        fs::write(&path, "theirs").unwrap();
        let error = file.commit_new().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(&drafts).unwrap().count(), 0);
        let mut file = AtomicFile::create_in(&table.join("next"), &drafts).unwrap();
        file.write_all(b"mine").unwrap();
        file.commit_new().unwrap();
        assert_eq!(fs::read(table.join("next")).unwrap(), b"mine");
    }
}
