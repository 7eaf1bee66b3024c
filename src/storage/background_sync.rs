//! Starts writing a long file to disk while the rest of it is still being made; the standard
//! library can only sync at the end.
//!
//! A file that appears only when it is complete has to be on the disk before it gets its name. An
//! operating system with free memory writes nothing until it is asked to, so all of the writing
//! would happen at the end.

use std::fs::File;
use std::io::{self, Write};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

/// Writes to a file, and regularly asks the operating system, from a thread of its own, to write to
/// disk what it has. Files of less than [`SYNC_INTERVAL_BYTES`] need no thread.
#[derive(Debug)]
pub(crate) struct BackgroundSync<'a> {
    file: &'a File,
    /// Bytes since the last request.
    unasked: usize,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    ask: Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

const SYNC_INTERVAL_BYTES: usize = 32 << 20;

impl<'a> BackgroundSync<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        Self { file, unasked: 0, asked: None }
    }

    /// Waits for the requests. An operating system reports a failed write to the first process that
    /// asks, so the failure must be taken from here.
    pub(crate) fn finish(self) -> io::Result<()> {
        let Some(Asked { ask, thread }) = self.asked else { return Ok(()) };
        drop(ask);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn ask(&mut self) -> io::Result<()> {
        if self.asked.is_none() {
            let file = self.file.try_clone()?;
            let (ask, requests) = bounded::<()>(1);
            let thread = thread::Builder::new()
                .name("data-diet-sync".to_owned())
                .spawn(move || requests.iter().try_for_each(|()| file.sync_data()))?;
            self.asked = Some(Asked { ask, thread });
        }
        // A disk that is still busy gets these bytes with the next request. A failure waits for
        // `finish`.
        let _busy = self.asked.as_ref().map(|asked| asked.ask.try_send(()));
        Ok(())
    }
}

impl Write for BackgroundSync<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&mut &*self.file).write(bytes)?;
        self.unasked += written;
        if self.unasked >= SYNC_INTERVAL_BYTES {
            self.unasked = 0;
            self.ask()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_once_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long");
        let file = File::create_new(&path).unwrap();
        let mut early = BackgroundSync::new(&file);
        let piece: Vec<u8> = (0..1 << 20).map(|place| (place % 251) as u8).collect();
        for _ in 0..70 {
            early.write_all(&piece).unwrap();
        }
        early.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == piece.repeat(70));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_disk_refuses_is_told_at_the_end() {
        // Refuses requests to sync.
        let (reader, writer) = io::pipe().unwrap();
        let drain = thread::spawn(move || io::copy(&mut { reader }, &mut io::sink()));
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let mut early = BackgroundSync::new(&file);
        early.write_all(&vec![0; SYNC_INTERVAL_BYTES + 1]).unwrap();
        early.finish().unwrap_err();
        drop(file);
        drain.join().unwrap().unwrap();
    }
}
