//! `warren events`: what happened, oldest first.

use serde_json::Value;

use super::follow::interrupts;
use super::out::{self, Output};
use super::{Context, Fail};
use crate::store::db::Event;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what happened after this cursor: every event bears one
    #[arg(long, value_name = "CURSOR", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    since: i64,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let path = format!("/v1/events?since={}&follow={}", args.since, args.follow);
    let mut lines = context.client().stream(&path).await?;
    let mut interrupt = interrupts()?;
    loop {
        let event = tokio::select! {
            event = lines.next::<Event>() => event?,
            () = interrupt.recv() => return Ok(super::fail::INTERRUPTED),
        };
        let Some(event) = event else { return Ok(0) };
        if args.output.json {
            out::json_line(&event);
        } else {
            let kind = event.what.get("kind").and_then(Value::as_str).unwrap_or_default();
            let text = sentence(&event);
            let text = if is_bad(kind) { out::bad(&text) } else { text };
            out::line(format_args!("{:>6}  {}  {text}", event.cursor, out::faint(&out::clock(event.at))));
        }
    }
}

/// Whether a kind of event is a failure of something.
#[must_use]
pub fn is_bad(kind: &str) -> bool {
    matches!(
        kind,
        "step-failed"
            | "trouble"
            | "left"
            | "failed"
            | "stop-aborted"
            | "network-failed"
            | "policy-failed"
            | "address-conflict"
            | "drift"
            | "strays"
            | "look-failed"
    )
}

/// An event for people.
#[must_use]
pub fn sentence(event: &Event) -> String {
    let text = |key: &str| event.what.get(key).and_then(Value::as_str).unwrap_or_default();
    let name = text("name");
    let because = |tail: &str| if tail.is_empty() { String::new() } else { format!(": {tail}") };
    let said = match text("kind") {
        "created" => {
            let addresses =
                event.what.get("addresses").and_then(Value::as_array).cloned().unwrap_or_default();
            let addresses: Vec<&str> = addresses.iter().filter_map(Value::as_str).collect();
            format!("{name} is created {}", addresses.join(" ")).trim_end().to_owned()
        }
        "declared" => format!("{} is declared", text("fabric")),
        "fabric-gone" => format!("{} is gone", text("fabric")),
        "gone" => match event.what.get("exit").and_then(Value::as_i64) {
            Some(exit) => format!("{name} is gone (exit status {exit}){}", because(text("why"))),
            None => format!("{name} is gone{}", because(text("why"))),
        },
        "stopping" => format!("{name} is stopping{}", because(text("why"))),
        "trouble" => {
            let next =
                match (event.what.get("gave_up"), event.what.get("retry_in_ms").and_then(Value::as_u64)) {
                    (Some(Value::Bool(true)), _) => "; no further attempt is made".to_owned(),
                    (_, Some(wait)) => format!("; next attempt in {}", out::span(wait)),
                    _ => String::new(),
                };
            format!("service {} has trouble{}{next}", text("service"), because(text("text")))
        }
        "step-failed" | "left" | "remark" | "stop-aborted" | "policy-failed" | "drift" | "mended" => {
            format!("{name}{}", because(text("text")))
        }
        "network-failed" => format!("network {}{}", text("network"), because(text("text"))),
        "look-failed" => format!("the machine could not be looked at{}", because(text("text"))),
        "strays" => {
            let objects = event.what.get("objects").and_then(Value::as_array).cloned().unwrap_or_default();
            let objects: Vec<&str> = objects.iter().filter_map(Value::as_str).collect();
            format!("{}{}", objects.join(", "), because(text("text")))
        }
        "restored" => "the store was put back from a backup".to_owned(),
        "lease" => format!("{name} has its lease"),
        "recovering" => {
            let rebooted = event.what.get("rebooted") == Some(&Value::Bool(true));
            let units = event.what.get("units").and_then(Value::as_u64).unwrap_or_default();
            let why = if rebooted { "the machine was booted anew" } else { "a daemon takes over" };
            format!("{why}: {units} units are looked after")
        }
        "address-conflict" => format!("somebody else uses the address {}", text("address")),
        kind if !name.is_empty() => format!("{name} is {kind}{}", because(text("why"))),
        kind => format!("{kind} {}", event.what),
    };
    out::plain(&said)
}
