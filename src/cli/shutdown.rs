//! `warren shutdown`: ends the daemon, the keeper and, in the lab, the lab.

use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use super::out::{self, Output};
use super::{Context, Fail, lab};

/// How long a daemon may take to end: it waits for nobody but its own last commit.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also when fabrics are up: only the daemon ends then, what runs goes on, and the next daemon takes it up
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let client = context.client();
    let dir = &context.state_dir;
    let (host, up) = match client.answering().await? {
        Some(info) => {
            let answer: Value =
                client.post(&format!("/v1/shutdown?force={}", args.force), &json!({})).await?;
            let up = answer["up"].as_array().is_some_and(|up| !up.is_empty());
            (Some(info.host), up)
        }
        None => (None, false),
    };
    wait_for_end(dir).await?;
    let mut ended: Vec<&str> = host.iter().map(|_| "daemon").collect();
    if !up {
        // With no daemon nobody knows what is up; but then it is up to the user, who asked for an end.
        if host.is_none() && runs_something(dir) && !args.force {
            return Err(Fail::of(1, "conflict", format!("no daemon answers in {}, but a lab or a keeper runs there", dir.display()))
                .hint("`warren daemon` takes up what is there, so that it can be taken down; --force ends all at once, as a power failure does"));
        }
        ended.extend(end_rest(dir)?);
    }
    if args.output.json {
        out::json(&json!({ "ended": ended, "up": up }));
    } else if ended.is_empty() {
        out::line(format_args!("nothing runs in {}", dir.display()));
    } else if up {
        out::line("the daemon has ended; what is up goes on, and the next daemon takes it up");
    } else {
        out::line(format_args!("ended: {}", ended.join(", ")));
    }
    Ok(0)
}

/// Waits until no daemon holds the state directory.
pub async fn wait_for_end(dir: &std::path::Path) -> Result<(), Fail> {
    let path = dir.join("daemon.lock");
    let Ok(mut file) = std::fs::File::open(&path) else { return Ok(()) };
    let end = Instant::now() + PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => return Ok(()),
            Err((again, _)) if Instant::now() < end => file = again,
            Err((_, error)) => {
                return Err(Fail::new(format!(
                    "the daemon does not end: {} is still held ({error})",
                    path.display()
                )));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a lab or a keeper answers there.
pub fn runs_something(dir: &std::path::Path) -> bool {
    lab::runs(dir) || crate::keeper::Client::connect(dir).is_ok()
}

/// Ends what outlives the daemon. The lab's keeper lives inside the lab.
fn end_rest(dir: &std::path::Path) -> Result<Vec<&'static str>, Fail> {
    let mut ended = Vec::new();
    if dir.join("lab.sock").exists() {
        // One that does not run any more may still be falling, which is waited for.
        ended.extend(lab::off(dir)?.then_some("lab"));
    } else if let Ok(keeper) = crate::keeper::Client::connect(dir) {
        keeper.shutdown(true)?;
        ended.push("keeper");
    }
    Ok(ended)
}
