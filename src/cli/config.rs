//! `warren config`: checks files, prints schemas.

use std::path::PathBuf;

use serde_json::json;
use utoipa::OpenApi;

use super::out::{self, Output};
use super::{Fail, fabrics};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Check a file: all its problems at once
    Check(Args),
    /// Print the JSON schema of warren.toml, for editors
    Schema,
    /// Print the description of the daemon's API
    Openapi,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A warren.toml
    #[arg(value_name = "FILE", default_value = "warren.toml")]
    file: PathBuf,
    #[command(flatten)]
    pub output: Output,
}

pub fn run(verb: &Verb) -> Result<u8, Fail> {
    match verb {
        Verb::Check(args) => {
            let spec = fabrics::load(&args.file)?;
            if args.output.json {
                out::json(&json!({ "ok": true, "spec": spec }));
            } else {
                let instances: u64 = spec.services.values().map(|s| u64::from(s.replicas)).sum();
                out::line(format_args!(
                    "{}: fabric `{}` with {} networks and {} services of {instances} instances",
                    args.file.display(),
                    spec.name,
                    spec.networks.len(),
                    spec.services.len()
                ));
            }
        }
        Verb::Schema => out::json(&crate::config::schema()),
        Verb::Openapi => out::json(&crate::daemon::api::Description::openapi()),
    }
    Ok(0)
}
