//! Clones by zfs(8): one dataset per instance, beside the template's.

use std::path::Path;
use std::time::Duration;

use super::tool;
use crate::host::Failure;

const ZFS: &str = "/sbin/zfs";
/// Says on the dataset itself that it is ours, and whose.
const PROPERTY: &str = "warren:instance";
/// How often a busy dataset is tried again: 1 + 2 + 4 + … milliseconds, a second in all.
const TRIES: u32 = 11;

/// The dataset of a clone: in the same place as the template, since a clone has to be in its origin's pool.
fn dataset(snapshot: &str, name: &str) -> Result<String, Failure> {
    let bad = || Failure::new(format!("`{snapshot}` is not pool/path@snapshot"));
    let (template, _) = snapshot.split_once('@').ok_or_else(bad)?;
    let parent = template.rsplit_once('/').map_or(template, |(parent, _)| parent);
    if parent.is_empty() || parent.starts_with('-') {
        return Err(bad());
    }
    Ok(format!("{parent}/warren-{name}"))
}

/// Whether the snapshot of a template is there.
pub fn check(snapshot: &str) -> Result<(), Failure> {
    dataset(snapshot, "check")?;
    tool::run(ZFS, &["list", "-H", "-t", "snapshot", "-o", "name", snapshot], "")?
        .or_failure(format!("the template {snapshot}"))?;
    Ok(())
}

/// Makes and mounts a clone. It is never mounted at boot: after a reboot there is no instance.
pub fn clone(snapshot: &str, name: &str, root: &Path) -> Result<(), Failure> {
    let dataset = dataset(snapshot, name)?;
    let mountpoint = format!("mountpoint={}", root.display());
    let mark = format!("{PROPERTY}={name}");
    tool::run(
        ZFS,
        &["clone", "-o", &mountpoint, "-o", "canmount=noauto", "-o", &mark, snapshot, &dataset],
        "",
    )?
    .or_failure(format!("clone {snapshot}"))?;
    tool::run(ZFS, &["mount", &dataset], "")?.or_failure(format!("mount the clone {dataset}"))?;
    Ok(())
}

/// Destroys a clone, if it is there and ours. What was made of it since (snapshots, children) keeps it.
pub fn destroy(snapshot: &str, name: &str) -> Result<(), Failure> {
    let dataset = dataset(snapshot, name)?;
    let what = format!("destroy the clone {dataset}");
    let seen = tool::run(ZFS, &["get", "-H", "-p", "-o", "value", PROPERTY, &dataset], "")?;
    if !seen.ok && seen.err.contains("does not exist") {
        return Ok(());
    }
    if seen.or_failure(&what)?.trim() != name {
        return Err(Failure::new(format!("{what}: it does not bear {PROPERTY}={name}: left alone")));
    }
    let mut pause = Duration::from_millis(1);
    for left in (0..TRIES).rev() {
        // A jail that is dying, which sockets in TIME_WAIT keep for a minute, has its root still. The clone is to be gone with all that
        // is in it, so that cutting it loose loses nothing.
        let how: &[&str] = if left + 1 == TRIES { &["destroy"] } else { &["destroy", "-f"] };
        let said = tool::run(ZFS, &[how, &[dataset.as_str()]].concat(), "")?;
        if said.ok || said.err.contains("does not exist") {
            return Ok(());
        }
        if !said.err.contains("busy") || left == 0 {
            said.or_failure(&what)?;
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    Ok(())
}

/// Delegates a dataset to a jail.
pub fn jail(jid: i32, dataset: &str) -> Result<(), Failure> {
    let jid = jid.to_string();
    tool::run(ZFS, &["jail", &jid, dataset], "")?
        .or_failure(format!("delegate {dataset} to jail {jid}"))
        .map(|_| ())
}

/// Takes a dataset back.
pub fn unjail(jid: i32, dataset: &str) -> Result<(), Failure> {
    let jid = jid.to_string();
    tool::run(ZFS, &["unjail", &jid, dataset], "")?
        .or_failure(format!("take {dataset} back from jail {jid}"))
        .map(|_| ())
}
