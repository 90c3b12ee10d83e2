//! What an instance, a host and a zone are called: the one place that decides which records exist.
//!
//! Pure: the same value always gives the same records, so removing an instance is computing what was added.

use std::net::IpAddr;

use super::ZoneConfig;
use super::reverse;
use super::types::{Instance, Proto};
use crate::name::{Name, NameError};
use crate::wire::{record, rtype, txt_rdata};

/// One record to insert or take out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) rtype: u16,
    pub(crate) key: u64,
    pub(crate) wire: Vec<u8>,
}

/// The records of one instance, in the two groups that come and go by themselves.
#[derive(Debug, Default)]
pub(crate) struct InstanceRecords {
    /// From the moment the instance is added: its own name, its host name, its metadata, its PTRs.
    pub(crate) own: Vec<Record>,
    /// While it is ready: its part in the service's name, SRV and service discovery.
    pub(crate) ready: Vec<Record>,
    /// The service types it offers (`_http._tcp.<zone>`), which are listed while anyone offers them.
    pub(crate) types: Vec<Name>,
}

/// Weight of every SRV record. They are all alike; not 0, which RFC 2782 keeps for "no choice to be made".
const SRV_WEIGHT: u16 = 1;

fn address_record(ttl: u32, address: IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(a) => (rtype::A, record(rtype::A, ttl, &a.octets())),
        IpAddr::V6(a) => (rtype::AAAA, record(rtype::AAAA, ttl, &a.octets())),
    }
}

fn srv_rdata(port: u16, target: &Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + target.wire().len());
    out.extend_from_slice(&0u16.to_be_bytes());
    out.extend_from_slice(&SRV_WEIGHT.to_be_bytes());
    out.extend_from_slice(&port.to_be_bytes());
    // RFC 2782: the target is not compressed.
    out.extend_from_slice(target.wire());
    out
}

/// The PTR of `address`, if the zone owns it.
fn ptr(zone: &ZoneConfig, address: IpAddr, key: u64, target: &Name) -> Result<Option<Record>, NameError> {
    if !zone.reverse.iter().any(|prefix| prefix.contains(&address)) {
        return Ok(None);
    }
    let wire = record(rtype::PTR, zone.ttl, target.wire());
    Ok(Some(Record { name: reverse::ptr_name(address)?, rtype: rtype::PTR, key, wire }))
}

fn labels(proto: Proto, port: &str) -> (String, &'static str) {
    (format!("_{port}"), proto.label())
}

/// Everything `instance` is known by. `seq` is unique to this addition of it.
pub(crate) fn instance(
    zone: &ZoneConfig,
    origin: &Name,
    seq: u64,
    instance: &Instance,
) -> Result<InstanceRecords, NameError> {
    let ttl = zone.ttl;
    let key = seq << 16;
    let service = origin.child(&instance.service)?;
    let own_name = service.child(&instance.id)?;
    // The host name: a DHCP client is told it with the origin as its domain, and it asks for what it is called.
    let label = instance.label();
    let host_name = origin.child(&label)?;
    let mut out = InstanceRecords::default();

    let v4 = instance.v4.iter().copied().map(IpAddr::V4);
    let v6 = instance.v6.iter().copied().map(IpAddr::V6);
    for (key, address) in (key..).zip(v4.chain(v6)) {
        let (rtype, wire) = address_record(ttl, address);
        for name in [&own_name, &host_name] {
            out.own.push(Record { name: name.clone(), rtype, key, wire: wire.clone() });
        }
        out.ready.push(Record { name: service.clone(), rtype, key, wire });
        out.own.extend(ptr(zone, address, key, &own_name)?);
    }
    let txt = record(rtype::TXT, ttl, &txt_rdata(&instance.txt));
    if !instance.txt.is_empty() {
        out.own.push(Record { name: own_name.clone(), rtype: rtype::TXT, key, wire: txt.clone() });
    }

    for (key, port) in (key..).zip(&instance.ports) {
        crate::name::check_port_name(&port.name)?;
        let (port_label, proto) = labels(port.proto, &port.name);
        let srv = record(rtype::SRV, ttl, &srv_rdata(port.port, &own_name));
        let name = service.join_below(&[&port_label, proto])?;
        out.ready.push(Record { name, rtype: rtype::SRV, key, wire: srv.clone() });

        // RFC 6763: _http._tcp.<zone> PTR <service>-<id>._http._tcp.<zone>, which has SRV and TXT.
        let kind = origin.join_below(&[&port_label, proto])?;
        let entry = kind.join_below(&[&label])?;
        let to_entry = record(rtype::PTR, ttl, entry.wire());
        out.ready.push(Record { name: kind.clone(), rtype: rtype::PTR, key, wire: to_entry });
        out.ready.push(Record { name: entry.clone(), rtype: rtype::SRV, key, wire: srv });
        out.ready.push(Record { name: entry, rtype: rtype::TXT, key, wire: txt.clone() });
        out.types.push(kind);
    }
    Ok(out)
}

/// The name under which the zone's service types are listed (RFC 6763 section 9).
pub(crate) fn service_types(origin: &Name) -> Result<Name, NameError> {
    origin.join_below(&["_services", "_dns-sd", "_udp"])
}

/// The record that lists `kind`.
pub(crate) fn service_type(
    zone: &ZoneConfig,
    origin: &Name,
    kind: &Name,
    key: u64,
) -> Result<Record, NameError> {
    let wire = record(rtype::PTR, zone.ttl, kind.wire());
    Ok(Record { name: service_types(origin)?, rtype: rtype::PTR, key, wire })
}

/// An alias.
pub(crate) fn alias(zone: &ZoneConfig, alias: &Name, target: &Name) -> Record {
    let wire = record(rtype::CNAME, zone.ttl, target.wire());
    Record { name: alias.clone(), rtype: rtype::CNAME, key: 0, wire }
}

/// What belongs to the zone itself: NS at every apex, its hosts and their PTRs, the browsing domains of
/// RFC 6763 section 11.
pub(crate) fn zone(zone: &ZoneConfig, origin: &Name, apexes: &[Name]) -> Result<Vec<Record>, NameError> {
    let mut out = Vec::new();
    let ns = record(rtype::NS, zone.ttl, origin.child(&zone.ns.label)?.wire());
    for apex in apexes {
        out.push(Record { name: apex.clone(), rtype: rtype::NS, key: 0, wire: ns.clone() });
    }
    let mut key = 0;
    for host in std::iter::once(&zone.ns).chain(&zone.hosts) {
        let name = origin.child(&host.label)?;
        for &address in &host.addresses {
            let (rtype, wire) = address_record(zone.ttl, address);
            out.push(Record { name: name.clone(), rtype, key, wire });
            out.extend(ptr(zone, address, key, &name)?);
            key += 1;
        }
    }
    for browse in ["b", "lb"] {
        let name = origin.join_below(&[browse, "_dns-sd", "_udp"])?;
        let wire = record(rtype::PTR, zone.ttl, origin.wire());
        out.push(Record { name, rtype: rtype::PTR, key: 0, wire });
    }
    Ok(out)
}

/// A SOA record (RFC 1035 section 3.3.13), and where in it the serial is. Its TTL and its MINIMUM are both the
/// negative TTL, so that every reading of RFC 2308 section 5 gives the same number.
pub(crate) fn soa(zone: &ZoneConfig, origin: &Name) -> Result<(Vec<u8>, usize), NameError> {
    let mut rdata = origin.child(&zone.ns.label)?.wire().to_vec();
    rdata.extend_from_slice(origin.child("hostmaster")?.wire());
    let serial_at = rdata.len();
    // Nobody transfers this zone; refresh, retry and expire are RFC 1912's in kind.
    for field in [0, 3600, 600, 86_400, zone.negative_ttl] {
        rdata.extend_from_slice(&u32::to_be_bytes(field));
    }
    Ok((record(rtype::SOA, zone.negative_ttl, &rdata), crate::wire::RR_HEAD + serial_at))
}
