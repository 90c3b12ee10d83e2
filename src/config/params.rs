//! The parameters of jail(8), as data: what each takes, who handles it, and why some are refused.
//!
//! Sources: jail(8) and `usr.sbin/jail/config.c` of FreeBSD 15; facts/jails.md 4.9. The kernel's set is open (modules
//! add to it), so [`lookup`] lets other well-formed names through; only the kernel can tell whether it knows them.

use super::diagnostics::nearest;

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Int(i64, i64),
    /// A string of at most so many bytes.
    Text(usize),
    /// A string or a list of strings.
    Texts,
    /// Commands: a string, or a list of strings and of lists (program and arguments).
    Commands,
    /// A duration; a number is seconds, as in jail(8).
    Wait,
    /// One of these words.
    Words(&'static [&'static str]),
    /// `true`, `false`, `"new"` or `"inherit"`.
    Vnet,
    /// Whatever is written: a parameter of a kernel module.
    Any,
    /// Refused: why, and what to do instead.
    Refused(&'static str, &'static str),
}

/// One parameter.
#[derive(Debug)]
pub(super) struct Param {
    /// Its name in jail(8).
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Whether it goes to the kernel as it is.
    pub(super) kernel: bool,
    /// What it does, for the schema.
    pub(super) about: &'static str,
}

const fn ours(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, kernel: false, about }
}

const fn kernel(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, kernel: true, about }
}

const fn refused(name: &'static str, why: &'static str, instead: &'static str) -> Param {
    Param { name, kind: Kind::Refused(why, instead), kernel: false, about: why }
}

const fn allow(name: &'static str, about: &'static str) -> Param {
    kernel(name, Kind::Bool, about)
}

const SYS: Kind = Kind::Words(&["new", "inherit", "disable"]);
/// MAXPATHLEN less the final NUL.
const PATH: usize = 1023;
/// MAXHOSTNAMELEN less the final NUL.
const HOST: usize = 255;

/// Every parameter of jail(8) and the base system's modules, and Warren's exec.quiesced.
pub(super) const PARAMS: &[Param] = &[
    // Hooks, in the order in which they run.
    ours(
        "exec.prepare",
        Kind::Commands,
        "Commands on the host, before anything else; undone by exec.release.",
    ),
    ours(
        "exec.prestart",
        Kind::Commands,
        "Commands on the host, after the mounts and before the jail; undone by exec.poststop.",
    ),
    ours(
        "exec.created",
        Kind::Commands,
        "Commands on the host when the jail is there and nothing runs in it.",
    ),
    ours(
        "exec.start",
        Kind::Commands,
        "Commands in the jail, run to completion before `command`; undone by exec.stop.",
    ),
    ours(
        "exec.poststart",
        Kind::Commands,
        "Commands on the host after the main process was started; undone by exec.prestop.",
    ),
    ours("exec.prestop", Kind::Commands, "Commands on the host, the first step of a stop."),
    ours("exec.stop", Kind::Commands, "Commands in the jail, to stop it."),
    ours(
        "exec.quiesced",
        Kind::Commands,
        "Commands on the host when every process is dead and the jail still there; Warren's own.",
    ),
    ours(
        "exec.poststop",
        Kind::Commands,
        "Commands on the host when the jail is gone and its mounts are not.",
    ),
    ours("exec.release", Kind::Commands, "Commands on the host, the last step of a stop."),
    // How commands are run.
    ours(
        "exec.clean",
        Kind::Bool,
        "Whether commands get an environment of their own and not the daemon's. Default: true.",
    ),
    ours("exec.jail_user", Kind::Text(32), "Who runs commands in the jail. Default: root."),
    ours(
        "exec.system_jail_user",
        Kind::Bool,
        "Whether exec.jail_user is looked up on the host. Default: false.",
    ),
    ours("exec.system_user", Kind::Text(32), "Who runs the hooks on the host. Default: root."),
    ours(
        "exec.timeout",
        Kind::Wait,
        "How long one hook may take; then its process group is killed. 0, the default: for ever.",
    ),
    ours(
        "exec.consolelog",
        Kind::Text(PATH),
        "A file on the host for what commands in the jail print, beside Warren's log.",
    ),
    ours("exec.fib", Kind::Int(0, 65535), "The routing table of commands in the jail."),
    ours("stop.timeout", Kind::Wait, "From SIGTERM to SIGKILL; 0 sends no SIGTERM. Default: 10s."),
    // Mounts and datasets.
    ours("mount", Kind::Texts, "Lines of fstab(5), their mount points as the instance sees them."),
    ours("mount.fstab", Kind::Text(PATH), "A file of such lines, read when the configuration is loaded."),
    ours("mount.devfs", Kind::Bool, "Whether devfs is mounted on /dev. Default: true."),
    ours("mount.fdescfs", Kind::Bool, "Whether fdescfs is mounted on /dev/fd. Default: false."),
    ours("mount.procfs", Kind::Bool, "Whether procfs is mounted on /proc. Default: false."),
    ours("zfs.dataset", Kind::Texts, "Datasets delegated to the jail."),
    // Identity and network, of which Warren sets most itself.
    ours("persist", Kind::Bool, "Whether the instance lives on without processes. Default: false."),
    ours(
        "vnet",
        Kind::Vnet,
        "Whether the instance has a network stack of its own. Default: true if it has a network.",
    ),
    ours("ip4.addr", Kind::Texts, "Fixed IPv4 addresses of a jail without vnet, one per replica."),
    ours("ip6.addr", Kind::Texts, "Fixed IPv6 addresses of a jail without vnet, one per replica."),
    ours("host.hostname", Kind::Text(HOST), "The host name. Default: <service>-<id>."),
    kernel("ip4", SYS, "IPv4 of a jail without networks of Warren."),
    kernel("ip6", SYS, "IPv6 of a jail without networks of Warren."),
    kernel("ip4.saddrsel", Kind::Bool, "Source address selection of a jail without vnet."),
    kernel("ip6.saddrsel", Kind::Bool, "Source address selection of a jail without vnet."),
    kernel("host.domainname", Kind::Text(HOST), "The NIS domain name."),
    kernel("host.hostuuid", Kind::Text(63), "The host's UUID."),
    kernel("host.hostid", Kind::Int(0, 0xffff_ffff), "The host's number."),
    ours(
        "name",
        Kind::Text(HOST),
        "The jail's own name: of a jail that was one of jail(8) and keeps its name, root and interfaces.",
    ),
    ours(
        "jid",
        Kind::Int(1, i32::MAX as i64),
        "With `name`: the jail's number, which the kernel chooses otherwise.",
    ),
    refused("path", "the root is a clone Warren makes for each instance", "set the source in [templates]"),
    refused("parent", "the kernel sets it", "leave it out"),
    refused(
        "host",
        "Warren gives every instance a host name of its own",
        "leave it out, or set \"host.hostname\"",
    ),
    refused("children.cur", "the kernel sets it", "\"children.max\" limits child jails"),
    refused("cpuset.id", "the kernel sets it", "run cpuset(1) in \"exec.created\""),
    refused("dying", "the kernel sets it", "leave it out"),
    refused("allow.dying", "jail(8) gave it up: it has no effect", "leave it out"),
    refused("depend", "it names jails, and instances come and go", "say `depends_on` in the service"),
    refused("command", "the main process belongs to the service", "say `command` in the service"),
    ours("interface", Kind::Text(15), "With `name`: the interface that ip4.addr and ip6.addr are added to."),
    refused("ip_hostname", "addresses come from the network's pool", "say `address` in the service"),
    ours("vnet.interface", Kind::Texts, "With `name`: interfaces of the host that are moved into the jail."),
    // Restrictions.
    kernel("securelevel", Kind::Int(-1, 3), "The securelevel."),
    kernel("devfs_ruleset", Kind::Int(0, 65535), "The devfs ruleset. With mount.devfs the default is 4."),
    kernel("children.max", Kind::Int(0, 999_999), "How many child jails it may have."),
    kernel("enforce_statfs", Kind::Int(0, 2), "Which mount points it sees."),
    kernel("osrelease", Kind::Text(31), "What uname -r says."),
    kernel("osreldate", Kind::Int(0, i32::MAX as i64), "What uname -K says."),
    kernel("meta", Kind::Text(65535), "Text for whoever administers the jail."),
    kernel("env", Kind::Text(65535), "Text the jail can read."),
    allow("allow.set_hostname", "It may change its host name."),
    allow("allow.sysvipc", "It may use the System V IPC of the host."),
    allow("allow.raw_sockets", "It may open raw sockets: ping."),
    allow("allow.chflags", "It may change file flags."),
    allow("allow.mount", "It may mount."),
    allow("allow.mount.devfs", "It may mount devfs."),
    allow("allow.mount.fdescfs", "It may mount fdescfs."),
    allow("allow.mount.fusefs", "It may mount fusefs."),
    allow("allow.mount.nullfs", "It may mount nullfs."),
    allow("allow.mount.p9fs", "It may mount p9fs."),
    allow("allow.mount.procfs", "It may mount procfs."),
    allow("allow.mount.lindebugfs", "It may mount lindebugfs."),
    allow("allow.mount.linprocfs", "It may mount linprocfs."),
    allow("allow.mount.linsysfs", "It may mount linsysfs."),
    allow("allow.mount.tmpfs", "It may mount tmpfs."),
    allow("allow.mount.zfs", "It may mount ZFS datasets."),
    allow("allow.quotas", "It may administer quotas."),
    allow("allow.read_msgbuf", "It may read the kernel's messages."),
    allow("allow.socket_af", "It may open sockets beyond local, IP and routing."),
    allow("allow.mlock", "It may lock memory."),
    allow("allow.nfsd", "It may run nfsd."),
    allow("allow.reserved_ports", "It may bind ports below 1024."),
    allow("allow.unprivileged_parent_tampering", "Its unprivileged processes may be traced from the parent."),
    allow("allow.unprivileged_proc_debug", "Its unprivileged processes may debug."),
    allow("allow.suser", "Its root has root's rights."),
    allow("allow.extattr", "It may set system extended attributes."),
    allow("allow.adjtime", "It may slew the clock."),
    allow("allow.settime", "It may set the clock."),
    allow("allow.routing", "It may change routes of the host."),
    allow("allow.setaudit", "It may set audit state."),
    allow("allow.vmm", "It may run virtual machines."),
    allow("allow.vmm_ppt", "It may pass devices through to virtual machines."),
    // Modules of the base system.
    kernel("linux", Kind::Words(&["new", "inherit"]), "Linux emulation."),
    kernel("linux.osname", Kind::Text(64), "What Linux programs are told the system is."),
    kernel("linux.osrelease", Kind::Text(64), "What Linux programs are told its release is."),
    kernel("linux.oss_version", Kind::Int(0, i32::MAX as i64), "The OSS version Linux programs are told."),
    kernel("sysvmsg", SYS, "System V message queues."),
    kernel("sysvsem", SYS, "System V semaphores."),
    kernel("sysvshm", SYS, "System V shared memory."),
    kernel("zfs", SYS, "ZFS in the jail: `new` has parameters of its own."),
    kernel("zfs.mount_snapshot", Kind::Int(0, 1), "Whether snapshots may be mounted by looking at them."),
];

/// The name spaces of jail(8)'s own parameters, of which no kernel knows more: others there are slips.
const CLOSED: &[&str] = &["exec.", "stop.", "mount.", "vnet."];

/// What is known of a name.
pub(super) enum Lookup {
    /// A parameter of the table.
    Known(&'static Param),
    /// Not in the table, but `meta.KEY` or `env.KEY`, or one that a kernel or module may know.
    Module,
    /// Certainly wrong; with a hint.
    Unknown(Option<String>),
}

/// What is known of the parameter `name`.
pub(super) fn lookup(name: &str) -> Lookup {
    if let Some(param) = PARAMS.iter().find(|param| param.name == name) {
        return Lookup::Known(param);
    }
    if let Some(positive) = positive(name) {
        return Lookup::Unknown(Some(format!("write \"{positive}\" = false")));
    }
    let formed = well_formed(name);
    if formed && is_free(name) {
        return Lookup::Module;
    }
    if !formed || !name.contains('.') || CLOSED.iter().any(|space| name.starts_with(space)) {
        return Lookup::Unknown(near(name));
    }
    match slip(name) {
        Some(meant) => Lookup::Unknown(Some(format!("did you mean `{meant}`?"))),
        None => Lookup::Module,
    }
}

/// A hint at a parameter of a like name.
pub(super) fn near(name: &str) -> Option<String> {
    nearest(name, PARAMS.iter().map(|param| param.name)).map(|near| format!("did you mean `{near}`?"))
}

/// Whether a name is `meta.KEY` or `env.KEY`, which whoever administers the jail makes up (FreeBSD 15).
pub(super) fn is_free(name: &str) -> bool {
    name.strip_prefix("meta.").or_else(|| name.strip_prefix("env.")).is_some_and(|key| !key.is_empty())
}

/// The parameter that was meant by a name one slip away. Names of file systems are short and like each other: to be taken for a slip
/// a last part must be long enough.
fn slip(name: &str) -> Option<&'static str> {
    const LONG: usize = 5;
    let long = |name: &str| name.rsplit('.').next().is_some_and(|last| last.len() >= LONG);
    let one = |known: &&str| long(known) && strsim::damerau_levenshtein(name, known) == 1;
    PARAMS.iter().map(|param| param.name).filter(|_| long(name)).find(one)
}

/// `allow.raw_sockets` for `allow.noraw_sockets`: jail(8)'s way of saying false.
fn positive(name: &str) -> Option<String> {
    let (space, last) = name.rsplit_once('.').map_or(("", name), |(space, last)| (space, last));
    let rest = last.strip_prefix("no")?;
    let positive = if space.is_empty() { rest.to_owned() } else { format!("{space}.{rest}") };
    let known = PARAMS.iter().find(|param| param.name == positive)?;
    matches!(known.kind, Kind::Bool | Kind::Vnet).then_some(positive)
}

/// Whether a name has the form of a parameter: dotted words of `a-z A-Z 0-9 _ -`, at most 128 bytes.
pub(super) fn well_formed(name: &str) -> bool {
    name.len() <= 128
        && name.split('.').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        for (at, param) in PARAMS.iter().enumerate() {
            assert!(well_formed(param.name), "{}", param.name);
            assert!(PARAMS.iter().skip(at + 1).all(|other| other.name != param.name), "{}", param.name);
        }
    }

    #[test]
    fn slips_are_recognised_and_modules_are_let_through() {
        let hint = |name| match lookup(name) {
            Lookup::Unknown(hint) => hint.unwrap_or_else(|| "none".into()),
            Lookup::Known(_) => "known".into(),
            Lookup::Module => "module".into(),
        };
        assert_eq!(hint("allow.raw_socket"), "did you mean `allow.raw_sockets`?");
        assert_eq!(hint("allow.noraw_sockets"), "write \"allow.raw_sockets\" = false");
        assert_eq!(hint("nopersist"), "write \"persist\" = false");
        assert_eq!(hint("exec.whenever"), "none");
        assert_eq!(hint("gadget"), "none");
        assert_eq!(hint("depends"), "did you mean `depend`?");
        // The kernel's own name spaces are open: releases and modules add to them.
        for open in ["gadget.level", "allow.mount.nfs", "allow.mount.q9fs", "allow.nofuture", "ip4.future"] {
            assert_eq!(hint(open), "module", "{open}");
        }
        assert_eq!(hint("meta.owner"), "module");
        assert_eq!(hint("a..b"), "none");
        assert_eq!(hint("a.b;c"), "none");
    }
}
