//! `warren info`: what daemon answers.

use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::api::view::Info;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let info: Info = context.client().get("/v1/info").await?;
    if args.output.json {
        out::json(&info);
        return Ok(0);
    }
    let busy = if info.idle { "idle" } else { "working" };
    out::line(format_args!("warren {} on {}, {busy}", info.version, info.host));
    out::line(format_args!("state   {}", info.state_dir));
    out::line(format_args!("boot    {}", info.boot));
    out::line(format_args!("pid     {} (as the daemon sees itself)", info.pid));
    out::line(format_args!("store   {} rows", info.rows));
    Ok(0)
}
