//! The raw tables of `warren.toml`: what may be written, before it is known whether it makes sense.
//!
//! The doc comments here are the descriptions in the JSON schema, so they speak to the user. The forms a value may take
//! are in [`forms`](super::forms).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::decode::{At, OneOrMany, table};
use super::forms::{
    AddressEntry, AddressRange, DhcpEntry, EnvValue, HttpEntry, MountEntry, NetworkEntry, Policy, PortEntry,
    PortRef, Prefix4, Prefix6, ProtoName, PublishEntry, RestartEntry, StopFailure, Wait,
};
use super::jail::JailTable;
use super::spec::CommandLine;

table! {
    /// A fabric: its networks, templates and services.
    RawFabric {
        /// The fabric's name, a DNS label.
        #[schemars(required)]
        name: String,
        /// The DNS zone of the fabric. Default: `<name>.internal`.
        domain: String,
        /// Resolvers for names outside the zone. Default: none, such names are refused.
        forward: Vec<At<IpAddr>>,
        /// The networks by name.
        networks: BTreeMap<String, At<RawNetwork>>,
        /// The templates by name.
        templates: BTreeMap<String, At<RawTemplate>>,
        /// The services by name.
        services: BTreeMap<String, At<RawService>>,
    }
}

table! {
    /// A network: a bridge with a gateway, a DHCP server and DNS. It has IPv4, IPv6 or both.
    RawNetwork {
        /// The IPv4 prefix, /8 to /29.
        ipv4: Prefix4,
        /// The IPv6 prefix, /32 to /120.
        ipv6: Prefix6,
        /// The host's address on the network; one, or one of each family. Default: the first of each prefix; with an uplink none.
        gateway: OneOrMany<IpAddr>,
        /// The DHCP server's own address, or "lan": the DHCP server beyond the uplink gives the addresses. Default: the second of the
        /// IPv4 prefix; with an uplink none.
        dhcp: DhcpEntry,
        /// Addresses that are never given out.
        exclude: Vec<At<AddressRange>>,
        /// Whether instances reach the outside through the host's address. Default: false.
        nat: bool,
        /// Bytes in a packet, 576 (1280 with IPv6) to 9000. Default: 1500.
        mtu: u16,
        /// Whether packets to and from other networks are dropped. Default: false.
        isolated: bool,
        /// Networks that may be reached although this one or they are isolated.
        peers: Vec<At<String>>,
        /// An interface of the host that is bridged into the network.
        uplink: String,
        /// How long a released address is not given out again. Default: 30s.
        quarantine: Wait,
    }
}

table! {
    /// A template: where the root of an instance comes from. Exactly one of zfs, directory, shared and host.
    RawTemplate {
        /// A ZFS snapshot, `pool/path@snapshot`: one clone per instance.
        zfs: String,
        /// An absolute path: read-only below a writable layer per instance.
        directory: String,
        /// An absolute path: used as it is by every instance.
        shared: String,
        /// The root of the host itself, read-only below a writable layer per instance.
        host: bool,
        /// jail(8) parameters of every instance of the template; a service may override them.
        jail: JailTable,
    }
}

table! {
    /// A service: so many replicas of one template.
    RawService {
        /// The template's name.
        #[schemars(required)]
        template: String,
        /// How many instances are wanted. Default: 1.
        replicas: u16,
        /// The networks of every instance; the first has the default route. Default: none.
        networks: Vec<At<NetworkEntry>>,
        /// How addresses are chosen on the networks that do not say it themselves. Default: "auto".
        address: AddressEntry,
        /// Ports of the host that lead to the service.
        publish: Vec<At<PublishEntry>>,
        /// Named ports, for SRV records, DNS-SD and health checks.
        ports: BTreeMap<String, At<OneOrMany<PortEntry>>>,
        /// Services that must be ready before an instance of this one starts.
        depends_on: Vec<At<String>>,
        /// When an instance that ended is replaced. Default: "always".
        restart: RestartEntry,
        /// How an instance is known to be ready. Default: it is as soon as it runs.
        health: RawHealth,
        /// The main process: a string for a shell, or program and arguments.
        command: CommandLine,
        /// Environment of every command in the instance.
        env: BTreeMap<String, At<EnvValue>>,
        /// Mounts in the instance.
        mounts: Vec<At<MountEntry>>,
        /// How long established connections may go on after an instance left the service. Default: 5s.
        drain: Wait,
        /// What a failing exec.prestop or exec.stop does. Default: "continue".
        on_stop_failure: StopFailure,
        /// jail(8) parameters; each replaces that of the template.
        jail: JailTable,
    }
}

table! {
    /// A network of a service, with its own choice of address.
    RawLink {
        /// The network's name.
        #[schemars(required)]
        name: String,
        /// How addresses are chosen on this network.
        address: AddressEntry,
    }
}

table! {
    /// A published port.
    RawPublish {
        /// The address of the host. Default: every address of the outside.
        address: IpAddr,
        /// The port on the host.
        #[schemars(required, range(min = 1))]
        port: u16,
        /// The port in the instance. Default: the same.
        #[schemars(range(min = 1))]
        target: u16,
        /// The protocol. Default: "tcp".
        proto: ProtoName,
    }
}

table! {
    /// When and how soon an instance that ended is replaced.
    RawRestart {
        /// On which endings. Default: "always".
        policy: Policy,
        /// The wait before the first replacement; it doubles with each failure in a row. Default: 1s.
        backoff: Wait,
        /// The longest wait. Default: 1m.
        backoff_max: Wait,
        /// How many failures in a row end the trying. Default: no end.
        retries: u32,
    }
}

table! {
    /// A health check. Exactly one of tcp, http and command.
    RawHealth {
        /// A TCP connection to this port is accepted.
        tcp: PortRef,
        /// A GET is answered with a status from 200 to 399.
        http: HttpEntry,
        /// A command in the instance exits with 0.
        command: CommandLine,
        /// From the end of one probe to the next. Default: 2s.
        interval: Wait,
        /// After which a probe has failed. Default: 2s.
        timeout: Wait,
        /// So many failures in a row make a ready instance unready. Default: 3.
        failures: u32,
        /// How long an instance may take to become ready. Default: 1m.
        grace: Wait,
    }
}

table! {
    /// What is asked by HTTP.
    RawHttp {
        /// The port or its name.
        #[schemars(required)]
        port: PortRef,
        /// The path. Default: "/".
        path: String,
    }
}

table! {
    /// A mount in the instance.
    RawMount {
        /// The type of file system. Default: nullfs.
        fstype: String,
        /// What is mounted: a path of the host for nullfs. Not needed for tmpfs and the like.
        source: String,
        /// Where, as the instance sees it: absolute.
        #[schemars(required)]
        target: String,
        /// Options, as in fstab(5).
        options: Vec<At<String>>,
        /// Whether it is read-only. Default: false.
        read_only: bool,
    }
}
