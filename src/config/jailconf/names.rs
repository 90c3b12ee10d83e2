//! When two names of parameters are one, which names are wildcards, and what `no` means.
//!
//! `usr.sbin/jail/config.c`: `equalopts`, `wild_jail_name`, `wild_jail_match`, `bool_param`.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::config::params::{Kind, PARAMS, Param};

/// Whether two names mean one parameter: the same, or one says `no` where the other does not (`allow.nomount`).
pub(super) fn same_param(one: &str, other: &str) -> bool {
    let (long, short) = match one.len().cmp(&other.len()) {
        std::cmp::Ordering::Equal => return one == other,
        std::cmp::Ordering::Greater => (one, other),
        std::cmp::Ordering::Less => (other, one),
    };
    // Most pairs are told apart here: by their lengths, or by their first letters where no `no` is in front.
    let other_start = long.as_bytes().first() != short.as_bytes().first() && !long.starts_with("no");
    if long.len() - short.len() != 2 || other_start {
        return false;
    }
    let negates = |long: &str, short: &str| long.strip_prefix("no") == Some(short);
    if negates(long, short) {
        return true;
    }
    // Part by part, as long as the parts before are the same.
    let (mut long, mut short) = (long, short);
    while let (Some((l, long_rest)), Some((s, short_rest))) = (long.split_once('.'), short.split_once('.')) {
        if l != s {
            return false;
        }
        (long, short) = (long_rest, short_rest);
        if negates(long, short) {
            return true;
        }
    }
    false
}

/// Whether a jail's name is a wildcard: one of its components is `*`. `web*` is a name like others.
pub(super) fn is_wild(name: &str) -> bool {
    name.split('.').any(|part| part == "*")
}

/// Whether a wildcard covers a name: `*` in the middle is one component, `*` at the end one or more.
pub(super) fn wild_match(name: &str, wild: &str) -> bool {
    if wild == "*" {
        return true;
    }
    let (mut name, mut wild) = (name, wild);
    while let (Some((n, name_rest)), Some((w, wild_rest))) = (name.split_once('.'), wild.split_once('.')) {
        if n != w && w != "*" {
            return false;
        }
        (name, wild) = (name_rest, wild_rest);
    }
    name == wild || wild == "*"
}

/// Whether a block's name is a jail's number: what strtol(3) takes whole and does not call zero.
pub(super) fn is_jid(name: &str) -> bool {
    integer(name).is_some_and(|number| number != 0)
}

/// What strtol(3) makes of a text, if it takes all of it.
pub(super) fn integer(text: &str) -> Option<i64> {
    let digits = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, number) = match digits.as_bytes().first() {
        Some(b'-') => (true, &digits[1..]),
        Some(b'+') => (false, &digits[1..]),
        _ => (false, digits),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Beyond its bounds strtol answers with the bound.
    let value = number.parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

/// What strtol(3) makes of the beginning of a text: 0 if there is no number.
fn leading_integer(text: &str) -> i64 {
    let start = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let sign = usize::from(start.starts_with(['-', '+']));
    let digits = start[sign..].bytes().take_while(u8::is_ascii_digit).count();
    integer(&start[..sign + digits]).unwrap_or(0)
}

/// The name without a `no` before its last component, and whether there was one.
pub(super) fn positive(name: &str) -> (String, bool) {
    let (space, last) = match name.rfind('.') {
        Some(dot) => name.split_at(dot + 1),
        None => ("", name),
    };
    match last.strip_prefix("no") {
        Some(rest) => (format!("{space}{rest}"), true),
        None => (name.to_owned(), false),
    }
}

/// The truth of a boolean written under `name` with this last value.
pub(super) fn truth(name: &str, value: Option<&str>) -> bool {
    let said = value.is_none_or(|value| value.eq_ignore_ascii_case("true") || leading_integer(value) != 0);
    positive(name).1 != said
}

/// Whether a text is a boolean to jail(8): an empty one too, as strtol(3) leaves nothing of it.
pub(super) fn is_boolean(value: &str) -> bool {
    value.is_empty()
        || value.eq_ignore_ascii_case("true")
        || value.eq_ignore_ascii_case("false")
        || integer(value).is_some()
}

/// What is known of a parameter, by its name with or without `no`.
pub(super) fn kind(name: &str) -> Option<Kind> {
    // Asked for every parameter of every jail.
    static KNOWN: OnceLock<HashMap<&str, Kind>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let kind = |param: &Param| match param.name {
            // Of those warren.toml refuses these two are booleans, and the others are not.
            "ip_hostname" | "allow.dying" => Kind::Bool,
            _ => param.kind,
        };
        PARAMS.iter().map(|param| (param.name, kind(param))).collect()
    });
    known.get(name).copied().or_else(|| {
        let (positive, negated) = positive(name);
        // Of what takes a word, as `vnet`, libjail knows no negation (`jailparam_type`).
        known.get(positive.as_str()).copied().filter(|kind| negated && *kind == Kind::Bool)
    })
}

/// The pseudo-parameters of jail(8) that hold an integer.
pub(super) const INTEGERS: [&str; 3] = ["exec.fib", "exec.timeout", "stop.timeout"];

/// The parameters jail(8) looks at itself (`config.c`, `intparams`): a variable may not have one's name.
pub(super) const INTERNAL: [&str; 45] = [
    "allow.dying",
    "command",
    "depend",
    "exec.clean",
    "exec.consolelog",
    "exec.created",
    "exec.fib",
    "exec.jail_user",
    "exec.poststart",
    "exec.poststop",
    "exec.prepare",
    "exec.prestart",
    "exec.prestop",
    "exec.release",
    "exec.start",
    "exec.stop",
    "exec.system_jail_user",
    "exec.system_user",
    "exec.timeout",
    "interface",
    "ip_hostname",
    "mount",
    "mount.devfs",
    "mount.fdescfs",
    "mount.fstab",
    "mount.procfs",
    "stop.timeout",
    "vnet.interface",
    "zfs.dataset",
    "allow.chflags",
    "allow.mount",
    "allow.raw_sockets",
    "allow.set_hostname",
    "allow.socket_af",
    "allow.sysvipc",
    "devfs_ruleset",
    "host.hostname",
    "ip4.addr",
    "ip6.addr",
    "jid",
    "name",
    "path",
    "persist",
    "securelevel",
    "vnet",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_is_looked_for_at_the_start_of_any_component() {
        for (one, other, wanted) in [
            ("persist", "nopersist", true),
            ("allow.mount", "allow.nomount", true),
            ("allow.mount.zfs", "allow.mount.nozfs", true),
            ("allow.mount.zfs", "allow.nomount.zfs", true),
            ("allow.mount", "allow.mount.zfs", false),
            ("a.b", "c.nob", false),
            ("no", "", true),
            ("nonopersist", "persist", false),
            ("tify", "notify", true),
        ] {
            assert_eq!(same_param(one, other), wanted, "{one} {other}");
            assert_eq!(same_param(other, one), wanted, "{other} {one}");
        }
    }

    #[test]
    fn wildcards_stand_for_whole_components() {
        assert!(is_wild("*") && is_wild("a.*") && is_wild("*.b") && !is_wild("web*") && !is_wild("a.*b"));
        for (name, wild, wanted) in [
            ("a", "*", true),
            ("a.b.c", "*", true),
            ("a.b", "a.*", true),
            ("a.b.c", "a.*", true),
            ("a", "a.*", false),
            ("b.c", "a.*", false),
            ("a.b.c", "a.*.c", true),
            ("a.b.d", "a.*.c", false),
            ("a.b.x.c", "a.*.c", false),
        ] {
            assert_eq!(wild_match(name, wild), wanted, "{name} {wild}");
        }
    }

    #[test]
    fn numbers_are_those_of_strtol() {
        for (text, wanted) in
            [("5", true), (" 5", true), ("+5", true), ("-5", true), ("0", false), ("", false)]
        {
            assert_eq!(is_jid(text), wanted, "{text}");
        }
        assert!(!is_jid("5a") && !is_jid("5 "));
        assert!(truth("persist", None) && truth("persist", Some("TRUE")) && truth("x", Some("2nd")));
        assert!(
            !truth("nopersist", None) && !truth("allow.nomount", Some("1")) && truth("nopersist", Some("0"))
        );
    }
}
