//! `warren import --jail-conf FILE [NAME…]`: jails that jail(8) started are Warren's from now on, without a restart.

use std::path::PathBuf;

use serde_json::json;

use super::client::segment;
use super::daemon::{Starting, ensure};
use super::fabrics::{jails, refused};
use super::out::{self, Output};
use super::{Context, Fail};
use crate::config::jailconf::{self, JailConf};
use crate::daemon::api::view::Imported;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Jails to take over [default: all of the file that run]
    #[arg(value_name = "JAIL")]
    jails: Vec<String>,
    /// The file of jail(8) they were started from; what it says is used when they are stopped
    #[arg(long, value_name = "FILE", default_value = "/etc/jail.conf")]
    jail_conf: PathBuf,
    /// Only say what would be taken over
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    starting: Starting,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let conf = jailconf::load(&args.jail_conf, &mut jailconf::OnDisk).map_err(|report| refused(&report))?;
    let spec = jails(&conf, &args.jails)?;
    let services = services(&conf, &args.jails)?;
    let client = ensure(context, &args.starting).await?;
    let path = format!("/v1/fabrics/{}/import?dry={}", segment(&spec.name), args.dry_run);
    let imported: Imported = client.post(&path, &json!({ "spec": spec, "services": services })).await?;
    if args.output.json {
        out::json(&imported);
    } else {
        tell(&imported, args.dry_run);
    }
    Ok(0)
}

/// The services of the jails that are named.
fn services(conf: &JailConf, jails: &[String]) -> Result<Vec<String>, Fail> {
    let mut services = Vec::new();
    for jail in jails {
        services.extend(conf.services_of(jail).map_err(|report| refused(&report))?);
    }
    Ok(services)
}

fn tell(imported: &Imported, dry: bool) {
    for taken in &imported.taken {
        let jail = out::plain(&taken.jail);
        match &taken.name {
            Some(name) if !dry => {
                out::line(format_args!("{jail} is {name} of the fabric `{}` now", imported.fabric))
            }
            _ => out::line(format_args!("{jail} can be taken over")),
        }
    }
    if imported.taken.is_empty() {
        out::line("nothing is taken over: no jail of the file runs that is not Warren's already");
    }
}
