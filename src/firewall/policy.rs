//! What the packet filter is to do for one network: the value from which pf text and nftables are made.
//!
//! Rules are a pure function of this value; which instance is behind a rule is decided by membership in tables alone, so
//! that a join or leave changes a table and nothing else.

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
    /// Prefixes of every other network of Warren that this one may not reach or be reached from.
    pub forbidden: Vec<IpNet>,
    /// The services with instances on the network, by name.
    pub services: Vec<ServicePolicy>,
}

/// The policy of one service on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePolicy {
    /// The service's name: labels are `warren:<service>`.
    pub name: String,
    /// The table of its ready members: what published ports lead to. At most 31 bytes.
    pub table: String,
    /// Its published ports.
    pub publish: Vec<Publish>,
}
