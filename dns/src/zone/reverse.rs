//! Reverse names: the owner of an address's PTR, and the zones an address prefix stands for.
//!
//! in-addr.arpa can only be cut at octets and ip6.arpa at nibbles. A prefix between two cuts is served as the
//! several zones just below it (10.1.0.0/20 as sixteen /24 zones, 10.1.2.0/26 as 64 zones of one address), so
//! that this server claims exactly the addresses it owns and the neighbour's stay with whoever has them. That is
//! at most 128 zones for a v4 prefix and 8 for a v6 one. RFC 2317's CNAMEs need the parent's help; this does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::name::{Name, NameError};

const HEX: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];

fn octets(address: Ipv4Addr, count: usize) -> Result<Name, NameError> {
    let labels: Vec<String> = address.octets().iter().take(count).rev().map(u8::to_string).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    arpa("in-addr")?.join_below(&labels)
}

fn nibbles(address: Ipv6Addr, count: usize) -> Result<Name, NameError> {
    let all = address.octets();
    let labels: Vec<&str> = all
        .iter()
        .flat_map(|o| [HEX[usize::from(o >> 4)], HEX[usize::from(o & 15)]])
        .take(count)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    arpa("ip6")?.join_below(&labels)
}

fn arpa(family: &str) -> Result<Name, NameError> {
    Name::root().join_below(&[family, "arpa"])
}

/// The owner name of the PTR of `address`.
pub(crate) fn ptr_name(address: IpAddr) -> Result<Name, NameError> {
    match address {
        IpAddr::V4(a) => octets(a, 4),
        IpAddr::V6(a) => nibbles(a, 32),
    }
}

/// The apexes of the reverse zones that make up `prefix`, and nothing else.
pub(crate) fn apexes(prefix: IpNet) -> Result<Vec<Name>, NameError> {
    let bits = u32::from(prefix.prefix_len());
    match prefix.network() {
        IpAddr::V4(network) => {
            let units = bits.div_ceil(8);
            let first = u32::from(network);
            (0..1u32 << (units * 8 - bits))
                .map(|i| {
                    octets(Ipv4Addr::from(first | i.checked_shl(32 - units * 8).unwrap_or(0)), units as usize)
                })
                .collect()
        }
        IpAddr::V6(network) => {
            let units = bits.div_ceil(4);
            let first = u128::from(network);
            (0..1u128 << (units * 4 - bits))
                .map(|i| {
                    nibbles(
                        Ipv6Addr::from(first | i.checked_shl(128 - units * 4).unwrap_or(0)),
                        units as usize,
                    )
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(prefix: &str) -> Vec<String> {
        apexes(prefix.parse().unwrap()).unwrap().iter().map(Name::to_string).collect()
    }

    #[test]
    fn cuts() {
        assert_eq!(texts("10.1.0.0/16"), ["1.10.in-addr.arpa"]);
        assert_eq!(texts("10.1.2.77/24"), ["2.1.10.in-addr.arpa"]);
        assert_eq!(texts("10.1.4.0/23"), ["4.1.10.in-addr.arpa", "5.1.10.in-addr.arpa"]);
        assert_eq!(texts("192.0.2.252/30").last().unwrap(), "255.2.0.192.in-addr.arpa");
        assert_eq!(texts("192.0.2.252/30").len(), 4);
        assert_eq!(texts("192.0.2.9/32"), ["9.2.0.192.in-addr.arpa"]);
        assert_eq!(texts("0.0.0.0/0"), ["in-addr.arpa"]);
        assert_eq!(texts("0.0.0.0/1").len(), 128);
        assert_eq!(texts("fd00:1::/32"), ["1.0.0.0.0.0.d.f.ip6.arpa"]);
        assert_eq!(texts("fd00:1::/31").len(), 2);
        assert_eq!(texts("fd00::8/125").len(), 8);
        assert_eq!(texts("::/0"), ["ip6.arpa"]);
        assert_eq!(ptr_name("10.1.2.3".parse().unwrap()).unwrap().to_string(), "3.2.1.10.in-addr.arpa");
        assert_eq!(
            ptr_name("fd00::1f".parse().unwrap()).unwrap().to_string(),
            "f.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"
        );
    }

    #[test]
    fn every_owned_address_is_in_exactly_one_zone_and_no_other_is() {
        for prefix in ["10.1.0.0/20", "10.1.2.64/27", "10.0.0.0/9", "fd00::/61", "fd00::10/126"] {
            let prefix: IpNet = prefix.parse().unwrap();
            let zones = apexes(prefix).unwrap();
            let (first, last) = (prefix.network(), prefix.broadcast());
            for address in [first, last] {
                let name = ptr_name(address).unwrap();
                assert_eq!(zones.iter().filter(|z| name.is_within(z)).count(), 1, "{address} in {prefix}");
            }
            let (before, after) = match (first, last) {
                (IpAddr::V4(f), IpAddr::V4(l)) => (
                    IpAddr::V4((u32::from(f).wrapping_sub(1)).into()),
                    IpAddr::V4((u32::from(l).wrapping_add(1)).into()),
                ),
                (IpAddr::V6(f), IpAddr::V6(l)) => (
                    IpAddr::V6((u128::from(f).wrapping_sub(1)).into()),
                    IpAddr::V6((u128::from(l).wrapping_add(1)).into()),
                ),
                _ => unreachable!(),
            };
            for address in [before, after] {
                let name = ptr_name(address).unwrap();
                assert!(!zones.iter().any(|z| name.is_within(z)), "{address} not in {prefix}");
            }
        }
    }
}
