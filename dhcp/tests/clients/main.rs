//! The three Debian clients against the engine, over a veth pair between two namespaces.
//!
//! Each client goes through discover, unicast renewal, rebinding (unicast muted), reboot, a moved reservation (NAK)
//! and release, and must hold the reserved address throughout. Root only; nothing outside the namespaces is touched,
//! and the clients run with scripts that write no file of the machine. When root or a client is missing the test says
//! so on stderr and passes, except under CI=true, where it fails.
#![cfg(target_os = "linux")]

mod packet;
mod rig;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use rig::{Rig, Seen};

/// `ip` and the client, or the reason why not.
fn missing(client: &str) -> Option<String> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let has = |tool: &str| {
        ["/sbin", "/usr/sbin", "/bin", "/usr/bin"].iter().any(|d| Path::new(d).join(tool).exists())
    };
    if !root {
        return Some("it needs root".into());
    }
    ["ip", "unshare", client].into_iter().find(|t| !has(t)).map(|t| {
        format!("{t} is not installed (apt-get install iproute2 isc-dhcp-client dhcpcd-base udhcpc)")
    })
}

fn rig_for(client: &str, lease_s: u32) -> Option<Rig> {
    let Some(why) = missing(client) else { return Some(Rig::new(client, lease_s)) };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot test {client}: {why}");
    // Not eprintln!, which the test harness swallows.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {client} was not tested: {why} ***\n");
    None
}

#[test]
fn isc_dhclient() {
    let Some(mut rig) = rig_for("dhclient", 24) else { return };
    // By default it waits longer between tries than lies between T2 and the end of so short a lease.
    let conf =
        rig.script("dhclient.conf", "initial-interval 1; backoff-cutoff 1;\nsend host-name \"liar\";\nalso request domain-search, interface-mtu, ntp-servers;\n");
    // The address stays at RELEASE: the message is still waiting for an answer to ARP then, and would go with it.
    let script = rig.script(
        "dhclient-script",
        "case $reason in PREINIT*) ip link set c0 up;;\n\
         BOUND|RENEW|REBIND|REBOOT) ip addr flush dev c0; ip addr add $new_ip_address/24 dev c0;;\n\
         EXPIRE|FAIL|STOP) ip addr flush dev c0;; esac\nexit 0\n",
    );
    let dir = rig.dir();
    let common = format!("dhclient -4 -cf {conf} -sf {script} -lf {dir}/leases -pf {dir}/pid");
    let start = format!("{common} -d c0");

    rig.start(&start);
    rig.expect("a first lease", |s| matches!(s, Seen::Selecting { .. }));
    rig.expect_address();
    let leases = std::fs::read_to_string(format!("{dir}/leases")).unwrap();
    for line in [
        // It calls itself "liar"; the name is the fabric's.
        "option host-name \"dhclient\";",
        "option domain-name \"shop.internal\";",
        "option domain-search \"shop.internal.\", \"internal.\";",
        "option interface-mtu 1500;",
        "option ntp-servers 10.9.0.1;",
        "option subnet-mask 255.255.255.0;",
        "option routers 10.9.0.1;",
        "option dhcp-server-identifier 10.9.0.2;",
        "option dhcp-renewal-time 12;",
        "option dhcp-rebinding-time 21;",
    ] {
        assert!(leases.contains(line), "{line} is not in {leases}");
    }
    through_renewals(&mut rig);
    rig.kill();
    rig.start(&start);
    rig.expect("INIT-REBOOT after a restart", |s| matches!(s, Seen::InitReboot { .. }));
    rig.expect_address();
    rig.kill();
    moved(&mut rig, &start);
    rig.run(&format!("{common} -r c0"));
    rig.expect_released();
}

#[test]
fn dhcpcd() {
    // It raises any lease below 20 s to that.
    let Some(mut rig) = rig_for("dhcpcd", 20) else { return };
    let start = "dhcpcd -B -4 -A -d -f /dev/null -c /bin/true --noipv4ll c0";
    rig.start(start);
    rig.expect("a first lease", |s| matches!(s, Seen::Selecting { .. }));
    rig.expect_address();
    through_renewals(&mut rig);
    rig.kill();
    rig.start(start);
    rig.expect("INIT-REBOOT after a restart", |s| matches!(s, Seen::InitReboot { .. }));
    rig.expect_address();
    rig.kill();
    moved(&mut rig, start);
    rig.resolve_server();
    // dhcpcd(8): ALRM releases and exits.
    rig.signal("ALRM");
    rig.expect_released();
}

#[test]
fn udhcpc() {
    let Some(mut rig) = rig_for("udhcpc", 16) else { return };
    let script = rig.script(
        "udhcpc-script",
        "case $1 in deconfig) ip addr flush dev c0; ip link set c0 up;;\n\
         bound|renew) ip addr flush dev c0; ip addr add $ip/24 dev c0;; esac\nexit 0\n",
    );
    let start = format!("udhcpc -f -i c0 -s {script} -t 10 -T 1 -x hostname:liar -F liar.example");
    rig.start(&start);
    rig.expect("a first lease", |s| matches!(s, Seen::Selecting { .. }));
    rig.expect_address();
    through_renewals(&mut rig);
    rig.kill();
    // It keeps no lease file: a reboot is a DISCOVER that names the old address.
    rig.start(&format!("{start} -r {}", rig.address()));
    rig.expect("the same address after a restart", |s| matches!(s, Seen::Selecting { .. }));
    rig.expect_address();
    // udhcpc(8): USR1 renews, USR2 releases.
    rig.signal("USR1");
    rig.expect("a renewal when told", |s| matches!(s, Seen::Renewing { .. }));
    rig.signal("USR2");
    rig.expect_released();
}

fn through_renewals(rig: &mut Rig) {
    rig.expect("a renewal by unicast", |s| matches!(s, Seen::Renewing { .. }));
    rig.expect_address();
    rig.mute_unicast(true);
    rig.expect("a rebinding by broadcast", |s| matches!(s, Seen::Rebinding { .. }));
    rig.mute_unicast(false);
    rig.expect_address();
}

/// The fabric gives the station another address while it is down: it must be refused the old one and get the new.
fn moved(rig: &mut Rig, start: &str) {
    rig.move_reservation();
    rig.start(start);
    rig.expect_refused();
    rig.expect("the new address", |s| matches!(s, Seen::Selecting { .. }));
    rig.expect_address();
}
