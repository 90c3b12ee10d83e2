//! `warren restore`: puts a backup in the store's place.
//!
//! What the backup says is wanted comes up anew with the next daemon. So nothing of Warren's may run: what came up after the
//! backup was made would be known to nobody.

use std::path::PathBuf;

use serde_json::json;

use super::out::{self, Output};
use super::{Context, Fail, shutdown, state};
use crate::daemon::{self, store_path};
use crate::store::backup;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What `warren backup` made
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let dir = state::make(&context.state_dir)?;
    if let Some(info) = context.client().answering().await? {
        let message = format!("a daemon runs in {} (process {})", info.state_dir, info.pid);
        return Err(Fail::of(1, "conflict", message)
            .hint("`warren down` what is up, then `warren shutdown`, then restore"));
    }
    let _held = daemon::lock(&dir)?;
    if shutdown::runs_something(&dir) {
        let message =
            format!("a lab or a keeper runs in {}: what runs there would be known to nobody", dir.display());
        return Err(Fail::of(1, "conflict", message)
            .hint("`warren daemon` takes up what runs, so that it can be taken down; `warren shutdown --force` ends all at once"));
    }
    nothing_left(&dir)?;
    let restored = backup::restore(&args.file, &store_path(&dir), daemon::clock::wall());
    let (contents, replaced) = restored.map_err(|e| Fail::new(e.to_string()))?;
    if args.output.json {
        out::json(&json!({ "store": store_path(&dir), "replaced": replaced, "contents": contents }));
        return Ok(0);
    }
    out::line(format_args!(
        "{} is back: {} fabrics, {} networks, {} instances; they come up anew with the next daemon",
        store_path(&dir).display(),
        contents.fabrics.len(),
        contents.networks,
        contents.instances
    ));
    if let Some(replaced) = replaced {
        out::line(format_args!("what was there before is {}", replaced.display()));
    }
    Ok(0)
}

/// On FreeBSD jails and nodes need no process to be there.
#[cfg(target_os = "freebsd")]
fn nothing_left(dir: &std::path::Path) -> Result<(), Fail> {
    use crate::host::Host as _;
    let seen = crate::host::freebsd::FreeBsd::open(dir)?.observe(&[])?;
    // Opening the host started a keeper, under which nothing runs.
    if let Ok(keeper) = crate::keeper::Client::connect(dir) {
        keeper.shutdown(false)?;
    }
    if seen.jails.is_empty() && seen.mounts.is_empty() && seen.nodes.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = seen.jails.keys().chain(seen.nodes.keys()).map(String::as_str).collect();
    let message = format!("instances of Warren's are on this machine: {}", names.join(", "));
    Err(Fail::of(1, "conflict", message)
        .hint("take them down with the store that knows them, or reboot the machine"))
}

/// Elsewhere the machine is a lab or a sim, and ends with its processes.
#[cfg(not(target_os = "freebsd"))]
#[allow(clippy::unnecessary_wraps, reason = "the other one fails")]
fn nothing_left(_: &std::path::Path) -> Result<(), Fail> {
    Ok(())
}
