//! `warren convert FILE`: a jail.conf as a warren.toml that comes to the same plan.

use std::path::PathBuf;

use serde_json::json;

use super::out::{self, Output};
use super::{Fail, fabrics};
use crate::config::jailconf::{self, OnDisk};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file of jail(8): /etc/jail.conf; - is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    pub output: Output,
}

pub fn run(args: &Args) -> Result<u8, Fail> {
    let converted =
        jailconf::load(&args.file, &mut OnDisk).and_then(|conf| Ok((conf.convert()?, conf.remarks())));
    let (text, remarks) = converted.map_err(|report| fabrics::refused(&report))?;
    fabrics::remark(&remarks);
    if args.output.json {
        out::json(&json!({ "toml": text }));
    } else {
        out::raw(text.as_bytes());
    }
    Ok(0)
}
