//! What makes sense: the rules every spec keeps, wherever it came from.
//!
//! They look at the resolved spec alone, so that the loader (which adds spans), the API (which is sent specs by anyone)
//! and `warren scale` ask the same rules. Nothing passes here that pf, a shell, the kernel or DNS could take for
//! something else: character sets are closed in [`words`].

mod addresses;
mod classic;
mod dependencies;
mod instance;
mod network;
mod ports;
mod service;
pub(super) mod words;

pub(super) use addresses::overlaps;
pub(super) use ports::Published;

use super::diagnostics::{Problem, join};
use super::spec::FabricSpec;
use super::text::shown;

/// Everything that is wrong with the spec.
pub(super) fn check(spec: &FabricSpec) -> Vec<Problem> {
    let mut found = Vec::new();
    fabric(spec, &mut found);
    if let Some(Err(why)) = spec.origin.as_deref().map(|origin| words::path(origin, false)) {
        found.push(Problem::new(
            "config::origin",
            "origin",
            format!("the file it is of has a name that cannot be: {why}"),
        ));
    }
    for (name, network) in &spec.networks {
        named("networks", name, &network.name, &mut found);
        network::check(spec, network, &join("networks", name), &mut found);
    }
    network::together(spec, &mut found);
    for (name, template) in &spec.templates {
        named("templates", name, &template.template.name, &mut found);
        let place = join("templates", name);
        words::object_name("template", name, &place, 63, &mut found);
        instance::check(template, &place, &mut found);
    }
    for (name, service) in &spec.services {
        named("services", name, &service.name, &mut found);
        service::check(spec, service, &join("services", name), &mut found);
        classic::check(service, &join("services", name), &mut found);
    }
    service::together(spec, &mut found);
    classic::together(spec, &mut found);
    ports::check(spec, &mut found);
    dependencies::check(spec, &mut found);
    addresses::check(spec, &mut found);
    found
}

/// A spec sent to the API may file an object under another name than its own.
fn named(table: &str, key: &str, name: &str, found: &mut Vec<Problem>) {
    if key != name {
        let message = format!("what is filed under `{}` calls itself `{}`", shown(key), shown(name));
        found.push(Problem::new("config::name", join(table, key), message));
    }
}

fn fabric(spec: &FabricSpec, found: &mut Vec<Problem>) {
    words::object_name("fabric", &spec.name, "name", 63, found);
    if let Err(why) = words::domain(&spec.domain) {
        let message = format!("`{}` cannot be the fabric's domain: {why}", shown(&spec.domain));
        let help = "a domain is labels of a-z, 0-9 and -, at most 63 bytes each, joined by dots";
        found.push(Problem::new("config::domain", "domain", message).help(help).because("name"));
    }
    for (number, address) in spec.forward.iter().enumerate() {
        let place = join("forward", &number.to_string());
        if address.is_unspecified() || address.is_multicast() {
            found.push(Problem::new("config::forward", place, format!("{address} cannot be a resolver")));
        } else if let Some(network) = spec.networks.values().find(|network| {
            network.gateway4.map(Into::into) == Some(*address)
                || network.gateway6.map(Into::into) == Some(*address)
        }) {
            let message = format!(
                "{address} is the gateway of network `{}`: DNS would ask itself",
                shown(&network.name)
            );
            found.push(
                Problem::new("config::forward", place, message).help("name a resolver outside the fabric"),
            );
        }
    }
}
