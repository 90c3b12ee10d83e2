//! Who may do what: decided by the credentials the kernel vouches for.

use std::os::fd::AsFd as _;

use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use tokio::net::UnixStream;

use super::door::Door;
use super::peer;

/// Who is at the other end: decided once, when the connection came.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub(super) uid: u32,
    /// The daemon's own user, or root.
    pub(super) privileged: bool,
    pub(super) access: Access,
}

impl Peer {
    /// Asks the kernel. Who it does not vouch for may do nothing.
    pub(super) fn of(stream: &UnixStream, rights: &Rights) -> Self {
        let Ok(credentials) = stream.peer_cred() else {
            return Self { uid: u32::MAX, privileged: false, access: Access::None };
        };
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let access = rights.of(uid, gid, || peer::groups(stream.as_fd()).unwrap_or_default());
        Self { uid, privileged: rights.is_privileged(uid), access }
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        *stream.remote_addr()
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
    /// What the sender of a request may do.
    pub(super) fn access(parts: &Parts) -> Access {
        parts.extensions.get::<ConnectInfo<Peer>>().map_or(Access::None, |info| info.0.access)
    }

    fn is_privileged(&self, uid: u32) -> bool {
        uid == 0 || uid == self.owner
    }

    /// What a user of these groups may do. `groups` is asked only when the answer depends on it.
    pub fn of(&self, uid: u32, gid: u32, groups: impl FnOnce() -> Vec<u32>) -> Access {
        if self.is_privileged(uid) {
            return Access::Write;
        }
        if self.group.is_none() && self.read_group.is_none() {
            return Access::None;
        }
        let mut groups = groups();
        groups.push(gid);
        if self.group.is_some_and(|g| groups.contains(&g)) {
            Access::Write
        } else if self.read_group.is_some_and(|g| groups.contains(&g)) {
            Access::Read
        } else {
            Access::None
        }
    }

    /// Who must be able to connect, as the socket's group and mode. With two groups the mode cannot say it, and the door does.
    #[must_use]
    pub fn socket(&self) -> (Option<u32>, u32) {
        match (self.group, self.read_group) {
            (None, None) => (None, 0o600),
            (Some(one), None) | (None, Some(one)) => (Some(one), 0o660),
            (Some(one), Some(other)) if one == other => (Some(one), 0o660),
            (Some(_), Some(_)) => (None, 0o666),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_root_write_groups_as_named_and_others_nothing() {
        let rights = Rights { owner: 1000, group: Some(50), read_group: Some(60) };
        let of = |uid, gid, groups: &[u32]| rights.of(uid, gid, || groups.to_vec());
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

    #[test]
    fn the_socket_is_no_more_open_than_it_must_be() {
        let socket = |group, read_group| Rights { owner: 0, group, read_group }.socket();
        assert_eq!(socket(None, None), (None, 0o600));
        assert_eq!(socket(Some(5), None), (Some(5), 0o660));
        assert_eq!(socket(None, Some(6)), (Some(6), 0o660));
        assert_eq!(socket(Some(5), Some(6)), (None, 0o666));
    }
}
