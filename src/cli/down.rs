//! `warren down FILE|NAME`: nothing of the fabric is left, or it is said what.

use std::time::Duration;

use serde_json::Value;

use super::client::segment;
use super::fabrics::Source;
use super::fail::NOT_FOUND;
use super::follow::{Ended, Goal, Watch, duration};
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
    let services = conf.services_down(only).map_err(|report| fabrics::refused(&report))?;
    let Some(there) = there else {
        return Err(Fail::of(
            NOT_FOUND,
            "not-found",
            format!("no fabric is called `{fabric}`: none of these jails is up"),
        )
        .hint("`warren ps` lists what is; a jail that jail(8) started is jail(8)'s to take down"));
    };
    // As jail(8): those that depend on one go before it.
    let up = |service: &String| there.services.iter().any(|s| s.name == *service && s.wanted > 0);
    let going: Vec<String> = services.into_iter().filter(up).collect();
    jails(&client, &fabric, (only, &going), (args.output, args.timeout)).await
}

/// Takes jails of a fabric down, one after the other; how it ended is said once.
async fn jails(
    client: &Client,
    fabric: &str,
    (named, going): (&[String], &[String]),
    (output, timeout): (Output, Option<Duration>),
) -> Result<u8, Fail> {
    let mut watch = Watch::begin(client, fabric, output, timeout).await?;
    let mut worst = None;
    for (n, service) in going.iter().enumerate() {
        scale::ask(client, &mut watch, fabric, service, 0).await?;
        let ended = watch.until(Goal::Settled, false).await?;
        let late = matches!(ended, Ended::TimedOut);
        if !matches!(worst, Some(Ended::Stuck(_))) || late {
            worst = Some(ended);
        }
        // Those it depends on would go under it.
        if late {
            let rest = going.get(n + 1..).unwrap_or_default();
            if !rest.is_empty() {
                watch.missed(format!("not taken down yet: {}", rest.join(", ")));
            }
            break;
        }
    }
    match worst {
        Some(ended) => watch.report("down", ended).await,
        None => {
            let (jails, are) = if named.len() == 1 { ("jail", "is") } else { ("jails", "are") };
            let headline = format!("{jails} {} {are} not up: nothing was to be taken down", named.join(", "));
            watch.idle(&headline).await
        }
    }
}

/// Takes a fabric down and waits until it is gone, or cannot be.
pub async fn take(
    client: &Client,
    fabric: &str,
    output: Output,
    timeout: Option<Duration>,
) -> Result<u8, Fail> {
    let mut watch = Watch::begin(client, fabric, output, timeout).await?;
    let _: Value = watch.asking(client.delete(&format!("/v1/fabrics/{}", segment(fabric)))).await?;
    let ended = watch.until(Goal::Gone, false).await?;
    watch.report("down", ended).await
}
