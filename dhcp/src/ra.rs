//! Router advertisements (RFC 4861 §4.2) as a pure function: the frame, and nothing about when to send it.
//!
//! Addresses are assigned by the fabric, so the prefix is on-link without SLAAC by default, and M and O say whether a
//! DHCPv6 server is there.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::mac::Mac;
use crate::wire::{NameError, encode_name, finish_icmp6};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a router says of itself and its link. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterAdvert {
    /// The router's MAC.
    pub mac: Mac,
    /// The router's link-local address (RFC 4861 §6.1.2 has others ignored).
    pub source: Ipv6Addr,
    /// How long it is a default router; 0: it is none.
    pub router_lifetime: u16,
    /// M: addresses by DHCPv6.
    pub managed: bool,
    /// O: other settings by DHCPv6.
    pub other: bool,
    /// The link's MTU.
    pub mtu: u32,
    /// The on-link prefix.
    pub prefix: Ipv6Net,
    /// A: stations make addresses of their own in it (RFC 4862).
    pub autonomous: bool,
    /// How long the prefix is valid; half of it preferred.
    pub prefix_lifetime: u32,
    /// Name servers (RFC 8106 §5.1).
    pub dns: Vec<Ipv6Addr>,
    /// The search list (RFC 8106 §5.2).
    pub search: Vec<String>,
    /// How long both are valid.
    pub dns_lifetime: u32,
}

/// An advertisement that would be ignored or cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RaError {
    /// Not in fe80::/10.
    #[error("a router advertisement must come from a link-local address (fe80::/10), not {0}")]
    Source(Ipv6Addr),
    /// Not a domain name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An option's length counts eight octets in one octet.
    #[error("too many name servers or search domains for one router advertisement")]
    TooLong,
}

/// The frame to all nodes, or to one (the answer to its solicitation).
///
/// # Errors
/// [`RaError`].
pub fn build_router_advert(ra: &RouterAdvert, to: Option<(Mac, Ipv6Addr)>) -> Result<Vec<u8>, RaError> {
    if !ra.source.is_unicast_link_local() {
        return Err(RaError::Source(ra.source));
    }
    // Current hop limit 64; no reachable or retransmission time given.
    let flags = u8::from(ra.managed) << 7 | u8::from(ra.other) << 6;
    let mut m = vec![134, 0, 0, 0, 64, flags];
    m.extend(ra.router_lifetime.to_be_bytes());
    m.extend([0; 8]);
    option(&mut m, 1, &ra.mac.0)?;
    option(&mut m, 5, &[&[0, 0][..], &ra.mtu.to_be_bytes()].concat())?;
    let on_link = 0x80 | u8::from(ra.autonomous) << 6;
    let mut prefix = vec![ra.prefix.prefix_len(), on_link];
    prefix.extend(ra.prefix_lifetime.to_be_bytes());
    prefix.extend((ra.prefix_lifetime / 2).to_be_bytes());
    prefix.extend([0; 4]);
    prefix.extend(ra.prefix.network().octets());
    option(&mut m, 3, &prefix)?;
    let with_lifetime = || [&[0, 0][..], &ra.dns_lifetime.to_be_bytes()].concat();
    if !ra.dns.is_empty() {
        let mut value = with_lifetime();
        ra.dns.iter().for_each(|a| value.extend(a.octets()));
        option(&mut m, 25, &value)?;
    }
    if !ra.search.is_empty() {
        let mut value = with_lifetime();
        for name in &ra.search {
            // RFC 8106 §5.2: no compression.
            value.extend(encode_name(name)?);
        }
        option(&mut m, 31, &value)?;
    }
    let (dst_mac, dst) = to.unwrap_or((Mac([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES));
    Ok(finish_icmp6(dst_mac, ra.mac, ra.source, dst, m))
}

/// Type, length in units of eight octets, value, zeros up to the unit.
fn option(message: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<(), RaError> {
    let units = (value.len() + 2).div_ceil(8);
    message.extend([kind, u8::try_from(units).map_err(|_| RaError::TooLong)?]);
    message.extend_from_slice(value);
    message.resize(message.len() + units * 8 - value.len() - 2, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::icmpv6::NdpOptionSlice;
    use etherparse::{Icmpv6Slice, NetHeaders, PacketHeaders};

    fn advert() -> RouterAdvert {
        RouterAdvert {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            source: "fe80::1".parse().unwrap(),
            router_lifetime: 1800,
            managed: false,
            other: true,
            mtu: 1450,
            prefix: "fd00:9::/64".parse().unwrap(),
            autonomous: false,
            prefix_lifetime: 7200,
            dns: vec!["fd00:9::1".parse().unwrap(), "fd00:9::2".parse().unwrap()],
            search: vec!["shop.internal".into()],
            dns_lifetime: 600,
        }
    }

    #[test]
    fn another_parser_reads_it() {
        let frame = build_router_advert(&advert(), None).unwrap();
        let p = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(NetHeaders::Ipv6(ip, _)) = p.net else { panic!() };
        assert_eq!((ip.hop_limit, ip.destination), (255, ALL_NODES.octets()));
        let icmp = Icmpv6Slice::from_slice(&frame[54..]).unwrap();
        assert!(icmp.is_checksum_valid(ip.source, ip.destination));
        let etherparse::Icmpv6Type::RouterAdvertisement(h) = icmp.icmp_type() else { panic!() };
        assert_eq!(
            (h.cur_hop_limit, h.managed_address_config, h.other_config, h.router_lifetime),
            (64, false, true, 1800)
        );
        let options = etherparse::icmpv6::NdpOptionsIterator::from_slice(&frame[70..]);
        let options: Vec<_> = options.map(Result::unwrap).collect();
        let [
            NdpOptionSlice::SourceLinkLayerAddress(mac),
            NdpOptionSlice::Mtu(mtu),
            NdpOptionSlice::PrefixInformation(prefix),
            rdnss,
            dnssl,
        ] = options.as_slice()
        else {
            panic!("{options:?}")
        };
        assert_eq!((mac.link_layer_address(), mtu.mtu()), (&[2, 0, 0, 0, 0, 1][..], 1450));
        let prefix = prefix.prefix_information();
        assert_eq!(
            (prefix.prefix_length, prefix.on_link, prefix.autonomous_address_configuration),
            (64, true, false)
        );
        let raw = |o: &NdpOptionSlice<'_>| match o {
            NdpOptionSlice::Unknown(u) => u.as_bytes().to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(raw(rdnss)[..8], [25, 5, 0, 0, 0, 0, 2, 88]);
        assert_eq!(raw(dnssl), b"\x1f\x03\0\0\0\0\x02\x58\x04shop\x08internal\0\0".as_slice());
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let global = RouterAdvert { source: "fd00:9::1".parse().unwrap(), ..advert() };
        assert!(matches!(build_router_advert(&global, None), Err(RaError::Source(_))));
        let many = RouterAdvert { dns: vec![Ipv6Addr::LOCALHOST; 128], ..advert() };
        assert_eq!(build_router_advert(&many, None), Err(RaError::TooLong));
    }
}
