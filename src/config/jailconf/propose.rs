//! What Warren could do itself in place of a jail's scripts: recognised in the hooks, proposed, never done unasked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::resolve::Jail;

/// The hooks that prepare a jail's network on the host.
const BEFORE: [&str; 3] = ["exec.prepare", "exec.prestart", "exec.created"];

/// The proposals for a jail, each a paragraph.
pub(super) fn proposals(jail: &Jail) -> Vec<String> {
    let hooks: Vec<&str> = BEFORE.iter().flat_map(|hook| jail.texts(hook)).collect();
    let mut all = Vec::new();
    if jail.texts("vnet.interface").next().is_some()
        && let Some((command, uplinks)) =
            hooks.iter().find_map(|hook| maker(hook).map(|uplinks| (*hook, uplinks)))
    {
        all.push(network(jail, command, &uplinks));
    }
    // `rdr` itself, or a script of its own: /usr/local/bin/rdr.sh.
    let rdr = |word: &str| {
        let program = word.rsplit('/').next().unwrap_or_default();
        program.strip_prefix("rdr").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    let redirects = |hook: &&&str| hook.contains("pfctl") || hook.split_whitespace().any(rdr);
    if let Some(hook) = hooks.iter().chain(&jail.texts("exec.poststart").collect::<Vec<_>>()).find(redirects)
    {
        all.push(format!(
            "`{hook}` is left as it is. In a network of Warren's a published port does the same and goes with the jail:\n\
             publish = [\"8080:80\"]"
        ));
    }
    all
}

/// Whether a command makes an interface for a jail, and the real interfaces it is bridged to.
fn maker(hook: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = hook.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ';')).collect();
    let has = |name: &str| words.iter().any(|word| word.rsplit('/').next() == Some(name));
    let after = |word: &str| {
        let at = words.iter().position(|one| *one == word)?;
        Some(&words[at + 1..])
    };
    // jib addm [-b BRIDGE] NAME IF…; jng bridge [-b BRIDGE] NAME IF…
    let (tool, verb) = if has("jib") { ("jib", "addm") } else { ("jng", "bridge") };
    if has(tool)
        && let Some(rest) = after(verb)
    {
        let mut rest = rest.iter();
        let mut plain = Vec::new();
        while let Some(word) = rest.next() {
            match word.starts_with('-') {
                true => _ = rest.next(),
                false => plain.push((*word).to_owned()),
            }
        }
        // `!em0` keeps the interface's own MAC address, `MAC@em0` sets one.
        let real = |word: &String| word.rsplit(['!', '@', '=']).next().unwrap_or_default().to_owned();
        return Some(plain.iter().skip(1).map(real).collect());
    }
    let makes = has("ifconfig") && hook.contains("epair")
        || has("ngctl") && (hook.contains("mkpeer") || hook.contains("eiface") || after("-f").is_some());
    makes.then(Vec::new)
}

fn network(jail: &Jail, command: &str, uplinks: &[String]) -> String {
    let interfaces: Vec<&str> = jail.texts("vnet.interface").collect();
    let addresses = addresses(jail);
    let mut text = format!(
        "Its interface {} is made by `{command}`. Warren makes links itself, and takes them away whatever fails: leave out\n\
         `name`, `vnet.interface` and the hooks that make and destroy it, and say in the service\n\
         networks = [\"lan\"]\n",
        interfaces.join(", ")
    );
    if !addresses.is_empty() {
        let list: Vec<String> = addresses.iter().map(|net| format!("\"{}\"", net.addr())).collect();
        text.push_str(&format!("address = [{}]\n", list.join(", ")));
    }
    text.push_str("and once in the file\n[networks.lan]\n");
    let whole = |net: &&IpNet| net.prefix_len() < net.max_prefix_len();
    let v4 = addresses.iter().filter(whole).find(|net| net.addr().is_ipv4());
    let v6 = addresses.iter().filter(whole).find(|net| net.addr().is_ipv6());
    for (key, net) in [("ipv4", v4), ("ipv6", v6)] {
        if let Some(net) = net {
            text.push_str(&format!("{key} = \"{}\"\n", net.trunc()));
        }
    }
    if v4.or(v6).is_none() {
        text.push_str("ipv4 = \"192.0.2.0/24\" (the prefix of the addresses there)\n");
    }
    if let Some(uplink) = uplinks.first() {
        text.push_str(&format!("uplink = \"{uplink}\"\n"));
        // The LAN has a router and a DHCP server already, at addresses this file does not tell.
        if v4.is_some() || v6.is_none() {
            text.push_str("dhcp = \"lan\"\n");
            text.push_str("(the default route is the jail's to set then: defaultrouter in its rc.conf, or exec.start)\n");
        }
        if v6.is_some() {
            text.push_str("gateway = \"…\" (an IPv6 address of the LAN that nobody has: the host's)\n");
        }
    }
    text
}

/// The addresses the jail's own commands give to its interfaces: `ifconfig IF [inet] ADDRESS[/LENGTH] [netmask MASK]`.
fn addresses(jail: &Jail) -> BTreeSet<IpNet> {
    let commands = BEFORE.iter().chain(&["exec.start", "exec.poststart"]).flat_map(|hook| jail.texts(hook));
    commands.flat_map(given).collect()
}

fn given(command: &str) -> Vec<IpNet> {
    let words: Vec<&str> = command
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''))
        .filter(|w| !w.is_empty())
        .collect();
    let mut found: Vec<IpNet> = Vec::new();
    let mut on = false;
    for (at, word) in words.iter().enumerate() {
        let plain = word.trim_end_matches(';');
        on = on && !matches!(*word, ";" | "&&" | "||" | "&") || plain.rsplit('/').next() == Some("ifconfig");
        let before = if at > 0 { words[at - 1] } else { "" };
        match before {
            _ if !on => {}
            "netmask" => {
                if let (Some(IpNet::V4(last)), Ok(mask)) = (found.last_mut(), plain.parse())
                    && let Ok(net) = Ipv4Net::with_netmask(last.addr(), mask)
                {
                    *last = net;
                }
            }
            "broadcast" => {}
            _ => {
                let alone = || plain.parse::<IpAddr>().map(IpNet::from);
                found.extend(plain.parse::<IpNet>().or_else(|_| alone()).ok());
            }
        }
        on = on && !word.ends_with(';');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{given, maker};

    #[test]
    fn addresses_are_found_with_their_prefix() {
        for (command, wanted) in [
            ("ifconfig e0b_a 10.0.0.5/24", vec!["10.0.0.5/24"]),
            (
                "ifconfig e0b inet 10.0.0.5 netmask 255.255.0.0 broadcast 10.0.255.255; route add default 10.0.0.1",
                vec!["10.0.0.5/16"],
            ),
            ("sh -c '/sbin/ifconfig e0b inet6 2001:db8::5/64 && ping 10.0.0.1'", vec!["2001:db8::5/64"]),
            ("ifconfig e0b up", vec![]),
        ] {
            let found: Vec<String> = given(command).iter().map(ToString::to_string).collect();
            assert_eq!(found, wanted, "{command}");
        }
    }

    #[test]
    fn scripts_that_make_interfaces_are_recognised() {
        for (hook, wanted) in [
            ("jng bridge web em0", Some(vec!["em0"])),
            ("/usr/local/bin/jib addm -b lan web em0 !em1", Some(vec!["em0", "em1"])),
            ("ifconfig epair0 create up", Some(vec![])),
            ("ngctl mkpeer em0: bridge lower link0", Some(vec![])),
            ("sh -c 'ngctl mkpeer eiface x ether'", Some(vec![])),
            ("ngctl -f /etc/jail.ng", Some(vec![])),
            ("echo web", None),
            ("ifconfig bridge0 addm em0", None),
        ] {
            let found = maker(hook);
            let found = found.as_ref().map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(found, wanted, "{hook}");
        }
    }
}
