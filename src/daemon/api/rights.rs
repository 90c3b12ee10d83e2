//! Who may do what: decided by the credentials the kernel vouches for.

use std::collections::HashSet;

use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;
use tokio::net::unix::UCred;

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    credentials: Option<UCred>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { credentials: stream.io().peer_cred().ok() }
    }
}

/// How much somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    None,
    /// Look.
    Read,
    /// Everything.
    Write,
}

/// The rules.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// The daemon's own user; root besides.
    pub owner: u32,
    /// The group whose members may do everything.
    pub group: Option<u32>,
    /// The group whose members may look.
    pub read_group: Option<u32>,
}

impl Rights {
    pub(super) fn access(&self, parts: &Parts) -> Access {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().and_then(|info| info.0.credentials);
        peer.map_or(Access::None, |peer| self.of(peer.uid(), peer.gid(), || groups_of(peer.uid())))
    }

    /// What a user of these groups may do. `groups` is asked only when the answer depends on it.
    pub fn of(&self, uid: u32, gid: u32, groups: impl FnOnce() -> HashSet<u32>) -> Access {
        if uid == 0 || uid == self.owner {
            return Access::Write;
        }
        if self.group.is_none() && self.read_group.is_none() {
            return Access::None;
        }
        let mut groups = groups();
        groups.insert(gid);
        if self.group.is_some_and(|g| groups.contains(&g)) {
            Access::Write
        } else if self.read_group.is_some_and(|g| groups.contains(&g)) {
            Access::Read
        } else {
            Access::None
        }
    }
}

/// The groups the user database lists a user in. The kernel vouches for the first group only.
fn groups_of(uid: u32) -> HashSet<u32> {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    let name = user.and_then(|u| std::ffi::CString::new(u.name).ok().map(|n| (n, u.gid)));
    let groups = name.and_then(|(name, gid)| nix::unistd::getgrouplist(&name, gid).ok());
    groups.into_iter().flatten().map(nix::unistd::Gid::as_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_root_write_groups_as_named_and_others_nothing() {
        let rights = Rights { owner: 1000, group: Some(50), read_group: Some(60) };
        let of = |uid, gid, groups: &[u32]| rights.of(uid, gid, || groups.iter().copied().collect());
        assert_eq!(of(0, 0, &[]), Access::Write);
        assert_eq!(of(1000, 1, &[]), Access::Write);
        assert_eq!(of(2000, 50, &[]), Access::Write);
        assert_eq!(of(2000, 1, &[50, 60]), Access::Write);
        assert_eq!(of(2000, 1, &[60]), Access::Read);
        assert_eq!(of(2000, 60, &[]), Access::Read);
        assert_eq!(of(2000, 1, &[1, 2]), Access::None);
        let nobody_else = Rights { owner: 1000, group: None, read_group: None };
        assert_eq!(nobody_else.of(2000, 50, || unreachable!()), Access::None);
    }
}
