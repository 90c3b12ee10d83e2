//! The life of real jails when something goes wrong with them.

use super::{assert_bare, loadable, show};
use crate::host::{self, OUTSIDE};
use crate::lab::{HEAD, Lab, beacon, bomb, possible, text, wait};

/// One service whose every hook writes its name down; `bad` fails.
fn hooked(lab: &Lab, bad: &str) -> String {
    let notes = lab.path().join("notes");
    let mut hooks = String::new();
    for hook in ["prepare", "prestart", "created", "poststart", "prestop", "quiesced", "poststop", "release"]
    {
        let fails = if hook == bad { "; exit 7" } else { "" };
        let phase = "$WARREN_FAILED_PHASE";
        hooks += &format!("\"exec.{hook}\" = \"echo {hook} {phase} >> {}{fails}\"\n", notes.display());
    }
    let start = if bad == "start" { "exit 7;" } else { "true" };
    format!("{}[services.one.jail]\n{hooks}\"exec.start\" = \"{start}\"\n", beacon("one", "restart = \"no\""))
}

#[test]
fn whichever_hook_fails_the_clean_up_runs_and_nothing_is_left() {
    if !possible(&[]) {
        return;
    }
    // What runs before the failure, and what then takes it back.
    let starts = ["prepare", "prestart", "created", "start", "poststart"];
    for (n, bad) in starts.iter().enumerate() {
        let lab = Lab::new();
        let file = lab.file("w.toml", &format!("{HEAD}{}", hooked(&lab, bad)));
        let said = lab.fails(&["up", file.to_str().unwrap()]);
        assert!(said.contains(&format!("exec.{bad}")) && said.contains("exit status 7"), "{said}");
        lab.ok(&["down", "t"]);
        let notes = std::fs::read_to_string(lab.path().join("notes")).unwrap();
        let ran: Vec<&str> = notes.lines().map(|line| line.split(' ').next().unwrap()).collect();
        let mut wanted: Vec<&str> = starts[..=n].iter().copied().filter(|hook| *hook != "start").collect();
        wanted.extend(match *bad {
            "prepare" => &["release"][..],
            "prestart" => &["poststop", "release"],
            "created" | "start" => &["quiesced", "poststop", "release"],
            _ => &["prestop", "quiesced", "poststop", "release"],
        });
        println!("exec.{bad} fails: {ran:?}");
        assert_eq!(ran, wanted, "{bad}");
        assert!(notes.lines().last().unwrap().ends_with(&format!("exec.{bad}")), "{notes}");
        assert_bare(&lab);
    }
}

#[test]
fn whichever_hook_fails_at_the_stop_the_others_run_and_repair_ends_it() {
    if !possible(&[]) {
        return;
    }
    let stops = ["prestop", "stop", "quiesced", "poststop", "release"];
    for bad in stops {
        let lab = Lab::new();
        let (notes, fault) = (lab.path().join("notes"), lab.path().join("fault"));
        std::fs::write(&fault, "").unwrap();
        let mut hooks = String::new();
        for hook in stops.iter().filter(|hook| **hook != "stop") {
            // It fails as long as the file is there: what repair does again then succeeds.
            let fails = if *hook == bad { format!("; ! test -e {}", fault.display()) } else { String::new() };
            hooks += &format!("\"exec.{hook}\" = \"echo {hook} >> {}{fails}\"\n", notes.display());
        }
        let stop = if bad == "stop" { "exit 7;" } else { "true" };
        let service = beacon("one", "restart = \"no\"\ndrain = \"0s\"");
        let text = format!("{HEAD}{service}[services.one.jail]\n{hooks}\"exec.stop\" = \"{stop}\"\n");
        let file = lab.file("w.toml", &text);
        lab.ok(&["up", file.to_str().unwrap()]);
        let down = lab.warren(&["down", "t"]);
        let said = crate::lab::text(&down);
        println!("exec.{bad} fails: {said}");
        // The first two end nothing (`on_stop_failure`); a clean-up that failed is kept until it is done.
        let kept = !matches!(bad, "prestop" | "stop");
        assert_eq!(down.status.success(), !kept, "{said}");
        assert!(!kept || said.contains(&format!("exec.{bad}")) && said.contains("warren repair"), "{said}");
        assert!(show("jls -N name").lines().all(|line| !line.starts_with("warren-")), "its jail has gone");
        std::fs::remove_file(&fault).unwrap();
        if kept {
            lab.ok(&["repair"]);
            wait("the fabric to be gone", || {
                lab.json(&["ps"])["fabrics"].as_array().is_none_or(Vec::is_empty)
            });
        }
        let ran = std::fs::read_to_string(&notes).unwrap();
        for hook in stops.iter().filter(|hook| **hook != "stop") {
            let times = ran.lines().filter(|line| line == hook).count();
            assert_eq!(times, if *hook == bad && kept { 2 } else { 1 }, "{hook}: {ran}");
        }
        assert_bare(&lab);
    }
}

#[test]
fn a_jail_removed_by_hand_is_noticed_cleaned_up_after_and_replaced() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file(
        "w.toml",
        &format!("{HEAD}{}", beacon("one", "replicas = 2\nrestart = { backoff = \"100ms\" }")),
    );
    lab.ok(&["up", file.to_str().unwrap()]);
    let gone = lab.first("one");
    let id = gone.rsplit_once('-').unwrap().1.to_owned();
    show(&format!("jail -r warren-{id}; jls -dN name; ifconfig -l"));
    wait("another one in its place", || {
        let all = lab.instances();
        all.iter().filter(|i| i["stage"] == "ready" && i["name"] != gone.as_str()).count() == 2
    });
    // Connections in TIME_WAIT may keep the jail dying for a minute, and its interface in it.
    println!("{}", lab.ok(&["ps"]));
    let began = std::time::Instant::now();
    while lab.instances().len() > 2 {
        assert!(began.elapsed().as_secs() < 150, "{}", lab.ok(&["ps"]));
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    let left = show(&format!("jls -N name; ngctl list | grep {id}; ifconfig -l; mount | grep {id}"));
    assert!(!left.contains(&id), "{left}");
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}

/// `kern.osreldate`.
fn release() -> u32 {
    show("sysctl -n kern.osreldate").trim().parse().unwrap()
}

#[test]
fn a_jail_that_nothing_holds_is_not_even_dying_when_it_has_gone() {
    if !possible(&["jls"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file(
        "w.toml",
        &format!("{HEAD}[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\ncommand = [\"/bin/sleep\", \"1000\"]\ndrain = \"0s\"\n"),
    );
    lab.ok(&["up", file.to_str().unwrap()]);
    let id = lab.first("one").rsplit_once('-').unwrap().1.to_owned();
    // Everything that visits a jail: exec, the look that compares, a file in it.
    assert!(lab.warren(&["exec", "one", "--", "true"]).status.success());
    lab.ok(&["info", "--inventory"]);
    lab.ok(&["down", "t"]);
    // jail_attach_jd(2) of 15.1 would hold it for ever.
    wait("nothing of the jail", || !show("jls -dn name").contains(&id));
    assert_bare(&lab);
}

#[test]
fn what_fifteen_added_to_jails_goes_through_as_it_is_written() {
    if !possible(&["jls"]) {
        return;
    }
    let lab = Lab::new();
    let jail = "[services.one.jail]\nmeta = \"team=blue\"\n\"meta.owner\" = \"ann\"\nenv = \"A=1\"\n";
    let file = lab.file("w.toml", &format!("{HEAD}{}{jail}", beacon("one", "restart = \"no\"")));
    let up = lab.warren(&["up", file.to_str().unwrap()]);
    if release() < 1_500_000 {
        // Older kernels have neither, and the refusal names the parameter.
        assert!(!up.status.success() && text(&up).contains("unknown parameter: env"), "{}", text(&up));
    } else {
        assert!(up.status.success(), "{}", text(&up));
        let id = lab.first("one").rsplit_once('-').unwrap().1.to_owned();
        let seen = show(&format!(
            "jls -j warren-{id} meta.team meta.owner; jexec warren-{id} sysctl -n security.jail.env"
        ));
        assert!(seen.contains("blue") && seen.contains("ann") && seen.contains("A=1"), "{seen}");
    }
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}

#[test]
fn a_connection_in_time_wait_holds_up_nothing() {
    if !possible(&["nc"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", "drain = \"0s\"")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("one");
    let id = name.rsplit_once('-').unwrap().1.to_owned();
    let server = std::thread::spawn(|| host::outside("nc -l 7778 >/dev/null"));
    // The instance closes first, so the waiting is its own.
    let talk = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do echo x | nc -N -w 3 {OUTSIDE} 7778 && exit 0; sleep 0.3; done; exit 1"
    );
    assert!(lab.warren(&["exec", &name, "--", "sh", "-c", &talk]).status.success());
    server.join().unwrap();
    let waiting = show(&format!("jexec warren-{id} netstat -an -p tcp"));
    assert!(waiting.contains("TIME_WAIT"), "{waiting}");
    let began = std::time::Instant::now();
    lab.ok(&["down", "t"]);
    println!("down after {:.1} s", began.elapsed().as_secs_f64());
    show("jls -dn jid name dying");
    assert_bare(&lab);
}

#[test]
fn a_child_jail_made_inside_goes_with_its_parent() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    let jail = "[services.one.jail]\n\"children.max\" = 5\n\"allow.mount\" = true\n\"allow.mount.tmpfs\" = true\nenforce_statfs = 1\n";
    let file = lab.file("w.toml", &format!("{HEAD}{}{jail}", beacon("one", "")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("one");
    let inside = "jail -c name=child persist path=/ children.max=2 && jail -c name=child.deep persist path=/ && \
                  jexec child.deep sleep 1000 & sleep 0.5; mkdir -p /tmp/m && mount -t tmpfs tmpfs /tmp/m";
    let said = lab.warren(&["exec", &name, "--", "sh", "-c", inside]);
    println!("{}", text(&said));
    let jails = show("jls -N name; mount | grep tmpfs");
    assert!(jails.contains(".child.deep") && jails.contains("/tmp/m"), "{jails}");
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
    assert!(!show("jls -N name").contains("child"));
}

#[test]
fn jails_of_others_are_left_alone() {
    if !possible(&["jail"]) {
        return;
    }
    let lab = Lab::new();
    show(
        "jail -c name=svcj-sshd persist path=/; jail -c name=warrenx persist path=/ vnet; ngctl mkpeer . hub theirs x 2>/dev/null",
    );
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", "")));
    lab.ok(&["up", file.to_str().unwrap()]);
    lab.kill_daemon();
    lab.start_daemon();
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
    let left = show("jls -N name; jail -r svcj-sshd; jail -r warrenx");
    assert!(left.contains("svcj-sshd") && left.contains("warrenx"), "{left}");
}

#[test]
fn commands_run_as_they_are_told_to() {
    if !possible(&["id"]) {
        return;
    }
    let lab = Lab::new();
    let console = lab.path().join("console");
    let jail = format!(
        "[services.one.jail]\n\"exec.jail_user\" = \"operator\"\n\"exec.system_user\" = \"operator\"\n\"exec.clean\" = true\n\
         \"exec.consolelog\" = \"{}\"\n\"exec.start\" = \"id -un; echo HOME=$HOME PATH=$PATH FOO=$FOO JNAME=$JNAME; cat /dev/null\"\n\
         \"exec.poststart\" = \"id -un > /tmp/warren-operator; echo $JNAME $JID $JPATH >> /tmp/warren-operator\"\n",
        console.display()
    );
    let service = "[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\nrestart = \"no\"\ncommand = [\"/bin/sleep\", \"1000\"]\nenv = { FOO = \"bar\" }\n";
    let file = lab.file("w.toml", &format!("{HEAD}{service}{jail}"));
    show("rm -f /tmp/warren-operator");
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("one");
    let id = name.rsplit_once('-').unwrap().1.to_owned();
    let said = std::fs::read_to_string(&console).unwrap();
    println!("{said}");
    assert!(said.contains("operator") && said.contains("FOO=bar") && said.contains("JNAME=\n"), "{said}");
    let host = show("cat /tmp/warren-operator; rm -f /tmp/warren-operator");
    assert!(host.contains("operator") && host.contains(&format!("warren-{id} ")), "{host}");
    assert!(show(&format!("ps -J warren-{id} -o user,command")).contains("operator"));
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}

#[test]
fn processes_that_will_not_die_are_named_and_the_stop_ends_when_they_do() {
    if !possible(&["gnop", "mdconfig", "procstat"]) || !loadable("geom_nop") {
        return;
    }
    let lab = Lab::new();
    // A read whose answer takes its time waits in the kernel where no signal reaches. It becomes slow after GEOM has tasted it.
    let disk = show("kldload -n geom_nop && mdconfig -a -t malloc -s 1m").trim().to_owned();
    show(&format!(
        "gnop create {disk} && gnop configure -d 30000 -q 100 {disk}.nop; {}; devfs rule -s 77 add path '{disk}*' unhide",
        super::BPF_RULESET
    ));
    let service = format!(
        "[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\nrestart = \"no\"\n\
         command = [\"/bin/dd\", \"if=/dev/{disk}.nop\", \"of=/dev/null\", \"bs=512\", \"count=1\"]\n\
         [services.one.jail]\ndevfs_ruleset = 77\n\"stop.timeout\" = \"1s\"\n"
    );
    let file = lab.file("w.toml", &format!("{HEAD}{service}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    let id = lab.first("one").rsplit_once('-').unwrap().1.to_owned();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let dd = show(&format!("ps -J warren-{id} -o pid,state,wchan,command"));
    assert!(dd.contains("physrd"), "{dd}");
    let said = lab.fails(&["down", "t", "--timeout", "100s"]);
    println!("{said}");
    assert!(said.contains("do not die: dd (") && said.contains("procstat -kk"), "{said}");
    let left = show(&format!("jls -N jid name; procstat -kk $(pgrep -j warren-{id} dd)"));
    assert!(left.contains(&id), "the jail is kept while something runs in it: {left}");
    // The read is answered, dd dies of the signal that has waited for it, and the stop goes on without being asked.
    wait("the fabric to be gone", || lab.json(&["ps"])["fabrics"].as_array().is_none_or(Vec::is_empty));
    assert_bare(&lab);
    show(&format!("gnop destroy {disk}.nop; mdconfig -d -u {disk}"));
}

#[test]
fn a_fork_bomb_does_not_outlive_its_stop() {
    // Guard: the kill of a jail goes on until the kernel's list of its processes is empty.
    if !possible(&["ps"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", bomb()));
    lab.ok(&["up", file.to_str().unwrap()]);
    let id = lab.first("bomb").rsplit_once('-').unwrap().1.to_owned();
    let numbers = || show(&format!("pgrep -j warren-{id} | sort -n | tail -1"));
    let before = numbers();
    wait("the bomb to go off", || numbers() != before);
    lab.ok(&["down", "t", "--timeout", "120s"]);
    let left = show("ps axo pid,jid,command");
    assert!(!left.contains("trap"), "processes are left:\n{left}");
    assert_bare(&lab);
}
