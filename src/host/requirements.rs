//! What a FreeBSD machine should be like for Warren: what was seen of one goes in, judgements come out. Pure.
//!
//! The values and what each costs are from facts H, B.9, A.6 and C; what is *bad* keeps Warren from working, *advice* makes it worse
//! than it need be.

mod numbers;

use serde::{Deserialize, Serialize};

use numbers::LOADER;
pub use numbers::limits;

/// How a look turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Good,
    /// It works, but not as well as it might.
    Advice,
    /// It keeps Warren, or a part of it, from working.
    Bad,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it turned out.
    pub level: Level,
    /// What was seen.
    pub detail: String,
    /// What that costs.
    pub cost: Option<String>,
    /// What mends it: a line to type, or to write into a file.
    pub mend: Option<String>,
}

impl Check {
    /// All is well.
    pub fn good(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), level: Level::Good, detail: detail.into(), cost: None, mend: None }
    }

    /// It does not work, and this mends it.
    pub fn bad(name: impl Into<String>, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Bad, mend: Some(mend.into()), ..Self::good(name, detail) }
    }

    /// It might be better.
    pub fn advice(name: impl Into<String>, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Advice, ..Self::bad(name, detail, mend) }
    }

    /// What it costs to leave it so.
    #[must_use]
    pub fn costs(mut self, cost: impl Into<String>) -> Self {
        self.cost = Some(cost.into());
        self
    }
}

/// What is known of a port of the host that Warren needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `udp4 *:53`.
    pub socket: String,
    /// The program, with its number: `local-unbound (812)`.
    pub program: String,
}

/// What was seen of a machine. Numbers that the kernel does not have are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether we are root.
    pub root: bool,
    /// `kern.osrelease`.
    pub release: String,
    /// `kern.features.vimage`.
    pub vimage: bool,
    /// Modules that are loaded or built in.
    pub modules: Vec<String>,
    /// Modules that are not loaded but are there to be.
    pub loadable: Vec<String>,
    /// What pf says: `None`, or what is the matter and what mends it.
    pub pf: Option<(String, Option<String>)>,
    /// Integer sysctls by name, as far as the kernel has them.
    pub sysctls: std::collections::BTreeMap<String, i64>,
    /// Programs that listen on ports 53 and 67 of all addresses.
    pub listeners: Vec<Listener>,
    /// The devfs rulesets by number, with whether each shows bpf.
    pub rulesets: Vec<(u32, bool)>,
    /// Whether zfs(8) has a pool.
    pub pools: usize,
    /// How many jails this jail may have, where Warren runs in one.
    pub jailed: Option<i64>,
    /// pf's limits by name, `pfctl -sm`; none where pf is not loaded.
    pub limits: std::collections::BTreeMap<String, i64>,
}

/// Netgraph's node types and file systems without which there is no instance.
const NEEDED: [&str; 7] = ["ng_socket", "ng_bridge", "ng_eiface", "ng_bpf", "ng_hub", "ng_ether", "nullfs"];

/// All judgements, in the order a reader wants them: what is bad stands where it is, `warren doctor` marks it.
#[must_use]
pub fn judge(seen: &Seen) -> Vec<Check> {
    let mut checks = vec![rights(seen), vimage(seen), modules(seen)];
    checks.extend(jailed(seen));
    checks.push(pf(seen));
    checks.extend(numbers::limits_of(seen));
    checks.extend(forwarding(seen));
    checks.extend(ports(seen));
    checks.extend(devfs(seen));
    checks.push(zfs(seen));
    checks.extend(numbers::tuned(seen));
    checks
}

fn rights(seen: &Seen) -> Check {
    if seen.root {
        Check::good("rights", format!("root on FreeBSD {}", seen.release))
    } else {
        Check::bad("rights", "not root", "run Warren as root: jails, netgraph and pf need it")
    }
}

fn vimage(seen: &Seen) -> Check {
    if seen.vimage {
        Check::good("vnet", "the kernel has VIMAGE")
    } else {
        Check::bad(
            "vnet",
            "the kernel was built without VIMAGE",
            "boot a GENERIC kernel, or add `options VIMAGE`",
        )
        .costs("no instance has a network stack of its own; `vnet = false` in the jail table still works")
    }
}

/// `security.jail.*` as a jail sees it.
fn jailed(seen: &Seen) -> Option<Check> {
    let may = seen.jailed?;
    Some(if may < 1 {
        Check::bad(
            "jail",
            "Warren runs in a jail that may have none itself",
            "give that jail children.max, vnet, allow.mount with the file systems, and devfs with pf; or run Warren on the host",
        )
        .costs("no instance can be made")
    } else {
        Check::advice("jail", format!("Warren runs in a jail that may have {may}"), "run Warren on the host")
            .costs("modules cannot be loaded from a jail, and its limits are those of all instances together")
    })
}

fn modules(seen: &Seen) -> Check {
    let has = |list: &[String], name: &str| list.iter().any(|module| module == name);
    let missing: Vec<&str> =
        (NEEDED.into_iter()).filter(|name| !has(&seen.modules, name) && !has(&seen.loadable, name)).collect();
    let idle: Vec<&str> = NEEDED.into_iter().filter(|name| has(&seen.loadable, name)).collect();
    if !missing.is_empty() {
        return Check::bad(
            "modules",
            format!("neither loaded nor to be found: {}", missing.join(", ")),
            "install the kernel's modules into /boot/kernel (base.txz has them all)",
        );
    }
    if idle.is_empty() {
        return Check::good("modules", format!("loaded: {}", NEEDED.join(", ")));
    }
    let lines: Vec<String> = idle.iter().map(|name| format!("{name}_load=\"YES\"")).collect();
    Check::advice(
        "modules",
        format!("not loaded yet: {}", idle.join(", ")),
        format!("Warren loads them as it starts; to have them from boot, in {LOADER}: {}", lines.join(" ")),
    )
    .costs("none at a securelevel below 1; above, modules can no longer be loaded")
}

fn pf(seen: &Seen) -> Check {
    match &seen.pf {
        None => Check::good("pf", "enabled, and asks the anchors warren/*"),
        Some((what, mend)) => Check::bad("pf", what.clone(), mend.clone().unwrap_or_default())
            .costs("no network comes up: published ports, NAT and isolation would do nothing"),
    }
}

fn forwarding(seen: &Seen) -> Vec<Check> {
    let families = [
        (
            "IPv4 forwarding",
            "net.inet.ip.forwarding",
            "sysrc gateway_enable=YES && sysctl net.inet.ip.forwarding=1",
        ),
        (
            "IPv6 forwarding",
            "net.inet6.ip6.forwarding",
            "sysrc ipv6_gateway_enable=YES && sysctl net.inet6.ip6.forwarding=1",
        ),
    ];
    let judge = |(name, sysctl, mend): (&str, &str, &str)| {
        let value = *seen.sysctls.get(sysctl)?;
        Some(if value == 0 {
            Check::advice(name, "off", mend).costs(
                "instances reach neither other networks nor the outside, and published ports lead nowhere",
            )
        } else {
            Check::good(name, "on")
        })
    };
    families.into_iter().filter_map(judge).collect()
}

fn ports(seen: &Seen) -> Vec<Check> {
    let on = |port: &str| -> Vec<&Listener> {
        seen.listeners.iter().filter(|l| l.socket.rsplit(':').next() == Some(port)).collect()
    };
    let name = |list: &[&Listener]| {
        let mut names: Vec<String> = list.iter().map(|l| format!("{} on {}", l.program, l.socket)).collect();
        names.sort();
        names.dedup();
        names.join(", ")
    };
    let (dns, dhcp) = (on("53"), on("67"));
    let dns = if dns.is_empty() {
        Check::good("port 53", "free for DNS on the networks' gateways")
    } else {
        Check::bad(
            "port 53",
            name(&dns),
            "let it listen on addresses of its own: unbound: `interface: 127.0.0.1`; named: `listen-on { 127.0.0.1; };`",
        )
        .costs("Warren serves names on each network's gateway address, which a program on every address takes: networks do not come up")
    };
    let dhcp = if dhcp.is_empty() {
        Check::good("port 67", "no other DHCP server")
    } else {
        Check::advice("port 67", name(&dhcp), "bind it to its own interfaces: sysrc dhcpd_ifaces=\"em0\"")
            .costs("Warren's own DHCP needs no port, but that server would answer instances, too, on gateways it listens on")
    };
    vec![dns, dhcp]
}

fn devfs(seen: &Seen) -> Vec<Check> {
    let jails = if seen.rulesets.iter().any(|(number, _)| *number == 4) {
        Check::good("devfs ruleset", "4 (devfsrules_jail), the default for instances")
    } else {
        Check::bad("devfs ruleset", "4 (devfsrules_jail) is not loaded", "service devfs restart")
            .costs("an instance with devfs does not start, as it would see every device of the host")
    };
    let showing: Vec<String> =
        seen.rulesets.iter().filter(|(_, bpf)| *bpf).map(|(number, _)| number.to_string()).collect();
    let dhcp = if showing.is_empty() {
        Check::advice(
            "devfs with bpf",
            "no ruleset shows bpf",
            "/etc/devfs.rules: [warren_dhcp=77] add include $devfsrules_jail; add path 'bpf*' unhide; then service devfs restart, and devfs_ruleset = 77",
        )
        .costs("only `address = \"dhcp\"`: a DHCP client in an instance needs bpf")
    } else {
        Check::good("devfs with bpf", format!("ruleset {}, for `address = \"dhcp\"`", showing.join(", ")))
    };
    vec![jails, dhcp]
}

fn zfs(seen: &Seen) -> Check {
    if seen.pools == 0 {
        Check::advice("zfs", "no pool", "templates may be directories; with `zfs = \"pool/path@snapshot\"` an instance costs nothing to make")
            .costs("an instance of a directory has copies of /etc and /var, and /usr read-only")
    } else {
        Check::good("zfs", format!("{} pool(s)", seen.pools))
    }
}

/// The sysctls that [`judge`] looks at.
pub fn sysctls() -> impl Iterator<Item = &'static str> {
    let forwarding = ["net.inet.ip.forwarding", "net.inet6.ip6.forwarding"];
    forwarding.into_iter().chain(numbers::sysctls())
}

/// The modules that [`judge`] asks for.
#[must_use]
pub fn modules_needed() -> &'static [&'static str] {
    &NEEDED
}

/// Reads `sockstat -46l -p 53,67`: who listens there on every address.
#[must_use]
pub fn listeners(text: &str) -> Vec<Listener> {
    let mut found = Vec::new();
    for line in text.lines() {
        // USER COMMAND PID FD PROTO LOCAL FOREIGN; a command may have blanks, so the fields are counted from the end.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [user_and_command @ .., pid, _fd, proto, local, _foreign] = words.as_slice() else { continue };
        let [_user, command @ ..] = user_and_command else { continue };
        if local.starts_with("*:") && pid.bytes().all(|b| b.is_ascii_digit()) {
            let socket = format!("{proto} {local}");
            found.push(Listener { socket, program: format!("{} ({pid})", command.join(" ")) });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Seen {
        let mut sysctls: std::collections::BTreeMap<String, i64> =
            ["net.inet.ip.forwarding", "net.inet6.ip6.forwarding"].map(|n| (n.to_owned(), 1)).into();
        sysctls.extend(numbers::fitting().map(|(name, value)| (name.to_owned(), value)));
        Seen {
            root: true,
            release: "13.2-RELEASE".into(),
            vimage: true,
            modules: NEEDED.map(str::to_owned).to_vec(),
            sysctls,
            rulesets: vec![(4, false), (77, true)],
            pools: 1,
            limits: limits(
                "states        hard limit   100000\ntable-entries hard limit   200000\nanchors hard limit 512\n",
            ),
            ..Seen::default()
        }
    }

    fn level(seen: &Seen, name: &str) -> Level {
        judge(seen).into_iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name}")).level
    }

    #[test]
    fn a_machine_that_is_as_it_should_be_gets_no_advice() {
        let checks = judge(&fine());
        assert!(checks.iter().all(|c| c.level == Level::Good && c.mend.is_none()), "{checks:#?}");
    }

    #[test]
    fn whatever_is_not_good_says_what_it_costs_or_what_mends_it() {
        let mut seen =
            Seen { pf: Some(("pf is not loaded".into(), Some("start it".into()))), ..Seen::default() };
        seen.sysctls = fine().sysctls.into_keys().map(|name| (name, 0)).collect();
        for name in ["net.pf.states_hashsize", "net.pf.source_nodes_hashsize", "net.inet.tcp.tcbhashsize"] {
            seen.sysctls.insert(name.into(), 1 << 20);
        }
        seen.listeners = listeners("unbound local-unbound 812 3 udp4 *:53 *:*\nroot dhcpd 9 1 udp4 *:67 *:*");
        seen.jailed = Some(0);
        seen.limits = fine().limits.into_keys().map(|name| (name, 1)).collect();
        let checks = judge(&seen);
        assert!(checks.iter().all(|c| c.level != Level::Good && c.mend.is_some()), "{checks:#?}");
    }

    #[test]
    fn each_of_them_is_told_apart() {
        let with = |change: &dyn Fn(&mut Seen)| {
            let mut seen = fine();
            change(&mut seen);
            seen
        };
        assert_eq!(level(&with(&|s| s.vimage = false), "vnet"), Level::Bad);
        assert_eq!(level(&with(&|s| drop(s.modules.pop())), "modules"), Level::Bad);
        let loadable = with(&|s| s.loadable = s.modules.pop().into_iter().collect());
        assert_eq!(level(&loadable, "modules"), Level::Advice);
        assert_eq!(level(&with(&|s| s.rulesets.clear()), "devfs ruleset"), Level::Bad);
        assert_eq!(level(&with(&|s| s.rulesets.truncate(1)), "devfs with bpf"), Level::Advice);
        assert_eq!(level(&with(&|s| s.pools = 0), "zfs"), Level::Advice);
        assert_eq!(level(&with(&|s| s.jailed = Some(0)), "jail"), Level::Bad);
        assert_eq!(level(&with(&|s| s.jailed = Some(9)), "jail"), Level::Advice);
        assert_eq!(
            level(&with(&|s| s.limits.extend([("anchors".to_owned(), 64)])), "pf limit anchors"),
            Level::Advice
        );
        let unforwarded = with(&|s| s.sysctls.extend([("net.inet.ip.forwarding".to_owned(), 0)]));
        assert_eq!(level(&unforwarded, "IPv4 forwarding"), Level::Advice);
        // What a kernel does not have is not asked of it.
        let none = with(&|s| s.sysctls.clear());
        assert!(judge(&none).iter().all(|c| !c.name.starts_with("net.")));
    }

    #[test]
    fn only_those_that_listen_on_every_address_are_in_the_way() {
        let text = "USER     COMMAND    PID   FD  PROTO  LOCAL ADDRESS         FOREIGN ADDRESS\n\
                    unbound  local-unbo 812   3   udp4   127.0.0.1:53          *:*\n\
                    root     my server  900   5   tcp46  *:53                  *:*\n\
                    ?        ?          ?     ?   udp4   *:67                  *:*\n";
        let found = listeners(text);
        assert_eq!(found, [Listener { socket: "tcp46 *:53".into(), program: "my server (900)".into() }]);
        let seen = Seen { listeners: found, ..fine() };
        assert_eq!((level(&seen, "port 53"), level(&seen, "port 67")), (Level::Bad, Level::Good));
    }
}
