//! Booleans of jails: in jail_set(2) a name alone, with `no` before its last part where it is off (`lib/libjail/jail.c`).

use crate::config::spec::ParamValue;

/// `allow.noraw_sockets` is `allow.raw_sockets` negated: the `no` is in the last part.
pub(super) fn positive(name: &str) -> Option<String> {
    match name.rsplit_once('.') {
        Some((head, tail)) => tail.strip_prefix("no").map(|tail| format!("{head}.{tail}")),
        None => name.strip_prefix("no").map(str::to_owned),
    }
}

/// The name under which a boolean is off.
#[cfg_attr(not(target_os = "freebsd"), allow(dead_code, reason = "the lab enforces no parameters"))]
pub(super) fn negative(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((head, tail)) => format!("{head}.no{tail}"),
        None => format!("no{name}"),
    }
}

/// The name that says a value: of the boolean `name`, written as itself or `negated`. `None` if the value is no boolean.
#[cfg_attr(not(target_os = "freebsd"), allow(dead_code, reason = "the lab enforces no parameters"))]
pub(super) fn said(name: &str, negated: bool, value: &ParamValue) -> Option<String> {
    let on = truth(value)?;
    Some(if on == negated { negative(name) } else { name.to_owned() })
}

/// libjail's words, in any case, and numbers; nothing at all is a zero to strtol(3).
fn truth(value: &ParamValue) -> Option<bool> {
    match value {
        ParamValue::Bool(on) => Some(*on),
        ParamValue::Int(number) => Some(*number != 0),
        ParamValue::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
        ParamValue::Text(text) if text.is_empty() || text.eq_ignore_ascii_case("false") => Some(false),
        ParamValue::Text(text) => text.parse::<i64>().ok().map(|number| number != 0),
        ParamValue::List(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `nofuture;` must never switch `future` on.
    #[test]
    fn a_name_and_its_value_come_to_one_name() {
        let text = |text: &str| ParamValue::Text(text.into());
        for (negated, value, wanted) in [
            (false, ParamValue::Bool(true), Some("allow.x")),
            (false, ParamValue::Bool(false), Some("allow.nox")),
            (true, ParamValue::Bool(true), Some("allow.nox")),
            (true, ParamValue::Bool(false), Some("allow.x")),
            (false, text("TRUE"), Some("allow.x")),
            (false, text("0"), Some("allow.nox")),
            (true, text("1"), Some("allow.nox")),
            (true, text("false"), Some("allow.x")),
            (false, ParamValue::Int(2), Some("allow.x")),
            (false, text("maybe"), None),
            (false, ParamValue::List(vec!["true".into()]), None),
        ] {
            assert_eq!(said("allow.x", negated, &value).as_deref(), wanted, "{negated} {value:?}");
        }
        assert_eq!(positive("allow.nox").as_deref(), Some("allow.x"));
        assert_eq!((positive("no.x"), positive("notify").as_deref()), (None, Some("tify")));
        assert_eq!(negative("persist"), "nopersist");
    }
}
