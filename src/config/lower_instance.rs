//! What one instance is made from: the `jail` table as fields of [`InstanceSpec`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::decode::At;
use super::diagnostics::{Problem, join};
use super::fstab;
use super::jail::{self, JailTable, Setting};
use super::lower::Lowering;
use super::params::{Lookup, lookup};
use super::spec::{
    Hooks, InstanceSpec, MountKind, MountSpec, OnStopFailure, ParamValue, TemplateSource, TemplateSpec,
};
use super::text::shown;

/// The ruleset jail(8) gives a devfs that says none: `devfsrules_jail`.
const DEVFS_RULESET: i64 = 4;

/// The template's `jail` table as the service overrides it. Places of the service lead to the template's text where the
/// setting comes from there.
pub(super) fn merged(
    owner: &str,
    template: Option<&At<JailTable>>,
    own: Option<&At<JailTable>>,
    low: &mut Lowering<'_>,
) -> JailTable {
    let nothing = JailTable::default();
    let merged = template
        .map_or(&nothing, |table| &table.value)
        .overridden_by(own.map_or(&nothing, |table| &table.value));
    for (name, setting) in &merged.0 {
        low.places.alias(jail::place(owner, name), &setting.place);
    }
    merged
}

/// An instance with what the `jail` table says; without links and command.
pub(super) fn instance(template: TemplateSpec, jail: &JailTable, low: &mut Lowering<'_>) -> InstanceSpec {
    InstanceSpec {
        mounts: mounts(&template.source, jail, low),
        template,
        links: Vec::new(),
        command: None,
        env: BTreeMap::new(),
        datasets: jail.texts("zfs.dataset").iter().map(|dataset| dataset.value.clone()).collect(),
        hooks: Hooks {
            prepare: jail.commands("exec.prepare"),
            prestart: jail.commands("exec.prestart"),
            created: jail.commands("exec.created"),
            start: jail.commands("exec.start"),
            poststart: jail.commands("exec.poststart"),
            prestop: jail.commands("exec.prestop"),
            stop: jail.commands("exec.stop"),
            quiesced: jail.commands("exec.quiesced"),
            poststop: jail.commands("exec.poststop"),
            release: jail.commands("exec.release"),
        },
        params: params(jail),
        hostname: jail.text("host.hostname").map(str::to_owned),
        exec_timeout: jail.wait("exec.timeout").filter(|wait| !wait.is_zero()),
        stop_timeout: jail.wait("stop.timeout").unwrap_or(Duration::from_secs(10)),
        drain: Duration::from_secs(5),
        jail_user: jail.text("exec.jail_user").map(str::to_owned),
        system_jail_user: jail.bool("exec.system_jail_user").unwrap_or(false),
        system_user: jail.text("exec.system_user").map(str::to_owned),
        clean_env: jail.bool("exec.clean").unwrap_or(true),
        fib: jail.int("exec.fib").and_then(|fib| fib.try_into().ok()),
        consolelog: jail.text("exec.consolelog").map(PathBuf::from),
        persist: jail.bool("persist").unwrap_or(false),
        on_stop_failure: OnStopFailure::Continue,
        classic: None,
    }
}

/// What the kernel gets as it is.
fn params(jail: &JailTable) -> BTreeMap<String, ParamValue> {
    let settings = jail.0.iter().filter_map(|(name, setting)| match (&setting.value, lookup(name)) {
        (Setting::Value(value), Lookup::Module) => Some((name.clone(), value.clone())),
        (Setting::Value(value), Lookup::Known(param)) if param.kernel => Some((name.clone(), value.clone())),
        _ => None,
    });
    settings.collect()
}

/// The mounts of the `jail` table, in jail(8)'s order.
fn mounts(source: &TemplateSource, jail: &JailTable, low: &mut Lowering<'_>) -> Vec<MountSpec> {
    let mut mounts = Vec::new();
    for line in jail.texts("mount") {
        match fstab::line(&line.value, MountKind::Mount) {
            Ok(mount) => mounts.extend(mount),
            Err(why) => low.report(
                Problem::new("config::mount", &line.place, why)
                    .help("as in fstab(5): \"/data /mnt nullfs ro\""),
            ),
        }
    }
    if let Some(file) = jail.text("mount.fstab") {
        let place = jail.get("mount.fstab").map_or_else(String::new, |setting| setting.place.clone());
        mounts.extend(fstab_file(&place, Path::new(file), low));
    }
    // A shared root is taken as it is: nothing is mounted into it unasked, since its instances would stack mounts.
    let devfs = jail.bool("mount.devfs").unwrap_or(!matches!(source, TemplateSource::Shared { .. }));
    let ruleset = jail.int("devfs_ruleset").unwrap_or(DEVFS_RULESET);
    let special = [
        (devfs, "devfs", "/dev", vec![format!("ruleset={ruleset}")], MountKind::Devfs),
        (jail.bool("mount.fdescfs").unwrap_or(false), "fdescfs", "/dev/fd", Vec::new(), MountKind::Fdescfs),
        (jail.bool("mount.procfs").unwrap_or(false), "procfs", "/proc", Vec::new(), MountKind::Procfs),
    ];
    for (wanted, fstype, target, options, kind) in special {
        if wanted {
            mounts.push(MountSpec {
                fstype: fstype.into(),
                source: fstype.into(),
                target: target.into(),
                options,
                read_only: false,
                kind,
            });
        }
    }
    mounts
}

/// Reads a file of fstab(5) lines. Now, and not at start: what runs must not depend on a file that may change.
fn fstab_file(place: &str, file: &Path, low: &mut Lowering<'_>) -> Vec<MountSpec> {
    let path = low.dir.join(file);
    let text = match (low.read)(&path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("{} cannot be read: {error}", shown(&path.display().to_string()));
            let help = "`mount.fstab` is read when the configuration is loaded; its targets are paths in the instance";
            low.report(Problem::new("config::fstab", place, message).help(help));
            return Vec::new();
        }
    };
    let mut mounts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match fstab::line(line, MountKind::Fstab) {
            Ok(mount) => mounts.extend(mount),
            Err(why) => {
                let message = format!("{}, line {}: {why}", shown(&path.display().to_string()), number + 1);
                low.report(Problem::new("config::fstab", place, message));
            }
        }
    }
    mounts
}

/// The place of the mounts' `n`-th in the terms of the file, for rules.
pub(super) fn mount_place(owner: &str, number: usize) -> String {
    join(&join(owner, "mounts"), &number.to_string())
}

/// Lets the places of an instance's mounts lead to where each was written.
pub(super) fn note_mounts(
    owner: &str,
    jail: &JailTable,
    instance: &InstanceSpec,
    own: &[String],
    low: &mut Lowering<'_>,
) {
    let mut lines = jail.texts("mount").iter();
    let mut moves = Vec::new();
    for (number, mount) in instance.mounts.iter().enumerate() {
        let setting = match mount.kind {
            MountKind::Mount => match own.get(number) {
                Some(place) => Some(place.clone()),
                None => lines.next().map(|line| line.place.clone()),
            },
            MountKind::Fstab => Some(jail::place(owner, "mount.fstab")),
            MountKind::Devfs => Some(jail::place(owner, "mount.devfs")),
            MountKind::Fdescfs => Some(jail::place(owner, "mount.fdescfs")),
            MountKind::Procfs => Some(jail::place(owner, "mount.procfs")),
        };
        moves.extend(setting.map(|setting| (mount_place(owner, number), setting)));
    }
    low.places.point(moves);
}
