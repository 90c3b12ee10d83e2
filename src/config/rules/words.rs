//! The closed character sets: what may be a name, a host name, a path, a user, a dataset.
//!
//! These words end up in pf rules, zone data, command lines and mount options. Each set is what its field allows
//! anyway (source named), so that nothing has to be escaped later.

use std::path::{Component, Path};

use super::super::diagnostics::Problem;
use super::super::text::shown;

/// Names in every zone that are Warren's own: the gateway and the name server.
const RESERVED: &[&str] = &["gw", "ns"];

/// A label of DNS as hosts may have it: RFC 1123, 2.1, in lower case.
pub(in super::super) fn label(text: &str, most: usize) -> Result<(), String> {
    let bytes = text.as_bytes();
    let inside = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    match (bytes.first(), bytes.last()) {
        (None, _) | (_, None) => Err("it is empty".into()),
        _ if bytes.len() > most => Err(format!("it has {} bytes, and {most} are the most", bytes.len())),
        _ if !bytes.iter().all(inside) => Err("it holds something other than a-z, 0-9 and -".into()),
        (Some(b'-'), _) | (_, Some(b'-')) => Err("it starts or ends with -".into()),
        _ => Ok(()),
    }
}

/// Checks the name of a fabric, network, template or service.
pub(super) fn object_name(kind: &str, name: &str, place: &str, most: usize, found: &mut Vec<Problem>) {
    if let Err(why) = label(name, most) {
        let mut problem =
            Problem::new("config::name", place, format!("`{}` cannot name a {kind}: {why}", shown(name)));
        let folded: String = name.to_lowercase().replace(['_', ' ', '.'], "-");
        problem = if label(&folded, most).is_ok() {
            problem.help(format!("`{folded}` would do"))
        } else {
            problem
                .help(format!("names are a-z, 0-9 and - inside, at most {most} bytes: they become DNS names"))
        };
        found.push(if kind == "fabric" { problem } else { problem.alone() });
    } else if RESERVED.contains(&name) && matches!(kind, "network" | "service") {
        let message = format!("`{name}` cannot name a {kind}: Warren uses it itself in the fabric's zone");
        found.push(Problem::new("config::name", place, message).help("take another name").alone());
    }
}

/// Labels joined by dots, at most 253 bytes: RFC 1035, 2.3.4.
pub(super) fn domain(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err(format!("it has {} bytes, and 253 are the most", text.len()));
    }
    if text.ends_with('.') {
        return Err("the final dot is left out".into());
    }
    text.split('.').try_for_each(|part| label(part, 63).map_err(|why| format!("in `{}` {why}", shown(part))))
}

/// A host name: labels as in [`domain`], upper case allowed.
pub(super) fn hostname(text: &str) -> Result<(), String> {
    domain(&text.to_ascii_lowercase())
}

/// An interface: IFNAMSIZ is 16 with the final NUL.
pub(super) fn interface(text: &str) -> Result<(), String> {
    let formed = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'));
    match text.len() {
        0 => Err("it is empty".into()),
        16.. => Err("interface names have at most 15 bytes".into()),
        _ if !formed => Err("interface names are letters, digits, _ and ., a letter first".into()),
        _ => Ok(()),
    }
}

/// A service name of RFC 6335, 5.1, in lower case.
pub(super) fn port_name(text: &str) -> Result<(), String> {
    label(text, 15)?;
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err("it has no letter".into());
    }
    if text.contains("--") {
        return Err("it has two - in a row".into());
    }
    Ok(())
}

/// A user as pw(8) lets it be named.
pub(super) fn user(text: &str) -> Result<(), String> {
    let formed = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !text.starts_with(['-', '.']);
    match text.len() {
        0 => Err("it is empty".into()),
        33.. => Err("user names have at most 32 bytes".into()),
        _ if !formed => Err("user names are letters, digits, _, - and .".into()),
        _ => Ok(()),
    }
}

/// A ZFS dataset, or a snapshot if `snapshot`: zfs(8), "ZFS File System Hierarchy".
pub(super) fn dataset(text: &str, snapshot: bool) -> Result<(), String> {
    if text.len() > 255 {
        return Err("dataset names have at most 255 bytes".into());
    }
    let word = |part: &str| {
        !part.is_empty()
            && !matches!(part, "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b'.'))
    };
    let (path, tag) = match (text.split_once('@'), snapshot) {
        (Some((path, tag)), true) => (path, Some(tag)),
        (None, true) => return Err("it names no snapshot: pool/path@snapshot".into()),
        (Some(_), false) => return Err("it names a snapshot, not a dataset".into()),
        (None, false) => (text, None),
    };
    let pool = path.starts_with(|c: char| c.is_ascii_alphabetic());
    if pool && path.split('/').all(word) && tag.is_none_or(word) {
        Ok(())
    } else {
        Err("dataset names are letters, digits, _, -, : and . between slashes, a letter first".into())
    }
}

/// An absolute path without `..`, of at most 1023 bytes and without control characters. `/` alone only if `root`.
pub(super) fn path(path: &Path, root: bool) -> Result<(), String> {
    let Some(text) = path.to_str() else { return Err("it is not UTF-8".into()) };
    if !path.is_absolute() {
        return Err("it does not start with /".into());
    }
    if text.len() > 1023 {
        return Err("it is longer than 1023 bytes".into());
    }
    if text.contains(char::is_control) {
        return Err("it holds a control character".into());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("it holds `..`".into());
    }
    if !root && path.components().count() < 2 {
        return Err("it is the root itself".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "web", "a-b", "9", "x1"] {
            assert_eq!(label(good, 63), Ok(()), "{good}");
        }
        for wrong in ["", "-", "-a", "a-", "A", "a_b", "a.b", "ä", "a b", "a\n", "a;b", "a'b"] {
            assert!(label(wrong, 63).is_err(), "{wrong:?}");
        }
        assert!(label(&"a".repeat(64), 63).is_err());
    }

    #[test]
    fn datasets() {
        assert_eq!(dataset("zroot/jails/base@v1", true), Ok(()));
        assert_eq!(dataset("zroot/data", false), Ok(()));
        for wrong in [
            "",
            "zroot",
            "zroot@",
            "@v",
            "/zroot@v",
            "zroot//a@v",
            "zroot/..@v",
            "zroot/a b@v",
            "zroot@a@b",
            "zroot@a;b",
        ] {
            assert!(dataset(wrong, true).is_err(), "{wrong}");
        }
        assert!(dataset("zroot@v", false).is_err());
    }

    #[test]
    fn paths() {
        let check = |text: &str| path(Path::new(text), false);
        assert_eq!(check("/a/b"), Ok(()));
        for wrong in ["", "a", "/", "/.", "//", "/a/../b", "/a\n", "/a\0"] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(path(Path::new("/"), true), Ok(()));
    }

    #[test]
    fn other_words() {
        assert_eq!(port_name("http"), Ok(()));
        for wrong in ["80", "a--b", "-a", "averyveryverylongname"] {
            assert!(port_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(interface("em0.100"), Ok(()));
        for wrong in ["", "0em", "em 0", "abcdefghijklmnop", "em0\n", "em0)"] {
            assert!(interface(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(user("www"), Ok(()));
        assert!(user("-x").is_err() && user("a b").is_err() && user("").is_err());
    }
}
