//! `warren lease ls`: who has which address.

use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::api::view::LeaseView;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List addresses given out, and DHCP leases among them
    Ls(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, verb: Verb) -> Result<u8, Fail> {
    let Verb::Ls(args) = verb;
    let leases: Vec<LeaseView> = context.client().get("/v1/leases").await?;
    if args.output.json {
        out::json(&leases);
        return Ok(0);
    }
    let rows: Vec<[String; 6]> = (leases.into_iter())
        .map(|l| {
            let until = l.until.map(|until| format!("{} UTC", out::clock(until))).unwrap_or_default();
            [l.network, l.address.to_string(), l.mac.unwrap_or_default(), l.owner, l.state, until]
        })
        .collect();
    out::table(["NETWORK", "ADDRESS", "MAC", "OWNER", "STATE", "UNTIL"], &rows);
    Ok(0)
}
