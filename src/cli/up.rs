//! `warren up FILE`: the fabric as the file says; what changes is said first.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::segment;
use super::daemon::{Starting, ensure};
use super::fabrics::{Source, jails};
use super::follow::{Ended, Goal, Watch, duration};
use super::out::{self, Output};
use super::{Client, Context, Fail};
use crate::config::spec::FabricSpec;
use crate::daemon::api::view::Fabric;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Wait no longer than this: 500ms, 90s, 2m [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    starting: Starting,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let spec = wanted(context, &args.source).await?;
    if args.dry_run {
        // Nothing is started for a question: without a daemon nothing is up, so all of it is new.
        let changes = match context.client().answering().await? {
            Some(_) => ask(&context.client(), &spec, true).await?,
            None => vec![format!("fabric `{}` is new: it comes up", spec.name)],
        };
        tell(&spec.name, &changes, args.output);
        return Ok(0);
    }
    let client = ensure(context, &args.starting).await?;
    bring(&client, &spec, args.output, args.timeout).await
}

/// What is to be up. Jails that are named come beside those of their file that are up already: nothing goes for them.
async fn wanted(context: &Context, source: &Source) -> Result<FabricSpec, Fail> {
    let Some((conf, only)) = source.jails()? else { return source.load() };
    let mut only = only.to_vec();
    if !only.is_empty() && context.client().answering().await?.is_some() {
        let fabrics: Vec<Fabric> = context.client().get("/v1/fabrics").await?;
        let there = fabrics.iter().find(|fabric| fabric.name == conf.fabric_name());
        let services = there.map_or(&[][..], |fabric| &fabric.services);
        let up: Vec<&str> = services.iter().filter(|s| s.wanted > 0).map(|s| s.name.as_str()).collect();
        only.extend(conf.jails_of(&up));
    }
    jails(&conf, &only)
}

/// Declares a fabric; `dry` only asks what would change.
async fn ask(client: &Client, spec: &FabricSpec, dry: bool) -> Result<Vec<String>, Fail> {
    let path = format!("/v1/fabrics/{}?dry={dry}", segment(&spec.name));
    let answer: Value = client.put(&path, spec).await?;
    let changes = answer["changes"].as_array().cloned().unwrap_or_default();
    Ok(changes.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn tell(fabric: &str, changes: &[String], output: Output) {
    if output.json {
        out::json_line(&json!({ "kind": "changes", "fabric": fabric, "changes": changes }));
    } else if changes.is_empty() {
        out::line(format_args!("{fabric}: nothing changes"));
    } else {
        for change in changes {
            out::line(change);
        }
    }
}

/// Brings a fabric up and waits until it is, or cannot be.
pub async fn bring(
    client: &Client,
    spec: &FabricSpec,
    output: Output,
    timeout: Option<Duration>,
) -> Result<u8, Fail> {
    tell(&spec.name, &ask(client, spec, true).await?, output);
    let mut watch = Watch::begin(client, &spec.name, output, timeout).await?;
    watch.asking(ask(client, spec, false)).await?;
    let ended = watch.until(Goal::Settled, true).await?;
    if !matches!(ended, Ended::Interrupted) {
        return watch.report("up", ended).await;
    }
    // What was declared before is declared again; of a new fabric what is ready stays.
    watch.finish();
    if !output.json {
        out::note("interrupted: what is not ready is undone");
    }
    let path = format!("/v1/fabrics/{}/cancel", segment(&spec.name));
    let canceled: Value = watch.asking(client.post(&path, &json!({}))).await?;
    match watch.until(Goal::Either, false).await? {
        Ended::Reached(fabric) => {
            let text = match &fabric {
                Some(_) if canceled["back"] == true => {
                    format!("{}: it is as it was declared before", spec.name)
                }
                Some(_) => format!("{}: what was not ready is gone, the rest stays", spec.name),
                None => format!("{}: nothing was ready, and all of it is gone again", spec.name),
            };
            watch.summary(super::fail::INTERRUPTED, fabric.as_ref(), &text).await?;
            Ok(super::fail::INTERRUPTED)
        }
        Ended::Stuck(fabric) => {
            let text = format!("{}: not everything could be undone", spec.name);
            watch.summary(super::fail::LEFT, Some(&fabric), &text).await?;
            Ok(super::fail::LEFT)
        }
        ended => watch.report("up", ended).await,
    }
}
