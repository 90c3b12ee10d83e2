//! A configuration of either kind, and how the two are told apart.

use std::path::Path;

use toml::de::DeTable;

use super::diagnostics::{Problem, Report};
use super::jailconf::{self, JailConf, Shown};
use super::spec::FabricSpec;

/// What a file turned out to be.
#[derive(Debug)]
pub enum Document {
    /// A warren.toml.
    Fabric(Box<FabricSpec>),
    /// A jail.conf.
    Jails(JailConf),
}

impl Document {
    /// Reads `path`, as a jail.conf if `forced`, else as what it seems to be. `-` is the standard input. It is read once: a pipe has its
    /// text only once.
    ///
    /// # Errors
    ///
    /// The problems of the file as what it was taken for. Those of single jails are not among them.
    pub fn load(path: &Path, forced: bool) -> Result<Self, Report> {
        let named = |end: &str| path.extension().is_some_and(|extension| extension == end);
        let bytes = match jailconf::bytes(path, &mut jailconf::OnDisk) {
            Ok(bytes) if forced || guess(&String::from_utf8_lossy(&bytes), named("toml"), named("conf")) => {
                bytes
            }
            Ok(bytes) => return super::read(path, bytes).map(|spec| Self::Fabric(Box::new(spec))),
            // The message names what would be read.
            Err(error) if forced || named("conf") => return Err(jailconf::unreadable(path, &error)),
            Err(error) => return Err(super::unreadable(path, &error)),
        };
        jailconf::parse(path, bytes, &mut jailconf::OnDisk).map(Self::Jails)
    }

    /// The resolved instances in the stable form: all, or the one that is wanted.
    ///
    /// # Errors
    ///
    /// What is wrong with them; or that there is none of the name.
    pub fn shown(&self, only: Option<&str>) -> Result<Vec<Shown>, Report> {
        let all = match self {
            Self::Jails(conf) => {
                conf.verify(only)?;
                conf.shown()
            }
            Self::Fabric(spec) => super::shown::fabric(spec),
        };
        let Some(name) = only else { return Ok(all) };
        let found: Vec<Shown> = all.into_iter().filter(|shown| shown.name == name).collect();
        if found.is_empty()
            && let Self::Fabric(spec) = self
        {
            let known: Vec<&str> = spec.services.keys().map(String::as_str).collect();
            let message = format!("fabric `{}` has no service `{}`", spec.name, super::text::shown(name));
            let problem = Problem::new("config::missing-service", "services", message);
            return Err(Report::new(&*spec.name, vec![problem.help(format!("it has {}", known.join(", ")))]));
        }
        Ok(found)
    }
}

/// Whether a text seems to be a jail.conf. One that is right is told apart by the text alone: what a jail.conf cannot do
/// without, `;` or `{`, TOML does not have there. For others the file's name decides.
fn guess(text: &str, named_toml: bool, named_conf: bool) -> bool {
    const OURS: [&str; 6] = ["name", "domain", "forward", "networks", "templates", "services"];
    if let Ok(table) = DeTable::parse(text) {
        let table = table.into_inner();
        // Nothing but comments is either; another program's INI file may be TOML, and is neither.
        return if table.is_empty() {
            !named_toml
        } else {
            named_conf && !OURS.iter().any(|key| table.contains_key(*key))
        };
    }
    if jailconf::has_jails(text) {
        return true;
    }
    if named_toml || named_conf {
        return named_conf;
    }
    let end = |line: &str, ends: &[char]| {
        line.split(['#']).next().is_some_and(|code| code.trim_end().ends_with(ends))
    };
    let theirs = text.lines().filter(|line| end(line, &[';', '{', '}'])).count();
    let ours = text.lines().filter(|line| line.trim_start().starts_with('[')).count();
    theirs > ours
}

#[cfg(test)]
mod tests {
    use super::guess;

    #[test]
    fn the_text_says_what_it_is_and_for_a_broken_one_its_name() {
        let toml = "name = \"shop\"\n[services.web]\ntemplate = \"host\"\n";
        let jails = "path = \"/j/$name\";\nweb { persist; }\n";
        for (text, toml_name, conf_name, wanted) in [
            (toml, false, false, false),
            (toml, false, true, false),
            (jails, false, false, true),
            (jails, true, false, true),
            ("# nothing\n", false, false, true),
            ("# nothing\n", true, false, false),
            ("[sshd]\nenabled = true\n", false, true, true),
            ("name = shop\n[services.web]\n", false, false, false),
            ("web { persist }\n", false, false, true),
        ] {
            assert_eq!(guess(text, toml_name, conf_name), wanted, "{text} {toml_name} {conf_name}");
        }
    }
}
