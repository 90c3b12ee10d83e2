//! Jails that keep their own names: what Warren may be asked to act on by a name it did not draw.

use std::collections::BTreeMap;

use super::super::diagnostics::{Problem, join};
use super::super::spec::{FabricSpec, ServiceSpec, TemplateSource};
use super::super::text::shown;
use super::instance::jail_place;
use super::words;

/// MAXHOSTNAMELEN less the final NUL.
const LONGEST: usize = 255;

pub(super) fn check(service: &ServiceSpec, place: &str, found: &mut Vec<Problem>) {
    let Some(classic) = &service.instance.classic else { return };
    let mut wrong = |param: &str, message: String, help: &str| {
        found.push(Problem::new("config::classic", jail_place(place, param), message).help(help));
    };
    let number = classic.jid.is_some_and(|jid| jid.to_string() == classic.jail);
    if let Err(why) = name(&classic.jail)
        && !number
    {
        let message = format!("`{}` cannot be a jail's name: {why}", shown(&classic.jail));
        wrong("name", message, "letters, digits and _-+@:%, with dots between parent and child");
    }
    if classic.jid.is_some_and(|jid| jid < 1) {
        wrong("jid", "a jail's number is above 0".into(), "leave it out: the kernel numbers jails");
    }
    if !matches!(service.instance.template.source, TemplateSource::Shared { .. }) {
        wrong(
            "name",
            "a jail that keeps its name keeps its root".into(),
            "take a template with shared = \"/path\"",
        );
    }
    if service.replicas > 1 {
        let message = format!("{} instances of one name", service.replicas);
        wrong("name", message, "leave `name` out, or say replicas = 1");
    }
    if !service.instance.links.is_empty() {
        wrong(
            "name",
            "a jail that keeps its name has no network of Warren's".into(),
            "leave `name` or `networks` out",
        );
    }
    if classic.vnet && !classic.addresses.is_empty() {
        let help = "an interface in the jail is given its address there, in exec.start or by its rc.conf";
        wrong("ip4.addr", "a jail with `vnet` has no addresses of the host's stack".into(), help);
    }
    if !classic.vnet && !classic.interfaces.is_empty() {
        wrong("vnet.interface", "`vnet.interface` without `vnet`".into(), "say vnet = true");
    }
    let aliases = classic.aliases.iter().map(|alias| ("ip4.addr", &alias.interface));
    for (param, interface) in
        aliases.chain(classic.interfaces.iter().map(|interface| ("vnet.interface", interface)))
    {
        if let Err(why) = words::interface(interface) {
            wrong(
                param,
                format!("`{}` is no interface: {why}", shown(interface)),
                "an interface of the host: em0",
            );
        }
    }
}

/// A name the kernel takes, and that nothing takes for another jail of Warren's, a number, an option or more than a word: it is the
/// host name, too, where none is said (jail(8)), and hooks are given it.
fn name(name: &str) -> Result<(), &'static str> {
    let part = |part: &str| match part {
        "" => Err("a component is empty"),
        _ if part.bytes().all(|b| b.is_ascii_digit()) => Err("a component is a number"),
        _ if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+@:%".contains(&b)) => {
            Err("it holds something other than letters, digits and _-+@:%")
        }
        _ if part.starts_with('-') => Err("a component starts with -"),
        _ => Ok(()),
    };
    if name.len() > LONGEST {
        return Err("it is longer than 255 bytes");
    }
    if name.starts_with("warren-") {
        return Err("Warren draws names that begin with warren-");
    }
    name.split('.').try_for_each(part)
}

/// Services towards each other: one name, one jail.
pub(super) fn together(spec: &FabricSpec, found: &mut Vec<Problem>) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for service in spec.services.values() {
        let Some(classic) = &service.instance.classic else { continue };
        if let Some(first) = names.insert(&classic.jail, &service.name) {
            let place = join("services", &service.name);
            let message =
                format!("jail `{}` is also that of service `{}`", shown(&classic.jail), shown(first));
            found.push(Problem::new("config::classic", jail_place(&place, "name"), message));
        }
    }
}
