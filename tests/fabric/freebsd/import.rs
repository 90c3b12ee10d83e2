//! Jails that jail(8) started, taken over while they run.

use super::classic::{FILE, PLACE, WHOLE, assert_same, machine, nothing_is_left, setup, steps};
use super::{assert_bare, show};
use crate::lab::{Lab, possible, wait};

/// The processes in jails: number, jail, when they started, what they are.
fn processes() -> String {
    show("ps -ax -o pid= -o jid= -o lstart= -o command= | awk '$2 > 1' | sed 's/^ *//'")
}

fn instances(lab: &Lab) -> Vec<String> {
    let all = lab.instances();
    all.iter()
        .map(|i| format!("{} {}", i["service"].as_str().unwrap(), i["stage"].as_str().unwrap()))
        .collect()
}

#[test]
fn jails_of_jail_8_are_taken_over_as_they_run_and_go_by_their_own_hooks() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    setup();
    show(&format!("jail -f {WHOLE} -c && jail -f {WHOLE} -r '*'"));
    steps();
    show(&format!("jail -f {WHOLE} -c"));
    let (_, there, before) = (steps(), machine(), processes());
    println!("{}", lab.ok(&["import", "--jail-conf", FILE, "--dry-run"]));
    assert_eq!(instances(&lab), Vec::<String>::new());
    println!("{}", lab.ok(&["import", "--jail-conf", FILE]));
    println!("{}", lab.ok(&["ps"]));
    assert_eq!(instances(&lab), ["app ready", "db ready", "net ready", "web ready"]);
    // Whatever happens to the daemon: its looks at the machine find what they should.
    lab.kill_daemon();
    lab.start_daemon();
    std::thread::sleep(std::time::Duration::from_secs(65));
    let events = lab.ok(&["events", "--json"]);
    assert!(!events.contains("\"drift\"") && !events.contains("\"mended\""), "{events}");
    assert_eq!(steps(), Vec::<String>::new(), "no hook ran");
    assert_same("the machine", &there, &machine());
    assert_eq!(processes(), before, "nothing was restarted");
    // What runs is stopped as it was taken over, whatever the file says by then.
    std::fs::write(FILE, "this is no file of jail(8) any more {{{").unwrap();
    lab.ok(&["down", "jail"]);
    let ours = steps();
    setup();
    show(&format!("jail -f {WHOLE} -c && : >{PLACE}/log/log && jail -f {WHOLE} -r '*'"));
    assert_same("the stop", &steps(), &ours);
    nothing_is_left();
    assert_bare(&lab);
}

#[test]
fn a_jail_that_is_not_as_its_file_says_is_refused_with_the_reason() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    setup();
    assert!(lab.ok(&["import", "--jail-conf", FILE]).contains("nothing is taken over"));
    assert!(lab.fails(&["import", "--jail-conf", FILE, "web"]).contains("jail web does not run"));
    assert!(lab.fails(&["import", "--jail-conf", FILE, "nobody"]).contains("defines no jail `nobody`"));
    show(&format!("jail -f {WHOLE} -c"));
    // What is changed, what puts it back, the jail, and what is said.
    let web = format!("{PLACE}/web");
    let changes = [
        (
            "jail -m name=web allow.chflags",
            "jail -m name=web allow.nochflags",
            "web",
            "it has allow.chflags, which the file does not say",
        ),
        (
            "jail -m name=web allow.noraw_sockets",
            "jail -m name=web allow.raw_sockets",
            "web",
            "allow.raw_sockets is false, not true",
        ),
        (
            "jail -m name=db enforce_statfs=2",
            "jail -m name=db enforce_statfs=1",
            "db",
            "enforce_statfs is 2, not 1",
        ),
        (
            "jail -m name=web ip4.addr=10.9.0.3,10.9.0.33",
            "jail -m name=web ip4.addr=10.9.0.3",
            "web",
            "ip4.addr is 10.9.0.3, 10.9.0.33, not 10.9.0.3",
        ),
        (
            "ifconfig lo1 10.9.0.3 -alias",
            "ifconfig lo1 10.9.0.3/32 alias",
            "web",
            "the address 10.9.0.3/32 is not on lo1",
        ),
        (
            &format!("umount {web}/tmp"),
            &format!("mount -t tmpfs -o size=1048576 tmpfs {web}/tmp"),
            "web",
            "tmpfs (tmpfs) is not mounted on",
        ),
        (
            &format!("umount {web}/sbin; mount -t nullfs /sbin {web}/sbin"),
            &format!("umount {web}/sbin; mount -t nullfs -o ro /sbin {web}/sbin"),
            "web",
            "is a mount of /sbin (nullfs), not of /sbin (nullfs, read-only)",
        ),
        (
            "ifconfig epair77b -vnet net",
            "ifconfig epair77b vnet net",
            "net",
            "the interface epair77b is not in jail net",
        ),
        (
            "jail -c name=web.child persist path=/",
            "jail -r web.child",
            "web",
            "jail web has the child jail web.child",
        ),
    ];
    for (change, back, jail, words) in changes {
        show(change);
        let said = lab.fails(&["import", "--jail-conf", FILE, jail]);
        println!("{said}");
        assert!(said.contains(words), "{change}: {said}");
        assert_eq!(instances(&lab), Vec::<String>::new(), "{change}");
        show(back);
    }
    // One that cannot be had keeps the others back, too.
    show("jail -m name=web allow.chflags");
    lab.fails(&["import", "--jail-conf", FILE]);
    assert_eq!(instances(&lab), Vec::<String>::new());
    show("jail -m name=web allow.nochflags");
    lab.ok(&["import", "--jail-conf", FILE, "web"]);
    assert_eq!(instances(&lab), ["web ready"]);
    assert!(lab.fails(&["import", "--jail-conf", FILE, "web"]).contains("is Warren's already"));
    steps();
    // It has no persist: the kernel ends it with its last process, and Warren does the rest.
    show("kill $(ps -J web -o pid=)");
    wait("web to be gone", || instances(&lab).is_empty());
    let ran = steps();
    assert!(ran.iter().any(|line| line.starts_with("web release")), "{ran:#?}");
    lab.ok(&["import", "--jail-conf", FILE, "db", "app", "net"]);
    lab.ok(&["down", "--jail-conf", FILE]);
    nothing_is_left();
    assert_bare(&lab);
}
