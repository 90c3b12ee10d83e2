//! `warren config`: checks files, shows what they come to, prints schemas.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use utoipa::OpenApi;

use super::out::{self, Output};
use super::{Fail, fabrics};
use crate::config::jailconf::Checked;
use crate::config::{Document, Problem, Report};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Check files, a warren.toml or a jail.conf each: all their problems at once
    Check(CheckArgs),
    /// Show what every instance of a warren.toml or jail.conf gets, its parameters resolved
    Show(ShowArgs),
    /// Print the JSON schema of warren.toml, for editors
    Schema,
    /// Print the description of the daemon's API
    Openapi,
}

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Files: a warren.toml or a jail.conf; - is the standard input
    #[arg(value_name = "FILE", default_value = "warren.toml")]
    files: Vec<PathBuf>,
    /// They are files of jail(8), whatever they look like
    #[arg(long)]
    jail_conf: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// A warren.toml or a jail.conf; - is the standard input
    #[arg(value_name = "FILE", default_value = "warren.toml")]
    file: PathBuf,
    /// Only this jail, or service
    #[arg(long, value_name = "NAME")]
    jail: Option<String>,
    /// It is a file of jail(8), whatever it looks like
    #[arg(long)]
    jail_conf: bool,
    #[command(flatten)]
    pub output: Output,
}

pub fn run(verb: &Verb) -> Result<u8, Fail> {
    match verb {
        Verb::Check(args) => check(args),
        Verb::Show(args) => show(args),
        Verb::Schema => {
            out::json(&crate::config::schema());
            Ok(0)
        }
        Verb::Openapi => {
            out::json(&crate::daemon::api::Description::openapi());
            Ok(0)
        }
    }
}

fn check(args: &CheckArgs) -> Result<u8, Fail> {
    if let [file] = args.files.as_slice() {
        let (value, line) = checked(file, args.jail_conf).map_err(|report| fabrics::refused(&report))?;
        if args.output.json {
            out::json(&value)
        } else {
            out::line(line)
        }
        return Ok(0);
    }
    // Every file has its say: one that is wrong hides nothing of the others.
    let mut all = Vec::new();
    let mut code = 0;
    for file in &args.files {
        match checked(file, args.jail_conf) {
            Ok((value, _)) if args.output.json => all.push(value),
            Ok((_, line)) => out::line(line),
            Err(report) => {
                code = super::fail::FAILED;
                match args.output.json {
                    true => all.push(json!({ "file": file, "ok": false, "problems": report.to_json() })),
                    false => out::note(fabrics::drawn(&report).trim_end()),
                }
            }
        }
    }
    if args.output.json {
        out::json(&all);
    }
    if code == 0 { Ok(0) } else { Err(Fail::told(code)) }
}

/// What a file is, if nothing is wrong with it: for programs, and in a line. Remarks are told at once.
fn checked(file: &Path, forced: bool) -> Result<(Value, String), Report> {
    match Document::load(file, forced)? {
        Document::Fabric(spec) => {
            let instances: u64 = spec.services.values().map(|s| u64::from(s.replicas)).sum();
            let line = format!(
                "{}: fabric `{}` with {} networks and {} services of {instances} instances",
                file.display(),
                spec.name,
                spec.networks.len(),
                spec.services.len()
            );
            Ok((json!({ "file": file, "ok": true, "spec": spec }), line))
        }
        Document::Jails(conf) => {
            let Checked { remarks, runs } = conf.check()?;
            let names: Vec<&str> = conf.jails.iter().map(|jail| jail.name.as_str()).collect();
            fabrics::remark(&remarks);
            let (jails, files) = (names.len(), conf.files.len());
            let but = if runs { "" } else { "; jail(8) would run it, `warren up` does not" };
            let line =
                format!("{}: {jails} jails in {files} files, {} remarks{but}", file.display(), remarks.len());
            let remarks: Vec<Value> = remarks.iter().map(Problem::to_json).collect();
            Ok((json!({ "file": file, "ok": true, "runs": runs, "jails": names, "remarks": remarks }), line))
        }
    }
}

fn show(args: &ShowArgs) -> Result<u8, Fail> {
    let document = Document::load(&args.file, args.jail_conf).map_err(|report| fabrics::refused(&report))?;
    let shown = document.shown(args.jail.as_deref()).map_err(|report| fabrics::refused(&report))?;
    if args.output.json {
        out::json(&shown);
        return Ok(0);
    }
    for jail in &shown {
        out::line(out::strong(&out::plain(&jail.name)));
        for (name, values) in &jail.parameters {
            let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            out::line(format_args!("  {} = {}", out::plain(name), values.join(", ")));
        }
    }
    Ok(0)
}
