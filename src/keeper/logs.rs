//! What jobs print, on disk: written by the keeper, read by anybody.
//!
//! `<state-dir>/log/<name>.log` holds one JSON object to a line. The first is a [`Header`], the others are [`Line`]s:
//!
//! ```text
//! {"log":"k3f9q2ab","format":1,"generation":1766516400000}
//! {"at":1766516400123,"job":"k3f9q2ab.start.0","stream":"out","line":"starting nginx"}
//! {"at":1766516400124,"job":"k3f9q2ab.start.0","stream":"err","line":"a very long li","part":true}
//! ```
//!
//! A file that would exceed [`MAX_FILE`] becomes `<name>.log.1` in place of the one before, so that a log never takes more
//! than twice that. Generations grow; a [`Position`] is a generation and an offset in it, and stays good when its file is
//! renamed. A line that was torn by a full disk is skipped by the reader and told of by the writer.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::say;
use crate::host::Failure;

/// The size at which a file is put aside, in bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// The longest line, in bytes; longer ones are cut into parts.
pub const MAX_LINE: usize = 8 << 10;
/// How much is read at once. Bigger than any line: JSON writes a byte as six at most.
const CHUNK: u64 = 256 << 10;

/// The first line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The log's name.
    pub log: String,
    /// 1.
    pub format: u32,
    /// When the file was begun, in milliseconds since the epoch, or one more than the generation before.
    pub generation: u64,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// The keeper: it tells of lines it could not write.
    Keeper,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it was read, in milliseconds since the epoch.
    pub at: u64,
    /// The job that printed it.
    pub job: String,
    /// Where to.
    pub stream: Origin,
    /// The text, without its newline; bytes that are not UTF-8 are replaced.
    pub line: String,
    /// Whether the line goes on in the next entry of this stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub part: bool,
}

/// A [`Line`] on its way to disk, written without being copied: a job may print a great many.
#[derive(Debug, Serialize)]
pub struct LineRef<'a> {
    /// As in [`Line`].
    pub at: u64,
    /// As in [`Line`].
    pub job: &'a str,
    /// As in [`Line`].
    pub stream: Origin,
    /// As in [`Line`].
    pub line: std::borrow::Cow<'a, str>,
    /// As in [`Line`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub part: bool,
}

/// A place in a log, to go on reading from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Of the file; 0 is before every file.
    pub generation: u64,
    /// In bytes.
    pub offset: u64,
}

/// Whether a name may be that of a log: a plain file name.
///
/// # Errors
/// It may not.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(good) {
        return Err(Failure::new(format!("{name:?} cannot be the name of a log"))
            .hint("letters, digits, and - _ . @, at most 200, not beginning with a dot"));
    }
    Ok(())
}

fn current(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

fn previous(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log.1"))
}

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("log")
}

fn invalid(failure: &Failure) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, failure.to_string())
}

/// The writing side. One per keeper.
#[derive(Debug)]
pub struct Logs {
    dir: PathBuf,
    open: HashMap<String, Used>,
}

/// A log that streams write to.
#[derive(Debug, Default)]
struct Used {
    streams: usize,
    /// None for as long as it cannot be opened.
    file: Option<LogFile>,
    /// Lines that came meanwhile.
    lost: u64,
}

#[derive(Debug)]
struct LogFile {
    file: File,
    size: u64,
    generation: u64,
    /// The header, as long as it could not be written: without it nobody reads what comes after.
    owed: Vec<u8>,
    /// Whether the last write ended inside a line.
    torn: bool,
    /// Lines that could not be written since the last one that could.
    lost: u64,
}

impl Logs {
    /// Makes the directory if need be.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(state_dir: &Path) -> io::Result<Self> {
        let dir = directory(state_dir);
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, open: HashMap::new() })
    }

    /// Opens a log for one more stream, which [`close`](Self::close)s it whether that succeeded or not: it is tried again with
    /// each batch.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(&mut self, name: &str, now: u64) -> io::Result<()> {
        check_name(name).map_err(|e| invalid(&e))?;
        let log = self.open.entry(name.to_owned()).or_default();
        log.streams += 1;
        log.open(&self.dir, name, now)
    }

    /// Gives a log up for one stream; the last one closes it.
    pub fn close(&mut self, name: &str) {
        if let Some(log) = self.open.get_mut(name) {
            log.streams = log.streams.saturating_sub(1);
            if log.streams == 0 {
                self.open.remove(name);
            }
        }
    }

    /// A batch of lines for a log; it is written when it is dropped.
    pub fn batch<'a>(&'a mut self, name: &'a str, now: u64) -> Batch<'a> {
        let mut log = self.open.get_mut(name);
        if let Some(log) = &mut log {
            // That it cannot be opened has been told when it was asked for.
            let _ = log.open(&self.dir, name, now);
        }
        Batch { dir: &self.dir, name, now, log, buffer: Vec::new(), count: 0 }
    }
}

/// Lines that are written together.
#[derive(Debug)]
pub struct Batch<'a> {
    dir: &'a Path,
    name: &'a str,
    now: u64,
    /// None: nobody has asked for the log, and the lines go nowhere.
    log: Option<&'a mut Used>,
    buffer: Vec<u8>,
    count: u64,
}

impl Batch<'_> {
    /// Adds a line. What cannot be written is counted and told of later: a full disk must not stop a job.
    pub fn push(&mut self, line: &LineRef<'_>) {
        let Some(used) = &mut self.log else { return };
        let Some(log) = &mut used.file else {
            used.lost += 1;
            return;
        };
        let start = self.buffer.len();
        if serde_json::to_writer(&mut self.buffer, line).is_err() {
            // Strings and numbers always can be written to memory.
            self.buffer.truncate(start);
            return;
        }
        self.buffer.push(b'\n');
        self.count += 1;
        if log.size + self.buffer.len() as u64 > MAX_FILE {
            let last = self.buffer.split_off(start);
            log.append(&self.buffer, self.count - 1, self.now);
            if let Err(e) = log.rotate(self.dir, self.name, self.now) {
                // Once: it is tried again with every line.
                if log.lost == 0 {
                    say(format_args!("warren keeper: {}: {e}", current(self.dir, self.name).display()));
                }
                log.lost += 1;
                self.buffer.clear();
                self.count = 0;
            } else {
                self.buffer = last;
                self.count = 1;
            }
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let Some(log) = self.log.as_mut().and_then(|used| used.file.as_mut()) {
            log.append(&self.buffer, self.count, self.now);
        }
    }
}

/// Opens for appending. A link is not followed: names come from ids, but the directory may be old.
fn open_append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Used {
    /// Opens the file if it is not open.
    fn open(&mut self, dir: &Path, name: &str, now: u64) -> io::Result<()> {
        if self.file.is_none() {
            let mut file = LogFile::open(dir, name, now)?;
            file.lost = std::mem::take(&mut self.lost);
            self.file = Some(file);
        }
        Ok(())
    }
}

impl LogFile {
    fn open(dir: &Path, name: &str, now: u64) -> io::Result<Self> {
        let (file, size) = open_append(&current(dir, name))?;
        // What cannot be read may be a good log, and is left alone: only what was read and is none is put aside.
        let own = read_header(&file)?.map_or(0, |(h, _)| h.generation);
        let before = match File::open(previous(dir, name)) {
            Ok(file) => read_header(&file)?.map_or(0, |(h, _)| h.generation),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        let generation = own.max(before);
        let mut log = Self { file, size, generation, owed: Vec::new(), torn: false, lost: 0 };
        if size == 0 {
            log.begin(name, now);
        } else if own == 0 {
            // Not one of ours, or its header is torn: put it aside whole.
            log.rotate(dir, name, now)?;
        }
        Ok(log)
    }

    fn begin(&mut self, name: &str, now: u64) {
        self.generation = now.max(self.generation + 1);
        let header = Header { log: name.to_owned(), format: 1, generation: self.generation };
        if let Ok(mut text) = serde_json::to_vec(&header) {
            text.push(b'\n');
            self.owed = text;
            // What fails here is tried again before the first line.
            let _ = self.put_header();
        }
    }

    fn put_header(&mut self) -> io::Result<()> {
        if self.owed.is_empty() {
            return Ok(());
        }
        if self.size > 0 {
            // A part of it, and nothing else.
            self.file.set_len(0)?;
            (self.size, self.torn) = (0, false);
        }
        let text = std::mem::take(&mut self.owed);
        self.put(&text).inspect_err(|_| self.owed = text)
    }

    fn rotate(&mut self, dir: &Path, name: &str, now: u64) -> io::Result<()> {
        std::fs::rename(current(dir, name), previous(dir, name)).or_else(|e| match e.kind() {
            // Somebody removed the log; the new file begins afresh.
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })?;
        (self.file, self.size) = open_append(&current(dir, name))?;
        self.torn = false;
        self.begin(name, now);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8], lines: u64, at: u64) {
        if bytes.is_empty() {
            return;
        }
        if self.put_header().is_err() {
            self.lost += lines;
            return;
        }
        if self.torn || self.lost > 0 {
            let line = format!("{} lines were lost because the log could not be written", self.lost);
            let line = Line { at, job: String::new(), stream: Origin::Keeper, line, part: false };
            let mut text = if self.torn { vec![b'\n'] } else { Vec::new() };
            text.extend(serde_json::to_vec(&line).unwrap_or_default());
            text.push(b'\n');
            if self.put(&text).is_err() {
                self.lost += lines;
                return;
            }
            self.lost = 0;
        }
        if self.put(bytes).is_err() {
            self.lost += lines.max(1);
        }
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.size += count as u64;
                    self.torn = bytes.get(count - 1) != Some(&b'\n');
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// The header of a file that was just opened and the offset behind it; none if it is no log of ours.
fn read_header(file: &File) -> io::Result<Option<(Header, u64)>> {
    let mut first = Vec::new();
    let length = BufReader::with_capacity(512, file.take(1024)).read_until(b'\n', &mut first)?;
    Ok(serde_json::from_slice(&first).ok().map(|header| (header, length as u64)))
}

/// A file of a log that is there, with its header.
struct Generation {
    file: File,
    header: Header,
    start: u64,
}

/// What there is of a log, older first. Asked again if a rotation came between.
fn generations(dir: &Path, name: &str) -> io::Result<Vec<Generation>> {
    for _ in 0..8 {
        let mut found: Vec<Generation> = Vec::new();
        // The current one first: if it is put aside meanwhile, it shows up twice, and not never.
        for path in [current(dir, name), previous(dir, name)] {
            match File::open(path) {
                Ok(file) => {
                    if let Some((header, start)) = read_header(&file)? {
                        found.insert(0, Generation { file, header, start });
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        if let [old, new] = found.as_slice()
            && old.header.generation >= new.header.generation
        {
            continue;
        }
        return Ok(found);
    }
    Ok(Vec::new())
}

/// Reads on from a position: up to about `CHUNK` bytes of lines, none if there are none yet, and the position behind them.
///
/// A log that does not exist has no lines. Whoever reads so slowly that a whole generation was dropped goes on at the oldest line there is.
///
/// # Errors
/// The files cannot be read, or the name is none.
pub fn read(state_dir: &Path, name: &str, from: Position) -> io::Result<(Vec<Line>, Position)> {
    check_name(name).map_err(|e| invalid(&e))?;
    let mut position = from;
    for it in generations(&directory(state_dir), name)? {
        if it.header.generation < position.generation {
            continue;
        }
        if it.header.generation > position.generation {
            position = Position { generation: it.header.generation, offset: it.start };
        }
        let (lines, offset) = read_lines(it.file, position.offset, CHUNK)?;
        position.offset = offset;
        if !lines.is_empty() {
            return Ok((lines, position));
        }
    }
    Ok((Vec::new(), position))
}

/// The last `count` lines of a log and the position behind them.
///
/// # Errors
/// As [`read`].
pub fn tail(state_dir: &Path, name: &str, count: usize) -> io::Result<(Vec<Line>, Position)> {
    check_name(name).map_err(|e| invalid(&e))?;
    let mut position = Position::default();
    let mut all = Vec::new();
    for it in generations(&directory(state_dir), name)? {
        let (lines, offset) = read_lines(it.file, it.start, 4 * MAX_FILE)?;
        all.extend(lines);
        position = Position { generation: it.header.generation, offset };
    }
    all.drain(..all.len().saturating_sub(count));
    Ok((all, position))
}

/// Logs of instances that are gone: how many are kept, the newest, and for how long. Each is two files of [`MAX_FILE`] at most.
pub const KEPT: usize = 200;
/// See [`KEPT`].
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// The size at which what a daemon, a keeper or a lab says of itself is put aside, in bytes.
pub const MAX_MESSAGES: u64 = 4 << 20;

/// The logs there are, and when they were last written, newest first.
///
/// # Errors
/// The directory cannot be read.
pub fn list(state_dir: &Path) -> io::Result<Vec<(String, SystemTime)>> {
    let mut all = Vec::new();
    let entries = match std::fs::read_dir(directory(state_dir)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if let Some(name) = name.strip_suffix(".log").filter(|name| check_name(name).is_ok())
            && let Ok(written) = entry.metadata().and_then(|meta| meta.modified())
        {
            all.push((name.to_owned(), written));
        }
    }
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(all)
}

/// Of these logs of instances that are gone, newest first, those that are kept no longer.
pub fn expired(gone: &[(String, SystemTime)], now: SystemTime) -> impl Iterator<Item = &str> {
    let old = move |written: SystemTime| now.duration_since(written).is_ok_and(|age| age > KEPT_FOR);
    gone.iter()
        .enumerate()
        .filter(move |(place, (_, written))| *place >= KEPT || old(*written))
        .map(|(_, (name, _))| name.as_str())
}

/// Puts a file of messages aside as `<path>.1`, in place of the one before, if it has grown long. For whoever opens it next.
pub fn set_aside(path: &Path) {
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.len() >= MAX_MESSAGES) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        // A file that cannot be put aside grows on; what it is for is more important.
        let _ = std::fs::rename(path, aside);
    }
}

/// Removes a log.
///
/// # Errors
/// A file is there and cannot be removed.
pub fn remove(state_dir: &Path, name: &str) -> io::Result<()> {
    check_name(name).map_err(|e| invalid(&e))?;
    for path in [previous(&directory(state_dir), name), current(&directory(state_dir), name)] {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// The whole lines behind an offset, and the offset behind them. What is no line of ours is skipped.
fn read_lines(mut file: File, offset: u64, most: u64) -> io::Result<(Vec<Line>, u64)> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let end = match bytes.iter().rposition(|b| *b == b'\n') {
        Some(at) => at + 1,
        // No line is that long: skip it.
        None if bytes.len() as u64 == most => bytes.len(),
        None => 0,
    };
    let whole = bytes.get(..end).unwrap_or_default();
    let lines = whole.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    Ok((lines, offset + end as u64))
}

#[cfg(test)]
mod tests;
