//! `warren info`: what daemon answers.

use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::api::view::Info;
use crate::host::Inventory;

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Said {
    #[serde(flatten)]
    info: Info,
    #[serde(skip_serializing_if = "Option::is_none")]
    inventory: Option<Inventory>,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also list what exists on the machine under names of Warren's
    #[arg(long)]
    inventory: bool,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let info: Info = context.client().get("/v1/info").await?;
    let inventory: Option<Inventory> = match args.inventory {
        true => Some(context.client().get("/v1/inventory").await?),
        false => None,
    };
    if args.output.json {
        out::json(&Said { info, inventory });
        return Ok(0);
    }
    let busy = if info.idle { "idle" } else { "working" };
    out::line(format_args!("warren {} on {}, {busy}", info.version, info.host));
    out::line(format_args!("state   {}", info.state_dir));
    out::line(format_args!("boot    {}", info.boot));
    out::line(format_args!("pid     {} (as the daemon sees itself)", info.pid));
    out::line(format_args!("store   {} rows", info.rows));
    if let Some(seen) = inventory {
        let text = serde_json::to_string_pretty(&seen).unwrap_or_default();
        out::line(format_args!("machine {text}"));
    }
    Ok(0)
}
