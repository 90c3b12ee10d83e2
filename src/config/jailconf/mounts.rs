//! `mount` and the files of `mount.fstab`: lines of fstab(5) whose mount points are paths of the host.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use miette::NamedSource;

use super::lower::{Sink, Tables};
use super::resolve::{Jail, Param};
use super::tree::Place;
use crate::config::fstab;
use crate::config::spec::MountKind;
use crate::config::text::shown;

/// The lines of `mount`.
pub(super) fn lines(jail: &Jail, param: &Param, made: &mut Tables, sink: &mut Sink) {
    for value in &param.values {
        let at = At { param: &param.only(value), place: &value.place, from: None };
        line(jail, &at, &value.text, MountKind::Mount, made, sink);
    }
}

/// The files of `mount.fstab`, read now: what runs must not depend on a file that may change.
pub(super) fn files(jail: &Jail, param: &Param, made: &mut Tables, sink: &mut Sink) {
    for value in param.values.iter().filter(|value| !value.text.is_empty()) {
        let only = param.only(value);
        let text = match std::fs::read_to_string(&*value.text) {
            Ok(text) => text,
            Err(error) => {
                let message =
                    format!("{}: {} cannot be read: {error}", shown(&jail.name), shown(&value.text));
                sink.wrong(jail, &only, message, "jail(8) would not start it either");
                continue;
            }
        };
        let source = Arc::new(NamedSource::new(&*value.text, text.clone()));
        let mut start = 0;
        for (number, whole) in text.split_inclusive('\n').enumerate() {
            // As jail(8): what follows a # is a comment, wherever it stands.
            let code = whole.split('#').next().unwrap_or_default().trim_end();
            let span = start..start + code.len();
            start += whole.len();
            let place = Place { source: source.clone(), span };
            let at = At { param: &only, place: &place, from: Some((&value.text, number + 1)) };
            line(jail, &at, code, MountKind::Fstab, made, sink);
        }
    }
}

/// Where a line was written.
struct At<'a> {
    param: &'a Param,
    place: &'a Place,
    /// The file and the number of the line, if it is not in the jail.conf.
    from: Option<(&'a str, usize)>,
}

fn line(jail: &Jail, at: &At<'_>, text: &str, kind: MountKind, made: &mut Tables, sink: &mut Sink) {
    let name = match at.from {
        Some((file, number)) => format!("{}: {}, line {number}", shown(&jail.name), shown(file)),
        None => shown(&jail.name),
    };
    let mut mount = match fstab::line_of_jail_8(text, kind) {
        Ok(None) => return,
        Ok(Some(mount)) => mount,
        Err(why) => {
            let help = "as in fstab(5): \"/data /jails/web/mnt nullfs ro\"";
            return sink.wrong_at(jail, at.param, at.place, format!("{name}: {why}"), help);
        }
    };
    match mount.target.strip_prefix(&made.root) {
        Ok(below) => {
            mount.target = Path::new("/").join(below);
            made.mounts.push((mount, at.place.clone()));
        }
        Err(_) => {
            let target = shown(&mount.target.display().to_string());
            let root = shown(&made.root.display().to_string());
            let message = format!("{name}: {target} is not below its root {root}");
            let help = "Warren mounts only into a jail's own root: mount the rest in exec.prepare";
            sink.refuse_at(jail, at.param, at.place, message, help);
        }
    }
}

impl Place {
    /// Its file and span, as problems take them.
    pub(super) fn parts(&self) -> (&Arc<NamedSource<String>>, Range<usize>) {
        (&self.source, self.span.clone())
    }
}
