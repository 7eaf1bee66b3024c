//! A disk that forgets, when the power is cut, what was not synced.
//!
//! The model: a file's content is what its last sync saw, and may be anything written since if chance
//! will have it. Creations, renames and removals are safe once a directory that they touch was synced;
//! of the others a stretch from the oldest on survives. A rename is there or is not, never half of it.
//! Directories themselves survive: file systems that journal write a directory's entry with what is
//! synced in it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::storage::{Disk, DiskFile, LocalDisk};

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterCut {
    Nothing,
    Everything,
    /// Some of it, by this seed.
    Some(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct LossyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    root: PathBuf,
    files: Vec<Content>,
    /// What is visible now.
    live: BTreeMap<PathBuf, usize>,
    entries: Vec<Entry>,
    failing_sync: Option<bool>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    safe: Vec<u8>,
    written: Vec<u8>,
}

/// A change of directories.
#[derive(Clone, Debug)]
struct Entry {
    safe: bool,
    file: usize,
    removed: Option<PathBuf>,
    added: Option<PathBuf>,
}

impl LossyDisk {
    /// What lies under the root already is safe.
    pub(crate) fn new(root: &Path) -> Self {
        let mut state = State { root: root.to_owned(), ..State::default() };
        for path in files_under(root) {
            let bytes = fs::read(&path).unwrap();
            state.add(path.clone(), Content { safe: bytes.clone(), written: bytes });
            state.entries.push(Entry {
                safe: true,
                file: state.files.len() - 1,
                removed: None,
                added: Some(path),
            });
        }
        Self(Arc::new(Mutex::new(state)))
    }

    /// Makes the next sync of a file fail, after its data has arrived or without.
    pub(crate) fn fail_next_sync(&self, data_arrives: bool) {
        self.lock().failing_sync = Some(data_arrives);
    }

    /// Leaves on the local disk what the power cut leaves. Locks are not files of this disk.
    pub(crate) fn cut_power(&self, after: AfterCut) {
        let state = self.lock();
        let mut random =
            StdRng::seed_from_u64(if let AfterCut::Some(seed) = after { seed } else { 0 });
        let unsafe_entries = state.entries.iter().filter(|entry| !entry.safe).count();
        let mut lucky = match after {
            AfterCut::Nothing => 0,
            AfterCut::Everything => unsafe_entries,
            AfterCut::Some(_) => random.random_range(0..=unsafe_entries),
        };
        let mut left: BTreeMap<&Path, usize> = BTreeMap::new();
        for entry in &state.entries {
            if !entry.safe {
                if lucky == 0 {
                    continue;
                }
                lucky -= 1;
            }
            if let Some(path) = &entry.removed {
                left.remove(path.as_path());
            }
            if let Some(path) = &entry.added {
                left.insert(path, entry.file);
            }
        }
        for path in files_under(&state.root) {
            if path.extension().is_none_or(|extension| extension != "lock") {
                fs::remove_file(path).unwrap();
            }
        }
        for (path, file) in left {
            let Content { safe, written } = &state.files[file];
            let written_survives = match after {
                AfterCut::Nothing => false,
                AfterCut::Everything => true,
                AfterCut::Some(_) => random.random(),
            };
            fs::write(path, if written_survives { written } else { safe }).unwrap();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn add(&mut self, path: PathBuf, content: Content) {
        self.live.insert(path, self.files.len());
        self.files.push(content);
    }
}

fn files_under(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { files.push(path) }
        }
    }
    files.sort_unstable();
    files
}

impl Disk for LossyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir_all(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let mut state = self.lock();
        let number = state.files.len();
        state.add(path.to_owned(), Content::default());
        let added = Some(path.to_owned());
        state.entries.push(Entry { safe: false, file: number, removed: None, added });
        Ok(Box::new(ForgetfulFile { disk: self.clone(), number, file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)?;
        let mut state = self.lock();
        let file = state.live.remove(from).expect("a file of this disk");
        state.live.insert(to.to_owned(), file);
        let (removed, added) = (Some(from.to_owned()), Some(to.to_owned()));
        state.entries.push(Entry { safe: false, file, removed, added });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)?;
        let mut state = self.lock();
        let file = state.live.remove(path).expect("a file of this disk");
        let removed = Some(path.to_owned());
        state.entries.push(Entry { safe: false, file, removed, added: None });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let touches =
            |side: &Option<PathBuf>| side.as_ref().and_then(|it| it.parent()) == Some(path);
        for entry in &mut self.lock().entries {
            entry.safe |= touches(&entry.removed) || touches(&entry.added);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct ForgetfulFile {
    disk: LossyDisk,
    number: usize,
    file: File,
}

impl ForgetfulFile {
    fn note_written(&mut self) -> io::Result<()> {
        let mut written = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut written)?;
        self.disk.lock().files[self.number].written = written;
        Ok(())
    }
}

impl DiskFile for ForgetfulFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        DiskFile::write_all_at(&mut self.file, bytes, offset)?;
        self.note_written()
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.note_written()
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let failing = state.failing_sync.take();
        let content = &mut state.files[self.number];
        if failing != Some(false) {
            content.safe.clone_from(&content.written);
        }
        if failing.is_some() {
            return Err(io::Error::other("injected into Sync"));
        }
        Ok(())
    }
}
