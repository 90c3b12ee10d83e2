//! What changes from one spec to another, and what that means for what runs: nothing, a new rule, or new instances.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::spec::{AddressMode, FabricSpec, InstanceSpec, NetworkSpec, ServiceSpec};

/// All changes from one spec to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys of the fabric itself that changed: `domain`, `forward`, `templates`.
    pub fabric: Vec<&'static str>,
    /// The networks that changed, by name.
    pub networks: BTreeMap<String, Change>,
    /// The services that changed, by name.
    pub services: BTreeMap<String, ServiceChange>,
}

/// What happened to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another one.
    Changed {
        /// Keys whose change needs the fabric taken down, for instances are linked to it as it is: `ipv4`, `mtu`.
        rebuild: Vec<&'static str>,
        /// Keys whose change is applied while everything runs: `nat`, `peers`.
        live: Vec<&'static str>,
    },
}

/// What happened to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceChange {
    /// It is new, with so many replicas.
    Added {
        /// How many.
        replicas: u32,
    },
    /// It is gone, with so many replicas.
    Removed {
        /// How many.
        replicas: u32,
    },
    /// It is another one.
    Changed {
        /// Reasons for which its instances must be replaced: `command`, ``network `shop` ``. Empty: they stay.
        replace: Vec<String>,
        /// Keys whose change is applied to instances as they are: `publish`, `health`.
        policy: Vec<&'static str>,
        /// The number of replicas before and after, if it changed.
        replicas: Option<(u32, u32)>,
    },
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fabric.is_empty() && self.networks.is_empty() && self.services.is_empty()
    }

    /// One sentence for each change, for people: networks first, as they are made first.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        if !self.fabric.is_empty() {
            said.push(format!("the fabric's {} changed", and(&self.fabric)));
        }
        if self.fabric.contains(&"domain") {
            said.push(
                "another domain needs the fabric taken down first: it is refused while it is up".into(),
            );
        }
        for (name, change) in &self.networks {
            match change {
                Change::Added => said.push(format!("network `{name}` is added")),
                Change::Removed => said.push(format!("network `{name}` is removed")),
                Change::Changed { rebuild, live } => {
                    if !rebuild.is_empty() {
                        said.push(format!("network `{name}`: {} changed, which is refused while the fabric is up: take it down first", and(rebuild)));
                    }
                    if !live.is_empty() {
                        said.push(format!(
                            "network `{name}`: {} changed, without an interruption",
                            and(live)
                        ));
                    }
                }
            }
        }
        for (name, change) in &self.services {
            match change {
                ServiceChange::Added { replicas } => {
                    said.push(format!("service `{name}` is added: {}", instances(*replicas)))
                }
                ServiceChange::Removed { replicas } => {
                    said.push(format!("service `{name}` is removed: {}", instances(*replicas)))
                }
                ServiceChange::Changed { replace, policy, replicas } => {
                    if let Some((from, to)) = replicas {
                        said.push(format!("service `{name}`: {} instead of {from}", instances(*to)));
                    }
                    if !replace.is_empty() {
                        said.push(format!(
                            "service `{name}`: its instances are replaced: {} changed",
                            and(replace)
                        ));
                    }
                    if !policy.is_empty() {
                        said.push(format!("service `{name}`: {} changed, its instances stay", and(policy)));
                    }
                }
            }
        }
        said
    }
}

fn instances(count: u32) -> String {
    if count == 1 { "1 instance".into() } else { format!("{count} instances") }
}

fn and<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).into(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Names of the fields that differ, in the file's terms. The destructuring makes a new field of the spec an error here,
/// so that none can be forgotten.
macro_rules! differing {
    ($type:ident, $old:expr, $new:expr, { $($field:ident => $key:literal),* $(,)? }, ignore { $($skip:ident),* $(,)? }) => {{
        #[allow(unused_variables)]
        let $type { $($field,)* $($skip: _,)* } = $old;
        let mut keys: Vec<&'static str> = Vec::new();
        $(if *$field != $new.$field && !keys.contains(&$key) { keys.push($key); })*
        keys
    }};
}

/// The changes from `old` to `new`.
#[must_use]
pub fn diff(old: &FabricSpec, new: &FabricSpec) -> Changes {
    let mut changes = Changes {
        fabric: differing!(FabricSpec, old, new,
            { name => "name", domain => "domain", forward => "forward", templates => "templates" },
            ignore { networks, services, origin }),
        ..Changes::default()
    };
    for name in old.networks.keys().chain(new.networks.keys()).collect::<BTreeSet<_>>() {
        let change = match (old.networks.get(name), new.networks.get(name)) {
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Removed,
            (Some(old), Some(new)) => match network(old, new) {
                Some(change) => change,
                None => continue,
            },
            (None, None) => continue,
        };
        changes.networks.insert(name.clone(), change);
    }
    // Names and addresses of the zone are written into every instance: hosts, resolv.conf.
    let renamed: Vec<&str> =
        changes.fabric.iter().copied().filter(|key| matches!(*key, "name" | "domain")).collect();
    for name in old.services.keys().chain(new.services.keys()).collect::<BTreeSet<_>>() {
        let change = match (old.services.get(name), new.services.get(name)) {
            (None, Some(new)) => ServiceChange::Added { replicas: new.replicas },
            (Some(old), None) => ServiceChange::Removed { replicas: old.replicas },
            (Some(old), Some(new)) => match service(old, new, &renamed, &changes.networks) {
                Some(change) => change,
                None => continue,
            },
            (None, None) => continue,
        };
        changes.services.insert(name.clone(), change);
    }
    changes
}

fn network(old: &NetworkSpec, new: &NetworkSpec) -> Option<Change> {
    let rebuild = rewired(old, new);
    let live = differing!(NetworkSpec, old, new,
        { nat => "nat", isolated => "isolated", peers => "peers", quarantine => "quarantine", exclude => "exclude" },
        ignore { name, ipv4, ipv6, gateway4, gateway6, dhcp4, lan_dhcp, mtu, uplink });
    (!rebuild.is_empty() || !live.is_empty()).then_some(Change::Changed { rebuild, live })
}

/// Keys of a network that cannot change while it is in use.
pub(crate) fn rewired(old: &NetworkSpec, new: &NetworkSpec) -> Vec<&'static str> {
    differing!(NetworkSpec, old, new,
        { ipv4 => "ipv4", ipv6 => "ipv6", gateway4 => "gateway", gateway6 => "gateway", dhcp4 => "dhcp", lan_dhcp => "dhcp",
          mtu => "mtu", uplink => "uplink" },
        ignore { name, nat, isolated, peers, quarantine, exclude })
}

fn service(
    old: &ServiceSpec,
    new: &ServiceSpec,
    renamed: &[&str],
    networks: &BTreeMap<String, Change>,
) -> Option<ServiceChange> {
    let mut policy = differing!(ServiceSpec, old, new,
        { depends_on => "depends_on", publish => "publish", ports => "ports", restart => "restart", health => "health" },
        ignore { name, replicas, instance });
    let mut replace: Vec<String> = instance(&old.instance, &new.instance, old.replicas.min(new.replicas))
        .into_iter()
        .map(str::to_owned)
        .collect();
    if old.instance.links != new.instance.links && !replace.iter().any(|why| why == "networks") {
        policy.push("address");
    }
    if !new.instance.links.is_empty() {
        replace.extend(renamed.iter().map(|key| format!("the fabric's {key}")));
    }
    for link in &new.instance.links {
        if matches!(networks.get(&link.network), Some(Change::Changed { rebuild, .. }) if !rebuild.is_empty())
        {
            replace.push(format!("network `{}`", link.network));
        }
    }
    let replicas = (old.replicas != new.replicas).then_some((old.replicas, new.replicas));
    let same = replace.is_empty() && policy.is_empty() && replicas.is_none();
    (!same).then_some(ServiceChange::Changed { replace, policy, replicas })
}

/// What of an instance changed. Everything in it is stored with the instance until it is gone, so every change needs a
/// new one; but a longer list of fixed addresses does not touch those who have theirs.
fn instance(old: &InstanceSpec, new: &InstanceSpec, staying: u32) -> Vec<&'static str> {
    let mut keys = differing!(InstanceSpec, old, new, {
        template => "template", command => "command", env => "env", mounts => "mounts", datasets => "zfs.dataset",
        hooks => "hooks", params => "jail", hostname => "host.hostname", exec_timeout => "exec.timeout",
        stop_timeout => "stop.timeout", drain => "drain", jail_user => "exec.jail_user",
        system_jail_user => "exec.system_jail_user", system_user => "exec.system_user", clean_env => "exec.clean",
        fib => "exec.fib", consolelog => "exec.consolelog", persist => "persist",
        on_stop_failure => "on_stop_failure", classic => "name",
    }, ignore { links });
    let same_link = |(old, new): (&super::spec::LinkSpec, &super::spec::LinkSpec)| {
        old.network == new.network
            && old.vnet == new.vnet
            && same_addresses(&old.address, &new.address, staying)
    };
    if old.links.len() != new.links.len() || !old.links.iter().zip(&new.links).all(same_link) {
        keys.push("networks");
    }
    keys
}

/// Whether the first `staying` replicas keep their addresses.
fn same_addresses(old: &AddressMode, new: &AddressMode, staying: u32) -> bool {
    let (AddressMode::Fixed { addresses: old }, AddressMode::Fixed { addresses: new }) = (old, new) else {
        return old == new;
    };
    let most = usize::try_from(staying).unwrap_or(usize::MAX);
    let of = |list: &[IpAddr], v6: bool| -> Vec<IpAddr> {
        list.iter().copied().filter(|address| address.is_ipv6() == v6).take(most).collect()
    };
    [false, true].into_iter().all(|v6| of(old, v6) == of(new, v6))
}
