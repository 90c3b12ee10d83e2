//! Which interfaces of the host lead to other machines.
//!
//! Translation needs an address, and pf has no word for "the address of whatever interface this leaves by": each
//! interface needs a rule of its own. Taking only the interface of the default route would leave a second LAN without
//! translation, so it is every interface that has an address other machines can answer to and is not one of ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::host::Failure;
use crate::ids::Id;

/// The interfaces to the outside, sorted. They are found when an anchor is loaded; an interface that comes later counts
/// from the next load on.
pub fn outside() -> Result<Vec<String>, Failure> {
    let all = nix::ifaddrs::getifaddrs()
        .map_err(|errno| Failure::os("listing the interfaces of the host", &errno.into()))?;
    Ok(choose(all.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let address = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))?;
        Some((entry.interface_name, address))
    })))
}

/// Chooses from pairs of interface and address.
fn choose(all: impl Iterator<Item = (String, IpAddr)>) -> Vec<String> {
    let far = |address: &IpAddr| match address {
        IpAddr::V4(a) => !a.is_loopback() && !a.is_unspecified(),
        IpAddr::V6(a) => !a.is_loopback() && !a.is_unspecified() && !a.is_unicast_link_local(),
    };
    let chosen: BTreeSet<_> = all
        .filter(|(name, address)| far(address) && Id::of_interface(name).is_none())
        .map(|(n, _)| n)
        .collect();
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_loopback_are_left_out() {
        let all = [
            ("lo0", "127.0.0.1"),
            ("lo0", "::1"),
            ("em0", "192.0.2.1"),
            ("em0", "fe80::1"),
            ("em0", "2001:db8::1"),
            ("em1", "fe80::2"),
            ("gk3f9q2ab", "10.9.0.1"),
            ("wk3f9q2ab", "10.9.0.7"),
            ("wk3f9q2abb", "10.8.0.7"),
            ("gif0", "198.51.100.1"),
        ];
        let all = all.iter().map(|(name, address)| ((*name).to_owned(), address.parse().unwrap()));
        assert_eq!(choose(all), ["em0", "gif0"]);
    }
}
