//! Streams the bytes of a text manifest through a splitter that decides about rows. Reading,
//! deciding and writing run on a thread each if there are processors for it, always in order.
//!
//! ```text
//! ManifestInput -> blocks -> Splitter (takes whole rows off a window of bytes) -> blocks -> output
//! ```
//!
//! Memory holds a few blocks, whatever the manifest's length, and the longest row.

use std::io::{self, Read, Write};
use std::num::NonZero;
use std::ops::Range;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::compression::{Encoder, ManifestCompression, is_damage};
use super::input::ManifestInput;
use super::write_failed;
use crate::error::{Error, ErrorKind, Result};

// Small in unit tests, where every boundary should fall somewhere.
const BLOCK_BYTES: usize = if cfg!(test) { 1 << 12 } else { 1 << 20 };
/// Room before a block's bytes for the unfinished row of the block before.
const HEADROOM: usize = if cfg!(test) { 1 << 6 } else { 1 << 16 };
/// The number of blocks that wait between two threads.
const WAITING_BLOCKS: usize = 3;
/// A longer row is not data but an open quote.
const MAX_ROW_BYTES: usize = 1 << 30;

/// Finds rows and decides about them.
pub(super) trait Splitter: Send {
    /// Takes whole rows off the front of `window` and returns their length in bytes; the rest comes
    /// again with more after it. `at_end` says that nothing follows.
    fn take(&mut self, window: &[u8], at_end: bool, output: &mut Output<'_>) -> Result<usize>;

    /// Returns an error about the current row.
    fn bad_row(&self, what: &str) -> Error;

    /// Returns an error about the whole manifest.
    fn bad_manifest(&self, kind: ErrorKind, what: &str) -> Error;
}

/// Collects kept bytes into blocks.
pub(super) struct Output<'a> {
    block: Vec<u8>,
    hand_on: &'a mut dyn FnMut(Vec<u8>) -> Result<Vec<u8>>,
}

impl Output<'_> {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK_BYTES { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> Result<()> {
        self.block = (self.hand_on)(std::mem::take(&mut self.block))?;
        self.block.clear();
        Ok(())
    }
}

/// How text is decompressed and compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextOptions {
    /// The compression of the output; `None` for that of the input.
    pub(super) compression: Option<ManifestCompression>,
    /// How many bytes a decoder may take.
    pub(super) memory: u64,
}

/// Runs the pipeline, and returns how many bytes behind the end of compressed data were ignored.
pub(super) fn run(
    input: ManifestInput<'_>,
    output: &mut (dyn Write + Send),
    options: TextOptions,
    splitter: &mut dyn Splitter,
) -> Result<u64> {
    let decoded = match input.into_reader(options.memory) {
        Ok(decoded) => decoded,
        Err(error) => return Err(unreadable(splitter, error)),
    };
    let compression = options.compression.unwrap_or(decoded.compression);
    let encoder = Encoder::new(output, compression).map_err(write_failed)?;
    let mut blocks = Blocks { reader: decoded.stream, done: false };
    let first = blocks.next(Vec::new());
    if let Some(Ok(block)) = &first
        && let Some(encoding) = wide_encoding(&block.bytes[HEADROOM..HEADROOM + block.length])
    {
        let what = format!(
            "is {encoding} text; convert it, for example by `iconv -f {encoding} -t utf-8`"
        );
        return Err(splitter.bad_manifest(ErrorKind::Manifest, &what));
    }
    run_on_threads(first, blocks, encoder, splitter)?;
    Ok(decoded.ignored.get())
}

/// Returns the encoding of text that begins with these bytes, if its characters have several bytes
/// each.
fn wide_encoding(first: &[u8]) -> Option<&'static str> {
    match first {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("utf-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("utf-16"),
        // Without a byte order mark: the first characters of a manifest are of ASCII.
        &[a, 0, b, 0, ..] if a != 0 && b != 0 => Some("utf-16le"),
        &[0, a, 0, b, ..] if a != 0 && b != 0 => Some("utf-16be"),
        _ => None,
    }
}

fn run_on_threads(
    first: Option<io::Result<Block>>,
    mut blocks: Blocks<impl Read>,
    mut encoder: Encoder<&mut (dyn Write + Send)>,
    splitter: &mut dyn Splitter,
) -> Result<()> {
    let short = first.as_ref().is_some_and(|block| !block.as_ref().is_ok_and(|it| !it.last));
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    if short || threads == 1 {
        let mut first = first;
        let mut next = |spare| first.take().or_else(|| blocks.next(spare));
        let mut write = |block: Vec<u8>| {
            encoder.write_all(&block).map_err(write_failed)?;
            Ok(block)
        };
        scan(&mut next, &mut write, splitter)?;
        return encoder.finish().map_err(write_failed);
    }
    thread::scope(|scope| {
        let (kept, to_write) = bounded::<Vec<u8>>(WAITING_BLOCKS);
        let (used, spares) = unbounded();
        let writer = scope.spawn(move || write_all(encoder, &to_write, &used));
        let mut write = move |block| {
            // The writer ends early only after a failure, which it reports itself.
            kept.send(block)
                .map_err(|_unsent| Error::new(ErrorKind::Io, "the writer has stopped"))?;
            Ok(spares.try_recv().unwrap_or_default())
        };
        let scanned = if threads == 2 {
            let mut first = first;
            let mut next = |spare| first.take().or_else(|| blocks.next(spare));
            let scanned = scan(&mut next, &mut write, splitter);
            drop(write);
            scanned
        } else {
            let (read, to_scan) = bounded(WAITING_BLOCKS);
            let (used, spares) = unbounded();
            let scanner = scope.spawn(move || {
                let mut next = |spare| {
                    let _nobody_reads_any_more = used.send(spare);
                    to_scan.recv().ok()
                };
                scan(&mut next, &mut write, splitter)
            });
            read_all(first, &mut blocks, &read, &spares);
            drop(read);
            joined(scanner.join())
        };
        joined(writer.join()).map_err(write_failed).and(scanned)
    })
}

fn joined<T>(outcome: thread::Result<T>) -> T {
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn unreadable(splitter: &dyn Splitter, error: io::Error) -> Error {
    if is_damage(&error) {
        return splitter.bad_manifest(ErrorKind::Corrupt, &error.to_string());
    }
    splitter.bad_manifest(ErrorKind::Io, "cannot be read").with_source(error)
}

/// Passes blocks to the scanner in order until there are no more or it wants no more.
fn read_all(
    first: Option<io::Result<Block>>,
    blocks: &mut Blocks<impl Read>,
    read: &Sender<io::Result<Block>>,
    spares: &Receiver<Vec<u8>>,
) {
    let mut next = first;
    while let Some(block) = next {
        if read.send(block).is_err() {
            return;
        }
        next = blocks.next(spares.try_recv().unwrap_or_default());
    }
}

fn write_all(
    mut encoder: Encoder<&mut (dyn Write + Send)>,
    blocks: &Receiver<Vec<u8>>,
    used: &Sender<Vec<u8>>,
) -> io::Result<()> {
    for block in blocks {
        encoder.write_all(&block)?;
        let _nobody_wants_it = used.send(block);
    }
    encoder.finish()
}

/// Takes rows off block after block.
fn scan(
    next: &mut dyn FnMut(Vec<u8>) -> Option<io::Result<Block>>,
    write: &mut dyn FnMut(Vec<u8>) -> Result<Vec<u8>>,
    splitter: &mut dyn Splitter,
) -> Result<()> {
    let mut output = Output { block: Vec::with_capacity(BLOCK_BYTES), hand_on: write };
    let mut window = Window { bytes: Vec::new(), range: 0..0 };
    let mut spare = Vec::new();
    // A row that is longer than a block is tried again when there is twice as much of it, so that
    // the work stays proportional to its length.
    let mut wanted = 0;
    while let Some(block) = next(std::mem::take(&mut spare)) {
        let block = block.map_err(|error| unreadable(splitter, error))?;
        let last = block.last;
        spare = window.add(block);
        if window.range.len() < wanted && !last {
            continue;
        }
        let taken = splitter.take(&window.bytes[window.range.clone()], last, &mut output)?;
        window.range.start += taken;
        let left = window.range.len();
        if left > MAX_ROW_BYTES {
            let what = format!("has more than {MAX_ROW_BYTES} bytes; is a quote open?");
            return Err(splitter.bad_row(&what));
        }
        wanted = if left > HEADROOM { 2 * left } else { 0 };
    }
    if output.block.is_empty() { Ok(()) } else { output.hand_on() }
}

/// Some bytes of the manifest, with room before them.
struct Block {
    bytes: Vec<u8>,
    length: usize,
    last: bool,
}

struct Blocks<R> {
    reader: R,
    done: bool,
}

impl<R: Read> Blocks<R> {
    /// Returns the next block, in reused memory.
    fn next(&mut self, mut bytes: Vec<u8>) -> Option<io::Result<Block>> {
        if self.done {
            return None;
        }
        bytes.resize(HEADROOM + BLOCK_BYTES, 0);
        let mut length = 0;
        while length < BLOCK_BYTES {
            match self.reader.read(&mut bytes[HEADROOM + length..]) {
                Ok(0) => {
                    self.done = true;
                    break;
                }
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        Some(Ok(Block { bytes, length, last: self.done }))
    }
}

/// The bytes that are not yet taken, in one piece.
struct Window {
    bytes: Vec<u8>,
    range: Range<usize>,
}

impl Window {
    /// Adds a block, and returns memory that is free now.
    fn add(&mut self, mut block: Block) -> Vec<u8> {
        let left = self.range.len();
        if left > HEADROOM {
            self.bytes.copy_within(self.range.clone(), 0);
            self.bytes.truncate(left);
            self.bytes.extend_from_slice(&block.bytes[HEADROOM..HEADROOM + block.length]);
            self.range = 0..self.bytes.len();
            return block.bytes;
        }
        let start = HEADROOM - left;
        block.bytes[start..HEADROOM].copy_from_slice(&self.bytes[self.range.clone()]);
        self.range = start..HEADROOM + block.length;
        let free = std::mem::replace(&mut self.bytes, block.bytes);
        // The memory of a long row is not kept for short ones.
        if free.len() > HEADROOM + BLOCK_BYTES { Vec::new() } else { free }
    }
}
