//! What `warren doctor` sees of this machine; [`requirements`](crate::host::requirements) judges it.

use super::{pf, sysctl, tool};
use crate::host::requirements::{self, Seen};

/// Looks. What cannot be looked at is as if it were not there.
#[must_use]
pub fn look() -> Seen {
    let (modules, others): (Vec<String>, Vec<String>) = requirements::modules_needed()
        .iter()
        .map(|name| (*name).to_owned())
        .partition(|name| sysctl::has_module(name));
    let path = sysctl::text("kern.module_path").unwrap_or_default();
    let on_disk = |name: &String| {
        path.split(';').any(|dir| std::path::Path::new(dir).join(format!("{name}.ko")).exists())
    };
    Seen {
        root: nix::unistd::geteuid().is_root(),
        release: sysctl::text("kern.osrelease").unwrap_or_default(),
        vimage: sysctl::integer("kern.features.vimage") == Some(1),
        modules,
        loadable: others.into_iter().filter(on_disk).collect(),
        pf: pf::check().err().map(|failure| (failure.message, failure.hint)),
        sysctls: requirements::sysctls()
            .filter_map(|name| Some((name.to_owned(), sysctl::integer(name)?)))
            .collect(),
        listeners: requirements::listeners(&said("/usr/bin/sockstat", &["-46l", "-p", "53,67"])),
        rulesets: rulesets(),
        jailed: (sysctl::integer("security.jail.jailed") == Some(1))
            .then(|| sysctl::integer("security.jail.children.max").unwrap_or_default()),
        // Without pf this says that there is no /dev/pf.
        limits: requirements::limits(&said("/sbin/pfctl", &["-s", "memory"])),
        pools: said("/sbin/zpool", &["list", "-H", "-o", "name"]).lines().count(),
    }
}

/// What a program prints, or nothing if it cannot be run. `zpool` would load its module, which a look may not.
fn said(program: &str, arguments: &[&str]) -> String {
    if program.ends_with("zpool") && !sysctl::has_module("zfs") {
        return String::new();
    }
    tool::run(program, arguments, "").map(|said| said.out).unwrap_or_default()
}

/// The rulesets there are, and whether one of their rules unhides bpf.
fn rulesets() -> Vec<(u32, bool)> {
    let numbers = said("/sbin/devfs", &["rule", "showsets"]);
    let numbers = numbers.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
    let shows_bpf = |number: u32| {
        let rules = said("/sbin/devfs", &["rule", "-s", &number.to_string(), "show"]);
        rules.lines().any(|rule| rule.contains("path bpf") && rule.contains("unhide"))
    };
    numbers.map(|number| (number, shows_bpf(number))).collect()
}
