//! `warren run TEMPLATE -- CMD`: one instance for one command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::client::{Lines, segment};
use super::daemon::{Starting, ensure};
use super::fail::{INTERRUPTED, LEFT};
use super::follow::{Goal, Interrupts, Watch, interrupts};
use super::out::Output;
use super::{Client, Context, Fail, events, fabrics, logs, out};
use crate::config;
use crate::config::spec::{AddressMode, CommandLine, FabricSpec, InstanceSpec, LinkSpec};
use crate::daemon::api::view::{Fabric, Run};
use crate::ids::Id;
use crate::keeper::logs::Line;
use crate::store::db::Event;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// `host` (this machine's root, read-only below a writable layer), a directory, a ZFS snapshot, or with --file a template's name
    #[arg(value_name = "TEMPLATE")]
    template: String,
    /// Remove the log afterwards; else `warren logs` shows it
    #[arg(long)]
    rm: bool,
    /// A warren.toml to take the template from
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A fabric that is up, whose networks and names are used [default: one of its own, without networks]
    #[arg(long)]
    fabric: Option<String>,
    /// A network of the fabric; may be said several times [default: the only one]
    #[arg(long, value_name = "NETWORK", requires = "fabric")]
    network: Vec<String>,
    /// What it is called
    #[arg(long, default_value = "run", value_parser = label)]
    name: String,
    /// Environment of the command: NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    #[command(flatten)]
    starting: Starting,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

fn label(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=40).contains(&text.len())
        && text.bytes().all(good)
        && !text.starts_with('-')
        && !text.ends_with('-')
    {
        Ok(text.to_owned())
    } else {
        Err("a name is 1 to 40 of a-z, 0-9 and -, not at its ends: it becomes part of a DNS name".into())
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is written NAME=VALUE".into()),
    }
}

/// A configuration of nothing but a template: so the rules and defaults are those of a file.
fn bare(name: &str, template: &str) -> Result<FabricSpec, Fail> {
    // A JSON string is a TOML string as well.
    let quoted = |path: &str| serde_json::to_string(path).unwrap_or_default();
    let source = if template == "host" {
        "host = true".to_owned()
    } else if template.contains('@') && !template.starts_with('/') {
        format!("zfs = {}", quoted(template))
    } else {
        let path = Path::new(template);
        let absolute = path.canonicalize().ok().filter(|path| path.is_dir()).ok_or_else(|| {
            Fail::of(1, "invalid", format!("there is no template `{template}`"))
                .hint("say `host`, a directory that is there, a ZFS snapshot (pool/path@snapshot), or a template's name with --file FILE")
        })?;
        format!("directory = {}", quoted(&absolute.display().to_string()))
    };
    let text = format!("name = {}\n[templates.run]\n{source}\n", quoted(name));
    config::parse("warren run", &text).map_err(|report| fabrics::refused(&report))
}

/// What is to run.
fn instance(args: &Args, own: &FabricSpec) -> Result<InstanceSpec, Fail> {
    let mut spec = match &args.file {
        Some(file) => {
            let declared = fabrics::load(file)?;
            let known: Vec<&str> = declared.templates.keys().map(String::as_str).collect();
            let missing = || {
                Fail::of(
                    3,
                    "not-found",
                    format!(
                        "{} has no template `{}`: there is {}",
                        file.display(),
                        args.template,
                        known.join(", ")
                    ),
                )
            };
            declared.templates.get(&args.template).cloned().ok_or_else(missing)?
        }
        None => {
            own.templates.get("run").cloned().ok_or_else(|| Fail::new("the template was not resolved"))?
        }
    };
    spec.command = Some(CommandLine::Argv(args.command.clone()));
    spec.env.extend(args.env.iter().cloned().collect::<BTreeMap<_, _>>());
    Ok(spec)
}

async fn links(client: &Client, args: &Args) -> Result<Vec<LinkSpec>, Fail> {
    let Some(name) = &args.fabric else { return Ok(Vec::new()) };
    let fabric: Fabric = client.get(&format!("/v1/fabrics/{}", segment(name))).await?;
    let wanted = if args.network.is_empty() {
        match fabric.networks.as_slice() {
            [] => Vec::new(),
            [only] => vec![only.name.clone()],
            many => {
                let names: Vec<&str> = many.iter().map(|n| n.name.as_str()).collect();
                return Err(Fail::usage(format!(
                    "{name} has several networks, say --network: {}",
                    names.join(", ")
                )));
            }
        }
    } else {
        args.network.clone()
    };
    Ok(wanted
        .into_iter()
        .map(|network| LinkSpec { network, address: AddressMode::Auto, vnet: true })
        .collect())
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let random = getrandom::u64().map_err(|e| Fail::new(format!("drawing a name: {e}")))?;
    let own_name = format!("run-{}", Id::from_random(random));
    let own = match &args.file {
        // The template is the file's; the fabric of its own needs none.
        Some(_) => bare(&own_name, "host")?,
        None => bare(&own_name, &args.template)?,
    };
    let mut spec = instance(&args, &own)?;
    let client = ensure(context, &args.starting).await?;
    spec.links = links(&client, &args).await?;
    // From here on there is something to be taken away again.
    let mut interrupt = interrupts()?;
    let Some(fabric) = args.fabric.clone() else {
        let (path, own) =
            (format!("/v1/fabrics/{own_name}"), FabricSpec { templates: BTreeMap::new(), ..own });
        let (_, interrupted): (Value, bool) = interrupt.during(client.put(&path, &own)).await?;
        let ran = if interrupted {
            Ok(INTERRUPTED)
        } else {
            attend(&client, &args, &own_name, spec, &mut interrupt).await
        };
        let gone = drop_own(&client, &own_name).await;
        let code = ran?;
        gone?;
        return Ok(code);
    };
    attend(&client, &args, &fabric, spec, &mut interrupt).await
}

/// Takes the fabric of its own away.
async fn drop_own(client: &Client, name: &str) -> Result<(), Fail> {
    // What it would print is nobody's business: JSON is switched off and lines are not asked for.
    let mut watch = Watch::begin(client, name, Output { json: false }, None).await?;
    watch.quiet();
    let _: Value = watch.asking(client.delete(&format!("/v1/fabrics/{name}"))).await?;
    match watch.until(Goal::Gone, false).await? {
        super::follow::Ended::Reached(_) => Ok(()),
        ended => {
            watch.report("run", ended).await?;
            Err(Fail::told(LEFT))
        }
    }
}

/// Starts the instance, passes on what it prints, and waits until it is gone.
async fn attend(
    client: &Client,
    args: &Args,
    fabric: &str,
    spec: InstanceSpec,
    interrupt: &mut Interrupts,
) -> Result<u8, Fail> {
    let mut told = client.stream("/v1/events?follow=true&now=true").await?;
    let wanted = Run { fabric: fabric.to_owned(), name: args.name.clone(), spec };
    let (answer, mut interrupted): (Value, bool) =
        interrupt.during(client.post("/v1/instances", &wanted)).await?;
    let id = answer["unit"].as_str().unwrap_or_default().to_owned();
    if interrupted {
        let _: Value = client.delete(&format!("/v1/instances/{id}")).await?;
    }
    let main = format!("{id}.main");
    let mut log: Option<Lines> = client.stream(&format!("/v1/instances/{id}/logs?follow=true")).await.ok();
    let mut failures: Vec<String> = Vec::new();
    let code = loop {
        tokio::select! {
            line = next_line(&mut log) => match line {
                Ok(Some(line)) if line.job == main => logs::print(&line),
                Ok(Some(_)) => {}
                Ok(None) => log = None,
                // The command goes on, and its end is among the events.
                Err(fail) => {
                    failures.push(format!("its log breaks off: {}", fail.message));
                    log = None;
                }
            },
            event = told.next::<Event>() => {
                let Some(event) = event? else {
                    return Err(Fail::of(1, "unreachable", "the daemon ended; the command goes on")
                        .hint(format!("`warren logs {}-{id} -f` shows it once a daemon runs again", args.name)));
                };
                let text = |key: &str| event.what.get(key).and_then(Value::as_str).unwrap_or_default();
                if text("unit") != id {
                    continue;
                }
                match text("kind") {
                    "gone" => {
                        break match event.what.get("exit").and_then(Value::as_i64) {
                            _ if interrupted => INTERRUPTED,
                            Some(exit) => u8::try_from(exit & 255).unwrap_or(255),
                            None => {
                                failures.push(events::sentence(&event));
                                super::fail::FAILED
                            }
                        };
                    }
                    "left" => {
                        failures.push(events::sentence(&event));
                        break LEFT;
                    }
                    kind if events::is_bad(kind) => failures.push(events::sentence(&event)),
                    _ => {}
                }
            }
            () = interrupt.recv() => {
                if interrupted {
                    return Err(Fail::of(INTERRUPTED, "interrupted", "no longer waited for; the daemon goes on stopping it"));
                }
                interrupted = true;
                let _: Value = client.delete(&format!("/v1/instances/{id}")).await?;
            }
        }
    };
    // What was printed last is in the log by now.
    loop {
        match next_line_if_any(&mut log).await {
            Ok(Some(line)) if line.job == main => logs::print(&line),
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(fail) => {
                failures.push(format!("its log breaks off: {}", fail.message));
                break;
            }
        }
    }
    for failure in &failures {
        out::note(failure);
    }
    if args.rm && code != LEFT {
        let _: Value = client.delete(&format!("/v1/instances/{id}/logs")).await?;
    }
    Ok(code)
}

async fn next_line(log: &mut Option<Lines>) -> Result<Option<Line>, Fail> {
    match log {
        Some(lines) => lines.next().await,
        // There is nothing more to wait for here.
        None => std::future::pending().await,
    }
}

async fn next_line_if_any(log: &mut Option<Lines>) -> Result<Option<Line>, Fail> {
    match log {
        Some(lines) => lines.next().await,
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_resolved_by_the_rules_of_a_file() {
        let host = bare("run-x", "host").unwrap();
        assert!(host.services.is_empty() && host.networks.is_empty() && host.templates.contains_key("run"));
        assert!(bare("run-x", "/usr").is_ok());
        assert_eq!(bare("run-x", "/no/such/place").unwrap_err().kind, "invalid");
        assert!(bare("run-x", "tank/base@clean").is_ok());
    }

    #[test]
    fn names_are_labels() {
        assert!(label("job-1").is_ok());
        assert!(label("-x").is_err() && label("A").is_err() && label("").is_err());
        assert!(variable("=x").is_err() && variable("A=b=c").is_ok());
    }
}
