//! `warren down FILE|NAME`: nothing of the fabric is left, or it is said what.

use std::time::Duration;

use serde_json::Value;

use super::client::segment;
use super::fabrics::Source;
use super::follow::{Goal, Watch, duration};
use super::out::Output;
use super::{Client, Context, Fail, fabrics, scale};
use crate::daemon::api::view::Fabric;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Wait no longer than this: 500ms, 90s, 2m [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let client = context.client();
    let Some((conf, only)) = args.source.jails()? else {
        return take(&client, &fabrics::named(args.source.own()?)?, args.output, args.timeout).await;
    };
    let fabric = conf.fabric_name();
    let up: Vec<Fabric> = client.get("/v1/fabrics").await?;
    let there = up.iter().find(|there| there.name == fabric);
    let (theirs, own) = (there.and_then(|there| there.origin.clone()), conf.origin());
    if let (Some(theirs), Some(own)) = (theirs, own)
        && *theirs != *own.display().to_string()
    {
        let message = format!("the fabric `{fabric}` is of {theirs}, and this is {}", own.display());
        return Err(Fail::of(1, "conflict", message).hint("give the file it was brought up from"));
    }
    if only.is_empty() {
        return take(&client, &fabric, args.output, args.timeout).await;
    }
    // As jail(8): those that depend on one go before it.
    let services = conf.services_down(only).map_err(|report| fabrics::refused(&report))?;
    let there = there.map_or(&[][..], |there| &there.services);
    let wanted = |service: &&String| there.iter().any(|s| s.name == **service && s.wanted > 0);
    let mut code = 0;
    for service in services.iter().filter(wanted) {
        code = code.max(scale::to(&client, &fabric, service, 0, (args.output, args.timeout)).await?);
    }
    Ok(code)
}

/// Takes a fabric down and waits until it is gone, or cannot be.
pub async fn take(
    client: &Client,
    fabric: &str,
    output: Output,
    timeout: Option<Duration>,
) -> Result<u8, Fail> {
    let mut watch = Watch::begin(client, fabric, output, timeout).await?;
    let asked: Result<Value, Fail> = client.delete(&format!("/v1/fabrics/{}", segment(fabric))).await;
    if let Err(fail) = asked {
        watch.finish();
        return Err(fail);
    }
    let ended = watch.until(Goal::Gone, false).await?;
    watch.report("down", ended).await
}
