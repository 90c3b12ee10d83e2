//! Configuration: `warren.toml` to one resolved spec, with diagnostics that point at the place.
//!
//! Text becomes a tree with spans, `decode` makes raw tables of it, `lower` the spec, and `rules` say what makes
//! no sense. Each stage goes on after a problem, so a report has them all. Nothing here touches the machine, except
//! that [`load`] reads the file and the fstab files it names; what only the machine can say (a path that is missing, a
//! port that is taken) is the daemon's.

mod classic;
mod conflicts;
mod decode;
mod diagnostics;
mod diff;
mod document;
mod forms;
mod fstab;
mod jail;
pub mod jailconf;
mod lower;
mod lower_instance;
mod lower_links;
mod lower_service;
mod params;
mod raw;
mod rules;
mod schema;
mod shown;
pub mod spec;
mod text;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use miette::NamedSource;
use toml::de::{DeTable, DeValue};

pub use conflicts::conflicts;
pub(crate) use conflicts::domain_taken;
use decode::{Decode, Node, Sink};
use diagnostics::{Places, Problems};
pub use diagnostics::{Problem, Report};
pub(crate) use diff::rewired;
pub use diff::{Change, Changes, ServiceChange, diff};
pub use document::Document;
pub use schema::schema;
use spec::FabricSpec;

/// No file a person writes is longer, and so no check here has to bear more.
const LONGEST_FILE: usize = 1024 * 1024;

/// Reads `path` and the fstab files it names, and resolves it.
///
/// # Errors
///
/// All problems of the file at once, a file that cannot be read among them.
pub fn load(path: &Path) -> Result<FabricSpec, Report> {
    match read_bounded(path) {
        Ok(text) => parse_with(&path.display().to_string(), &text, &mut |path| read_bounded(path)),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// As [`load`], from bytes that were read.
fn read(path: &Path, bytes: Vec<u8>) -> Result<FabricSpec, Report> {
    match String::from_utf8(bytes) {
        Ok(text) => parse_with(&path.display().to_string(), &text, &mut |path| read_bounded(path)),
        Err(_) => Err(unreadable(path, &io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Report {
    let name = path.display().to_string();
    let problem = Problem::new("config::file", "", format!("{name} cannot be read: {error}"));
    Report::new(name, vec![problem.help("give the path of a warren.toml; examples are in examples/")])
}

/// Resolves a configuration from its text alone: a file it names in `mount.fstab` is an error. `name` is what the
/// messages call it.
///
/// # Errors
///
/// All problems at once.
pub fn parse(name: &str, text: &str) -> Result<FabricSpec, Report> {
    let mut read =
        |_: &Path| Err(io::Error::new(io::ErrorKind::Unsupported, "only the text was given, no files"));
    parse_with(name, text, &mut read)
}

/// As [`parse`], with the files it names read by `read`. Their names are relative to the directory of `name`.
///
/// # Errors
///
/// All problems at once.
pub fn parse_with(
    name: &str,
    text: &str,
    read: &mut dyn FnMut(&Path) -> io::Result<String>,
) -> Result<FabricSpec, Report> {
    let source = Arc::new(NamedSource::new(name, text.to_owned()).with_language("TOML"));
    let mut sink = Sink { problems: Problems::default(), places: Places::default(), source };
    let spec = if text.len() > LONGEST_FILE {
        sink.problems.push(Problem::new("config::file", "", "a configuration is at most 1 MiB"));
        None
    } else {
        resolve(name, text, read, &mut sink)
    };
    match spec {
        Some(spec) if sink.problems.is_empty() => Ok(spec),
        _ => Err(Report::new(name, sink.problems.finish(&sink.places))),
    }
}

fn resolve(
    name: &str,
    text: &str,
    read: &mut dyn FnMut(&Path) -> io::Result<String>,
    sink: &mut Sink,
) -> Option<FabricSpec> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let mut problem = Problem::new("config::syntax", "", error.message().trim().replace('\n', "; "));
            if let Some(span) = error.span() {
                problem = problem.label("here").at(&sink.source, span);
            }
            sink.problems.push(problem);
        }
        // What the parser made up to go on is not what was meant: nothing more is said about it.
        return None;
    }
    let span = root.span();
    let root = DeValue::Table(root.into_inner());
    let raw = raw::RawFabric::decode(&Node { value: &root, span, place: String::new() }, sink)?;
    let dir = Path::new(name).parent().unwrap_or(Path::new("")).to_owned();
    let mut low = lower::Lowering { found: Vec::new(), places: &mut sink.places, read, dir };
    let spec = lower::fabric(&raw, &mut low);
    let found = low.found;
    sink.problems.extend_without_echoes(found);
    sink.problems.extend_without_echoes(rules::check(&spec));
    Some(spec)
}

/// Checks a spec that came without a file: from the API, or from an older store. The rules are those of a file.
///
/// # Errors
///
/// All problems at once, with places but without lines.
pub fn verify(spec: &FabricSpec) -> Result<(), Report> {
    let mut problems = Problems::default();
    problems.extend_without_echoes(rules::check(spec));
    let problems = problems.finish(&Places::default());
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Report::new(format!("fabric `{}`", text::shown(&spec.name)), problems))
    }
}

/// The spec with other numbers of replicas, as `warren scale` wants it: checked like any other.
///
/// # Errors
///
/// A service that is not there; a pool that would be exhausted.
pub fn scaled(spec: &FabricSpec, replicas: &BTreeMap<String, u32>) -> Result<FabricSpec, Report> {
    let mut scaled = spec.clone();
    let mut missing = Vec::new();
    for (name, count) in replicas {
        if let Some(service) = scaled.services.get_mut(name) {
            service.replicas = *count;
            continue;
        }
        let fabric = text::shown(&spec.name);
        let message = format!("fabric `{fabric}` has no service `{}`", text::shown(name));
        let near = diagnostics::nearest(name, spec.services.keys().map(String::as_str));
        let problem = Problem::new("config::missing-service", diagnostics::join("services", name), message);
        missing.push(problem.maybe_help(near.map(|near| format!("did you mean `{near}`?"))));
    }
    if !missing.is_empty() {
        return Err(Report::new(format!("fabric `{}`", text::shown(&spec.name)), missing));
    }
    verify(&scaled).map(|()| scaled)
}

/// Reads a text file, but not without end: a device or a huge file is refused.
fn read_bounded(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let most = LONGEST_FILE as u64;
    let read = std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if read as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 1 MiB"));
    }
    Ok(text)
}

/// The entry for fuzzing the lines of fstab(5) that jail(8) takes: whatever the bytes are, there is a mount or a reason.
pub fn fuzz_fstab(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for text in text.lines() {
        match fstab::line(text, spec::MountKind::Fstab) {
            Ok(Some(mount)) => assert!(!mount.fstype.is_empty() && !mount.source.is_empty()),
            Ok(None) => {}
            Err(why) => assert!(!why.is_empty(), "a refusal without a reason"),
        }
    }
}

/// The entry for fuzzing: whatever the bytes are, there is a spec that verifies, or a report.
///
/// # Panics
///
/// If one of the promises of this module does not hold.
pub fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse("fuzz.toml", text) {
        Ok(spec) => assert!(verify(&spec).is_ok(), "a spec that was accepted does not verify"),
        Err(report) => {
            assert!(!report.problems().is_empty(), "a report without a problem");
            let _ = (report.to_json(), format!("{report:#}"));
        }
    }
}
