//! Clones by ZFS, and datasets lent to jails.

use super::{assert_bare, show};
use crate::lab::{HEAD, Lab, possible, text, wait};

const POOL: &str = r#"
kldload -n zfs || exit 1
zpool list -H warrenlab >/dev/null 2>&1 && exit 0
truncate -s 3g /var/tmp/warrenlab.img && zpool create -m /warrenlab warrenlab /var/tmp/warrenlab.img || exit 1
zfs create warrenlab/base && zfs create -o mountpoint=none warrenlab/data
cd / && tar --one-file-system -cf - bin lib libexec sbin etc root usr/bin usr/sbin usr/lib usr/libexec usr/share/misc | tar -xpf - -C /warrenlab/base
mkdir -p /warrenlab/base/dev /warrenlab/base/tmp /warrenlab/base/var/tmp /warrenlab/base/var/run /warrenlab/base/var/db /warrenlab/base/var/log
chmod 1777 /warrenlab/base/tmp /warrenlab/base/var/tmp
zfs snapshot warrenlab/base@v1
"#;

#[test]
fn each_instance_has_a_clone_which_goes_with_it_and_a_dataset_comes_back() {
    if !possible(&["zfs", "zpool"]) {
        return;
    }
    println!("{}", show(&format!("{{ {POOL} }} 2>&1 | tail -5; zfs list -t all")));
    let lab = Lab::new();
    let service = "[services.one]\ntemplate = \"base\"\nnetworks = [\"net\"]\nreplicas = 3\ncommand = [\"@warren\", \"beacon\", \"--port\", \"80\", \"--name\", \"one\"]\nhealth = { http = 80 }\nports = { http = 80 }\n\
                   [services.data]\ntemplate = \"base\"\nnetworks = [\"net\"]\ncommand = [\"/bin/sleep\", \"1000\"]\n[services.data.jail]\n\"zfs.dataset\" = \"warrenlab/data\"\n\"allow.mount\" = true\n\"allow.mount.zfs\" = true\nenforce_statfs = 1\n\
                   \"exec.created\" = \"zfs set jailed=on warrenlab/data\"\n\"exec.release\" = \"zfs set jailed=off warrenlab/data\"\n";
    let text_of = format!("{HEAD}{service}")
        .replace("[templates.host]\nhost = true", "[templates.base]\nzfs = \"warrenlab/base@v1\"");
    let file = lab.file("w.toml", &text_of);
    let began = std::time::Instant::now();
    lab.ok(&["up", file.to_str().unwrap(), "--timeout", "120s"]);
    println!("4 instances up after {:.1} s", began.elapsed().as_secs_f64());
    let clones = show("zfs list -H -o name,origin,mountpoint,warren:instance -r warrenlab");
    let all = lab.instances();
    for instance in &all {
        let id = instance["id"].as_str().unwrap();
        assert!(clones.contains(&format!("warrenlab/warren-{id}\twarrenlab/base@v1")), "{clones}");
    }
    // What one writes, also below /usr, no other sees.
    let (one, data) = (lab.first("one"), lab.first("data"));
    assert!(lab.warren(&["exec", &one, "--", "touch", "/usr/bin/mine"]).status.success());
    let others = all.iter().filter(|i| i["name"] != one.as_str());
    for other in others {
        assert!(
            !lab.warren(&["exec", other["name"].as_str().unwrap(), "--", "test", "-e", "/usr/bin/mine"])
                .status
                .success()
        );
    }
    let inside = lab.warren(&[
        "exec",
        &data,
        "--",
        "sh",
        "-c",
        "zfs list -H -o name; zfs create -o mountpoint=/mnt/x warrenlab/data/x && touch /mnt/x/y && mount",
    ]);
    println!("{}", text(&inside));
    assert!(inside.status.success(), "{}", text(&inside));
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
    wait("only the template and the data", || {
        show("zfs list -H -o name -r warrenlab").lines().all(|line| !line.contains("warren-"))
    });
    // It is the host's again, with what was made in it.
    assert!(show("zfs get -H -o value jailed warrenlab/data; zfs set mountpoint=/warrenlab/x warrenlab/data/x; zfs mount warrenlab/data/x; ls /warrenlab/x; zfs destroy -r warrenlab/data; zfs create -o mountpoint=none warrenlab/data").contains('y'));
}
