//! `warren stop INSTANCE`: one instance goes, and its service is wanted with one fewer.

use std::time::Duration;

use serde_json::Value;

use super::client::segment;
use super::follow::{Goal, Watch, duration};
use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::api::view::Detail;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An instance: its name, its id, or its service if that has one instance
    #[arg(value_name = "INSTANCE")]
    name: String,
    /// Wait no longer than this: 500ms, 90s, 2m [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let client = context.client();
    // By its id from here on: while it goes, its service's name may come to mean another one.
    let detail: Detail = client.get(&format!("/v1/instances/{}", segment(&args.name))).await?;
    let mut watch = Watch::begin(&client, &detail.instance.fabric, args.output, args.timeout).await?;
    let path = format!("/v1/instances/{}", detail.instance.id);
    let answer: Value = watch.asking(client.delete(&path)).await?;
    if let (false, Some(replicas)) = (args.output.json, answer["replicas"].as_u64()) {
        out::line(format_args!("{} is wanted with {replicas} instances now", detail.instance.service));
    }
    let ended = watch.until(Goal::Settled, false).await?;
    watch.report("stop", ended).await
}
