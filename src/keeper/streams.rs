//! From a job's pipe to the lines of its log.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};

use super::logs::{LineRef, Logs, MAX_LINE, Origin};

/// Cuts bytes into lines of at most [`MAX_LINE`] bytes; holds no more than that.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    /// Takes bytes and gives what is complete: text, and whether the line goes on.
    pub fn push(&mut self, bytes: &[u8], mut give: impl FnMut(Cow<'_, str>, bool)) {
        let mut pieces = bytes.split(|b| *b == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.partial.is_empty() && piece.len() <= MAX_LINE && pieces.peek().is_some() {
                give(text(piece.strip_suffix(b"\r").unwrap_or(piece)), false);
                continue;
            }
            let mut rest = piece;
            loop {
                let (head, tail) = rest.split_at(rest.len().min(MAX_LINE - self.partial.len()));
                self.partial.extend_from_slice(head);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
                let kept = self.partial.split_off(boundary(&self.partial));
                give(text(&self.partial), true);
                self.partial = kept;
            }
            if pieces.peek().is_some() {
                if self.partial.last() == Some(&b'\r') {
                    self.partial.pop();
                }
                give(text(&self.partial), false);
                self.partial.clear();
            }
        }
    }

    /// Gives what has no newline at the end.
    pub fn finish(&mut self, mut give: impl FnMut(Cow<'_, str>, bool)) {
        if !self.partial.is_empty() {
            give(text(&self.partial), false);
            self.partial.clear();
        }
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Where to cut so that no character of UTF-8 is cut in two.
fn boundary(bytes: &[u8]) -> usize {
    let back = bytes.iter().rev().take(3).take_while(|b| **b & 0xC0 == 0x80).count();
    let lead = bytes.len().saturating_sub(back + 1);
    let needs = match bytes.get(lead) {
        Some(0xC0..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF7) => 4,
        _ => 1,
    };
    if lead > 0 && back + 1 < needs { lead } else { bytes.len() }
}

/// One pipe of one job.
#[derive(Debug)]
pub struct Stream {
    /// The end that is read; does not block.
    pub pipe: OwnedFd,
    /// Whose.
    pub job: String,
    /// Its log, opened for this stream.
    pub log: String,
    /// Which.
    pub origin: Origin,
    /// The second file.
    pub console: Option<Rc<File>>,
    /// What has no newline yet.
    pub splitter: Splitter,
}

/// How far reading a stream got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// There may be more.
    More,
    /// There is nothing more for now.
    Dry,
    /// There will never be more.
    End,
}

impl Stream {
    /// Reads once and writes down what came.
    pub fn pump(&mut self, logs: &mut Logs, buffer: &mut [u8], now: u64) -> Pumped {
        let (bytes, result) = match nix::unistd::read(&self.pipe, buffer) {
            Ok(0) => (&[][..], Pumped::End),
            Ok(count) => (buffer.get(..count).unwrap_or_default(), Pumped::More),
            Err(nix::Error::EAGAIN) => return Pumped::Dry,
            Err(nix::Error::EINTR) => return Pumped::More,
            Err(_) => (&[][..], Pumped::End),
        };
        if let Some(mut console) = self.console.as_deref() {
            // A full disk or a pipe nobody reads must not stop the job; the log has the lines.
            let _ = console.write_all(bytes);
        }
        let mut batch = logs.batch(&self.log, now);
        let mut give = |line: Cow<'_, str>, part| {
            batch.push(&LineRef { at: now, job: &self.job, stream: self.origin, line, part });
        };
        self.splitter.push(bytes, &mut give);
        if result == Pumped::End {
            self.splitter.finish(give);
        }
        result
    }
}

/// Opens exec.consolelog. The last link is never followed, and below a directory that an instance writes in none is: a directory on
/// the way that is a link would have root append to a file of the instance's choosing.
///
/// # Errors
/// It cannot be opened.
pub fn open_console(path: &Path, below: Option<&Path>) -> io::Result<File> {
    let flags = OFlags::APPEND | OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = below.and_then(|below| Some((below, path.strip_prefix(below).ok()?)));
    let (dir, name) = match (within, path.file_name(), path.parent()) {
        (Some((below, rest)), Some(name), _) => {
            let mut dir = File::open(below)?;
            for part in rest.parent().into_iter().flat_map(Path::components) {
                let Component::Normal(part) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
                let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                dir = rustix::fs::openat(&dir, part, step, Mode::empty())?.into();
            }
            (dir, name)
        }
        (None, Some(name), Some(parent)) => (File::open(parent)?, name),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let opened: File = rustix::fs::openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)?.into();
    // What an instance may put there is a file and nothing that does something when it is written to. Elsewhere it is the user's.
    if below.is_some() && !opened.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(String, bool)> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, |line, part| lines.push((line.into_owned(), part)));
            assert!(splitter.partial.len() <= MAX_LINE);
        }
        splitter.finish(|line, part| lines.push((line.into_owned(), part)));
        lines
    }

    #[test]
    fn lines_are_lines() {
        let want = |all: &[&str]| all.iter().map(|s| ((*s).to_owned(), false)).collect::<Vec<_>>();
        assert_eq!(split(&[b"a\nb", b"c\n\nd\r\n", b"e"]), want(&["a", "bc", "", "d", "e"]));
        assert_eq!(split(&[b"\xff\n"]), want(&["\u{fffd}"]));
        assert_eq!(split(&[b""]), want(&[]));
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_however_it_comes(text in "[aä€😀\\n]{0,4000}", cut in 1_usize..9000, times in 1_usize..8) {
            let bytes = text.repeat(times).into_bytes();
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            let mut whole = String::new();
            for (line, part) in split(&pieces) {
                assert!(line.len() <= MAX_LINE);
                whole.push_str(&line);
                if !part {
                    whole.push('\n');
                }
            }
            let mut want = String::from_utf8(bytes).unwrap();
            if !want.is_empty() && !want.ends_with('\n') {
                want.push('\n');
            }
            proptest::prop_assert_eq!(whole, want);
        }
    }
}
