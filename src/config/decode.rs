//! From a parsed TOML tree to the raw types, *all* problems at once.
//!
//! serde stops at the first error; a user wants to hear of every slip in one go. So the tree (with its spans) is walked
//! here: what cannot be read is reported and left out, and the walk goes on. [`table!`] makes a raw table, its decoder
//! and its list of keys from one declaration, so that decoder, schema and "did you mean" cannot disagree.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Places, Problem, Problems, Source, Span, join, nearest};

/// A value read from the file, with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: String,
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Where a walk puts what it finds.
pub(super) struct Sink {
    pub(super) problems: Problems,
    pub(super) places: Places,
    pub(super) source: Arc<Source>,
}

impl Sink {
    /// Reports a problem at the span of a node.
    pub(super) fn wrong(&mut self, node: &Node<'_>, problem: Problem) {
        let problem = problem.at(&self.source, node.span.clone());
        self.problems.push(problem);
    }
}

/// A value in the tree.
pub(super) struct Node<'a> {
    pub(super) value: &'a DeValue<'a>,
    /// Of the value; of the key if the value is a table with a header of its own.
    pub(super) span: Span,
    pub(super) place: String,
}

impl<'a> Node<'a> {
    fn child(
        &self,
        key: &str,
        key_span: Option<Span>,
        value: &'a Spanned<DeValue<'a>>,
        sink: &mut Sink,
    ) -> Node<'a> {
        let span = match (value.get_ref(), key_span) {
            (DeValue::Table(_), Some(key)) => key,
            _ => value.span(),
        };
        let place = join(&self.place, key);
        sink.places.note(&place, &sink.source, span.clone());
        Node { value: value.get_ref(), span, place }
    }

    /// The entries of a table, in the order of the text.
    pub(super) fn entries(&self, table: &'a DeTable<'a>, sink: &mut Sink) -> Vec<(&'a str, Span, Node<'a>)> {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| {
                let name = key.get_ref().as_ref();
                (name, key.span(), self.child(name, Some(key.span()), value, sink))
            })
            .collect();
        entries.sort_by_key(|(_, span, _)| span.start);
        entries
    }

    /// The items of an array.
    pub(super) fn items(&self, array: &'a [Spanned<DeValue<'a>>], sink: &mut Sink) -> Vec<Node<'a>> {
        array.iter().enumerate().map(|(at, value)| self.child(&at.to_string(), None, value, sink)).collect()
    }

    /// Reports that the value is of another kind than wanted.
    pub(super) fn mismatch(&self, wanted: &str, sink: &mut Sink) {
        let kind = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let problem = Problem::new("config::type", &self.place, format!("`{}` must be {wanted}", self.place));
        sink.wrong(self, problem.label(format!("this is {kind}")));
    }

    /// Reads a string with `parse`, whose error is a sentence.
    pub(super) fn parse<T>(
        &self,
        wanted: &str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        sink: &mut Sink,
    ) -> Option<T> {
        let DeValue::String(text) = self.value else {
            self.mismatch(&format!("{wanted}, as \"{example}\""), sink);
            return None;
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                let problem = Problem::new("config::value", &self.place, why)
                    .label(format!("{wanted} is expected here"))
                    .help(format!("write it as \"{example}\""));
                sink.wrong(self, problem);
                None
            }
        }
    }
}

/// What can be read from a TOML value. `None` means that a problem was reported.
pub(super) trait Decode: Sized {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self>;

    /// Reads the value and keeps its place.
    fn decode_at(node: &Node<'_>, sink: &mut Sink) -> Option<At<Self>> {
        let value = Self::decode(node, sink)?;
        Some(At { value, place: node.place.clone() })
    }
}

impl Decode for String {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        let Some(text) = node.value.as_str() else {
            node.mismatch("a string", sink);
            return None;
        };
        Some(text.to_owned())
    }
}

impl Decode for bool {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        let value = node.value.as_bool();
        if value.is_none() {
            node.mismatch("true or false, without quotes", sink);
        }
        value
    }
}

/// The integer at a node, within bounds.
pub(super) fn integer(node: &Node<'_>, min: i64, max: i64, sink: &mut Sink) -> Option<i64> {
    let Some(number) = node.value.as_integer() else {
        node.mismatch("a whole number", sink);
        return None;
    };
    // What does not fit into 64 bits is out of bounds as well.
    let value = i64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| (min..=max).contains(n));
    if value.is_none() {
        let message = format!("`{}` must be from {min} to {max}", node.place);
        sink.wrong(node, Problem::new("config::range", &node.place, message).label("out of bounds"));
    }
    value
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Decode for $type {
            fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
                integer(node, i64::from(<$type>::MIN), i64::from(<$type>::MAX), sink)?.try_into().ok()
            }
        }
    )*};
}
integers!(u16, u32, i64);

impl Decode for std::net::IpAddr {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        let parse = |text: &str| {
            text.parse().map_err(|_| format!("`{}` is not an address", super::text::shown(text)))
        };
        node.parse("an address", "10.77.0.1", parse, sink)
    }
}

impl Decode for std::net::Ipv4Addr {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        let parse = |text: &str| {
            text.parse().map_err(|_| format!("`{}` is not an IPv4 address", super::text::shown(text)))
        };
        node.parse("an IPv4 address", "10.77.0.2", parse, sink)
    }
}

impl<T: Decode> Decode for Vec<At<T>> {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        let Some(array) = node.value.as_array() else {
            node.mismatch("a list", sink);
            return None;
        };
        let items = node.items(array, sink);
        Some(items.iter().filter_map(|item| T::decode_at(item, sink)).collect())
    }
}

impl<T: Decode> Decode for BTreeMap<String, At<T>> {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        let Some(table) = node.value.as_table() else {
            node.mismatch("a table", sink);
            return None;
        };
        let entries = node.entries(table, sink);
        Some(
            entries
                .iter()
                .filter_map(|(key, _, child)| Some(((*key).to_owned(), T::decode_at(child, sink)?)))
                .collect(),
        )
    }
}

/// One value, or a list of them.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)] // The variants are for the schema: decoding makes a list of both.
pub(super) enum OneOrMany<T> {
    /// A single one.
    One(T),
    /// Several.
    Many(Vec<At<T>>),
}

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        if node.value.is_array() {
            return Vec::decode(node, sink).map(Self::Many);
        }
        Some(Self::Many(vec![T::decode_at(node, sink)?]))
    }
}

impl<T> OneOrMany<T> {
    /// All of them.
    pub(super) fn list(&self) -> &[At<T>] {
        match self {
            Self::Many(list) => list,
            Self::One(_) => &[],
        }
    }
}

/// Reports a key nobody knows, with what may have been meant.
pub(super) fn unknown_key(node: &Node<'_>, key: &str, span: Span, known: &[&str], sink: &mut Sink) {
    let shown = super::text::shown(key);
    let whose =
        if node.place.is_empty() { "at the top level".to_owned() } else { format!("in `{}`", node.place) };
    let help = match (foreign_word(key, known), nearest(key, known.iter().copied())) {
        (Some(hint), _) => hint,
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => format!("known here: {}", known.join(", ")),
    };
    let problem =
        Problem::new("config::unknown-key", join(&node.place, key), format!("unknown key `{shown}` {whose}"));
    sink.problems.push(problem.label("not known here").help(help).at(&sink.source.clone(), span));
}

/// What other tools call what Warren has under another name.
fn foreign_word(key: &str, known: &[&str]) -> Option<String> {
    let ours = match key {
        "image" | "from" | "base" => "template",
        "instances" | "count" | "scale" => "replicas",
        "environment" => "env",
        "volumes" | "volume" | "mount" => "mounts",
        "healthcheck" | "health_check" | "check" => "health",
        "expose" => "ports",
        "subnet" | "cidr" | "prefix" | "ip" => "ipv4",
        "internal" | "isolation" | "isolate" => "isolated",
        "cmd" | "entrypoint" | "exec.start" => "command",
        "depends" | "after" | "requires" | "depend" => "depends_on",
        "network" => "networks",
        "dns" | "resolvers" | "nameservers" => "forward",
        "fabric" if known.contains(&"forward") => {
            return Some("`name`, `domain` and `forward` stand at the top of the file, in no table".into());
        }
        _ => return None,
    };
    known.contains(&ours).then(|| format!("Warren calls it `{ours}`"))
}

/// Declares a raw table: a struct whose every field is optional, its decoder, and its keys. A field that cannot be left
/// out says `#[schemars(required)]`, and the checked layer reports its absence.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $key:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[$about])* pub(super) $key: Option<$crate::config::decode::At<$type>>,)*
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::decode::Node<'_>,
                sink: &mut $crate::config::decode::Sink,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$(stringify!($key)),*];
                let Some(table) = node.value.as_table() else {
                    node.mismatch("a table", sink);
                    return None;
                };
                let mut read = Self { $($key: None,)* };
                for (key, span, child) in node.entries(table, sink) {
                    match key {
                        $(stringify!($key) => {
                            read.$key = <$type as $crate::config::decode::Decode>::decode_at(&child, sink);
                        })*
                        _ => $crate::config::decode::unknown_key(node, key, span, KEYS, sink),
                    }
                }
                Some(read)
            }
        }
    };
}
pub(super) use table;
