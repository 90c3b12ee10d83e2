//! The forms a value may take: notations in strings, words of closed sets, and keys that take several kinds of value.
//!
//! As in [`raw`](super::raw), doc comments of types and variants are descriptions in the JSON schema.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use toml::de::DeValue;

use super::decode::{At, Decode, Node, Sink, integer};
use super::raw::{RawHttp, RawLink, RawMount, RawPublish, RawRestart};
use super::spec::{CommandLine, OnStopFailure, Proto, Publish, RestartPolicy};
use super::text;

/// A type read from a string by one function, with its schema.
macro_rules! notation {
    ($(#[$meta:meta])* $name:ident($inner:ty), $wanted:literal, $example:literal, $parse:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, JsonSchema)]
        pub(super) struct $name(#[schemars(with = "String")] pub(super) $inner);

        impl Decode for $name {
            fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
                node.parse($wanted, $example, $parse, sink).map(Self)
            }
        }
    };
}

notation!(
    /// An IPv4 prefix: `10.77.0.0/24`.
    Prefix4(Ipv4Net), "an IPv4 prefix", "10.77.0.0/24",
    |text| text.parse().map_err(|_| format!("`{}` is not an IPv4 prefix", text::shown(text)))
);
notation!(
    /// An IPv6 prefix: `fd77:7::/64`.
    Prefix6(Ipv6Net), "an IPv6 prefix", "fd77:7::/64",
    |text| text.parse().map_err(|_| format!("`{}` is not an IPv6 prefix", text::shown(text)))
);
notation!(
    /// An address, a range (`10.0.0.5-10.0.0.9`) or a prefix.
    AddressRange((IpAddr, IpAddr)), "an address, a range or a prefix", "10.77.0.200-10.77.0.220", text::range
);

/// One word of a closed set.
macro_rules! word {
    ($(#[$meta:meta])* $name:ident($inner:ty) { $($word:literal => $value:expr,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $name(pub(super) $inner);

        impl Decode for $name {
            fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),*];
                one_of(node, WORDS, sink).and_then(|word| match word {
                    $($word => Some(Self($value)),)*
                    _ => None,
                })
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),*] })
            }
        }
    };
}

word!(
    /// A transport protocol.
    ProtoName(Proto) { "tcp" => Proto::Tcp, "udp" => Proto::Udp, }
);
word!(
    /// Which endings lead to a replacement.
    Policy(RestartPolicy) {
        "no" => RestartPolicy::No,
        "on-failure" => RestartPolicy::OnFailure,
        "always" => RestartPolicy::Always,
    }
);
word!(
    /// What a failing stop hook means.
    StopFailure(OnStopFailure) { "continue" => OnStopFailure::Continue, "abort" => OnStopFailure::Abort, }
);

/// The string at a node, if it is one of `words`.
pub(super) fn one_of<'a>(node: &Node<'a>, words: &[&str], sink: &mut Sink) -> Option<&'a str> {
    let quoted = || words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let Some(text) = node.value.as_str() else {
        node.mismatch(&format!("one of {}", quoted()), sink);
        return None;
    };
    if words.contains(&text) {
        return Some(text);
    }
    let help = match super::diagnostics::nearest(text, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("one of {}", quoted()),
    };
    let message = format!("`{}` cannot be \"{}\"", node.place, text::shown(text));
    sink.wrong(node, super::diagnostics::Problem::new("config::value", &node.place, message).help(help));
    None
}

/// A duration: a string (`"500ms"`, `"5s"`, `"1m30s"`) or a whole number of seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait(pub(super) Duration);

impl Decode for Wait {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        if node.value.is_integer() {
            let longest = i64::try_from(text::LONGEST.as_secs()).unwrap_or(i64::MAX);
            let seconds = integer(node, 0, longest, sink)?;
            return Some(Self(Duration::from_secs(seconds.unsigned_abs())));
        }
        node.parse("a duration", "5s", text::duration, sink).map(Self)
    }
}

impl JsonSchema for Wait {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Seconds, or a string such as \"500ms\", \"5s\", \"1m30s\", \"1h\".",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$" },
            ],
        })
    }
}

impl Decode for CommandLine {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::String(text) => Some(Self::Shell(text.clone().into_owned())),
            DeValue::Array(array) => {
                let items = node.items(array, sink);
                // All or nothing: a command with an argument missing is another command.
                let words: Vec<_> = items.iter().map(|item| String::decode(item, sink)).collect();
                words.into_iter().collect::<Option<Vec<_>>>().map(Self::Argv)
            }
            _ => {
                node.mismatch("a command: a string, or a list of program and arguments", sink);
                None
            }
        }
    }
}

impl JsonSchema for CommandLine {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A string, run by /bin/sh if it needs one, or program and arguments.",
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            ],
        })
    }
}

/// A network by name, or a table with its own choice of address.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum NetworkEntry {
    /// The network's name.
    Name(String),
    /// Name and address.
    Table(RawLink),
}

impl Decode for NetworkEntry {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::Table(_) => RawLink::decode(node, sink).map(Self::Table),
            DeValue::String(_) => String::decode(node, sink).map(Self::Name),
            _ => {
                node.mismatch("the name of a network, or a table { name = …, address = … }", sink);
                None
            }
        }
    }
}

/// Who serves DHCP on a network: Warren, from an address of its own, or the LAN beyond the uplink.
#[derive(Debug)]
pub(super) enum DhcpEntry {
    Own(Ipv4Addr),
    Lan,
}

impl Decode for DhcpEntry {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value.as_str() {
            Some("lan") => Some(Self::Lan),
            _ => Ipv4Addr::decode(node, sink).map(Self::Own),
        }
    }
}

impl JsonSchema for DhcpEntry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dhcp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The DHCP server's own address, or \"lan\".",
            "anyOf": [{ "type": "string", "enum": ["lan"] }, { "type": "string", "format": "ipv4" }],
        })
    }
}

/// How addresses are chosen: "auto" from the pool, "dhcp" by a client inside, or a list, one per replica.
#[derive(Debug)]
pub(super) enum AddressEntry {
    Auto,
    Dhcp,
    Fixed(Vec<At<IpAddr>>),
}

impl Decode for AddressEntry {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::Array(_) => Vec::decode(node, sink).map(Self::Fixed),
            DeValue::String(text) => match text.as_ref() {
                "auto" => Some(Self::Auto),
                "dhcp" => Some(Self::Dhcp),
                other if other.parse::<IpAddr>().is_ok() => Vec::decode_single(node, sink).map(Self::Fixed),
                _ => one_of(node, &["auto", "dhcp"], sink).map(|_| Self::Auto),
            },
            _ => {
                node.mismatch("\"auto\", \"dhcp\" or a list of addresses", sink);
                None
            }
        }
    }
}

/// A list made of the one value at a node.
trait Single: Sized {
    fn decode_single(node: &Node<'_>, sink: &mut Sink) -> Option<Self>;
}

impl<T: Decode> Single for Vec<At<T>> {
    fn decode_single(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        Some(vec![T::decode_at(node, sink)?])
    }
}

impl JsonSchema for AddressEntry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "\"auto\", \"dhcp\", an address, or a list of addresses: the n-th of each family for the n-th replica.",
            "anyOf": [
                { "type": "string", "enum": ["auto", "dhcp"] },
                { "type": "string", "format": "ip" },
                { "type": "array", "items": { "type": "string", "format": "ip" }, "minItems": 1 },
            ],
        })
    }
}

/// A published port: `"8080:80"`, `"127.0.0.1:8080:80/tcp"` or a table.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum PublishEntry {
    /// `[address:]port[:target][/proto]`.
    Text(#[schemars(with = "String")] Publish),
    /// The same in parts.
    Table(RawPublish),
}

impl Decode for PublishEntry {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::Table(_) => RawPublish::decode(node, sink).map(Self::Table),
            _ => node.parse("a published port", "8080:80", text::publish, sink).map(Self::Text),
        }
    }
}

/// A port of the service: a number (tcp) or `"53/udp"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortEntry(pub(super) u16, pub(super) Proto);

impl Decode for PortEntry {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        if node.value.is_integer() {
            let port = integer(node, 1, 65535, sink)?;
            return Some(Self(port.try_into().ok()?, Proto::Tcp));
        }
        node.parse("a port", "53/udp", text::port_proto, sink).map(|(port, proto)| Self(port, proto))
    }
}

impl JsonSchema for PortEntry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A port: 80 (tcp), \"53/udp\".",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^[0-9]{1,5}(/(tcp|udp))?$" },
            ],
        })
    }
}

/// A port by number, or by its name in `ports`.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(super) enum PortRef {
    /// The number.
    Number(#[schemars(range(min = 1))] u16),
    /// The name.
    Name(String),
}

impl Decode for PortRef {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::Integer(_) => Some(Self::Number(integer(node, 1, 65535, sink)?.try_into().ok()?)),
            DeValue::String(_) => String::decode(node, sink).map(Self::Name),
            _ => {
                node.mismatch("a port: a number, or a name of `ports`", sink);
                None
            }
        }
    }
}

/// A port, or port and path.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum HttpEntry {
    /// The port or its name; the path is `/`.
    Port(PortRef),
    /// Port and path.
    Table(RawHttp),
}

impl Decode for HttpEntry {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::Table(_) => RawHttp::decode(node, sink).map(Self::Table),
            _ => PortRef::decode(node, sink).map(Self::Port),
        }
    }
}

/// A restart policy, or a table with its waits.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum RestartEntry {
    /// The policy alone.
    Policy(Policy),
    /// Policy, waits and number of tries.
    Table(RawRestart),
}

impl Decode for RestartEntry {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::Table(_) => RawRestart::decode(node, sink).map(Self::Table),
            _ => Policy::decode(node, sink).map(Self::Policy),
        }
    }
}

/// The value of an environment variable: a string; numbers and booleans are written out.
#[derive(Debug, Clone, JsonSchema)]
pub(super) struct EnvValue(#[schemars(with = "EnvForms")] pub(super) String);

/// The forms of an environment value, for the schema.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)]
enum EnvForms {
    /// As it is.
    Text(String),
    /// In decimal.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
}

impl Decode for EnvValue {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::Integer(_) => {
                integer(node, i64::MIN, i64::MAX, sink).map(|number| Self(number.to_string()))
            }
            DeValue::Boolean(value) => Some(Self(value.to_string())),
            _ => String::decode(node, sink).map(Self),
        }
    }
}

/// A mount: `"source:target[:options]"` or a table.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum MountEntry {
    /// A nullfs mount in one string.
    Text(String),
    /// A mount of any type.
    Table(RawMount),
}

impl Decode for MountEntry {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        match node.value {
            DeValue::Table(_) => RawMount::decode(node, sink).map(Self::Table),
            DeValue::String(_) => String::decode(node, sink).map(Self::Text),
            _ => {
                node.mismatch("\"source:target\" or a table { source = …, target = … }", sink);
                None
            }
        }
    }
}
