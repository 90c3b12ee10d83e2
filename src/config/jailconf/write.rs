//! The stable form as a jail.conf again: every name and value quoted so that nothing in it means anything.

use super::names::is_jid;
use super::show::Shown;

/// A jail.conf that resolves to these jails.
#[must_use]
pub fn text(jails: &[Shown]) -> String {
    let mut text = String::new();
    for jail in jails {
        text.push_str(&format!("{} {{\n", quoted(&jail.name)));
        let own = [jail.name.clone()];
        for (name, values) in &jail.parameters {
            // What the block's name says cannot be said again.
            let implied = match name.as_str() {
                "jid" => is_jid(&jail.name),
                "name" => *values == own,
                _ => false,
            };
            if implied {
                continue;
            }
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            let name = quoted(name);
            text.push_str(&match values.is_empty() {
                true => format!("\t{name};\n"),
                false => format!("\t{name} = {};\n", values.join(", ")),
            });
        }
        text.push_str("}\n");
    }
    text
}

/// In single quotes, where only `\` and `'` mean something.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
