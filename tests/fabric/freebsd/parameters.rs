//! What a jail may be told beside what every instance is: routing tables, login classes, file systems that take a program or a
//! module, addresses of the host, interfaces that are lent.

use super::{assert_bare, loadable, show};
use crate::lab::{HEAD, Lab, beacon, possible, text};

/// A service that sleeps, and says at its start what it was asked to.
fn sleeper(start: &str, more: &str, jail: &str) -> String {
    format!(
        "{HEAD}[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\nrestart = \"no\"\ncommand = [\"/bin/sleep\", \"1000\"]\n\
         {more}\n[services.one.jail]\n\"exec.start\" = \"{start}\"\n{jail}"
    )
}

#[test]
fn a_command_has_its_routing_table_and_its_users_class() {
    if !possible(&["pw", "sysctl"]) {
        return;
    }
    // The class `daemon` of login.conf may lock 128 MB, everybody else 64 KB.
    show("sysctl net.fibs=3; pw usermod operator -L daemon");
    let lab = Lab::new();
    // Of the host's root an instance has no master.passwd, in which the classes are.
    let jail = "vnet = false\n\"exec.fib\" = 2\n\"exec.jail_user\" = \"operator\"\n\"exec.system_jail_user\" = true\n\"exec.clean\" = true\n";
    let start = "echo fib $(sysctl -n net.my_fibnum) locked $(ulimit -l) as $(id -un)";
    let file = lab.file("w.toml", &sleeper(start, "", jail));
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("one");
    let said = text(&lab.warren(&["logs", &name]));
    println!("{said}");
    assert!(said.contains("fib 2 locked 131072 as operator"), "{said}");
    lab.ok(&["down", "t"]);
    show("pw usermod operator -L ''");
    assert_bare(&lab);
    // A table that the kernel does not have is no silent 0.
    let file = lab.file("w.toml", &sleeper(start, "", "vnet = false\n\"exec.fib\" = 9\n"));
    let said = lab.fails(&["up", file.to_str().unwrap()]);
    assert!(said.contains("exec.start") && said.contains("fib"), "{said}");
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}

#[test]
fn a_jail_without_a_stack_of_its_own_has_its_address_on_the_gateway() {
    if !possible(&["ping"]) {
        return;
    }
    let lab = Lab::new();
    let jail = "[services.one.jail]\nvnet = false\n";
    let other = beacon("two", "");
    let more = format!("replicas = 2\n{jail}");
    let file = lab.file("w.toml", &format!("{HEAD}{}{other}", beacon("one", &more)));
    lab.ok(&["up", file.to_str().unwrap()]);
    let all = lab.instances();
    println!("{}", lab.ok(&["ps"]));
    let two = lab.first("two");
    for shared in all.iter().filter(|i| i["service"] == "one") {
        let id = shared["id"].as_str().unwrap();
        let addresses: Vec<&str> =
            shared["addresses"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let [v4, v6] = addresses.as_slice() else { panic!("one of each family: {addresses:?}") };
        let on_host = show("ifconfig");
        assert!(on_host.contains(&format!("inet {v4} netmask 0xffffffff")), "{v4} is a /32 of the gateway's");
        assert!(on_host.contains(&format!("inet6 {v6} prefixlen 128")), "{v6} is a /128");
        let seen = show(&format!("jls -j warren-{id} -n vnet ip4.addr ip6.addr"));
        assert!(seen.contains("vnet=inherit") && seen.contains(v4) && seen.contains(v6), "{seen}");
        // A neighbour with a stack of its own finds it by name and gets an answer.
        let page = format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {v4} 80 | head -1; getent hosts {}",
            shared["dns"].as_str().unwrap()
        );
        let said = text(&lab.warren(&["exec", &two, "--", "sh", "-c", &page]));
        assert!(said.contains("200") && (said.contains(v4) || said.contains(v6)), "{said}");
    }
    // What is there twice would be taken away with the first.
    lab.ok(&["scale", "one=1"]);
    let left = lab.instances();
    let left = left.iter().find(|i| i["service"] == "one").unwrap();
    let v4 = left["addresses"][0].as_str().unwrap();
    assert!(show("ifconfig").contains(&format!("inet {v4} netmask 0xffffffff")), "{v4} stays");
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}

#[test]
fn file_systems_come_by_their_programs_and_parameters_by_their_modules() {
    if !possible(&["newfs_msdos", "mdconfig"]) || !loadable("linprocfs") {
        return;
    }
    let module = "kldstat -q -m linprocfs && echo loaded || echo absent";
    show("kldunload linprocfs linsysfs 2>/dev/null; kldunload linux_common 2>/dev/null");
    assert_eq!(show(module).trim(), "absent");
    let disk = show("mdconfig -a -t malloc -s 4m").trim().to_owned();
    show(&format!("newfs_msdos /dev/{disk} >/dev/null"));
    let lab = Lab::new();
    let layer = lab.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    std::fs::write(layer.join("above"), "of the layer").unwrap();
    let mounts = format!(
        "mounts = [{{ fstype = \"msdosfs\", source = \"/dev/{disk}\", target = \"/mnt\" }}, \
         {{ fstype = \"unionfs\", source = \"{}\", target = \"/root\" }}]",
        layer.display()
    );
    let jail = "\"allow.mount\" = true\n\"allow.mount.linprocfs\" = true\nenforce_statfs = 1\n";
    let start = "echo dos > /mnt/file; echo new > /root/new; ls /root";
    let file = lab.file("w.toml", &sleeper(start, &mounts, jail));
    lab.ok(&["up", file.to_str().unwrap()]);
    assert_eq!(show(module).trim(), "loaded");
    let name = lab.first("one");
    let id = name.rsplit_once('-').unwrap().1.to_owned();
    let mounted = show(&format!("mount | grep {id}; jls -j warren-{id} -n allow.mount.linprocfs"));
    assert!(
        mounted.contains("(msdosfs")
            && mounted.contains("(unionfs")
            && mounted.contains("\nallow.mount.linprocfs\n")
    );
    let said = text(&lab.warren(&["logs", &name]));
    assert!(said.contains("above") && said.contains("new"), "{said}");
    assert_eq!(std::fs::read_to_string(layer.join("new")).unwrap(), "new\n", "it was written to the layer");
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
    show(&format!("mdconfig -d -u {disk}"));

    // What leaves a disk or a server behind is refused, and so is a program that a file names.
    for (fstype, options) in [("mfs", ""), ("msdosfs", ", options = [\"mountprog=/bin/sh\"]")] {
        let mounts = format!(
            "mounts = [{{ fstype = \"{fstype}\", source = \"/dev/md9\", target = \"/mnt\"{options} }}]"
        );
        let file = lab.file("w.toml", &sleeper("true", &mounts, ""));
        let said = lab.fails(&["up", file.to_str().unwrap()]);
        assert!(said.contains("needs a program that has to be ended"), "{said}");
        lab.ok(&["down", "t"]);
        assert_bare(&lab);
    }
}

#[test]
fn an_interface_that_is_lent_keeps_what_its_owner_wrote_on_it() {
    if !possible(&["jail"]) {
        return;
    }
    show("ifconfig epair55 create; ifconfig epair55b description 'of the owner'; mkdir -p /var/tmp/lent");
    let lab = Lab::new();
    let conf = "lent { path = /var/tmp/lent; vnet; vnet.interface = epair55b; persist; mount.nodevfs; }\n";
    let file = lab.file("jail.conf", conf);
    let said = lab.fails(&["up", file.to_str().unwrap()]);
    assert!(said.contains("--jail-conf"), "{said}");
    lab.ok(&["up", "--jail-conf", file.to_str().unwrap()]);
    let inside =
        show("jls -N name; ifconfig -j lent epair55b 2>/dev/null || jexec lent /sbin/ifconfig; ifconfig -l");
    assert!(inside.contains("lent"), "{inside}");
    assert!(!show("ifconfig -l").contains("epair55b"), "it is away");
    let fabric = lab.json(&["ps"])["fabrics"][0]["name"].as_str().unwrap().to_owned();
    lab.kill_daemon();
    lab.start_daemon();
    lab.ok(&["down", &fabric]);
    assert!(show("ifconfig epair55b").contains("description: of the owner"));
    show("ifconfig epair55a destroy; rmdir /var/tmp/lent");
    assert_bare(&lab);
}
