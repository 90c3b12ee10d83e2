//! A resolved fabric in the stable form of `warren config show`: one entry for each service, its parameters by their
//! names in jail(8), so that programs need not know where they were written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::jailconf::Shown;
use super::spec::{
    AddressMode, CommandLine, FabricSpec, InstanceSpec, MountKind, MountSpec, ParamValue, ServiceSpec,
    TemplateSource,
};

/// All services of a fabric.
pub(super) fn fabric(spec: &FabricSpec) -> Vec<Shown> {
    spec.services.values().map(service).collect()
}

fn service(spec: &ServiceSpec) -> Shown {
    let mut parameters = instance(&spec.instance);
    if !spec.depends_on.is_empty() {
        parameters.insert("depend".into(), spec.depends_on.clone());
    }
    Shown { name: spec.name.clone(), parameters }
}

fn instance(spec: &InstanceSpec) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            all.insert(name.to_owned(), values);
        }
    };
    for (name, commands) in spec.hooks.named() {
        put(name, commands.iter().map(command).collect());
    }
    put("command", spec.command.iter().map(command).collect());
    if let TemplateSource::Shared { path } = &spec.template.source {
        put("path", vec![path.display().to_string()]);
    }
    put("host.hostname", spec.hostname.iter().cloned().collect());
    put("zfs.dataset", spec.datasets.clone());
    put("exec.jail_user", spec.jail_user.iter().cloned().collect());
    put("exec.system_user", spec.system_user.iter().cloned().collect());
    put("exec.fib", spec.fib.iter().map(u32::to_string).collect());
    put("exec.consolelog", spec.consolelog.iter().map(|path| path.display().to_string()).collect());
    put("exec.timeout", spec.exec_timeout.iter().map(|wait| wait.as_secs().to_string()).collect());
    put("stop.timeout", vec![spec.stop_timeout.as_secs().to_string()]);
    for (name, value) in [
        ("exec.clean", spec.clean_env),
        ("exec.system_jail_user", spec.system_jail_user),
        ("persist", spec.persist),
        ("vnet", spec.links.iter().any(|link| link.vnet)),
    ] {
        put(name, vec![value.to_string()]);
    }
    for (name, kind) in [
        ("mount.devfs", MountKind::Devfs),
        ("mount.fdescfs", MountKind::Fdescfs),
        ("mount.procfs", MountKind::Procfs),
    ] {
        put(name, vec![spec.mounts.iter().any(|mount| mount.kind == kind).to_string()]);
    }
    let plain = spec.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Mount | MountKind::Fstab));
    put("mount", plain.map(line).collect());
    let fixed = spec.links.iter().flat_map(|link| match &link.address {
        AddressMode::Fixed { addresses } => addresses.as_slice(),
        AddressMode::Auto | AddressMode::Dhcp => &[],
    });
    let (v4, v6) = fixed.partition::<Vec<&IpAddr>, _>(|address| address.is_ipv4());
    put("ip4.addr", v4.iter().map(ToString::to_string).collect());
    put("ip6.addr", v6.iter().map(ToString::to_string).collect());
    if let Some(classic) = &spec.classic {
        put("name", vec![classic.jail.clone()]);
        put("jid", classic.jid.iter().map(i32::to_string).collect());
        put("vnet", vec![classic.vnet.to_string()]);
        put("vnet.interface", classic.interfaces.clone());
        let on = |address: &IpAddr| {
            let alias = classic.aliases.iter().find(|alias| alias.address.addr() == *address);
            alias
                .map_or_else(|| address.to_string(), |alias| format!("{}|{}", alias.interface, alias.address))
        };
        let (v4, v6) = classic.addresses.iter().partition::<Vec<&IpAddr>, _>(|address| address.is_ipv4());
        put("ip4.addr", v4.into_iter().map(on).collect());
        put("ip6.addr", v6.into_iter().map(on).collect());
    }
    for (name, value) in &spec.params {
        put(name, param(value));
    }
    all
}

fn param(value: &ParamValue) -> Vec<String> {
    match value {
        ParamValue::Bool(value) => vec![value.to_string()],
        ParamValue::Int(value) => vec![value.to_string()],
        ParamValue::Text(text) => vec![text.clone()],
        ParamValue::List(list) => list.clone(),
    }
}

/// A command as a line for a shell.
fn command(command: &CommandLine) -> String {
    match command {
        CommandLine::Shell(line) => line.clone(),
        CommandLine::Argv(words) => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-+=./:,@%".contains(&b);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A mount as a line of fstab(5), its mount point as the instance sees it.
pub(super) fn line(mount: &MountSpec) -> String {
    let field = |text: &str| {
        text.replace('\\', "\\\\").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012")
    };
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    options.extend(mount.options.iter().map(String::as_str));
    let (source, target) = (field(&mount.source), field(&mount.target.display().to_string()));
    format!("{source} {target} {} {}", mount.fstype, options.join(","))
}
