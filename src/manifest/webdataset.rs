//! Shards of the webdataset library: tar files whose members with the same name up to the first dot are a sample.
//!
//! Each shard is read twice: first for the names of its members, which decide what is kept, then to
//! copy members byte for byte, headers included. Shards are copied side by side; memory holds the
//! names in one shard, and the decisions about those that are being copied.
//!
//! Source for names and samples: `webdataset.tariterators` (`base_plus_ext`, `group_by_keys`) of the
//! webdataset library.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use tar::{Archive, Entry, EntryType};

use super::compression::{self, Encoder, ManifestCompression};
use super::directory::ManifestDirectory;
use super::row_filter::RowFilter;
use super::{Manifest, ManifestSummary};
use crate::error::{Error, Result};
use crate::selection::Selection;
use crate::storage::AtomicDirectory;

const BLOCK: u64 = 512;

/// Filters the shards of a directory into shards of the same names.
pub(super) fn filter_shards(
    manifest: &Manifest,
    selection: &Selection,
    directory: &ManifestDirectory<'_>,
    output: Option<&Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<ManifestSummary> {
    let whole = directory.path().display().to_string();
    let mut row_filter = RowFilter::new(selection, manifest, &whole);
    let draft = output.map(AtomicDirectory::create).transpose()?;
    let memory = manifest.memory;
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let (to_copy, jobs) = bounded::<Job>(1);
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let jobs = jobs.clone();
                scope.spawn(move || copy_shards(&jobs, memory))
            })
            .collect();
        drop(jobs);
        let decided = directory.files().iter().try_for_each(|name| {
            let from = directory.path().join(name);
            row_filter.start_file(&from.display().to_string());
            let samples = scan(&from, memory)?;
            let kept = decide(manifest, &samples, &mut row_filter)?;
            progress(std::fs::metadata(&from).map_or(0, |metadata| metadata.len()));
            let Some(draft) = &draft else { return Ok(()) };
            let job = Job { to: draft.place(name)?, from, kept };
            // A worker that has failed says so itself.
            let _nobody_copies_any_more = to_copy.send(job);
            Ok(())
        });
        drop(to_copy);
        let mut copied = Ok(());
        for worker in workers {
            let outcome = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            copied = copied.and(outcome);
        }
        decided.and(copied)
    })?;
    let summary = row_filter.finish()?;
    draft.map_or(Ok(()), AtomicDirectory::commit)?;
    Ok(summary)
}

fn decide(
    manifest: &Manifest,
    samples: &[String],
    row_filter: &mut RowFilter<'_>,
) -> Result<Vec<bool>> {
    let mut ids = Vec::with_capacity(samples.len());
    for sample in samples {
        let id = match &manifest.key {
            None => Ok(row_filter.id_of_row()),
            Some(column) if row_filter.maps_keys() => {
                row_filter.id_of_text(sample.as_bytes(), column)
            }
            // Names have directories and zeros before the number.
            Some(column) => {
                let name = sample.rsplit('/').next().unwrap_or(sample);
                let digits = name.trim_start_matches('0');
                let digits = if digits.is_empty() && !name.is_empty() { "0" } else { digits };
                row_filter.id_of_text(digits.as_bytes(), column)
            }
        };
        ids.push(id.map_err(|bad| row_filter.refuse(bad, None))?);
    }
    let mut keep_flags = Vec::new();
    row_filter.decide(&ids, &mut keep_flags);
    Ok(keep_flags)
}

/// A shard to copy, and which of its samples are kept.
struct Job {
    from: PathBuf,
    to: PathBuf,
    kept: Vec<bool>,
}

fn copy_shards(jobs: &Receiver<Job>, memory: u64) -> Result<()> {
    let mut outcome = Ok(());
    for job in jobs {
        // After a failure the other shards need not be copied.
        if outcome.is_ok() {
            outcome = copy(&job, memory);
        }
    }
    outcome
}

/// Opens a shard, decompressed.
fn open(path: &Path, memory: u64) -> Result<(ManifestCompression, Archive<impl Read + use<>>)> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let named = match path.extension() {
        Some(extension) if extension == "tgz" => ManifestCompression::Gzip,
        _ => ManifestCompression::from_path(path),
    };
    let decoded = compression::decode(Box::new(file), named, memory)
        .map_err(|error| unreadable(path, error))?;
    Ok((decoded.compression, Archive::new(decoded.stream)))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    if compression::is_damage(&error) {
        return Error::corrupt(path, error.to_string());
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => Error::io("read", path, error),
        _ => Error::corrupt(path, format!("is not a tar file that can be read: {error}")),
    }
}

/// Returns the keys of the samples of a shard.
fn scan(path: &Path, memory: u64) -> Result<Vec<String>> {
    let (_, mut archive) = open(path, memory)?;
    let mut members = Members::default();
    let mut samples: Vec<String> = Vec::new();
    for entry in archive.entries().map_err(|error| unreadable(path, error))?.raw(true) {
        let mut entry = entry.map_err(|error| unreadable(path, error))?;
        let member = members.take(&mut entry).map_err(|error| unreadable(path, error))?;
        if let Member::Of(key) = member
            && samples.last() != Some(&key)
        {
            samples.push(key);
        }
    }
    Ok(samples)
}

fn copy(job: &Job, memory: u64) -> Result<()> {
    let (compression, mut archive) = open(&job.from, memory)?;
    let failed = |error| Error::io("write", &job.to, error);
    let file = File::create_new(&job.to).map_err(failed)?;
    let output = io::BufWriter::with_capacity(1 << 18, &file);
    let mut output = Encoder::new(output, compression).map_err(failed)?;
    let unreadable = |error| unreadable(&job.from, error);
    let mut members = Members::default();
    let mut sample: Option<(String, bool)> = None;
    let mut kept = job.kept.iter();
    // Headers that describe the member after them.
    let mut pending = Vec::new();
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        let header = *entry.header().as_bytes();
        let member = members.take(&mut entry).map_err(unreadable)?;
        let keep = match member {
            Member::Describes(content) => {
                pending.extend_from_slice(&header);
                pending.extend_from_slice(&content);
                pending.resize(pending.len().next_multiple_of(BLOCK as usize), 0);
                continue;
            }
            Member::Other => true,
            Member::Of(key) => match &sample {
                Some((same, keep)) if *same == key => *keep,
                _ => {
                    let keep = *kept.next().ok_or_else(|| {
                        Error::corrupt(&job.from, "has changed while it was read")
                    })?;
                    sample = Some((key, keep));
                    keep
                }
            },
        };
        let described = std::mem::take(&mut pending);
        if !keep {
            continue;
        }
        output.write_all(&described).and_then(|()| output.write_all(&header)).map_err(failed)?;
        copy_content(&mut entry, &mut output, &unreadable, &failed)?;
    }
    // Two blocks of zeros end an archive.
    output.write_all(&[0; 2 * BLOCK as usize]).and_then(|()| output.finish()).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// Copies what a member holds, up to the end of its last block.
fn copy_content<W: Write>(
    entry: &mut Entry<'_, impl Read>,
    output: &mut Encoder<W>,
    unreadable: &impl Fn(io::Error) -> Error,
    failed: &impl Fn(io::Error) -> Error,
) -> Result<()> {
    let mut buffer = [0; 1 << 14];
    let mut length = 0_u64;
    loop {
        let read = match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        output.write_all(&buffer[..read]).map_err(failed)?;
        length += read as u64;
    }
    let padding = (length.next_multiple_of(BLOCK) - length) as usize;
    output.write_all(&[0; BLOCK as usize][..padding]).map_err(failed)
}

/// What a member of an archive is.
enum Member {
    /// A part of the sample with this key.
    Of(String),
    /// Something that a loader skips.
    Other,
    /// A header with the name or other properties of the member after it.
    Describes(Vec<u8>),
}

/// Finds the names of members, some of which stand in headers of their own.
#[derive(Default)]
struct Members {
    long_name: Option<Vec<u8>>,
}

impl Members {
    fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<Member> {
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let content = read_all(entry)?;
                let name = content.split(|&byte| byte == 0).next().unwrap_or_default();
                self.long_name = Some(name.to_vec());
                return Ok(Member::Describes(content));
            }
            EntryType::XHeader => {
                let content = read_all(entry)?;
                for extension in tar::PaxExtensions::new(&content) {
                    let extension = extension?;
                    if extension.key_bytes() == b"path" {
                        self.long_name = Some(extension.value_bytes().to_vec());
                    }
                }
                return Ok(Member::Describes(content));
            }
            EntryType::GNULongLink => return Ok(Member::Describes(read_all(entry)?)),
            _ => {}
        }
        let short_name = entry.header().path_bytes().into_owned();
        let name = self.long_name.take().unwrap_or(short_name);
        let is_file = entry.header().entry_type().is_file();
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok(match key(&name).filter(|_| is_file) {
            Some(key) => Member::Of(key.to_owned()),
            None => Member::Other,
        })
    }
}

fn read_all(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    /// Names of files are not longer.
    const MOST: u64 = 1 << 20;
    let mut content = Vec::new();
    entry.take(MOST).read_to_end(&mut content)?;
    Ok(content)
}

/// Returns the key of the sample to which a file belongs; `None` for one that loaders skip.
fn key(name: &str) -> Option<&str> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let base = &name[start..];
    if name.starts_with("__") && name.ends_with("__") {
        return None;
    }
    match base.find('.') {
        Some(dot) if dot > 0 => Some(&name[..start + dot]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_library() {
        for (name, expected) in [
            ("000.jpg", Some("000")),
            ("a/b/000.seg.png", Some("a/b/000")),
            ("a.b/000.jpg", Some("a.b/000")),
            ("./7.cls", Some("./7")),
            ("README", None),
            (".hidden", None),
            ("__meta__", None),
            ("__index__.json", Some("__index__")),
        ] {
            assert_eq!(key(name), expected, "{name}");
        }
    }
}
