//! Finding and reading what a verb is about: files, fabrics, services.

use std::path::Path;

use super::{Client, Fail, out};
use crate::config::spec::FabricSpec;
use crate::config::{self, Report};
use crate::daemon::api::view::Fabric;

/// Reads a file; all its problems at once, drawn for people.
pub fn load(path: &Path) -> Result<FabricSpec, Fail> {
    config::load(path).map_err(|report| refused(&report))
}

/// A report as a failure.
pub fn refused(report: &Report) -> Fail {
    use miette::{GraphicalReportHandler, GraphicalTheme};
    let theme =
        if out::errors_coloured() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut screen = String::new();
    let drawn = GraphicalReportHandler::new_themed(theme).render_report(&mut screen, report);
    let mut fail = Fail::of(1, "invalid", report.to_string()).details(report.to_json());
    fail.screen = Some(if drawn.is_ok() { screen } else { format!("{report:#}") });
    fail
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
