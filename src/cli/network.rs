//! `warren network ls`.

use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::api::view::Network;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List networks
    Ls(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, verb: Verb) -> Result<u8, Fail> {
    let Verb::Ls(args) = verb;
    let networks: Vec<Network> = context.client().get("/v1/networks").await?;
    if args.output.json {
        out::json(&networks);
        return Ok(0);
    }
    let words = |items: Vec<String>| items.join(" ");
    let rows: Vec<[String; 9]> = (networks.into_iter())
        .map(|n| {
            [
                n.fabric,
                n.name,
                n.stage,
                words(n.prefixes.iter().map(ToString::to_string).collect()),
                words(n.gateways.iter().map(ToString::to_string).collect()),
                n.used,
                n.links.to_string(),
                if n.isolated { "yes" } else { "no" }.into(),
                n.bridge,
            ]
        })
        .collect();
    out::table(
        ["FABRIC", "NAME", "STATE", "PREFIXES", "GATEWAYS", "ADDRESSES", "LINKS", "ISOLATED", "BRIDGE"],
        &rows,
    );
    Ok(0)
}
