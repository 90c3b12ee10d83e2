//! The links of a service and how each gets its addresses, with and without vnet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::decode::At;
use super::diagnostics::{Problem, join};
use super::forms::{AddressEntry, NetworkEntry};
use super::jail::{self, JailTable};
use super::lower::Lowering;
use super::raw::RawService;
use super::spec::{AddressMode, LinkSpec, NetworkSpec};
use super::text::shown;

/// The links, with their addresses: said at the network, else at the service, else by `ip4.addr` and `ip6.addr`.
pub(super) fn links(
    raw: &RawService,
    place: &str,
    jail: &JailTable,
    networks: &BTreeMap<String, NetworkSpec>,
    low: &mut Lowering<'_>,
) -> Vec<LinkSpec> {
    let shared_ip = [jail.get("ip4.addr"), jail.get("ip6.addr")].into_iter().flatten().next();
    let said = jail.bool("vnet");
    let entries: &[At<NetworkEntry>] = raw.networks.as_ref().map_or(&[], |list| &list.value);
    let vnet = said.unwrap_or(shared_ip.is_none());
    if let (Some(true), Some(addr)) = (said, shared_ip) {
        low.report(
            Problem::new("config::vnet", jail::place(place, "vnet"), "`vnet` and `ip4.addr` or `ip6.addr` exclude each other")
                .label("a network stack of its own")
                .also(&addr.place, "addresses of the host's stack")
                .help("fixed addresses of an instance with vnet are said in the service: address = [\"10.77.0.10\"]"),
        );
    }
    let mut links: Vec<LinkSpec> = Vec::new();
    let mut moves = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let (network, own) = match &entry.value {
            NetworkEntry::Name(name) => (name.clone(), None),
            NetworkEntry::Table(table) => {
                if table.name.is_none() {
                    low.missing(&entry.place, "name", "say which of [networks] is meant");
                }
                (
                    table.name.as_ref().map_or_else(String::new, |name| name.value.clone()),
                    table.address.as_ref(),
                )
            }
        };
        let link_place = join(&join(place, "networks"), &number.to_string());
        moves.push((link_place.clone(), entry.place.clone()));
        let address = own.or(raw.address.as_ref());
        let written = join(&link_place, "address");
        moves.push((written.clone(), address.map_or(&entry.place, |address| &address.place).clone()));
        let address = match address.map(|address| &address.value) {
            // Where the LAN gives the addresses there is nothing else to ask.
            None if networks.get(&network).is_some_and(|net| net.lan_dhcp) => AddressMode::Dhcp,
            None | Some(AddressEntry::Auto) => AddressMode::Auto,
            Some(AddressEntry::Dhcp) => AddressMode::Dhcp,
            Some(AddressEntry::Fixed(list)) => {
                let items = list.iter().enumerate();
                moves.extend(
                    items.map(|(number, item)| (join(&written, &number.to_string()), item.place.clone())),
                );
                AddressMode::Fixed { addresses: list.iter().map(|address| address.value).collect() }
            }
        };
        links.push(LinkSpec { network, address, vnet });
    }
    low.places.point(moves);
    if let Some(address) = &raw.address {
        if links.is_empty() {
            let problem =
                Problem::new("config::address", &address.place, "`address` without a network has no meaning");
            low.report(problem.help("say networks = [\"…\"]").because(join(place, "networks")));
        } else if links.len() > 1 && matches!(address.value, AddressEntry::Fixed(_)) {
            let problem = Problem::new(
                "config::address",
                &address.place,
                "fixed addresses for several networks at once",
            );
            low.report(problem.help(
                "say them at each network: networks = [{ name = \"a\", address = [\"10.0.0.5\"] }, \"b\"]",
            ));
        }
    }
    if !vnet {
        shared_addresses(raw, place, jail, networks, &mut links, low);
    }
    if links.is_empty() && said == Some(true) {
        let problem = Problem::new(
            "config::vnet",
            jail::place(place, "vnet"),
            "`vnet` without a network: there is nothing to move into it",
        );
        low.report(
            problem.help("say networks = [\"…\"], or leave `vnet` out").because(join(place, "networks")),
        );
    }
    links
}

/// Gives each address of `ip4.addr` and `ip6.addr` to the link of the network it is in.
fn shared_addresses(
    raw: &RawService,
    place: &str,
    jail: &JailTable,
    networks: &BTreeMap<String, NetworkSpec>,
    links: &mut [LinkSpec],
    low: &mut Lowering<'_>,
) {
    let said: Vec<&At<String>> = jail.texts("ip4.addr").iter().chain(jail.texts("ip6.addr")).collect();
    if let (Some(address), Some(first)) = (&raw.address, said.first()) {
        low.report(
            Problem::new(
                "config::address",
                &address.place,
                "`address` and `ip4.addr` or `ip6.addr` say the same thing twice",
            )
            .also(&first.place, "here too")
            .help("keep `address`: it is for instances with and without vnet"),
        );
        return;
    }
    for text in said {
        let address = match shared_address(&text.value) {
            Ok(address) => address,
            Err((why, help)) => {
                low.report(Problem::new("config::address", &text.place, why).help(help));
                continue;
            }
        };
        let inside =
            |link: &&mut LinkSpec| networks.get(&link.network).is_some_and(|net| contains(net, address));
        let Some((number, link)) = links.iter_mut().enumerate().find(|(_, link)| inside(link)) else {
            let message = format!("{address} is in none of the service's networks");
            let mut problem = Problem::new("config::address", &text.place, message)
                .help("the address of a jail without vnet is an alias on its network's gateway interface");
            problem = problem.because(join(place, "networks"));
            for link in links.iter() {
                problem = problem.because(join("networks", &link.network));
            }
            low.report(problem);
            continue;
        };
        if !matches!(link.address, AddressMode::Fixed { .. }) {
            link.address = AddressMode::Fixed { addresses: Vec::new() };
        }
        let AddressMode::Fixed { addresses } = &mut link.address else { continue };
        let link_place = join(&join(&join(place, "networks"), &number.to_string()), "address");
        low.places.point(vec![(join(&link_place, &addresses.len().to_string()), text.place.clone())]);
        addresses.push(address);
    }
}

/// The address in jail(8)'s `interface|address/mask arguments`, of which Warren leaves only the address to the user.
fn shared_address(text: &str) -> Result<IpAddr, (String, &'static str)> {
    if text.contains('|') {
        let why =
            format!("`{}` names an interface: addresses go to the network's gateway interface", shown(text));
        return Err((why, "write the address alone; `uplink` bridges a network to a real interface"));
    }
    let alone = text.strip_suffix("/32").or_else(|| text.strip_suffix("/128")).unwrap_or(text);
    alone.parse().map_err(|_| {
        (format!("`{}` is not an address", shown(text)), "write the address alone: \"10.77.0.10\"")
    })
}

/// Whether the address is in one of the network's prefixes.
fn contains(network: &NetworkSpec, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => network.ipv4.is_some_and(|net| net.contains(&address)),
        IpAddr::V6(address) => network.ipv6.is_some_and(|net| net.contains(&address)),
    }
}
