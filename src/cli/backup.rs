//! `warren backup`: copies the store to a file, be a daemon running or not.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::store_path;
use crate::store::backup;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: one that is there is replaced, once the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let file = &args.file;
    let beside = |end: &str| PathBuf::from(format!("{}{end}", file.display()));
    let new = beside(".new");
    let _ = std::fs::remove_file(&new);
    let client = context.client();
    let made = if client.answering().await?.is_some() {
        let written = write(&client, &new).await;
        written.map(|()| "daemon")
    } else {
        let store = store_path(&context.state_dir);
        if !store.exists() {
            return Err(Fail::new(format!("there is no store in {}", context.state_dir.display()))
                .hint("--state-dir names another place"));
        }
        backup::copy(&store, &new).map(|()| "file").map_err(|e| Fail::new(e.to_string()))
    };
    // A backup that does not read back is none.
    let done = made.and_then(|from| {
        let contents = backup::examine(&new, &beside(".check")).map_err(|e| Fail::new(e.to_string()))?;
        let length = std::fs::metadata(&new).map(|m| m.len()).unwrap_or_default();
        std::fs::rename(&new, file).map_err(|e| Fail::new(format!("replacing {}: {e}", file.display())))?;
        Ok((from, contents, length))
    });
    let (from, contents, length) = done.inspect_err(|_| drop(std::fs::remove_file(&new)))?;
    if args.output.json {
        out::json(&json!({ "file": file, "bytes": length, "from": from, "contents": contents }));
    } else {
        let fabrics = match contents.fabrics.as_slice() {
            [] => "no fabrics".to_owned(),
            all => all.join(", "),
        };
        out::line(format_args!(
            "{}: {length} bytes, version {}: {fabrics}; {} networks, {} instances",
            file.display(),
            contents.version,
            contents.networks,
            contents.instances
        ));
    }
    Ok(0)
}

/// Has the daemon make it.
async fn write(client: &super::Client, new: &Path) -> Result<(), Fail> {
    let failed = |e: std::io::Error| Fail::new(format!("writing {}: {e}", new.display()));
    let made = std::fs::File::options().create_new(true).write(true).mode(0o600).open(new);
    let mut file = made.map_err(failed)?;
    client.download("/v1/backup", &mut file).await?;
    file.sync_all().map_err(failed)
}
