//! What a jail that keeps its own name, root and interfaces has beyond other instances: the parameters of jail(8) that
//! Warren otherwise gives itself.
//!
//! A `jail` table that says `name` speaks of such a jail. jail.conf's jails all are; in warren.toml it is how a converted
//! file says the same.

use std::net::IpAddr;

use ipnet::IpNet;

use super::decode::At;
use super::diagnostics::Problem;
use super::jail::{self, JailTable};
use super::lower::Lowering;
use super::spec::{Alias, Classic};
use super::text::shown;

/// The parameters that only such a jail may have.
pub(super) const OWN: [&str; 3] = ["interface", "jid", "vnet.interface"];

/// What the table says of it; `None` if it says no `name`.
pub(super) fn classic(owner: &str, table: &JailTable, low: &mut Lowering<'_>) -> Option<Classic> {
    let Some(name) = table.text("name") else {
        for own in OWN {
            if table.get(own).is_some() {
                let message = format!("`{own}` is for a jail that keeps its own name");
                let problem = Problem::new("config::refused", jail::place(owner, own), message);
                low.report(problem.help("say `networks` in the service, or \"name\" beside it"));
            }
        }
        return None;
    };
    let mut made = Classic {
        jail: name.to_owned(),
        jid: table.int("jid").and_then(|jid| jid.try_into().ok()),
        vnet: table.bool("vnet").unwrap_or(false),
        addresses: Vec::new(),
        aliases: Vec::new(),
        interfaces: table.texts("vnet.interface").iter().map(|interface| interface.value.clone()).collect(),
    };
    let default = table.text("interface");
    for text in table.texts("ip4.addr").iter().chain(table.texts("ip6.addr")) {
        match address(&text.value, default) {
            Ok((address, alias)) => {
                made.addresses.push(address);
                made.aliases.extend(alias);
            }
            Err((why, help)) => refuse(text, why, help, low),
        }
    }
    Some(made)
}

fn refuse(at: &At<String>, why: String, help: &str, low: &mut Lowering<'_>) {
    low.report(Problem::new("config::address", &at.place, why).help(help));
}

/// jail(8)'s `interface|address/mask arguments`: the address, and where it is an alias.
fn address(text: &str, default: Option<&str>) -> Result<(IpAddr, Option<Alias>), (String, &'static str)> {
    let (interface, rest) = match text.split_once('|') {
        Some((interface, rest)) => (Some(interface), rest),
        None => (default, text),
    };
    let mut words = rest.split_ascii_whitespace();
    let rest = words.next().unwrap_or_default();
    let (plain, mut mask) = rest.split_once('/').map_or((rest, None), |(plain, mask)| (plain, Some(mask)));
    // What else ifconfig(8) can be told about a mask; `alias` is what jail(8) says itself.
    while let Some(word) = words.next() {
        let value = match word {
            "alias" => continue,
            "netmask" | "prefixlen" if mask.is_none() => words.next(),
            _ => None,
        };
        let Some(value) = value else {
            let why = format!("`{}` has arguments for ifconfig(8): `{}`", shown(text), shown(word));
            let help = "Warren takes `netmask` and `prefixlen`: set the rest in exec.prepare and undo it in exec.release";
            return Err((why, help));
        };
        mask = Some(value);
    }
    let wrong = || {
        let why = format!("`{}` is not interface|address/mask", shown(text));
        (why, "as in jail(8): \"em0|192.0.2.10/24\", or the address alone")
    };
    let plain: IpAddr = plain.parse().map_err(|_| wrong())?;
    let whole = if plain.is_ipv4() { 32 } else { 128 };
    let length = match mask {
        None => whole,
        // 255.255.255.0 or 0xffffff00
        Some(mask) if plain.is_ipv4() && (mask.contains('.') || mask.starts_with("0x")) => {
            let bits = match mask.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => mask.parse().ok().map(std::net::Ipv4Addr::to_bits),
            };
            let bits = bits.filter(|bits| bits.count_zeros() == bits.trailing_zeros()).ok_or_else(wrong)?;
            bits.count_ones() as u8
        }
        Some(mask) => mask.parse().map_err(|_| wrong())?,
    };
    let net = IpNet::new(plain, length).map_err(|_| wrong())?;
    let alias = interface.filter(|interface| !interface.is_empty());
    Ok((plain, alias.map(|interface| Alias { interface: interface.to_owned(), address: net })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_jail_8() {
        let read = |text: &str, default| {
            address(text, default).map(|(address, alias)| {
                (address.to_string(), alias.map(|alias| format!("{}|{}", alias.interface, alias.address)))
            })
        };
        let on = |address: &str, alias: &str| Ok((address.to_owned(), Some(alias.to_owned())));
        assert_eq!(read("10.0.0.1", None), Ok(("10.0.0.1".to_owned(), None)));
        assert_eq!(read("em0|10.0.0.1", None), on("10.0.0.1", "em0|10.0.0.1/32"));
        assert_eq!(read("10.0.0.1/24", Some("lo1")), on("10.0.0.1", "lo1|10.0.0.1/24"));
        assert_eq!(read("em0|10.0.0.1/255.255.255.0", Some("lo1")), on("10.0.0.1", "em0|10.0.0.1/24"));
        assert_eq!(read("em0|2001:db8::1/64", None), on("2001:db8::1", "em0|2001:db8::1/64"));
        assert_eq!(read("em0|10.0.0.1 netmask 255.255.255.0 alias", None), on("10.0.0.1", "em0|10.0.0.1/24"));
        assert_eq!(read("em0|10.0.0.1 netmask 0xffff0000", None), on("10.0.0.1", "em0|10.0.0.1/16"));
        assert_eq!(read("em0|2001:db8::1 prefixlen 64", None), on("2001:db8::1", "em0|2001:db8::1/64"));
        for wrong in [
            "",
            "em0|10.0.0.1/24 netmask 255.255.255.0",
            "em0|10.0.0.1 netmask",
            "em0|",
            "10.0.0.1/33",
            "10.0.0.1/255.0.255.0",
            "em0|10.0.0.1/24 vhid 1",
            "2001:db8::1/255.0.0.0",
        ] {
            assert!(read(wrong, None).is_err(), "{wrong}");
        }
    }
}
