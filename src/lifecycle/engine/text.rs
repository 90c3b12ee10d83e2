//! Sentences about steps, for people.

use crate::host::Op;
use crate::lifecycle::journal::Left;
use crate::lifecycle::step::{Act, Phase};

/// A step by phase and key: `exec.start`, `mounts (mount.2)`.
pub fn step(phase: Phase, key: &str) -> String {
    if key.starts_with("hook.") || key == "main" { phase.to_string() } else { format!("{phase} ({key})") }
}

/// The key of a step or of what undoes one, in the user's words: `hook.prestop.0` is exec.prestop.
pub fn key(key: &str) -> String {
    let hook = key.strip_prefix("hook.").and_then(|rest| rest.split('.').next());
    hook.map_or_else(|| key.to_owned(), |hook| format!("exec.{hook}"))
}

/// What a stop could not finish, and what to do.
pub fn left(left: &[Left]) -> String {
    let mut parts = Vec::new();
    for one in left {
        let what = object(&one.act);
        parts.push(match &one.failure {
            Some(failure) => format!("{what} ({failure})"),
            None => format!("{what} (waits for the above)"),
        });
    }
    format!("left behind: {}; `warren repair` tries again", parts.join(", "))
}

/// What an act would have taken away.
pub fn object(act: &Act) -> String {
    let Act::Host(op) = act else { return "its entry in the books".into() };
    match op {
        Op::Run(job) => {
            format!("the hook {}", key(job.id.split_once('.').map_or(job.id.as_str(), |(_, key)| key)))
        }
        Op::CloneDestroy { name, .. } => format!("the clone {name}"),
        Op::Unmount(mount) => format!("the mount {} below {}", mount.target.display(), mount.root.display()),
        Op::JailRemove { jail } => format!("the jail {jail}"),
        Op::JailKill { jail } | Op::JailTerm { jail, .. } => format!("the processes of {jail}"),
        Op::UnmountForeign { jail, .. } => format!("what {jail} mounted itself"),
        Op::BridgeDestroy { bridge } => format!("the bridge {bridge}"),
        Op::UplinkDetach { interface, .. } => format!("the uplink {interface}"),
        Op::EifaceDestroy { node } | Op::LinkDisconnect { node, .. } => format!("the interface {node}"),
        Op::IfMoveHome { interface, .. } => format!("the interface {interface} in its jail"),
        Op::AliasRemove { interface, .. } => format!("the aliases on {interface}"),
        Op::AnchorRemove { anchor } | Op::TableRemove { anchor, .. } => {
            format!("rules in the anchor {anchor}")
        }
        Op::KillStates { anchor, .. } => format!("connections through the anchor {anchor}"),
        Op::Unlisten { name } => format!("the socket {name}"),
        Op::DatasetUnjail { dataset, .. } => format!("the dataset {dataset}"),
        other => serde_json::to_value(other)
            .ok()
            .and_then(|v| v.get("op").and_then(|o| o.as_str()).map(str::to_owned))
            .unwrap_or_default(),
    }
}
