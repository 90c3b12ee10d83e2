//! Lines of fstab(5), as jail(8) takes them in `mount` and in the file `mount.fstab` names.
//!
//! Up to six fields; blanks in the first two are written `\040` and undone as strunvis(3) does. Unlike jail(8), the mount
//! point is a path *in the instance*, because the path of its root on the host is not known to the user.

use std::path::PathBuf;

use super::spec::{MountKind, MountSpec};
use super::text::shown;

/// One line: `None` if it is empty or a comment.
pub(super) fn line(text: &str, kind: MountKind) -> Result<Option<MountSpec>, String> {
    let fields = text.split_ascii_whitespace().count();
    if fields > 6 && !text.trim_start().starts_with('#') {
        return Err(format!(
            "`{}` has more than the six fields of fstab(5); a blank is written \\040",
            shown(text.trim())
        ));
    }
    line_of_jail_8(text, kind)
}

/// One line as jail(8) takes it, which looks at no field behind the fourth (`usr.sbin/jail/command.c`).
pub(super) fn line_of_jail_8(text: &str, kind: MountKind) -> Result<Option<MountSpec>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let &[source, target, fstype, ref rest @ ..] = fields.as_slice() else {
        return Err(format!("`{}` has not the three fields source, mount point and type", shown(text)));
    };
    let (options, read_only) = options(rest.first().copied().unwrap_or("rw"));
    Ok(Some(MountSpec {
        fstype: fstype.to_owned(),
        source: unvis(source)?,
        target: PathBuf::from(unvis(target)?),
        options,
        read_only,
        kind,
    }))
}

/// The options of one comma-separated field, and whether `ro` is among them. What speaks to mount(8) and rc(8) alone
/// (`rw`, `noauto`, `late`, `failok`) is left out, as mount(8) does before it asks the kernel.
pub(super) fn options(field: &str) -> (Vec<String>, bool) {
    let mut read_only = false;
    let mut options = Vec::new();
    for option in field.split(',') {
        match option {
            "ro" | "rdonly" => read_only = true,
            "" | "rw" | "noauto" | "late" | "failok" => {}
            other => options.push(other.to_owned()),
        }
    }
    (options, read_only)
}

/// Undoes vis(3) as far as fstab(5) uses it: `\040`, `\\`, `\s`, `\t`, `\n`.
fn unvis(text: &str) -> Result<String, String> {
    let wrong =
        || format!("`{}` holds a \\ that is not \\040, \\\\ or another sequence of vis(3)", shown(text));
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        match bytes.next().ok_or_else(wrong)? {
            b'\\' => plain.push(b'\\'),
            b's' => plain.push(b' '),
            b't' => plain.push(b'\t'),
            b'n' => plain.push(b'\n'),
            high @ b'0'..=b'3' => {
                let mut value = high - b'0';
                for _ in 0..2 {
                    let digit = bytes.next().filter(|b| (b'0'..=b'7').contains(b)).ok_or_else(wrong)?;
                    value = value * 8 + (digit - b'0');
                }
                plain.push(value);
            }
            _ => return Err(wrong()),
        }
    }
    String::from_utf8(plain)
        .map_err(|_| format!("`{}` is not UTF-8 when its \\ sequences are undone", shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_fstab() {
        let mount = line(r"/data/my\040files /mnt nullfs ro,late,noatime 0 0", MountKind::Fstab);
        assert_eq!(
            mount,
            Ok(Some(MountSpec {
                fstype: "nullfs".into(),
                source: "/data/my files".into(),
                target: "/mnt".into(),
                options: vec!["noatime".into()],
                read_only: true,
                kind: MountKind::Fstab,
            }))
        );
        assert_eq!(line("# nothing", MountKind::Fstab), Ok(None));
        assert_eq!(line("  ", MountKind::Fstab), Ok(None));
        for wrong in [
            "/a /b",
            "/a /b nullfs rw 0 0 0",
            r"/a\04 /b nullfs",
            r"/a\ /b nullfs",
            r"/a\377 /b nullfs",
            r"/a\777 /b nullfs",
        ] {
            assert!(line(wrong, MountKind::Fstab).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(text in ".{0,80}") {
            let _ = line(&text, MountKind::Mount);
        }
    }
}
