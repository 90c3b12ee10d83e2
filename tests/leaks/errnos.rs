//! What each kind of operation can fail with on the product's host: the one table, with its sources.
//!
//! Numbers are FreeBSD's, from errno(2). A kind that has none of its own fails with what the keeper or a program's exit status
//! says: those are faults without a number.

use std::collections::BTreeSet;

use warren::host::Op;

/// An error: its number, and its name.
pub type Errno = (i32, &'static str);

const EPERM: Errno = (1, "EPERM");
const ENOENT: Errno = (2, "ENOENT");
const ESRCH: Errno = (3, "ESRCH");
const EIO: Errno = (5, "EIO");
const ENXIO: Errno = (6, "ENXIO");
const ENOMEM: Errno = (12, "ENOMEM");
const EACCES: Errno = (13, "EACCES");
const EBUSY: Errno = (16, "EBUSY");
const EEXIST: Errno = (17, "EEXIST");
const ENODEV: Errno = (19, "ENODEV");
const ENOTDIR: Errno = (20, "ENOTDIR");
const EINVAL: Errno = (22, "EINVAL");
const ENFILE: Errno = (23, "ENFILE");
const EMFILE: Errno = (24, "EMFILE");
const ENOSPC: Errno = (28, "ENOSPC");
const EROFS: Errno = (30, "EROFS");
const EMLINK: Errno = (31, "EMLINK");
const EPIPE: Errno = (32, "EPIPE");
const EAGAIN: Errno = (35, "EAGAIN");
const EADDRINUSE: Errno = (48, "EADDRINUSE");
const EADDRNOTAVAIL: Errno = (49, "EADDRNOTAVAIL");
const ECONNRESET: Errno = (54, "ECONNRESET");
const ENOBUFS: Errno = (55, "ENOBUFS");
const EISCONN: Errno = (56, "EISCONN");
const ENOTCONN: Errno = (57, "ENOTCONN");
const ETIMEDOUT: Errno = (60, "ETIMEDOUT");
const ECONNREFUSED: Errno = (61, "ECONNREFUSED");
const ELOOP: Errno = (62, "ELOOP");
const ENAMETOOLONG: Errno = (63, "ENAMETOOLONG");
const EHOSTUNREACH: Errno = (65, "EHOSTUNREACH");
const EDQUOT: Errno = (69, "EDQUOT");

/// The row of a kind of operation: its name as the journal spells it, its errors, where they are from.
pub struct Row {
    pub kind: &'static str,
    pub errnos: &'static [Errno],
    pub source: &'static str,
}

/// What a netgraph control message can fail with.
const GRAPH: &[Errno] =
    &[EPERM, ENOENT, ENOMEM, EEXIST, EINVAL, EADDRINUSE, ENOBUFS, EISCONN, ENOTCONN, ETIMEDOUT];
/// What working on files below a root can fail with.
const FILES: &[Errno] = &[
    EPERM,
    ENOENT,
    EIO,
    EACCES,
    EEXIST,
    ENOTDIR,
    ENFILE,
    EMFILE,
    ENOSPC,
    EROFS,
    EMLINK,
    ELOOP,
    ENAMETOOLONG,
    EDQUOT,
];
/// What asking the keeper can fail with, its fork included.
const KEEPER: &[Errno] = &[ENOENT, ENOMEM, EMFILE, EPIPE, EAGAIN, ECONNRESET, ECONNREFUSED];
/// What pfctl says when /dev/pf refuses.
const FILTER: &[Errno] = &[EPERM, ENOENT, EIO, ENOMEM, EBUSY, ENODEV, EINVAL];
/// What an ioctl on an interface, or a routing socket, can fail with.
const INTERFACE: &[Errno] = &[EPERM, ESRCH, ENXIO, ENOMEM, EEXIST, EINVAL, EADDRNOTAVAIL, ENOBUFS];
/// What ending processes can fail with.
const PROCESSES: &[Errno] = &[EPERM, ESRCH, ENOMEM, EBUSY];

/// The table.
pub const TABLE: &[Row] = &[
    Row {
        kind: "run",
        errnos: KEEPER,
        source: "unix(4), fork(2), jail_attach(2), execve(2); and exit statuses",
    },
    Row { kind: "spawn", errnos: KEEPER, source: "unix(4), fork(2), jail_attach(2), execve(2)" },
    Row { kind: "kill-job", errnos: KEEPER, source: "unix(4), kill(2)" },
    Row { kind: "clone-create", errnos: FILES, source: "open(2), mkdir(2), write(2), nmount(2); zfs(8)" },
    Row { kind: "clone-destroy", errnos: FILES, source: "unlinkat(2), unmount(2); zfs(8): dataset is busy" },
    Row {
        kind: "mount",
        errnos: &[EPERM, ENOENT, EIO, ENOMEM, EBUSY, ENODEV, ENOTDIR, EINVAL, ELOOP, ENAMETOOLONG],
        source: "nmount(2)",
    },
    Row { kind: "unmount", errnos: &[EPERM, ENOENT, EIO, EBUSY, EINVAL], source: "unmount(2)" },
    Row { kind: "write-file", errnos: FILES, source: "openat(2), write(2), fsync(2)" },
    Row {
        kind: "jail-absent",
        errnos: &[EPERM, ENOMEM, EEXIST, EINVAL],
        source: "jail_get(2); there is one",
    },
    Row {
        kind: "stands",
        errnos: &[EPERM, ENOENT, ESRCH, ENOMEM, EINVAL],
        source: "jail_get(2), getfsstat(2), sysctl(3), getifaddrs(3); zfs(8)",
    },
    Row {
        kind: "jail-create",
        errnos: &[EPERM, ENOENT, ENOMEM, EEXIST, EINVAL, EAGAIN, ENAMETOOLONG],
        source: "jail_set(2)",
    },
    Row {
        kind: "jail-remove",
        errnos: &[EPERM, EINVAL, EBUSY, ETIMEDOUT],
        source: "jail_remove(2); still dying",
    },
    Row { kind: "jail-term", errnos: PROCESSES, source: "kill(2), kvm_getprocs(3)" },
    Row { kind: "jail-kill", errnos: PROCESSES, source: "kill(2), jail_remove(2) of children" },
    Row { kind: "jail-count", errnos: &[ENOENT, ENOMEM], source: "jail_get(2), sysctl(3)" },
    Row { kind: "dataset-jail", errnos: &[EPERM, ENOENT, EBUSY], source: "zfs-jail(8)" },
    Row { kind: "dataset-unjail", errnos: &[EPERM, ENOENT, EBUSY], source: "zfs-jail(8)" },
    Row { kind: "unmount-foreign", errnos: &[EPERM, EIO, EBUSY, EINVAL], source: "getfsstat(2), unmount(2)" },
    Row { kind: "bridge-create", errnos: GRAPH, source: "netgraph(4), ng_bridge(4)" },
    Row { kind: "bridge-destroy", errnos: GRAPH, source: "netgraph(4), ng_bridge(4)" },
    Row { kind: "uplink-attach", errnos: GRAPH, source: "netgraph(4), ng_ether(4)" },
    Row { kind: "uplink-detach", errnos: GRAPH, source: "netgraph(4), ng_ether(4)" },
    Row { kind: "eiface-create", errnos: GRAPH, source: "netgraph(4), ng_eiface(4), ioctl SIOCSIFNAME" },
    Row { kind: "eiface-destroy", errnos: GRAPH, source: "netgraph(4), ng_eiface(4)" },
    Row { kind: "link-connect", errnos: GRAPH, source: "netgraph(4), ng_bpf(4), ng_bridge(4)" },
    Row { kind: "link-disconnect", errnos: GRAPH, source: "netgraph(4), ng_bridge(4)" },
    Row { kind: "link-open", errnos: GRAPH, source: "netgraph(4), ng_bpf(4), ng_bridge(4)" },
    Row { kind: "bridge-seed", errnos: GRAPH, source: "netgraph(4), ng_bridge(4)" },
    Row { kind: "if-move-in", errnos: INTERFACE, source: "ioctl SIOCSIFVNET, SIOCSIFNAME" },
    Row { kind: "if-move-home", errnos: INTERFACE, source: "ioctl SIOCSIFRVNET, SIOCSIFNAME" },
    Row { kind: "if-configure", errnos: INTERFACE, source: "ioctl SIOCAIFADDR, route(4)" },
    Row {
        kind: "if-addresses",
        errnos: &[EPERM, ENOENT, ESRCH, ENXIO, ENOMEM, EINVAL, EAGAIN],
        source: "fork(2), jail_attach(2), getifaddrs(3)",
    },
    Row { kind: "alias-add", errnos: INTERFACE, source: "ioctl SIOCAIFADDR" },
    Row { kind: "alias-remove", errnos: INTERFACE, source: "ioctl SIOCDIFADDR" },
    Row { kind: "anchor-load", errnos: FILTER, source: "pf(4), pfctl(8)" },
    Row { kind: "anchor-remove", errnos: FILTER, source: "pf(4), pfctl(8)" },
    Row { kind: "table-add", errnos: FILTER, source: "pf(4), pfctl(8)" },
    Row { kind: "table-remove", errnos: FILTER, source: "pf(4), pfctl(8)" },
    Row { kind: "drain", errnos: FILTER, source: "pf(4), pfctl(8)" },
    Row { kind: "kill-states", errnos: FILTER, source: "pf(4), pfctl(8)" },
    Row {
        kind: "listen",
        errnos: &[EACCES, EMFILE, EADDRINUSE, EADDRNOTAVAIL, EPIPE],
        source: "bind(2), unix(4)",
    },
    Row { kind: "unlisten", errnos: KEEPER, source: "unix(4)" },
    Row { kind: "probe", errnos: &[ECONNRESET, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH], source: "connect(2)" },
];

/// How the journal spells the kind of an operation.
pub fn kind(op: &Op) -> String {
    let value = serde_json::to_value(op).unwrap();
    value["op"].as_str().unwrap().to_owned()
}

/// Every kind there is, as serde lists them when it is given none of them.
pub fn kinds() -> BTreeSet<String> {
    let refusal = serde_json::from_value::<Op>(serde_json::json!({ "op": "" })).unwrap_err().to_string();
    let listed = refusal.split_once("expected one of ").expect("serde lists what it knows").1;
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What an operation can fail with.
pub fn of(op: &Op) -> &'static [Errno] {
    let kind = kind(op);
    let row = TABLE.iter().find(|row| row.kind == kind);
    row.unwrap_or_else(|| panic!("no row says what `{kind}` can fail with")).errnos
}
