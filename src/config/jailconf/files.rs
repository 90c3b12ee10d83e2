//! The files of a configuration: the one that was named, and what `.include` draws in.
//!
//! A relative name starts at the directory of the file that includes it. A pattern is that of glob(3) and may match
//! nothing; a name without one must be there (`usr.sbin/jail/config.c`, `include_config`).

use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// No file a person writes is longer.
const LONGEST_FILE: u64 = 16 * 1024 * 1024;

/// How files are had, so that tests need none.
pub trait Files {
    /// The bytes of a file.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a directory; none if there is no such directory or it cannot be read, as glob(3) takes it.
    fn list(&mut self, directory: &Path) -> Vec<String>;

    /// Whether a file or directory is there.
    fn exists(&mut self, path: &Path) -> bool;
}

/// The machine's own files.
#[derive(Debug, Clone, Copy)]
pub struct OnDisk;

impl Files for OnDisk {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        bounded(std::fs::File::open(path)?)
    }

    fn list(&mut self, directory: &Path) -> Vec<String> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    fn exists(&mut self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }
}

/// All bytes of something, unless there are too many.
pub(super) fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if read as u64 > LONGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 16 MiB"));
    }
    Ok(bytes)
}

/// No files at all: for a text that stands alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoFiles;

impl Files for NoFiles {
    fn read(&mut self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only the text was given, no files"))
    }

    fn list(&mut self, _: &Path) -> Vec<String> {
        Vec::new()
    }

    fn exists(&mut self, _: &Path) -> bool {
        false
    }
}

/// What an `.include` names, in glob(3)'s order.
pub(super) enum Included {
    /// One file, which must be there.
    File(PathBuf),
    /// What a pattern matched.
    Matches(Vec<PathBuf>),
}

/// The files a name in `from` means.
pub(super) fn included(name: &str, from: &Path, files: &mut dyn Files) -> Included {
    let whole = from.parent().unwrap_or(Path::new("")).join(name);
    let whole_text = whole.to_string_lossy();
    if !whole_text.split('/').any(is_pattern) {
        return Included::File(whole);
    }
    let mut found = vec![if whole_text.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() }];
    for part in whole_text.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for directory in &found {
            if is_pattern(part) {
                let mut names = files.list(directory);
                names.retain(|name| matches(part.as_bytes(), name.as_bytes()));
                next.extend(names.iter().map(|name| directory.join(name)));
            } else {
                let path = directory.join(unquoted(part));
                if files.exists(&path) {
                    next.push(path);
                }
            }
        }
        found = next;
    }
    found.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    Included::Matches(found)
}

/// Whether a part of a path holds something glob(3) would look up: `*`, `?`, or a bracket that is closed.
fn is_pattern(part: &str) -> bool {
    let bytes = part.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'*' | b'?' => return true,
            b'[' if bracket(bytes, at).is_some() => return true,
            _ => {}
        }
        at += 1;
    }
    false
}

/// A part without its backslashes.
fn unquoted(part: &str) -> String {
    let mut plain = String::new();
    let mut chars = part.chars();
    while let Some(char) = chars.next() {
        plain.push(if char == '\\' { chars.next().unwrap_or('\\') } else { char });
    }
    plain
}

/// The place of the `]` that closes the bracket at `open`: not the first byte inside.
fn bracket(pattern: &[u8], open: usize) -> Option<usize> {
    let first = if pattern.get(open + 1) == Some(&b'!') { open + 2 } else { open + 1 };
    let close = pattern.get(first + 1..)?.iter().position(|b| *b == b']')?;
    Some(first + 1 + close)
}

/// Whether a name matches a pattern of one part. A leading dot is matched by a dot only.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // Where to go on after the last star if what follows it does not match here.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => match bracket(pattern, p) {
                Some(close) => in_bracket(&pattern[p + 1..close], name[n]).then_some(close + 1 - p),
                None => (name[n] == b'[').then_some(1),
            },
            Some(b'\\') if p + 1 < pattern.len() => (pattern[p + 1] == name[n]).then_some(2),
            Some(&byte) => (byte == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(step), _) => {
                p += step;
                n += 1;
            }
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                p = after;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

fn in_bracket(set: &[u8], byte: u8) -> bool {
    let (set, not) = match set.first() {
        Some(b'!') => (&set[1..], true),
        _ => (set, false),
    };
    let mut at = 0;
    let mut hit = false;
    while at < set.len() {
        if set.get(at + 1) == Some(&b'-') && at + 2 < set.len() {
            hit |= (set[at]..=set[at + 2]).contains(&byte);
            at += 3;
        } else {
            hit |= set[at] == byte;
            at += 1;
        }
    }
    hit != not
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Files in memory.
    pub(in crate::config::jailconf) struct InMemory(
        pub(in crate::config::jailconf) BTreeMap<String, Vec<u8>>,
    );

    impl InMemory {
        pub(in crate::config::jailconf) fn new(files: &[(&str, &str)]) -> Self {
            Self(files.iter().map(|(n, t)| ((*n).to_owned(), t.as_bytes().to_vec())).collect())
        }
    }

    impl Files for InMemory {
        fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
            let name = path.to_string_lossy().into_owned();
            self.0.get(&name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn list(&mut self, directory: &Path) -> Vec<String> {
            let below = |name: &String| {
                let rest = Path::new(name).strip_prefix(directory).ok()?;
                rest.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned())
            };
            let mut names: Vec<String> = self.0.keys().filter_map(below).collect();
            names.dedup();
            names
        }

        fn exists(&mut self, path: &Path) -> bool {
            self.0.keys().any(|name| Path::new(name).starts_with(path))
        }
    }

    #[test]
    fn patterns_are_those_of_glob_3() {
        for (pattern, name, wanted) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".a.conf", false),
            (".*.conf", ".a.conf", true),
            ("jail.*.conf", "jail.web.conf", true),
            ("jail.*.conf", "jail.conf", false),
            ("jail[.]conf", "jail.conf", true),
            ("[!a]b", "cb", true),
            ("[!a]b", "ab", false),
            ("[a-c]?", "bz", true),
            ("[]a]", "]", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a*b*c", "aXbYbZc", true),
            ("[a", "[a", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), wanted, "{pattern} {name}");
        }
        assert!(is_pattern("jail[.]conf") && !is_pattern("a[b") && !is_pattern("a\\*"));
    }

    #[test]
    fn a_name_is_relative_to_the_file_that_includes_it() {
        let mut files = InMemory::new(&[("/etc/jail.conf.d/b.conf", ""), ("/etc/jail.conf.d/a.conf", "")]);
        let mut found = |name: &str, from: &str| match included(name, Path::new(from), &mut files) {
            Included::File(path) => vec![path.display().to_string()],
            Included::Matches(paths) => paths.iter().map(|path| path.display().to_string()).collect(),
        };
        let both = ["/etc/jail.conf.d/a.conf", "/etc/jail.conf.d/b.conf"];
        assert_eq!(found("jail.conf.d/*.conf", "/etc/jail.conf"), both);
        assert_eq!(found("/etc/*.d/[ab].conf", "x/jail.conf"), both);
        assert_eq!(found("c.conf", "/etc/jail.conf"), ["/etc/c.conf"]);
        assert_eq!(found("c.conf", "jail.conf"), ["c.conf"]);
        assert_eq!(found("none/*.conf", "/etc/jail.conf"), Vec::<String>::new());
    }
}
