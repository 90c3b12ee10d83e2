//! What one instance is made from: its root, mounts, commands, environment and parameters.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};

use super::super::diagnostics::{Problem, join};
use super::super::params::{Kind, Lookup, is_free, lookup, well_formed};
use super::super::spec::{CommandLine, InstanceSpec, MountSpec, ParamValue, TemplateSource};
use super::super::text::{LONGEST, shown};
use super::{service, words};

/// Where Warren itself mounts its program in an instance.
const OWN: &str = "/.warren";
/// exec(3) refuses arguments beyond ARG_MAX, 512 KiB on FreeBSD; half of it is plenty.
const LONGEST_COMMAND: usize = 256 * 1024;

/// The place of a jail parameter.
pub(super) fn jail_place(owner: &str, name: &str) -> String {
    join(&join(owner, "jail"), name)
}

pub(super) fn check(instance: &InstanceSpec, place: &str, found: &mut Vec<Problem>) {
    source(instance, place, found);
    mounts(instance, place, found);
    if let Some(command) = &instance.command {
        self::command(command, "the command", &join(place, "command"), found);
    }
    for (name, commands) in instance.hooks.named() {
        let at = jail_place(place, name);
        for (number, command) in commands.iter().enumerate() {
            self::command(command, &format!("a command of `{name}`"), &join(&at, &number.to_string()), found);
        }
    }
    for (name, value) in &instance.env {
        let at = join(&join(place, "env"), name);
        let formed = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !formed {
            let message = format!("`{}` cannot name an environment variable", shown(name));
            found.push(
                Problem::new("config::env", &at, message).help("letters, digits and _, no digit first"),
            );
        }
        if value.contains('\0') {
            found.push(Problem::new("config::env", at, "an environment variable cannot hold a NUL"));
        }
    }
    settings(instance, place, found);
    params(instance, place, found);
}

fn source(instance: &InstanceSpec, place: &str, found: &mut Vec<Problem>) {
    // The problem is the template's, whoever uses it: said there, once.
    let of = join("templates", &instance.template.name);
    let (key, text, wrong) = match &instance.template.source {
        TemplateSource::Zfs { snapshot } => ("zfs", snapshot.clone(), words::dataset(snapshot, true).err()),
        TemplateSource::Directory { path } => {
            ("directory", path.display().to_string(), words::path(path, false).err())
        }
        TemplateSource::Shared { path } => {
            ("shared", path.display().to_string(), words::path(path, false).err())
        }
        TemplateSource::Host => return,
    };
    if let Some(why) = wrong {
        let message = format!(
            "template `{}` cannot be made from `{}`: {why}",
            shown(&instance.template.name),
            shown(&text)
        );
        let problem = Problem::new("config::template-source", join(&of, key), message);
        found.push(
            if key == "zfs" { problem.help("zfs = \"pool/path@snapshot\"") } else { problem }.because(place),
        );
    }
}

fn mounts(instance: &InstanceSpec, place: &str, found: &mut Vec<Problem>) {
    // A root that keeps its place may have file systems mounted on it and over one another, as jail(8) does it: the base system
    // read-only, and what is the jail's own over it.
    let stacks = instance.classic.is_some();
    let mut targets: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (number, mount) in instance.mounts.iter().enumerate() {
        let at = join(&join(place, "mounts"), &number.to_string());
        mount_words(mount, stacks, &at, found);
        let plain: PathBuf = mount.target.components().filter(|part| *part != Component::CurDir).collect();
        if let Some(first) = targets.insert(plain, at.clone()).filter(|_| !stacks) {
            let message = format!(
                "two mounts on {}: one would hide the other",
                shown(&mount.target.display().to_string())
            );
            found.push(Problem::new("config::mount", at, message).also(first, "the first"));
        }
    }
}

fn mount_words(mount: &MountSpec, stacks: bool, at: &str, found: &mut Vec<Problem>) {
    let wrong = |message: String| Problem::new("config::mount", at, message);
    let target = shown(&mount.target.display().to_string());
    if let Err(why) = words::path(&mount.target, stacks) {
        let problem = wrong(format!("`{target}` cannot be a mount point: {why}"));
        found.push(problem.help("mount points are paths as the instance sees them: /var/db"));
    } else if mount.target.starts_with(OWN) {
        found.push(wrong(format!("`{target}` cannot be a mount point: Warren's own program is below {OWN}")));
    }
    // MFSNAMELEN is 16 with the final NUL.
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if mount.fstype.is_empty() || mount.fstype.len() > 15 || !mount.fstype.bytes().all(word) {
        let problem = wrong(format!("`{}` is not a type of file system", shown(&mount.fstype)));
        found.push(problem.help("nullfs, tmpfs, devfs, fdescfs, procfs, unionfs, …"));
    }
    if matches!(mount.fstype.as_str(), "nullfs" | "unionfs") {
        if let Err(why) = words::path(mount.source.as_ref(), true) {
            let problem =
                wrong(format!("`{}` cannot be mounted by {}: {why}", shown(&mount.source), mount.fstype));
            found.push(problem.help("the source is a path of the host"));
        }
    } else if mount.source.is_empty() || mount.source.len() > 1023 || mount.source.contains(char::is_control)
    {
        found.push(wrong(format!("`{}` cannot be a mount's source", shown(&mount.source))));
    }
    for option in &mount.options {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.=:/@%+".contains(&b);
        if option.is_empty() || option.len() > 255 || option.starts_with('-') || !option.bytes().all(plain) {
            found.push(
                wrong(format!("`{}` is not a mount option", shown(option)))
                    .help("options as in fstab(5): \"noatime\", \"size=64m\""),
            );
        } else if matches!(option.as_str(), "ro" | "rw") {
            found.push(
                wrong(format!("`{option}` is not among the options of a resolved mount"))
                    .help("say read_only"),
            );
        }
    }
}

/// Checks a command: there is something to run, and the system can be handed it.
pub(super) fn command(command: &CommandLine, what: &str, at: &str, found: &mut Vec<Problem>) {
    let wrong = |message: String| Problem::new("config::command", at, message);
    let (empty, words): (bool, Vec<&str>) = match command {
        CommandLine::Shell(text) => (text.trim().is_empty(), vec![text]),
        CommandLine::Argv(argv) => {
            (argv.first().is_none_or(String::is_empty), argv.iter().map(String::as_str).collect())
        }
    };
    if empty {
        found.push(
            wrong(format!("{what} is empty"))
                .help("a string for a shell, or a list of program and arguments"),
        );
    }
    if words.iter().any(|word| word.contains('\0')) {
        found.push(wrong(format!("{what} holds a NUL, which no program can be given")));
    }
    if words.iter().map(|word| word.len() + 1).sum::<usize>() > LONGEST_COMMAND {
        found.push(wrong(format!("{what} is longer than 256 KiB")));
    }
    if service::is_warren(command) == Some(false) {
        let problem = wrong(format!("{what} starts with an @-word that Warren does not know"));
        found
            .push(problem.help("\"@warren\" is Warren's own program inside the instance; there is no other"));
    }
}

fn settings(instance: &InstanceSpec, place: &str, found: &mut Vec<Problem>) {
    let mut refuse = |name: &str, text: &str, why: String| {
        let message = format!("`{name}` cannot be `{}`: {why}", shown(text));
        found.push(Problem::new("config::params", jail_place(place, name), message));
    };
    // A jail that keeps its own name may call itself what the kernel takes.
    let free = instance.classic.is_some();
    if let Some(name) = &instance.hostname
        && let Err(why) = words::hostname(name)
        && (!free || name.len() > 255 || name.contains(char::is_control))
    {
        refuse("host.hostname", name, why);
    }
    for (name, user) in [("exec.jail_user", &instance.jail_user), ("exec.system_user", &instance.system_user)]
    {
        if let Some(user) = user
            && let Err(why) = words::user(user)
        {
            refuse(name, user, why);
        }
    }
    if let Some(file) = &instance.consolelog
        && let Err(why) = words::path(file, false)
    {
        refuse("exec.consolelog", &file.display().to_string(), why);
    }
    for dataset in &instance.datasets {
        if let Err(why) = words::dataset(dataset, false) {
            refuse("zfs.dataset", dataset, why);
        }
    }
    if let Some(fib) = instance.fib.filter(|fib| *fib > 65_535) {
        refuse("exec.fib", &fib.to_string(), "it is from 0 to 65535".into());
    }
    if instance.system_jail_user && instance.jail_user.is_none() {
        let problem = Problem::new(
            "config::params",
            jail_place(place, "exec.system_jail_user"),
            "`exec.system_jail_user` has no effect without `exec.jail_user`",
        );
        found.push(
            problem
                .help("say \"exec.jail_user\", or leave it out")
                .because(jail_place(place, "exec.jail_user")),
        );
    }
    for (name, wait) in
        [("exec.timeout", instance.exec_timeout.unwrap_or_default()), ("stop.timeout", instance.stop_timeout)]
    {
        if wait > LONGEST {
            found.push(Problem::new("config::range", jail_place(place, name), "a wait is at most 366 days"));
        }
    }
    if instance.drain > LONGEST {
        found.push(Problem::new("config::range", join(place, "drain"), "a wait is at most 366 days"));
    }
}

/// The kernel's parameters: names of the right form, that are not Warren's, with values of the right kind.
fn params(instance: &InstanceSpec, place: &str, found: &mut Vec<Problem>) {
    for (name, value) in &instance.params {
        let wrong = |message: String| Problem::new("config::params", jail_place(place, name), message);
        let kind = match lookup(name) {
            Lookup::Known(param) if param.kernel => param.kind,
            Lookup::Module if well_formed(name) => Kind::Any,
            _ => {
                found.push(wrong(format!("`{}` is not a parameter for the kernel", shown(name))));
                continue;
            }
        };
        let fits = match (kind, value) {
            (Kind::Bool, ParamValue::Bool(_)) => true,
            (Kind::Int(min, max), ParamValue::Int(value)) => (min..=max).contains(value),
            (Kind::Text(most), ParamValue::Text(text)) => text.len() <= most,
            (Kind::Words(words), ParamValue::Text(text)) => words.contains(&text.as_str()),
            (Kind::Any, ParamValue::Text(text)) => text.len() <= 65_535,
            (Kind::Any, ParamValue::List(list)) => list.iter().all(|item| !item.contains(',')),
            (Kind::Any, _) => true,
            _ => false,
        };
        // A NUL would end it for the kernel; what else steers a terminal would do so in everybody's `jls`. `meta` and `env` are lines
        // of `key=value` (jail(8)).
        let lines = matches!(name.as_str(), "meta" | "env") || is_free(name);
        let control = |c: char| c.is_control() && !(lines && matches!(c, '\n' | '\t'));
        let steers = match value {
            ParamValue::Text(text) => text.contains(control),
            ParamValue::List(list) => list.iter().any(|item| item.contains(control)),
            ParamValue::Bool(_) | ParamValue::Int(_) => false,
        };
        if !fits || steers {
            found.push(wrong(format!("`{}` cannot have this value", shown(name))));
        }
    }
}
