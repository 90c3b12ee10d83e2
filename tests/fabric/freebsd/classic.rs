//! A jail.conf run by Warren and by jail(8) itself: the same hooks in the same order with the same environment, the same jails,
//! mounts and addresses. What differs on purpose stands in docs/reference/jail-conf.md, and here where it is left out.

use std::path::Path;

use super::{assert_bare, show};
use crate::drift::told;
use crate::lab::{Lab, possible, wait};

/// Where the jails' roots are: the same for both, as the paths are among what is compared.
pub(super) const PLACE: &str = "/var/tmp/classic";

/// Four jails in a chain, so that the order of all steps is one: `net`, which has a stack of its own, last.
const CONF: &str = r#"
# What all have in common.
$place = "/var/tmp/classic";
path = "$place/$name";
host.hostname = "$name.example.org";
exec.clean; mount.devfs; devfs_ruleset = 4;
mount = "/bin $path/bin nullfs ro 0 0", "/lib $path/lib nullfs ro 0 0", "/libexec $path/libexec nullfs ro 0 0";
mount += "/sbin $path/sbin nullfs ro 0 0", "/usr $path/usr nullfs ro 0 0";
mount += "$place/log $path/log nullfs rw 0 0";
exec.prepare = "$place/log/host $name prepare";
exec.prestart = "$place/log/host $name prestart";
exec.created = "$place/log/host $name created";
exec.start = "/log/inside start", "/usr/sbin/daemon -f /bin/sleep 3000";
exec.poststart = "$place/log/host $name poststart";
exec.prestop = "$place/log/host $name prestop";
exec.stop = "/log/inside stop";
exec.poststop = "$place/log/host $name poststop";
exec.release = "$place/log/host $name release";
stop.timeout = 2;

db {
	ip4.addr = "lo1|10.9.0.2/24", "lo1|10.9.0.12"; /* the second alone */
	mount.fdescfs; mount.procfs;
	enforce_statfs = 1; sysvshm = new; allow.sysvipc;
	persist;
}
web {
	depend = db;
	interface = lo1; ip4.addr = 10.9.0.3;
	ip6.addr = "lo1|fd09::3/64";
	mount.fstab = "$place/web.fstab";
	allow.raw_sockets; allow.nomount; children.max = 3; securelevel = 2;
	command = "/log/inside command";
}
.include "conf.d/[a-z]*.conf";
"#;

const MORE: &str = r#"
'*' { exec.poststart += "$place/log/host $name last"; }
app { depend = web; ip4 = inherit; exec.noclean; exec.jail_user = operator; exec.start = "/log/inside start as operator"; persist = 1; }
net {
	depend = app;
	vnet; vnet.interface = epair77b;
	exec.prestart += "ifconfig epair77 create";
	exec.start = "ifconfig epair77b inet 10.8.0.2/24", "/log/inside start", "/usr/sbin/daemon -f /bin/sleep 3000";
	exec.poststop += "ifconfig epair77a destroy";
}
"#;

/// Says which hook it is, and which jails there are. (Of `JNAME`, `JPATH` and `JID` 13.2 gives none.)
const HOST: &str = "#!/bin/sh
echo \"$* jails: $(jls -N name | tr '\n' ' ')\" >>/var/tmp/classic/log/log
";
const INSIDE: &str = "#!/bin/sh\necho \"inside $(hostname) $* $(id -un) $(pwd) $(env | sort | grep -v ^_= | tr '\\n' ' ')\" >>/log/log\n";

/// What Warren reads, and the same in one file: jail(8) of 13.2 has no `.include`.
pub(super) const FILE: &str = "/var/tmp/classic/jail.conf";
pub(super) const WHOLE: &str = "/var/tmp/classic/whole.conf";

pub(super) fn setup() {
    show(&format!(
        "for j in net app web db; do jls -j $j >/dev/null 2>&1 && jail -r $j; done; mount -p | awk '/classic/ {{print $2}}' | tail -r | xargs -n 1 umount 2>/dev/null; \
         ifconfig epair77a destroy 2>/dev/null; ifconfig lo1 destroy 2>/dev/null; kldload -n nullfs tmpfs fdescfs procfs if_epair sysvshm; service devfs onestart; rm -rf {PLACE}; \
         ifconfig lo1 create 2>/dev/null; ifconfig lo1 up; mkdir -p {PLACE}/log {PLACE}/conf.d; chmod 777 {PLACE}/log; \
         cd {PLACE} && for j in db web app net; do for d in bin lib libexec sbin usr log dev proc tmp etc root; do mkdir -p $j/$d; done; \
         cp /etc/passwd /etc/master.passwd /etc/group /etc/pwd.db /etc/spwd.db /etc/login.conf $j/etc; done; touch log/log; chmod 666 log/log"
    ));
    let write = |name: &str, text: &str| std::fs::write(Path::new(PLACE).join(name), text).unwrap();
    write("jail.conf", CONF);
    write("whole.conf", &CONF.replace(".include \"conf.d/[a-z]*.conf\";", MORE));
    write("conf.d/more.conf", MORE);
    write("conf.d/.hidden.conf", "this is not read {{{");
    write(
        "web.fstab",
        "# the jail's own\ntmpfs /var/tmp/classic/web/tmp tmpfs rw,size=1048576 0 0 # small\n",
    );
    write("log/host", HOST);
    write("log/inside", INSIDE);
    show(&format!("chmod 755 {PLACE}/log/host {PLACE}/log/inside"));
}

/// What the hooks said since this was asked last.
pub(super) fn steps() -> Vec<String> {
    let log = Path::new(PLACE).join("log/log");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, "").unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The jails as the kernel has them, with what numbers and addresses in memory differ by left out; mounts; addresses.
pub(super) fn machine() -> Vec<String> {
    let commands = [
        "for j in db web app net; do jls -j $j -nq all | tr ' ' '\\n' | grep -Ev '^(jid|cpuset.id|persist|nopersist|parent)(=|$)'; done",
        "mount -p | grep classic | sed 's/[[:space:]]\\{1,\\}/ /g'",
        "ifconfig lo1 | grep inet | grep -v fe80",
        "jexec net ifconfig epair77b | grep inet",
        "for j in db web app net; do ps -J $j -o user= -o command= | sort; done",
    ];
    commands.iter().flat_map(|command| show(command).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

pub(super) fn nothing_is_left() {
    let left = show(
        "jls -N name | grep -v outside; mount -p | grep classic; ifconfig lo1 | grep inet | grep -v fe80; ifconfig -l | tr ' ' '\\n' | grep epair77",
    );
    assert_eq!(left, "", "something is left");
}

pub(super) fn assert_same(what: &str, theirs: &[String], ours: &[String]) {
    let only = |of: &[String], other: &[String]| -> Vec<String> {
        of.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    assert_eq!(
        (only(theirs, ours), only(ours, theirs)),
        (Vec::new(), Vec::new()),
        "{what}: what jail(8) alone says, and what Warren alone says"
    );
    assert_eq!(theirs, ours, "{what}: the order differs");
}

#[test]
fn a_jail_conf_runs_as_jail_8_runs_it() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    setup();
    show(&format!("jail -f {WHOLE} -c"));
    let (start, there) = (steps(), machine());
    show(&format!("jail -f {WHOLE} -r '*'"));
    let stop = steps();
    nothing_is_left();
    println!("{start:#?}\n{stop:#?}");

    lab.ok(&["up", "--jail-conf", FILE]);
    let (our_start, our_there) = (steps(), machine());
    println!("{}", lab.ok(&["ps"]));
    assert_same("the start", &start, &our_start);
    assert_same("the machine", &there, &our_there);
    // Longer than from one look of the engine's at the machine to the next: nobody's jail is missed, none is started anew.
    std::thread::sleep(std::time::Duration::from_secs(65));
    assert_eq!(steps(), Vec::<String>::new());
    let events = lab.ok(&["events", "--json"]);
    assert!(!events.contains("\"drift\"") && !events.contains("\"mended\""), "{events}");
    // By name: what depends on it goes before it.
    lab.ok(&["down", "--jail-conf", FILE, "web"]);
    lab.ok(&["down", "--jail-conf", FILE]);
    assert_same("the stop", &stop, &steps());
    nothing_is_left();
    assert_bare(&lab);
}

#[test]
fn a_start_that_fails_runs_the_clean_up_hooks_and_leaves_nothing() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    setup();
    let failing = CONF.replace("web {\n", "web {\n\texec.start = 'exit 3;';\n");
    std::fs::write(FILE, failing).unwrap();
    let said = lab.fails(&["up", "--jail-conf", FILE]);
    assert!(said.contains("exec.start") && said.contains("exit status 3"), "{said}");
    // The clean-up may go on for a moment after it was said that the start failed.
    lab.ok(&["down", "--jail-conf", FILE]);
    let ran = steps();
    let of_web: Vec<&str> =
        ran.iter().filter_map(|line| line.strip_prefix("web ")?.split(' ').next()).collect();
    assert_eq!(of_web, ["prepare", "prestart", "created", "poststop", "release"], "{ran:#?}");
    // What it depended on is up, what depended on it never began.
    assert!(
        ran.iter().any(|line| line.starts_with("db last")) && !ran.iter().any(|line| line.starts_with("app"))
    );
    nothing_is_left();
    assert_bare(&lab);
}

/// The number of the process that somebody else's jail `db` runs.
fn stranger() -> String {
    show("jls -j db jid; pgrep -j db -f 'sleep 4444'")
}

const STRANGER: &str =
    "jail -c name=db path=/ host.hostname=stranger persist && jexec db daemon -f sleep 4444";

#[test]
fn a_jail_that_somebody_else_made_in_between_is_left_alone() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    setup();
    // Between the look whether there is one and the making of ours.
    let slow = CONF.replace("db {\n", &format!("db {{\n\texec.prepare += '{STRANGER}';\n"));
    std::fs::write(FILE, slow).unwrap();
    let said = lab.fails(&["up", "--jail-conf", FILE, "db"]);
    assert!(said.contains("db") && said.contains("exist"), "{said}");
    lab.ok(&["down", "--jail-conf", FILE]);
    let theirs = stranger();
    assert_eq!(theirs.lines().count(), 2, "it is there, and its process: {theirs}");
    show("jail -r db");
    nothing_is_left();
    assert_bare(&lab);
}

#[test]
fn a_jail_made_anew_by_hand_is_no_longer_ours() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    setup();
    lab.ok(&["up", "--jail-conf", FILE, "db"]);
    steps();
    // While no daemon looks.
    lab.kill_daemon();
    show(&format!("jail -r db; {STRANGER}"));
    let theirs = stranger();
    assert_eq!(theirs.lines().count(), 2, "{theirs}");
    lab.start_daemon();
    wait("the loss to be told of", || told(&lab, "drift", "the jail db"));
    lab.ok(&["down", "--jail-conf", FILE]);
    assert_eq!(stranger(), theirs, "nothing was done to it");
    let ran = steps();
    assert!(ran.iter().any(|line| line.starts_with("db poststop")), "what is ours was cleaned up: {ran:#?}");
    show("jail -r db");
    nothing_is_left();
    assert_bare(&lab);
}

/// The Handbook's thin jail: the base on the jail's root, read-only, and what is its own above it.
#[test]
fn a_thin_jail_has_its_base_mounted_on_its_root() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    setup();
    let thin = r#"thin { path = "/var/tmp/classic/thin"; persist; exec.clean; host.hostname = thin;
	mount = "/ $path nullfs ro 0 0", "/var/tmp/classic/own $path/mnt nullfs rw 0 0"; mount.devfs;
	exec.start = "echo written > /mnt/file"; exec.poststop = "ls /var/tmp/classic/thin > /var/tmp/classic/log/after"; }"#;
    std::fs::write(FILE, thin).unwrap();
    show("mkdir -p /var/tmp/classic/thin /var/tmp/classic/own");
    lab.ok(&["up", "--jail-conf", FILE]);
    let mounts = show("mount -p | awk '/classic\\/thin/ {print $2, $3}'");
    let (root, own) = ("/var/tmp/classic/thin", "/var/tmp/classic/thin/mnt");
    assert_eq!(
        mounts.lines().map(str::trim).collect::<Vec<_>>(),
        [format!("{root} nullfs"), format!("{own} nullfs"), format!("{root}/dev devfs")]
    );
    assert_eq!(show("cat /var/tmp/classic/own/file").trim(), "written");
    assert!(show("jexec thin touch /new").contains("Read-only"));
    lab.ok(&["down", "--jail-conf", FILE]);
    assert_eq!(show("mount -p | grep -c classic/thin").trim(), "0");
    assert_bare(&lab);
}
