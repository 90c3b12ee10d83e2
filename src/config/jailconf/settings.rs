//! One parameter of a jail as a setting of the `jail` table: what jail(8) takes for it, and what is refused.

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::lower::Sink;
use super::names::{integer, kind};
use super::resolve::{Jail, Param, Value};
use crate::config::decode::At;
use crate::config::diagnostics::join;
use crate::config::jail::Setting;
use crate::config::params::Kind;
use crate::config::spec::{CommandLine, ParamValue};
use crate::config::text::shown;

/// A parameter as a setting of the kind its name asks for.
pub(super) fn setting(
    jail: &Jail,
    param: &Param,
    name: &str,
    place: &str,
    sink: &mut Sink,
) -> Option<Setting> {
    let last = param.values.last().map(|value| &*value.text);
    let texts = || {
        let given = param.values.iter().enumerate().filter(|(_, value)| !value.text.is_empty());
        given
            .map(|(n, value)| At { value: value.text.to_string(), place: join(place, &n.to_string()) })
            .collect()
    };
    let said = shown(last.unwrap_or("nothing"));
    let message = format!("{}: `{name}` cannot be `{said}`", shown(&jail.name));
    let value = |value: ParamValue| Some(Setting::Value(value));
    let Some(kind) = kind(name) else {
        // One that only the kernel knows. The bare name goes to it as it is, `no` included, as from jail(8): without the
        // kernel nobody can tell whether `nofuture` is `future` negated or `notify` a name of its own.
        return value(match param.values.as_slice() {
            [] => ParamValue::Bool(true),
            [one] => ParamValue::Text(one.text.to_string()),
            many => ParamValue::List(many.iter().map(|value| value.text.to_string()).collect()),
        });
    };
    let mut wrong = |help: String| {
        sink.wrong(jail, param, message.clone(), &param.swallowed().unwrap_or(help));
        None
    };
    match kind {
        Kind::Bool => value(ParamValue::Bool(param.truth())),
        Kind::Int(min, max) => match last.and_then(integer).filter(|number| (min..=max).contains(number)) {
            Some(number) => value(ParamValue::Int(number)),
            None => wrong(format!("it is a whole number from {min} to {max}")),
        },
        Kind::Text(_) => value(ParamValue::Text(last.filter(|text| !text.is_empty())?.to_owned())),
        Kind::Texts => Some(Setting::Texts(texts())),
        Kind::Commands => Some(Setting::Commands(commands(param))),
        Kind::Wait => match last.and_then(integer).and_then(|seconds| u64::try_from(seconds).ok()) {
            Some(seconds) => Some(Setting::Wait(Duration::from_secs(seconds))),
            // What is no number at all has been said: `check::value`.
            None if last.is_some_and(|text| integer(text).is_none()) => None,
            None => {
                sink.refuse(jail, param, message, "it is a whole number of seconds, 0 or more");
                None
            }
        },
        Kind::Words(words) => match shared(param).filter(|word| words.contains(word)) {
            Some(word) => value(ParamValue::Text(word.to_owned())),
            None => wrong(format!("it is one of {}; the bare name is `new`", words.join(", "))),
        },
        Kind::Vnet => match shared(param) {
            Some(word) => value(ParamValue::Bool(word == "new")),
            None => wrong("it is `new` or `inherit`; the bare name is `new`".into()),
        },
        Kind::Any => value(ParamValue::Text(last.unwrap_or_default().to_owned())),
        Kind::Refused(why, instead) => {
            sink.refuse(jail, param, message, &format!("{why}: {instead}"));
            None
        }
    }
}

/// The commands of a parameter, the empty ones left out as jail(8) does.
pub(super) fn commands(param: &Param) -> Vec<CommandLine> {
    let texts = param.values.iter().map(|value| &value.text).filter(|text| !text.trim().is_empty());
    texts.map(|text| CommandLine::Shell(text.to_string())).collect()
}

/// Whether something is the jail's own, the host's or neither: in words, in their numbers, or by the bare name
/// (`lib/libjail/jail.c`, `jailparam_import`).
fn shared(param: &Param) -> Option<&'static str> {
    const WORDS: [&str; 3] = ["disable", "new", "inherit"];
    let Some(last) = param.values.last() else { return Some("new") };
    if last.text.is_empty() {
        return Some("new");
    }
    let number = || integer(&last.text).and_then(|number| usize::try_from(number).ok());
    let word = WORDS.iter().position(|word| last.text.eq_ignore_ascii_case(word));
    WORDS.get(word.or_else(number)?).copied()
}

/// The addresses of `ip4.addr` or `ip6.addr`, one each. jail(8) takes off the interface and what follows the address; what is
/// left is split at commas by libjail, in which `-` alone is none (`config.c`, `check_intparams`; `jailparam_import`).
pub(super) fn addresses(jail: &Jail, param: &Param, name: &str, place: &str, sink: &mut Sink) -> Setting {
    let mut all = Vec::new();
    let on_one = jail.texts("interface").last().is_some();
    for (number, value) in param.values.iter().enumerate().filter(|(_, value)| !value.text.is_empty()) {
        let place = join(place, &number.to_string());
        let whole: &str = &value.text;
        let plain = whole.split_once('|').map_or(whole, |(_, rest)| rest);
        let plain = plain.split(['/', ' ']).next().unwrap_or_default();
        if plain == "-" && param.values.len() == 1 {
            continue;
        }
        let v4 = name == "ip4.addr";
        let other = |text: &&str| text.parse().map_or(true, |address: IpAddr| address.is_ipv4() != v4);
        if let Some(bad) = plain.split(',').find(other) {
            let family = if v4 { "an IPv4" } else { "an IPv6" };
            let message =
                format!("{}: `{}` in `{name}` is not {family} address", shown(&jail.name), shown(bad));
            let help =
                "as in jail(8): em0|192.0.2.10/24, or the address alone; several with `,` between them";
            sink.wrong(jail, &param.only(value), message, help);
            continue;
        }
        if plain.contains(',') && (on_one || whole.contains('|')) {
            let message =
                format!("{}: `{}` is several addresses on one interface", shown(&jail.name), shown(whole));
            let help = "jail(8) would give ifconfig(8) all of it as one: write each by itself, em0|10.0.0.1, em0|10.0.0.2";
            sink.wrong(jail, &param.only(value), message, help);
            continue;
        }
        match plain.contains(',') {
            true => {
                all.extend(plain.split(',').map(|one| At { value: one.to_owned(), place: place.clone() }))
            }
            false => all.push(At { value: whole.to_owned(), place }),
        }
    }
    Setting::Texts(all)
}

/// The addresses the jail's host name has, as `ip_hostname` asks for them: looked up now, as jail(8) does when it starts the jail.
pub(super) fn by_name(jail: &Jail, param: &Param, sink: &mut Sink) -> Vec<IpAddr> {
    let Some(host) = jail.text("host.hostname") else { return Vec::new() };
    let mut found: Vec<IpAddr> = Vec::new();
    match (host, 0_u16).to_socket_addrs() {
        Ok(addresses) => {
            for address in addresses.map(|address| address.ip()) {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        Err(error) => {
            let message =
                format!("{}: `{}` has no address for `ip_hostname`: {error}", shown(&jail.name), shown(host));
            sink.wrong(jail, param, message, "write the addresses in ip4.addr and ip6.addr");
        }
    }
    found
}

impl Param {
    /// This parameter with only one of its values, to point at it.
    pub(super) fn only(&self, value: &Value) -> Self {
        Self {
            name: self.name.clone(),
            kind: self.kind,
            values: vec![value.clone()],
            place: self.place.clone(),
        }
    }

    /// What to say of a value that stands on a line of its own behind a bare name: the `;` between the two is missing.
    pub(super) fn swallowed(&self) -> Option<String> {
        let [value] = self.values.as_slice() else { return None };
        if !std::sync::Arc::ptr_eq(&self.place.source, &value.place.source) {
            return None;
        }
        let gap = self.place.source.inner().get(self.place.span.end..value.place.span.start)?;
        (gap.contains('\n') && !gap.contains('=')).then(|| {
            format!("a `;` is missing after `{}`: what follows is taken for its value", shown(&self.name))
        })
    }
}
