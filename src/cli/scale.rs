//! `warren scale api=20`.

use std::time::Duration;

use serde_json::Value;

use super::client::segment;
use super::follow::{Goal, Watch, duration};
use super::out::Output;
use super::{Client, Context, Fail, fabrics};
use crate::daemon::api::view::Scale;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A service and how many instances of it are wanted
    #[arg(value_name = "SERVICE=N", value_parser = wanted)]
    wanted: (String, u32),
    /// The fabric, if several have such a service
    #[arg(long)]
    fabric: Option<String>,
    /// Wait no longer than this: 500ms, 90s, 2m [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    pub output: Output,
}

fn wanted(text: &str) -> Result<(String, u32), String> {
    let (service, count) = text.split_once('=').ok_or("it is written SERVICE=N: api=20")?;
    let count = count.parse().map_err(|_| format!("`{count}` is not a number of instances"))?;
    Ok((service.to_owned(), count))
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let client = context.client();
    let (service, replicas) = args.wanted;
    let fabric = fabrics::of_service(&client, &service, args.fabric.as_deref()).await?;
    let mut watch = Watch::begin(&client, &fabric, args.output, args.timeout).await?;
    ask(&client, &mut watch, &fabric, &service, replicas).await?;
    let ended = watch.until(Goal::Settled, false).await?;
    watch.report("scale", ended).await
}

/// Says how many are wanted from now on.
pub async fn ask(
    client: &Client,
    watch: &mut Watch,
    fabric: &str,
    service: &str,
    replicas: u32,
) -> Result<(), Fail> {
    let path = format!("/v1/fabrics/{}/services/{}/scale", segment(fabric), segment(service));
    let _: Value = watch.asking(client.put(&path, &Scale { replicas })).await?;
    Ok(())
}
