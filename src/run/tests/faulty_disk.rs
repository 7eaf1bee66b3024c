//! A disk of which every call can be made to fail, and which can be full.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::storage::{Disk, DiskFile, LocalDisk};

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    CreateDir,
    Create,
    Write,
    SetLen,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

/// The local disk, behind faults that a test asks for. Nothing is synced in truth: that takes most of
/// the time of tests for which only its failure matters.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Every call so far.
    calls: Vec<Call>,
    /// Bytes that writes may still take.
    room: Option<u64>,
    faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    /// Which calls count; all if `None`.
    call: Option<Call>,
    /// Calls to let through first.
    after: usize,
    /// Calls that fail then.
    times: usize,
    kind: io::ErrorKind,
}

impl FaultyDisk {
    pub(crate) fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Lets writes take this many more bytes; the write that exceeds them stores what fits.
    pub(crate) fn set_room(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// Makes one call fail, after `after` of its kind.
    pub(crate) fn fail_once(&self, call: Call, after: usize, kind: io::ErrorKind) {
        self.lock().faults.push(Fault { call: Some(call), after, times: 1, kind });
    }

    /// Makes every call of a kind fail.
    pub(crate) fn fail_always(&self, call: Call, kind: io::ErrorKind) {
        self.lock().faults.push(Fault { call: Some(call), after: 0, times: usize::MAX, kind });
    }

    /// Makes the one call after `after` calls of any kind fail.
    pub(crate) fn fail_call(&self, after: usize, kind: io::ErrorKind) {
        self.lock().faults.push(Fault { call: None, after, times: 1, kind });
    }

    /// Lets `after` calls through and none after them: the process is dead from there on. A write that
    /// dies stores half of its bytes.
    pub(crate) fn die_after(&self, after: usize) {
        let kind = io::ErrorKind::Other;
        self.lock().faults.push(Fault { call: None, after, times: usize::MAX, kind });
    }

    /// Repairs the disk.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.room = None;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn check(&self, call: Call) -> io::Result<()> {
        let mut state = self.lock();
        state.calls.push(call);
        let mut failed = Ok(());
        for fault in &mut state.faults {
            if fault.call.is_some_and(|wanted| wanted != call) || fault.times == 0 {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else {
                fault.times -= 1;
                failed = Err(io::Error::new(fault.kind, format!("injected into {call:?}")));
            }
        }
        failed
    }

    /// How much of a write of this length is stored.
    fn stored(&self, length: usize) -> usize {
        let mut state = self.lock();
        let Some(room) = &mut state.room else { return length };
        let stored = length.min(*room as usize);
        *room -= stored as u64;
        stored
    }
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check(Call::CreateDir)?;
        LocalDisk.create_dir_all(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.check(Call::Create)?;
        let file = LocalDisk.create_new(path)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), file, length: 0 }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Call::Rename)?;
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Call::Remove)?;
        LocalDisk.remove(path)
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        self.check(Call::SyncDir)
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    file: Box<dyn DiskFile>,
    length: u64,
}

impl DiskFile for FaultyFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let failed = self.disk.check(Call::Write);
        let stored = match failed {
            Ok(()) => self.disk.stored(bytes.len()),
            Err(_) => bytes.len() / 2,
        };
        self.file.write_all_at(&bytes[..stored], offset)?;
        self.length = self.length.max(offset + stored as u64);
        failed?;
        if stored < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.disk.check(Call::SetLen)?;
        if let Some(room) = &mut self.disk.lock().room {
            *room += self.length.saturating_sub(length);
        }
        self.length = length;
        self.file.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.check(Call::Sync)
    }
}
