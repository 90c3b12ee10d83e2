//! `warren down FILE|NAME`: nothing of the fabric is left, or it is said what.

use std::time::Duration;

use serde_json::Value;

use super::client::segment;
use super::follow::{Goal, Watch, duration};
use super::out::Output;
use super::{Client, Context, Fail, fabrics};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A warren.toml, or the fabric's name
    #[arg(value_name = "FILE|NAME", default_value = "warren.toml")]
    what: String,
    /// Wait no longer than this: 500ms, 90s, 2m [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let client = context.client();
    take(&client, &fabrics::named(&args.what)?, args.output, args.timeout).await
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
