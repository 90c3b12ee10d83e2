//! `/proc/self/mountinfo`: what is mounted where, as the kernel says. proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Which directory of the file system is mounted; ends with `//deleted` when that is gone.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// The type of file system.
    pub fstype: String,
    /// What its mounter called its source.
    pub source: String,
}

/// All mounts of this mount namespace, in the order they were made (later ones may cover earlier ones).
pub fn read() -> io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The one that is seen at exactly `path`.
pub fn at(path: &Path) -> io::Result<Option<Mounted>> {
    Ok(read()?.into_iter().rfind(|mount| mount.point == path))
}

/// Reads the text. Lines that are not understood are left out.
fn parse(text: &[u8]) -> Vec<Mounted> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = unescape(fields.nth(3)?);
    let point = unescape(fields.next()?);
    // After the options come any number of optional fields, ended by a dash.
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = String::from_utf8_lossy(rest.next()?).into_owned();
    let source = unescape(rest.next()?).to_string_lossy().into_owned();
    Some(Mounted { root: root.into(), point: point.into(), fstype, source })
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = |byte: u8| (b'0'..=b'7').contains(&byte).then(|| u32::from(byte - b'0'));
        if *first == b'\\'
            && let [a, b, c, after @ ..] = tail
            && let (Some(a), Some(b), Some(c)) = (octal(*a), octal(*b), octal(*c))
            && let Ok(byte) = u8::try_from(a * 64 + b * 8 + c)
        {
            bytes.push(byte);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_optional_fields_are_understood() {
        let text = b"36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:2 - ext3 /dev/root rw\n\
            37 35 0:9 / /x rw - tmpfs  rw\nnonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/a b\\c"));
        assert_eq!((mounts[0].fstype.as_str(), mounts[0].source.as_str()), ("ext3", "/dev/root"));
        assert_eq!(mounts[1].source, "");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            parse(&text);
        }

        #[test]
        fn what_has_no_backslash_stays(text in "[ -\\[\\]-~]*") {
            proptest::prop_assert_eq!(unescape(text.as_bytes()), OsString::from(text));
        }
    }
}
