//! jail.conf, read exactly as jail(8) reads it: text to blocks, blocks to each jail's parameters.
//!
//! [`lex`] makes tokens, [`parse`] blocks (with what `.include` draws in), [`resolve`] merges them and puts variables in,
//! [`check`] says what jail(8) would refuse before its first step. Where releases of FreeBSD or Warren differ, the
//! difference stands in docs/reference/jail-conf.md.

mod check;
mod convert;
mod files;
mod hints;
mod lex;
mod lower;
mod mounts;
mod names;
mod parse;
mod propose;
mod resolve;
mod settings;
mod show;
#[cfg(test)]
mod tests;
mod tree;
pub mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use files::{Files, OnDisk};
pub use lower::Checked;
use names::is_wild;
pub use resolve::{Jail, Param, Value};
pub use show::Shown;

use super::diagnostics::{Places, Problem, Problems, Report, nearest};
use super::text::shown;

/// The name of a file that is the standard input.
const STDIN: &str = "-";

/// A jail.conf and all it includes.
#[derive(Debug)]
pub struct JailConf {
    name: String,
    /// The jails, in the order of the text. Two may have one name; jail(8) runs only the first of them.
    pub jails: Vec<Jail>,
    remarks: Vec<Problem>,
    blocks: Vec<tree::Block>,
    comments: Vec<tree::Comment>,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
}

/// Reads `path` and what it includes. `-` is the standard input, as for jail(8).
///
/// # Errors
///
/// All errors of syntax at once, over all files. jail(8) does nothing for any jail then.
pub fn load(path: &Path, files: &mut dyn Files) -> Result<JailConf, Report> {
    match bytes(path, files) {
        Ok(bytes) => parse(path, bytes, files),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The bytes of `path`, which is read once: it may be a pipe.
pub(super) fn bytes(path: &Path, files: &mut dyn Files) -> io::Result<Vec<u8>> {
    if path == Path::new(STDIN) { files::bounded(io::stdin().lock()) } else { files.read(path) }
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Report {
    let name = path.display().to_string();
    let problem = Problem::new("config::file", "", format!("{name} cannot be read: {error}"));
    Report::new(name, vec![problem.help("jail(8) reads /etc/jail.conf")])
}

/// As [`load`], from bytes that are there; `path` is where relative names of included files start.
///
/// # Errors
///
/// All errors of syntax at once.
pub fn parse(path: &Path, bytes: Vec<u8>, files: &mut dyn Files) -> Result<JailConf, Report> {
    let name = path.display().to_string();
    let parsed = parse::parse(path, bytes, files);
    if !parsed.problems.is_empty() {
        return Err(report(&name, parsed.problems));
    }
    let mut jails = resolve::resolve(&parsed.blocks);
    let mut remarks = parsed.remarks;
    for jail in &mut jails {
        let (problems, unknown) = check::params(jail);
        jail.problems.extend(problems);
        remarks.extend(unknown);
    }
    for (number, problem) in check::dependencies(&jails) {
        jails[number].problems.push(problem);
    }
    for number in parse::doubles(&parsed.blocks) {
        let block = &parsed.blocks[number];
        let message = format!("jail `{}` is defined twice", shown(&block.name));
        let problem = Problem::new("jail.conf::double", "", message).label("the second");
        let help = "jail(8) does not join the two: it starts one and finds that the other \"already exists\"";
        remarks.push(problem.help(help).at(&block.place.source, block.place.span.clone()));
    }
    remarks.extend(check::releases(
        &parsed.blocks,
        parsed.globals.unwrap_or_default(),
        &parsed.globals_below,
    ));
    let (blocks, comments) = (parsed.blocks, parsed.comments);
    Ok(JailConf { name, jails, remarks, blocks, comments, files: parsed.files })
}

impl JailConf {
    /// What is legal but perhaps not meant, and where releases of jail(8) differ.
    #[must_use]
    pub fn remarks(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.remarks.iter().for_each(|problem| problems.push(problem.clone()));
        problems.finish(&Places::default())
    }

    /// What keeps jails from being used: each jail's own problems. `only` looks at one.
    ///
    /// # Errors
    ///
    /// All of them at once; or that there is no jail of that name.
    pub fn verify(&self, only: Option<&str>) -> Result<(), Report> {
        if let Some(name) = only {
            self.named(name)?;
        }
        let wanted = self.jails.iter().filter(|jail| only.is_none_or(|name| jail.name == name));
        let problems: Vec<Problem> = wanted.flat_map(|jail| jail.problems.iter().cloned()).collect();
        if problems.is_empty() { Ok(()) } else { Err(report(&self.name, problems)) }
    }

    /// The jail of a name. Of two the first.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn named(&self, name: &str) -> Result<&Jail, Report> {
        self.jails.iter().find(|jail| jail.name == name).ok_or_else(|| {
            let message = format!("{} defines no jail `{}`", self.name, shown(name));
            let names = || self.jails.iter().map(|jail| jail.name.as_str());
            let help = match nearest(name, names()) {
                Some(near) => format!("did you mean `{}`?", shown(near)),
                None if is_wild(name) => "no jail of the file is covered by this wildcard".to_owned(),
                None => format!("it defines {}", shown(&names().collect::<Vec<_>>().join(", "))),
            };
            Report::new(&*self.name, vec![Problem::new("jail.conf::missing-jail", "", message).help(help)])
        })
    }

    /// All jails in the stable form.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        self.jails.iter().map(Jail::shown).collect()
    }
}

fn report(name: &str, found: Vec<Problem>) -> Report {
    let mut problems = Problems::default();
    found.into_iter().for_each(|problem| problems.push(problem));
    Report::new(name, problems.finish(&Places::default()))
}

/// Whether a text is a jail.conf without an error of syntax, whatever it includes, and says anything.
pub(super) fn has_jails(text: &str) -> bool {
    let parsed = parse::parse(Path::new(""), text.as_bytes().to_vec(), &mut files::NoFiles);
    let right = parsed.problems.iter().all(|problem| problem.code == "jail.conf::include");
    right && !parsed.blocks.is_empty()
}

/// The entry for fuzzing: whatever the bytes are, there are jails or a report, and what is shown comes back.
///
/// # Panics
///
/// If one of the promises of this module does not hold.
pub fn fuzz(data: &[u8]) {
    match parse(Path::new("fuzz.conf"), data.to_vec(), &mut files::NoFiles) {
        Ok(conf) => {
            let _ = conf.remarks();
            if conf.verify(None).is_ok() {
                let again = write::text(&conf.shown());
                let again = parse(Path::new("again.conf"), again.into_bytes(), &mut files::NoFiles);
                let again = again.unwrap_or_else(|report| panic!("{report:#}"));
                assert_eq!(again.shown(), conf.shown(), "what was shown does not come back");
            }
        }
        Err(report) => {
            assert!(!report.problems().is_empty(), "a report without a problem");
            let _ = (report.to_json(), format!("{report:#}"));
        }
    }
}
