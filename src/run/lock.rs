//! One writer per rank: an advisory lock, which the operating system releases when the process
//! dies.

use std::fs::{File, OpenOptions, TryLockError};

use super::layout::RunLayout;
use crate::error::{Error, ErrorKind, Result};

/// Held while a rank of a run is written, sealed or recovered.
#[derive(Debug)]
pub(crate) struct RankLock {
    _file: File,
}

impl RankLock {
    /// Takes the lock, or fails with [`ErrorKind::Busy`] if another recorder holds it.
    pub(crate) fn take(layout: &RunLayout) -> Result<Self> {
        let path = layout.lock();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| Error::io("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "run `{}` (rank {}) is being recorded by another process or hook, which holds {}",
                    layout.run(),
                    layout.rank(),
                    path.display()
                ),
            )),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path, error)),
        }
    }
}
