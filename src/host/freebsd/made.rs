//! Which jails are ours. A name that Warren drew is enough; a jail that keeps its own name is told by its number, too, as somebody
//! else may give the name to another jail as soon as ours is gone, or a moment before we make it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::notes::Notes;
use super::{fsstat, jails, mounts};
use crate::host::failure::Context;
use crate::host::{Failure, Jail, Op};
use crate::ids::Id;

/// The jails that were made or taken over, and have not been removed.
pub struct Made(pub Notes);

/// What is noted of one.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Its number; none while it is being made.
    jid: Option<i32>,
    /// What was mounted below its root before it; unknown of one that was taken over.
    mounts: Option<Vec<PathBuf>>,
}

/// No jail has it.
const NOBODY: i32 = 0;

impl Made {
    /// Makes a jail.
    pub fn create(&self, jail: &Jail) -> Result<i32, Failure> {
        // What is mounted by now is Warren's or the machine's; what comes later is the jail's.
        let root = fs::canonicalize(&jail.path).doing(|| format!("the root {}", jail.path.display()))?;
        let before: Vec<PathBuf> = (fsstat::below(&root).doing(|| "list the mounts")?.into_iter())
            .map(|mount| mount.point)
            .collect();
        // Before the jail, so that one of which no end is known is not taken for another's.
        self.0.put(&jail.name, Note { jid: None, mounts: Some(before.clone()) })?;
        let made = jails::create(jail);
        let there = matches!(&made, Err(failure) if failure.errno == Some(libc::EEXIST));
        if there {
            // Somebody was faster.
            self.0.put(&jail.name, Note { jid: Some(NOBODY), mounts: None })?;
        }
        let jid = made?;
        self.0.put(&jail.name, Note { jid: Some(jid), mounts: Some(before) })?;
        Ok(jid)
    }

    /// Notes a jail that somebody else made and that is Warren's from now on.
    pub fn take_over(&self, jail: &str, jid: i32) -> Result<(), Failure> {
        self.0.put(jail, Note { jid: Some(jid), mounts: None })
    }

    /// Removes a jail, and forgets it.
    pub fn remove(&self, jail: &str, patience: Duration) -> Result<(), Failure> {
        jails::remove(jail, patience)?;
        self.0.drop(jail)
    }

    /// Whether the jail that has a name of ours is another.
    pub fn is_other(&self, name: &str, jid: i32) -> Result<bool, Failure> {
        if Id::of_jail(name).is_some() {
            return Ok(false);
        }
        let note: Option<Note> = self.0.get(name)?;
        Ok(note.and_then(|note| note.jid).is_some_and(|ours| ours != jid))
    }

    /// Whether an operation is for a jail of ours that another has taken the place of.
    pub fn is_replaced(&self, op: &Op) -> Result<bool, Failure> {
        let Some(name) = jail_of(op).filter(|name| Id::of_jail(name).is_none()) else { return Ok(false) };
        match jails::alive(name)? {
            Some(there) => self.is_other(name, there.jid),
            None => Ok(false),
        }
    }

    /// Unmounts what a jail mounted itself.
    pub fn unmount_foreign(&self, jail: &str, root: &Path) -> Result<(), Failure> {
        // What is there of one that may not mount is the administrator's, or a hook's on the host.
        if let Some(there) = jails::alive(jail)?
            && !jails::may(there.jid, "allow.mount")?
        {
            return Ok(());
        }
        match self.0.get(jail)? {
            Some(Note { mounts: Some(before), .. }) => mounts::unmount_foreign(root, &before),
            // It was never made, so nothing in it has mounted anything. Or it was taken over: then nobody knows which mounts were
            // the jail's, and they stay, as jail(8) lets them.
            _ => Ok(()),
        }
    }
}

/// The jail that an operation is done to, or in.
fn jail_of(op: &Op) -> Option<&str> {
    match op {
        Op::Run(job) | Op::Spawn(job) => job.jail.as_deref(),
        Op::IfConfigure { jail, .. } => jail.as_deref(),
        Op::JailRemove { jail }
        | Op::JailTerm { jail, .. }
        | Op::JailKill { jail }
        | Op::JailCount { jail }
        | Op::DatasetJail { jail, .. }
        | Op::DatasetUnjail { jail, .. }
        | Op::UnmountForeign { jail, .. }
        | Op::IfMoveIn { jail, .. }
        | Op::IfMoveHome { jail, .. }
        | Op::IfAddresses { jail, .. } => Some(jail),
        _ => None,
    }
}

/// Whether an operation takes something away that is gone with its jail.
pub fn is_done_with(op: &Op) -> bool {
    matches!(
        op,
        Op::JailTerm { .. }
            | Op::JailKill { .. }
            | Op::JailRemove { .. }
            | Op::DatasetUnjail { .. }
            | Op::UnmountForeign { .. }
            | Op::IfMoveHome { .. }
    )
}

/// What is said of an operation for a jail that is no more.
pub fn replaced(op: &Op) -> Failure {
    let jail = jail_of(op).unwrap_or_default();
    Failure {
        errno: Some(libc::ESRCH),
        ..Failure::new(format!("jail {jail} is not the one that Warren made: somebody else made it anew"))
    }
}
