//! pf's state table, as `pfctl -vvss` prints it, and which of its states are one instance's.
//!
//! `pfctl -k` by address goes by the address on the wire and misses a redirected leg (facts, "Killing states of one
//! instance"), so states are chosen here and killed by id. The format is that of print_state() in FreeBSD's
//! sbin/pfctl/pf_print_state.c, in 13.2 and 15 alike: a line for the state and indented lines about it, of which the one
//! with `id:` comes with `-vv`. An address that translation replaced stands in brackets behind the one in force:
//!
//! ```text
//! all tcp 10.9.0.11:80 (192.0.2.1:8080) <- 192.0.2.7:51234       ESTABLISHED:ESTABLISHED
//!    age 00:00:05, expires in 23:59:59, 3:2 pkts, 180:112 bytes, anchor 0, rule 2
//!    id: 0100000000000000 creatorid: abcdef01
//! ```

use std::net::IpAddr;

/// One state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The interface it is bound to, or `all`.
    pub interface: String,
    /// The protocol, as in protocols(5), or its number.
    pub proto: String,
    /// Whether the connection came in by the interface (`<-`), else it went out (`->`).
    pub inbound: bool,
    /// The addresses before the arrow: the one in force, then the one it stands for. Inbound: the server's.
    pub left: Vec<IpAddr>,
    /// The addresses behind the arrow. Outbound: the server's.
    pub right: Vec<IpAddr>,
    /// The two ends' states: `ESTABLISHED:ESTABLISHED`.
    pub phase: String,
    /// The id and the id of the creator, in hexadecimal, joined by a slash: what `pfctl -k id -k` takes.
    pub id: String,
}

/// What a state table held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The states that were understood.
    pub states: Vec<State>,
    /// Lines that were not. They are no reason to fail unless one speaks of an address in question.
    pub strange: Vec<String>,
}

/// Reads the output of `pfctl -vvss`.
#[must_use]
pub fn parse(text: &str) -> Table {
    let mut table = Table::default();
    let mut open: Option<(&str, State)> = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with([' ', '\t']) {
            let id = id_of(line);
            if let (Some(id), Some((_, mut state))) = (&id, open.take_if(|_| id.is_some())) {
                state.id.clone_from(id);
                table.states.push(state);
            }
            continue;
        }
        // A state without an id cannot be killed by it.
        table.strange.extend(open.take().map(|(line, _)| line.to_owned()));
        match state_of(line) {
            Some(state) => open = Some((line, state)),
            None => table.strange.push(line.to_owned()),
        }
    }
    table.strange.extend(open.map(|(line, _)| line.to_owned()));
    table
}

/// `   id: 0100000000000000 creatorid: abcdef01`, with more behind it in 15.
fn id_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let hex = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_hexdigit());
    let id = words.next().filter(|w| *w == "id:").and_then(|_| words.next()).filter(|w| hex(w))?;
    let creator =
        words.next().filter(|w| *w == "creatorid:").and_then(|_| words.next()).filter(|w| hex(w))?;
    Some(format!("{id}/{creator}"))
}

fn state_of(line: &str) -> Option<State> {
    let mut words = line.split_whitespace();
    let (interface, proto) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut left, mut right, mut inbound, mut phase) = (Vec::new(), Vec::new(), None, None);
    for word in words {
        match (word, inbound) {
            ("<-" | "->", None) => inbound = Some(word == "<-"),
            (_, None) => left.push(address_of(word)?),
            (_, Some(_)) => match address_of(word) {
                Some(address) if phase.is_none() => right.push(address),
                _ => phase = Some(phase.map_or_else(|| word.to_owned(), |p: String| p + " " + word)),
            },
        }
    }
    let sides = (1..=2).contains(&left.len()) && (1..=2).contains(&right.len());
    sides.then_some(State {
        interface,
        proto,
        inbound: inbound?,
        left,
        right,
        phase: phase?,
        id: String::new(),
    })
}

/// `192.0.2.1:80`, `fd00::1[80]`, either without a port, with a scope (`fe80::1%em0`) or in brackets.
fn address_of(word: &str) -> Option<IpAddr> {
    let word = word.strip_prefix('(').and_then(|w| w.strip_suffix(')')).unwrap_or(word);
    let word = word.split('[').next()?;
    let word = word.split('%').next()?;
    word.parse().ok().or_else(|| word.rsplit_once(':')?.0.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4))
}

impl State {
    /// Whether it is a state of one of the addresses: its own connection, one redirected to it, or one translated for it.
    /// Each of these has the instance's address in one of its four places, and nobody else's state has.
    #[must_use]
    pub fn concerns(&self, addresses: &[IpAddr]) -> bool {
        self.left.iter().chain(&self.right).any(|a| addresses.contains(a))
    }

    /// Whether one of the addresses is the server of this connection, after redirection.
    #[must_use]
    pub fn serves(&self, addresses: &[IpAddr]) -> bool {
        let server = if self.inbound { &self.left } else { &self.right };
        server.first().is_some_and(|a| addresses.contains(a))
    }

    /// Whether both ends of a TCP connection agree that there is one, or one end still sends: neither has been closed
    /// from both sides.
    #[must_use]
    pub fn established(&self) -> bool {
        const OPEN: [&str; 3] = ["ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1"];
        self.proto == "tcp"
            && self.phase.split_once(':').is_some_and(|(a, b)| {
                (a == "ESTABLISHED" || b == "ESTABLISHED")
                    && [a, b].iter().all(|e| OPEN.contains(e) || *e == "FIN_WAIT_2")
            })
    }
}

impl Table {
    /// The ids of the states that are the addresses', for [`kill_arguments`].
    #[must_use]
    pub fn ids_of(&self, addresses: &[IpAddr]) -> Vec<&str> {
        self.states.iter().filter(|s| s.concerns(addresses)).map(|s| s.id.as_str()).collect()
    }

    /// How many connections to the addresses are established: what a drain waits for. Connections the instance opened
    /// itself do not count. A connection through the host has a state for each interface; it is counted by the one on
    /// the way out to the instance.
    #[must_use]
    pub fn established(&self, addresses: &[IpAddr]) -> usize {
        self.states.iter().filter(|s| !s.inbound && s.serves(addresses) && s.established()).count()
    }

    /// The lines not understood that name one of the addresses: states that may be the instance's and were not chosen.
    #[must_use]
    pub fn doubtful(&self, addresses: &[IpAddr]) -> Vec<&str> {
        let names: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let ends = |c: char| !c.is_ascii_hexdigit() && c != '.';
        let has = |line: &str, name: &String| {
            line.match_indices(name.as_str()).any(|(at, _)| {
                let (before, behind) = (&line[..at], &line[at + name.len()..]);
                before.chars().next_back().is_none_or(ends) && behind.chars().next().is_none_or(ends)
            })
        };
        self.strange
            .iter()
            .map(String::as_str)
            .filter(|line| names.iter().any(|name| has(line, name)))
            .collect()
    }
}

/// The arguments with which pfctl kills one state.
#[must_use]
pub fn kill_arguments(id: &str) -> [&str; 4] {
    ["-k", "id", "-k", id]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 10.9.0.11 and .12 are instances, 192.0.2.1 is the host; in the order pfctl prints.
    const SAMPLE: &str = "\
No ALTQ support in kernel
all tcp 10.9.0.11:80 (192.0.2.1:8080) <- 192.0.2.7:51234       ESTABLISHED:ESTABLISHED
   [3146 + 65536] wscale 6  [1234 + 65700](+17) wscale 6
   age 00:00:05, expires in 23:59:59, 3:2 pkts, 180:112 bytes, anchor 0, rule 2
   id: 0100000000000001 creatorid: abcdef01
all tcp 192.0.2.7:51234 -> 10.9.0.11:80       ESTABLISHED:ESTABLISHED
   [3146 + 65536] wscale 6  [1234 + 65700](+17) wscale 6
   age 00:00:05, expires in 23:59:59, 3:2 pkts, 180:112 bytes, anchor 0, rule 3
   id: 0100000000000002 creatorid: abcdef01
all udp 198.51.100.53:53 <- 10.9.0.11:40000       SINGLE:MULTIPLE
   age 00:00:01, expires in 00:00:30, 1:1 pkts, 60:76 bytes, anchor 0, rule 4
   id: 0100000000000003 creatorid: abcdef01
em0 udp 192.0.2.1:61000 (10.9.0.11:40000) -> 198.51.100.53:53       MULTIPLE:SINGLE
   age 00:00:01, expires in 00:00:30, 1:1 pkts, 60:76 bytes, rule 7, source-track
   id: 0100000000000004 creatorid: abcdef01 route-to: 192.0.2.254@em0
   origif: em1
all icmp 10.9.0.12:9 <- 10.9.0.111:9       0:0
   age 00:00:01, expires in 00:00:09, 1:1 pkts, 84:84 bytes, rule 1
   id: 0100000000000005 creatorid: abcdef01
all ipv6-icmp fd00:9::11[135] <- fe80::1%g0[135]       NO_TRAFFIC:SINGLE
   age 00:00:01, expires in 00:00:09, 1:1 pkts, 84:84 bytes
   id: 0100000000000006 creatorid: abcdef01
all 47 10.9.0.12 -> 192.0.2.9       MULTIPLE:MULTIPLE
   id: 0100000000000007 creatorid: abcdef01
all tcp 192.0.2.7:1 -> 10.9.0.12:80       <BAD STATE LEVELS 11:12>
   id: 0100000000000008 creatorid: abcdef01
all tcp ? -> 10.9.0.12:80       CLOSED:CLOSED
   id: 0100000000000009 creatorid: abcdef01
";

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn the_states_of_one_instance_are_chosen_and_no_others() {
        let table = parse(SAMPLE);
        assert_eq!(table.states.len(), 8);
        let ids = |addresses: &[&str]| {
            let addresses = ips(addresses);
            let number = |id: &&str| id.split('/').next().unwrap().chars().last().unwrap();
            table.ids_of(&addresses).iter().map(number).collect::<String>()
        };
        assert_eq!(ids(&["10.9.0.11"]), "1234");
        assert_eq!(ids(&["10.9.0.11", "fd00:9::11"]), "12346");
        assert_eq!(ids(&["10.9.0.12"]), "578");
        assert_eq!(ids(&["10.9.0.1"]), "");
        assert_eq!(kill_arguments(table.ids_of(&ips(&["10.9.0.11"]))[0])[3], "0100000000000001/abcdef01");
    }

    #[test]
    fn what_was_not_understood_is_told_only_to_whom_it_concerns() {
        let table = parse(SAMPLE);
        assert_eq!(table.strange.len(), 2);
        assert_eq!(table.doubtful(&ips(&["10.9.0.11"])), Vec::<&str>::new());
        assert_eq!(table.doubtful(&ips(&["10.9.0.1"])), Vec::<&str>::new());
        assert_eq!(table.doubtful(&ips(&["10.9.0.12"])).len(), 1);
    }

    #[test]
    fn a_drain_waits_for_connections_to_the_instance_only() {
        let mut table = parse(SAMPLE);
        let web = ips(&["10.9.0.11"]);
        assert_eq!(table.established(&web), 1);
        for (phase, open) in [
            ("ESTABLISHED:ESTABLISHED", true),
            ("CLOSE_WAIT:ESTABLISHED", true),
            ("ESTABLISHED:FIN_WAIT_2", true),
            ("SYN_SENT:ESTABLISHED", false),
            ("FIN_WAIT_2:FIN_WAIT_2", false),
            ("TIME_WAIT:TIME_WAIT", false),
            ("CLOSED:SYN_SENT", false),
        ] {
            table.states[1].phase = phase.into();
            assert_eq!(table.established(&web) == 1, open, "{phase}");
        }
        assert_eq!(table.established(&ips(&["192.0.2.7"])), 0);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".*", lines in proptest::collection::vec("[ a-f0-9:.<>()\\[\\]%-]{0,60}", 0..8)) {
            for text in [text, lines.join("\n")] {
                let table = parse(&text);
                let web = ips(&["10.9.0.11", "::1"]);
                prop_assert!(table.doubtful(&web).len() <= table.strange.len());
                prop_assert!(table.established(&web) <= table.ids_of(&web).len());
            }
        }
    }
}
