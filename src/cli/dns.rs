//! `warren dns ls`: the zones.

use serde::{Deserialize, Serialize};

use super::out::{self, Output};
use super::{Context, Fail};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List every record
    Ls(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub output: Output,
}

/// A record as the API gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    pub ttl: u32,
    pub data: String,
}

pub async fn run(context: &Context, verb: Verb) -> Result<u8, Fail> {
    let Verb::Ls(args) = verb;
    let records: Vec<Record> = context.client().get("/v1/names").await?;
    if args.output.json {
        out::json(&records);
        return Ok(0);
    }
    let rows: Vec<[String; 4]> =
        records.into_iter().map(|r| [r.name, r.rtype, r.ttl.to_string(), r.data]).collect();
    out::table(["NAME", "TYPE", "TTL", "DATA"], &rows);
    Ok(0)
}
