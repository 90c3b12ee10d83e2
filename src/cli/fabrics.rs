//! Finding and reading what a verb is about: files, fabrics, services.

use std::path::{Path, PathBuf};

use super::{Client, Fail, out};
use crate::config::jailconf::{self, JailConf};
use crate::config::spec::FabricSpec;
use crate::config::{Document, Problem, Report};
use crate::daemon::api::view::Fabric;

/// What a verb is about: a warren.toml, or jails of a file of jail(8).
#[derive(Debug, clap::Args)]
pub struct Source {
    /// A warren.toml [default: warren.toml]; with --jail-conf, names of jails or wildcards like 'a.*' [default: all]
    #[arg(value_name = "FILE|JAIL")]
    what: Vec<String>,
    /// Take the jails of a file of jail(8), those they depend on included
    #[arg(long, value_name = "FILE")]
    jail_conf: Option<PathBuf>,
}

impl Source {
    /// The jail.conf and the jails that are named, if it is about one.
    pub fn jails(&self) -> Result<Option<(JailConf, &[String])>, Fail> {
        let Some(path) = &self.jail_conf else { return Ok(None) };
        let conf = jailconf::load(path, &mut jailconf::OnDisk).map_err(|report| refused(&report))?;
        Ok(Some((conf, &self.what)))
    }

    /// The file or name, if it is about one of Warren's own.
    pub fn own(&self) -> Result<&str, Fail> {
        match self.what.as_slice() {
            [] => Ok("warren.toml"),
            [one] => Ok(one),
            _ => Err(Fail::usage("one file at a time: several names are for --jail-conf FILE")),
        }
    }

    /// What is wanted.
    pub fn load(&self) -> Result<FabricSpec, Fail> {
        match self.jails()? {
            Some((conf, only)) => jails(&conf, only),
            None => load(Path::new(self.own()?)),
        }
    }
}

/// What Warren runs of a jail.conf, its remarks told beside it.
pub fn jails(conf: &JailConf, only: &[String]) -> Result<FabricSpec, Fail> {
    let spec = conf.fabric(only).map_err(|report| refused(&report))?;
    remark(&conf.remarks());
    Ok(spec)
}

/// Tells remarks: on standard error, for people.
pub fn remark(remarks: &[Problem]) {
    for remark in remarks {
        out::note(drawn(remark).trim_end());
    }
}

/// Reads a file; all its problems at once, drawn for people.
pub fn load(path: &Path) -> Result<FabricSpec, Fail> {
    match Document::load(path, false) {
        Ok(Document::Fabric(spec)) => Ok(*spec),
        Ok(Document::Jails(_)) => Err(Fail::of(1, "invalid", format!("{} is a jail.conf", path.display()))
            .hint(format!("`--jail-conf {}` takes its jails", path.display()))),
        Err(report) => Err(refused(&report)),
    }
}

/// A report as a failure.
pub fn refused(report: &Report) -> Fail {
    let mut fail = Fail::of(1, "invalid", report.to_string()).details(report.to_json());
    fail.screen = Some(drawn(report));
    fail
}

/// A report or a single problem as people see it: with the lines it is about.
pub fn drawn(report: &dyn miette::Diagnostic) -> String {
    use miette::{GraphicalReportHandler, GraphicalTheme};
    let theme =
        if out::errors_coloured() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut screen = String::new();
    let drawn = GraphicalReportHandler::new_themed(theme).render_report(&mut screen, report);
    if drawn.is_ok() { screen } else { format!("{report:#}") }
}

/// The fabric that a FILE or a NAME means.
pub fn named(what: &str) -> Result<String, Fail> {
    let path = Path::new(what);
    if !path.exists() && !what.contains('/') && path.extension().is_none() {
        return Ok(what.to_owned());
    }
    load(path).map(|spec| spec.name).map_err(|fail| {
        fail.hint("to take a fabric down its name is enough: what runs does not need its file; `warren ps` lists names")
    })
}

/// The fabric a service is in: the one that was named, or the only one that has it.
pub async fn of_service(client: &Client, service: &str, fabric: Option<&str>) -> Result<String, Fail> {
    if let Some(fabric) = fabric {
        return Ok(fabric.to_owned());
    }
    let fabrics: Vec<Fabric> = client.get("/v1/fabrics").await?;
    let having: Vec<&str> = (fabrics.iter())
        .filter(|f| f.services.iter().any(|s| s.name == service))
        .map(|f| f.name.as_str())
        .collect();
    match having[..] {
        [one] => Ok(one.to_owned()),
        [] => {
            let known: Vec<&str> =
                fabrics.iter().flat_map(|f| f.services.iter().map(|s| s.name.as_str())).collect();
            let there = if known.is_empty() {
                "no fabric is up".to_owned()
            } else {
                format!("there is {}", known.join(", "))
            };
            Err(Fail::of(
                super::fail::NOT_FOUND,
                "not-found",
                format!("no service is called `{service}`: {there}"),
            ))
        }
        ref many => Err(Fail::of(
            1,
            "ambiguous",
            format!("several fabrics have a service `{service}`: {}", many.join(", ")),
        )
        .hint("say which: --fabric NAME")),
    }
}
