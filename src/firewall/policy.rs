//! What the packet filter is to do for one network: the value from which pf text and nftables are made.
//!
//! Rules are a pure function of this value; which instance is behind a rule is decided by membership in tables alone, so
//! that a join or leave changes a table and nothing else.
//!
//! # What is decided
//!
//! In this order; the first that fits counts.
//!
//! 1. The user's own rules come first (pf: the child anchor `<anchor>/user`).
//! 2. Instances reach the [resolvers](Policy::resolvers) on port 53, whatever follows.
//! 3. Nothing passes between the network and a [forbidden](Policy::forbidden) prefix, in either direction. That covers
//!    the host's own addresses there, and published ports too: isolated is isolated.
//! 4. A published port of the host leads to the ready members of its service in turn: from the outside, from other
//!    networks and from instances of the same network (their source is then the gateway). With no member the port
//!    refuses: TCP reset, or ICMP port unreachable.
//! 5. Behind NAT, nothing else enters from the outside.
//! 6. Instances may open whatever they like: to the host, as with other container managers, to other networks, and to
//!    the outside, there under the host's address if [`nat`](Policy::nat) is set.
//! 7. The host reaches every instance.
//!
//! Instances of one network talk through the bridge, past the packet filter. DHCP is answered on the bridge, too.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::spec::Publish;

/// The policy of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The anchor: `warren/<network id>`; at most 64 bytes per component.
    pub anchor: String,
    /// The network's name, for comments and labels.
    pub network: String,
    /// The interface of the host on the network: `g<id>`.
    pub gateway: String,
    /// The network's own prefixes.
    pub prefixes: Vec<IpNet>,
    /// The DNS server's addresses: reachable from inside even when isolated.
    pub resolvers: Vec<std::net::IpAddr>,
    /// Whether traffic from the network to the outside is translated to the host's address.
    pub nat: bool,
    /// Whether traffic to and from other networks of Warren is dropped.
    pub isolated: bool,
    /// Prefixes of every other network of Warren that this one may not reach or be reached from. Symmetric: whoever is
    /// in this list has this network in its own. The rules go by this list alone; `isolated` is what it was made from.
    pub forbidden: Vec<IpNet>,
    /// The services with instances on the network, by name.
    pub services: Vec<ServicePolicy>,
}

/// The policy of one service on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePolicy {
    /// The service's name: labels are `warren:<service>`. At most [`MAX_SERVICE`] bytes.
    pub name: String,
    /// The table of its ready members: what published ports lead to. At most 31 bytes.
    pub table: String,
    /// Its published ports.
    pub publish: Vec<Publish>,
}

/// What every anchor's name starts with.
pub const ANCHOR_PREFIX: &str = "warren/";

/// The longest name of a service: a label of pf holds 63 bytes (`PF_RULE_LABEL_SIZE` 64) and ours starts with `warren:`.
pub const MAX_SERVICE: usize = 56;

/// A policy that no rules are made from: a name that could mean something to a packet filter's parser, or a value that
/// contradicts another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("firewall policy of network {network:?}: {what}")]
pub struct BadPolicy {
    /// The network's name, as given.
    pub network: String,
    /// What is wrong.
    pub what: String,
}

/// An address family, for rules that must name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inet {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Inet {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As pf writes it.
    #[must_use]
    pub fn pf(self) -> &'static str {
        match self {
            Self::V4 => "inet",
            Self::V6 => "inet6",
        }
    }
}

/// One published port in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port<'a> {
    /// Whose it is.
    pub service: &'a ServicePolicy,
    /// The port.
    pub publish: &'a Publish,
    /// The family.
    pub inet: Inet,
}

impl Policy {
    /// Says whether rules can be made from this value. Every maker of rules asks first: the value may come from a journal,
    /// and one stray quote in a name would be a line of pf.conf.
    pub fn check(&self) -> Result<(), BadPolicy> {
        self.fault().map_or(Ok(()), |what| Err(BadPolicy { network: self.network.clone(), what }))
    }

    fn fault(&self) -> Option<String> {
        if !is_anchor(&self.anchor) {
            return Some(format!(
                "the anchor {:?} is not \"warren/\", a letter, and up to 47 of a-z, 0-9, - and _",
                self.anchor
            ));
        }
        if !is_word(&self.network, 63, b"-_") {
            return Some("the network's name may hold only a-z, 0-9, - and _".into());
        }
        if !is_interface(&self.gateway) {
            return Some(format!("{:?} is no name of an interface", self.gateway));
        }
        for prefix in self.prefixes.iter().chain(&self.forbidden) {
            if prefix.prefix_len() == 0 {
                return Some(format!("{prefix} is everything, not a network"));
            }
        }
        let (mut tables, mut names, mut ports) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for service in &self.services {
            if !is_word(&service.name, MAX_SERVICE, b"-_") {
                return Some(format!(
                    "the service's name {:?} is not 1 to {MAX_SERVICE} of a-z, 0-9, - and _",
                    service.name
                ));
            }
            if !is_table(&service.table) {
                return Some(format!(
                    "the table {:?} is not a letter and up to 30 of a-z, 0-9, - and _",
                    service.table
                ));
            }
            if !tables.insert(&service.table) || !names.insert(&service.name) {
                return Some(format!("service {:?} or its table is there twice", service.name));
            }
            for publish in &service.publish {
                if publish.port == 0 || publish.target == 0 {
                    return Some(format!("service {:?} publishes port 0", service.name));
                }
                if publish.address.is_some_and(|a| !self.families().contains(&Inet::of(a))) {
                    return Some(format!(
                        "service {:?} publishes at an address of a family the network has not",
                        service.name
                    ));
                }
                let key = (publish.address, publish.port, publish.proto);
                if ports.contains(&key) {
                    return Some(format!("port {} is published twice", publish.port));
                }
                ports.push(key);
            }
        }
        None
    }

    /// The anchor's last component: the network's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.anchor.strip_prefix(ANCHOR_PREFIX).unwrap_or(&self.anchor)
    }

    /// The families the network has, IPv4 first.
    #[must_use]
    pub fn families(&self) -> Vec<Inet> {
        let found: BTreeSet<_> = self.prefixes.iter().map(|p| Inet::of(p.addr())).collect();
        found.into_iter().collect()
    }

    /// Every published port, once for each family it is published in. Those bound to an address come first, because they
    /// are the more exact ones and the first rule that fits counts.
    pub fn ports(&self) -> impl Iterator<Item = Port<'_>> {
        let families = self.families();
        let all = move |bound: bool| {
            let families = families.clone();
            self.services.iter().flat_map(move |service| {
                let families = families.clone();
                service.publish.iter().filter(move |p| p.address.is_some() == bound).flat_map(
                    move |publish| {
                        let fits = move |inet: &Inet| publish.address.is_none_or(|a| Inet::of(a) == *inet);
                        let families: Vec<_> = families.iter().copied().filter(fits).collect();
                        families.into_iter().map(move |inet| Port { service, publish, inet })
                    },
                )
            })
        };
        all(true).chain(all(false))
    }
}

/// Whether a name is an anchor of ours: `warren/` and a network's id.
#[must_use]
pub fn is_anchor(name: &str) -> bool {
    let id = name.strip_prefix(ANCHOR_PREFIX).unwrap_or_default();
    is_word(id, 48, b"-_") && id.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Whether a name may be a table of members. `PF_TABLE_NAME_SIZE` is 32 with the final NUL.
#[must_use]
pub fn is_table(name: &str) -> bool {
    is_word(name, 31, b"-_") && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Whether a name may be an interface. 15 bytes; a dot and upper case occur in names of real ones.
#[must_use]
pub fn is_interface(name: &str) -> bool {
    name.len() <= 15
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
}

fn is_word(text: &str, longest: usize, extra: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || extra.contains(&b))
        && !text.starts_with('-')
}

/// Policies for the tests of this module's neighbours.
#[cfg(test)]
pub mod samples {
    use super::*;
    use crate::config::spec::Proto;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|p| p.parse().unwrap()).collect()
    }

    /// A published port; `at` is empty for every address.
    pub fn publish(at: &str, port: u16, target: u16, proto: Proto) -> Publish {
        Publish { address: (!at.is_empty()).then(|| at.parse().unwrap()), port, target, proto }
    }

    /// A service.
    pub fn service(name: &str, publish: Vec<Publish>) -> ServicePolicy {
        ServicePolicy { name: name.into(), table: format!("svc_{name}"), publish }
    }

    /// A network that does nothing but NAT.
    pub fn nat() -> Policy {
        Policy {
            anchor: "warren/k3f9q2ab".into(),
            network: "front".into(),
            gateway: "gk3f9q2ab".into(),
            prefixes: nets(&["10.9.0.0/24"]),
            resolvers: vec!["10.9.0.1".parse().unwrap()],
            nat: true,
            isolated: false,
            forbidden: vec![],
            services: vec![],
        }
    }

    /// Every golden case by name.
    pub fn all() -> Vec<(&'static str, Policy)> {
        let services = vec![
            service(
                "web",
                vec![publish("", 8080, 80, Proto::Tcp), publish("192.0.2.1", 8443, 443, Proto::Tcp)],
            ),
            service("dns", vec![publish("", 5353, 53, Proto::Udp)]),
        ];
        let published = Policy { services: services.clone(), ..nat() };
        let isolated =
            Policy { nat: false, isolated: true, forbidden: nets(&["10.8.0.0/24", "10.7.0.0/16"]), ..nat() };
        let v6 = Policy {
            prefixes: nets(&["fd00:9::/64"]),
            resolvers: vec!["fd00:9::1".parse().unwrap()],
            services: vec![service("web", vec![publish("", 8080, 80, Proto::Tcp)])],
            ..nat()
        };
        let both = Policy {
            prefixes: nets(&["10.9.0.0/24", "fd00:9::/64"]),
            resolvers: vec!["10.9.0.1".parse().unwrap(), "fd00:9::1".parse().unwrap()],
            isolated: true,
            forbidden: nets(&["10.8.0.0/24", "fd00:8::/64"]),
            services,
            ..nat()
        };
        vec![("nat", nat()), ("published", published), ("isolated", isolated), ("v6", v6), ("all", both)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::Proto;

    #[test]
    fn the_samples_are_good() {
        for (name, policy) in samples::all() {
            assert_eq!(policy.check(), Ok(()), "{name}");
        }
    }

    #[test]
    fn contradictions_are_found() {
        let bad = |change: fn(&mut Policy)| {
            let mut policy = samples::all().remove(1).1;
            change(&mut policy);
            policy.check().unwrap_err().to_string()
        };
        assert!(bad(|p| p.anchor = "warren/a/b".into()).contains("anchor"));
        assert!(bad(|p| p.anchor = "other/a".into()).contains("anchor"));
        assert!(bad(|p| p.gateway = "g 0".into()).contains("interface"));
        assert!(bad(|p| p.prefixes = vec!["0.0.0.0/0".parse().unwrap()]).contains("everything"));
        assert!(bad(|p| p.services[0].table = "_x".into()).contains("table"));
        assert!(bad(|p| p.services[1].table = "svc_web".into()).contains("twice"));
        assert!(bad(|p| p.services[0].name = "a".repeat(57)).contains("name"));
        assert!(bad(|p| p.services[0].publish[0].port = 0).contains("port 0"));
        assert!(
            bad(|p| p.services[1].publish[0] = samples::publish("", 8080, 1, Proto::Tcp)).contains("twice")
        );
        assert!(bad(|p| p.services[0].publish[0].address = Some("::1".parse().unwrap())).contains("family"));
    }
}
