//! The `jail` table: quoted jail(8) parameters, read by what [`params`](super::params) knows of each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};
use toml::de::DeValue;

use super::decode::{At, Decode, Node, Sink, integer};
use super::diagnostics::{Problem, join};
use super::forms::{Wait, one_of};
use super::params::{Kind, Lookup, PARAMS, lookup};
use super::spec::{CommandLine, ParamValue};
use super::text::shown;

/// The value of a parameter, of the kind its name asks for.
#[derive(Debug, Clone)]
pub(super) enum Setting {
    /// Something the kernel may get as it is.
    Value(ParamValue),
    /// Several strings, each with its place.
    Texts(Vec<At<String>>),
    /// Commands, the empty ones left out.
    Commands(Vec<CommandLine>),
    /// A duration.
    Wait(Duration),
}

/// A `jail` table.
#[derive(Debug, Clone, Default)]
pub(super) struct JailTable(pub(super) BTreeMap<String, At<Setting>>);

impl JailTable {
    /// This table with what `over` says in place of its own. Values replace, also lists: as `=` in jail.conf.
    pub(super) fn overridden_by(&self, over: &Self) -> Self {
        let mut all = self.0.clone();
        all.extend(over.0.clone());
        Self(all)
    }

    pub(super) fn get(&self, name: &str) -> Option<&At<Setting>> {
        self.0.get(name)
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        match self.0.get(name)?.value {
            Setting::Value(ParamValue::Bool(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        match self.0.get(name)?.value {
            Setting::Value(ParamValue::Int(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match &self.0.get(name)?.value {
            Setting::Value(ParamValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn texts(&self, name: &str) -> &[At<String>] {
        match self.0.get(name).map(|setting| &setting.value) {
            Some(Setting::Texts(texts)) => texts,
            _ => &[],
        }
    }

    pub(super) fn commands(&self, name: &str) -> Vec<CommandLine> {
        match self.0.get(name).map(|setting| &setting.value) {
            Some(Setting::Commands(commands)) => commands.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn wait(&self, name: &str) -> Option<Duration> {
        match self.0.get(name)?.value {
            Setting::Wait(wait) => Some(wait),
            _ => None,
        }
    }
}

impl Decode for JailTable {
    fn decode(node: &Node<'_>, sink: &mut Sink) -> Option<Self> {
        let Some(table) = node.value.as_table() else {
            node.mismatch("a table of jail(8) parameters", sink);
            return None;
        };
        let mut settings = BTreeMap::new();
        for (key, span, child) in node.entries(table, sink) {
            let kind = match lookup(key) {
                Lookup::Known(param) => param.kind,
                Lookup::Module => Kind::Any,
                Lookup::Unknown(hint) => {
                    if unquoted(key, &child, sink) {
                        continue;
                    }
                    let message = format!("`{}` is not a parameter of jail(8)", shown(key));
                    let problem = Problem::new("config::unknown-parameter", &child.place, message).help(
                        hint.unwrap_or_else(|| {
                            "jail(8) lists them; keys of the service go above this table".into()
                        }),
                    );
                    sink.problems.push(problem.at(&sink.source.clone(), span));
                    continue;
                }
            };
            if let Kind::Refused(why, instead) = kind {
                let problem =
                    Problem::new("config::refused", &child.place, format!("`{key}` cannot be set: {why}"));
                sink.problems.push(problem.help(instead).at(&sink.source.clone(), span));
                continue;
            }
            if unquoted(key, &child, sink) {
                continue;
            }
            if let Some(value) = setting(kind, &child, sink) {
                settings.insert(key.to_owned(), At { value, place: child.place.clone() });
            }
        }
        Some(Self(settings))
    }
}

/// Reports `exec.start = …` without quotes, which TOML reads as a table `exec`.
fn unquoted(key: &str, child: &Node<'_>, sink: &mut Sink) -> bool {
    let Some(table) = child.value.as_table() else { return false };
    let inner = table.iter().next().map_or("…", |(inner, _)| inner.get_ref().as_ref());
    let message = format!("`{}` is a table here", shown(key));
    let problem = Problem::new("config::unquoted", &child.place, message).help(format!(
        "parameters with a dot are quoted: \"{}.{}\" = …",
        shown(key),
        shown(inner)
    ));
    sink.wrong(child, problem);
    true
}

fn setting(kind: Kind, node: &Node<'_>, sink: &mut Sink) -> Option<Setting> {
    Some(match kind {
        Kind::Bool => Setting::Value(ParamValue::Bool(bool::decode(node, sink)?)),
        Kind::Int(min, max) => Setting::Value(ParamValue::Int(integer(node, min, max, sink)?)),
        Kind::Text(most) => {
            let text = String::decode(node, sink)?;
            if text.len() > most {
                let message = format!("`{}` is longer than {most} bytes", node.place);
                sink.wrong(node, Problem::new("config::range", &node.place, message));
                return None;
            }
            Setting::Value(ParamValue::Text(text))
        }
        Kind::Texts => Setting::Texts(match node.value {
            DeValue::Array(_) => Vec::decode(node, sink)?,
            DeValue::String(_) => vec![String::decode_at(node, sink)?],
            _ => {
                node.mismatch("a string or a list of strings", sink);
                return None;
            }
        }),
        Kind::Commands => Setting::Commands(commands(node, sink)?),
        Kind::Wait => Setting::Wait(Wait::decode(node, sink)?.0),
        Kind::Words(words) => Setting::Value(ParamValue::Text(one_of(node, words, sink)?.to_owned())),
        Kind::Vnet => Setting::Value(ParamValue::Bool(match node.value {
            DeValue::Boolean(value) => *value,
            _ => one_of(node, &["new", "inherit"], sink)? == "new",
        })),
        Kind::Any => Setting::Value(any(node, sink)?),
        Kind::Refused(..) => return None,
    })
}

/// A string is one command; a list holds commands, of which a list is one with its arguments. As in jail(8) an empty
/// string is no command, so that a service can cancel what its template says.
fn commands(node: &Node<'_>, sink: &mut Sink) -> Option<Vec<CommandLine>> {
    let commands = match node.value {
        DeValue::String(_) => vec![CommandLine::decode(node, sink)?],
        DeValue::Array(array) => {
            let items = node.items(array, sink);
            let commands: Vec<_> = items.iter().map(|item| CommandLine::decode(item, sink)).collect();
            commands.into_iter().collect::<Option<_>>()?
        }
        _ => {
            node.mismatch("a command or a list of commands", sink);
            return None;
        }
    };
    Some(
        commands
            .into_iter()
            .filter(|command| !matches!(command, CommandLine::Shell(text) if text.is_empty()))
            .collect(),
    )
}

fn any(node: &Node<'_>, sink: &mut Sink) -> Option<ParamValue> {
    Some(match node.value {
        DeValue::Boolean(value) => ParamValue::Bool(*value),
        DeValue::Integer(_) => ParamValue::Int(i64::decode(node, sink)?),
        DeValue::String(text) => ParamValue::Text(text.clone().into_owned()),
        DeValue::Array(_) => {
            let list: Vec<At<String>> = Vec::decode(node, sink)?;
            ParamValue::List(list.into_iter().map(|item| item.value).collect())
        }
        _ => {
            node.mismatch("a boolean, a whole number, a string or a list of strings", sink);
            return None;
        }
    })
}

/// The place of a parameter in the `jail` table of `owner`.
pub(super) fn place(owner: &str, name: &str) -> String {
    join(&join(owner, "jail"), name)
}

impl JsonSchema for JailTable {
    fn schema_name() -> Cow<'static, str> {
        "Jail".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let command = generator.subschema_for::<CommandLine>();
        let wait = generator.subschema_for::<Wait>();
        let mut properties = serde_json::Map::new();
        for param in PARAMS {
            let mut about = match param.kind {
                Kind::Bool => json!({ "type": "boolean" }),
                Kind::Int(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
                Kind::Text(most) => json!({ "type": "string", "maxLength": most }),
                Kind::Texts => json!({ "anyOf": [
                    { "type": "string" }, { "type": "array", "items": { "type": "string" } },
                ] }),
                Kind::Commands => json!({ "anyOf": [
                    { "type": "string" }, { "type": "array", "items": command },
                ] }),
                Kind::Wait => json!({ "allOf": [wait] }),
                Kind::Words(words) => json!({ "enum": words }),
                Kind::Vnet => json!({ "enum": [true, false, "new", "inherit"] }),
                Kind::Any => json!({}),
                Kind::Refused(..) => {
                    properties.insert(param.name.into(), false.into());
                    continue;
                }
            };
            if let Value::Object(about) = &mut about {
                about.insert("description".into(), param.about.into());
            }
            properties.insert(param.name.into(), about);
        }
        schemars::json_schema!({
            "description": "Parameters of jail(8), quoted where they hold a dot.",
            "type": "object",
            "properties": properties,
            // Parameters of kernel modules, meta.KEY and env.KEY.
            "patternProperties": { "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)+$": {} },
            "additionalProperties": false,
        })
    }
}
