//! From a jail's parameters to what Warren runs: the same `jail` table warren.toml has, so that both come to a spec by one
//! way, and one rule decides what cannot be done.
//!
//! Each jail becomes a service of one instance on a shared root that keeps its name (docs/reference/jail-conf.md says what
//! differs from jail(8)).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::JailConf;
use super::check;
use super::names::{integer, kind, positive};
use super::resolve::{Jail, Param, Value};
use crate::config::classic::classic;
use crate::config::decode::At;
use crate::config::diagnostics::{Places, Problem, Problems, Report, join};
use crate::config::fstab;
use crate::config::jail::{self, JailTable, Setting};
use crate::config::lower::Lowering;
use crate::config::lower_instance::instance;
use crate::config::params::Kind;
use crate::config::rules;
use crate::config::spec::{
    CommandLine, FabricSpec, MountKind, MountSpec, ParamValue, Restart, RestartPolicy, ServiceSpec,
    TemplateSource, TemplateSpec,
};
use crate::config::text::shown;

/// A jail as tables: what its service, template and `jail` table say.
#[derive(Debug)]
pub(super) struct Tables {
    /// The service's name.
    pub(super) service: String,
    /// The template's, and the jail's root.
    pub(super) root: PathBuf,
    /// The services it waits for.
    pub(super) depends: Vec<String>,
    /// Its parameters.
    pub(super) table: JailTable,
    /// Its mounts, their targets as the jail sees them.
    pub(super) mounts: Vec<MountSpec>,
}

impl JailConf {
    /// What Warren runs of it: the jails that are named and what they depend on, or all.
    ///
    /// # Errors
    ///
    /// Everything that keeps them from being run, at once.
    pub fn fabric(&self, only: &[String]) -> Result<FabricSpec, Report> {
        let mut sink = Sink { problems: Problems::default(), places: Places::default() };
        let mut services = BTreeMap::new();
        for tables in self.tables(only, &mut sink)? {
            let service = service(&tables, &mut sink);
            services.insert(tables.service, service);
        }
        let name = fabric_name(Path::new(&self.name));
        let spec = FabricSpec {
            domain: format!("{name}.internal"),
            name,
            forward: Vec::new(),
            networks: BTreeMap::new(),
            templates: BTreeMap::new(),
            services,
        };
        let found = rules::check(&spec);
        sink.problems.extend_without_echoes(found);
        match sink.problems.is_empty() {
            true => Ok(spec),
            false => Err(Report::new(&*self.name, sink.problems.finish(&sink.places))),
        }
    }

    /// The jails as tables, what is wrong with their values in `sink`.
    pub(super) fn tables(&self, only: &[String], sink: &mut Sink) -> Result<Vec<Tables>, Report> {
        let wanted = self.selected(only)?;
        let names = service_names(&self.jails);
        let (edges, _) = check::edges(&self.jails);
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for number in wanted {
            let jail = &self.jails[number];
            jail.problems.iter().for_each(|problem| sink.problems.push(problem.clone()));
            if !seen.insert(&jail.name) {
                let message = format!("jail `{}` is defined twice", shown(&jail.name));
                let problem = Problem::new("jail.conf::double", "", message).label("the second");
                sink.problems.push(problem.at(&jail.place.source, jail.place.span.clone()));
                continue;
            }
            let depends: BTreeSet<&String> = edges[number].iter().map(|other| &names[*other]).collect();
            all.extend(tables(jail, &names[number], depends.into_iter().cloned().collect(), sink));
        }
        Ok(all)
    }

    /// The jails that are named and all they depend on, in the order of the text.
    fn selected(&self, only: &[String]) -> Result<BTreeSet<usize>, Report> {
        if only.is_empty() {
            return Ok((0..self.jails.len()).collect());
        }
        let (edges, _) = check::edges(&self.jails);
        let mut open = Vec::new();
        for name in only {
            self.named(name)?;
            open.extend(self.jails.iter().position(|jail| jail.name == *name));
        }
        let mut wanted = BTreeSet::new();
        while let Some(number) = open.pop() {
            if wanted.insert(number) {
                open.extend(&edges[number]);
            }
        }
        Ok(wanted)
    }

    /// The services of the named jails and of those that depend on them, in the order in which they go.
    ///
    /// # Errors
    ///
    /// There is no such jail.
    pub fn services_down(&self, only: &[String]) -> Result<Vec<String>, Report> {
        let names = service_names(&self.jails);
        let (edges, _) = check::edges(&self.jails);
        let mut gone: BTreeSet<usize> = BTreeSet::new();
        for name in only {
            self.named(name)?;
            gone.extend(self.jails.iter().position(|jail| jail.name == *name));
        }
        loop {
            let depends = |number: &usize| edges[*number].iter().any(|need| gone.contains(need));
            let more: Vec<usize> =
                (0..self.jails.len()).filter(|number| !gone.contains(number)).filter(depends).collect();
            if more.is_empty() {
                break;
            }
            gone.extend(more);
        }
        // Those that nothing else waits for go first. Of a circle, which nothing could have started, the rest.
        let mut order = Vec::new();
        while !gone.is_empty() {
            let needed: BTreeSet<usize> =
                gone.iter().flat_map(|number| edges[*number].iter().copied()).collect();
            let mut free: Vec<usize> =
                gone.iter().copied().filter(|number| !needed.contains(number)).collect();
            if free.is_empty() {
                free = gone.iter().copied().collect();
            }
            gone.retain(|number| !free.contains(number));
            order.extend(free.into_iter().map(|number| names[number].clone()));
        }
        Ok(order)
    }

    /// The service that a jail is run as.
    ///
    /// # Errors
    ///
    /// There is no such jail.
    pub fn service_of(&self, jail: &str) -> Result<String, Report> {
        self.named(jail)?;
        let names = service_names(&self.jails);
        let number = self.jails.iter().position(|other| other.name == jail).unwrap_or_default();
        Ok(names.into_iter().nth(number).unwrap_or_default())
    }

    /// The jails that are services of these names.
    #[must_use]
    pub fn jails_of(&self, services: &[&str]) -> Vec<String> {
        let names = service_names(&self.jails);
        let jails = self.jails.iter().zip(&names).filter(|(_, name)| services.contains(&name.as_str()));
        jails.map(|(jail, _)| jail.name.clone()).collect()
    }

    /// The name of the fabric it is run as.
    #[must_use]
    pub fn fabric_name(&self) -> String {
        fabric_name(Path::new(&self.name))
    }
}

/// Where lowering puts what it finds.
pub(super) struct Sink {
    pub(super) problems: Problems,
    pub(super) places: Places,
}

impl Sink {
    fn refuse(&mut self, jail: &Jail, param: &Param, message: String, help: &str) {
        let place = param.values.last().map_or(&param.place, |value| &value.place);
        let problem =
            Problem::new("jail.conf::refused", super::parse::param_place(&jail.name, &param.name), message);
        self.problems.push(problem.help(help).at(&place.source, place.span.clone()));
    }
}

/// `/etc/jail.conf` is fabric `jail`, `/etc/jail.web.conf` is `jail-web`.
fn fabric_name(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let name = label(&stem, 63);
    if name.is_empty() { "jail".to_owned() } else { name }
}

/// The letters of a name that a label of DNS may have, others as `-`.
fn label(name: &str, most: usize) -> String {
    let plain: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() { char } else { '-' })
        .take(most)
        .collect();
    let plain = plain.trim_matches('-').to_owned();
    match plain.starts_with(|char: char| char.is_ascii_digit()) {
        true => format!("j{plain}"),
        false => plain,
    }
}

/// A service's name for each jail: its own where that is a label of DNS, else one like it that no other jail has.
fn service_names(jails: &[Jail]) -> Vec<String> {
    const MOST: usize = 40;
    let mut taken: HashMap<String, usize> = HashMap::new();
    let exact: BTreeSet<&str> = jails.iter().map(|jail| jail.name.as_str()).collect();
    jails
        .iter()
        .map(|jail| {
            let like = label(&jail.name, MOST);
            if like == jail.name {
                return like;
            }
            let like = if like.is_empty() { "jail".to_owned() } else { like };
            let count = taken.entry(like.clone()).or_default();
            loop {
                *count += 1;
                let name = if *count == 1 { like.clone() } else { format!("{like}-{count}") };
                if !exact.contains(name.as_str()) {
                    return name;
                }
            }
        })
        .collect()
}

/// The settings of one jail; `None` if it has no root to run on.
fn tables(jail: &Jail, service: &str, depends: Vec<String>, sink: &mut Sink) -> Option<Tables> {
    let Some(root) = jail.text("path").filter(|path| !path.is_empty()) else {
        let message = format!("{}: it has no `path`", shown(&jail.name));
        let problem = Problem::new("jail.conf::path", join("", &jail.name), message)
            .help("say the directory that is its root: path = \"/jails/$name\";");
        sink.problems.push(problem.at(&jail.place.source, jail.place.span.clone()));
        return None;
    };
    let owner = join("services", service);
    let mut made = Tables {
        service: service.to_owned(),
        root: PathBuf::from(root),
        depends,
        table: JailTable::default(),
        mounts: Vec::new(),
    };
    sink.places.note(&owner, &jail.place.source, jail.place.span.clone());
    if let Some(path) = jail.get("path").and_then(|path| path.values.last()) {
        let place = join(&join("templates", service), "shared");
        sink.places.note(&place, &path.place.source, path.place.span.clone());
    }
    for param in &jail.params {
        let name = positive(&param.name).0;
        let name = if kind(&name).is_some() { name } else { param.name.to_string() };
        let place = jail::place(&owner, &name);
        sink.places.note(&place, &param.place.source, param.place.span.clone());
        for (number, value) in param.values.iter().enumerate() {
            sink.places.note(
                &join(&place, &number.to_string()),
                &value.place.source,
                value.place.span.clone(),
            );
        }
        match name.as_str() {
            "path" | "depend" | "allow.dying" => {}
            "mount" => {
                let lines = param.values.iter().map(|value| (&*value.text, value));
                mounts(jail, param, lines, MountKind::Mount, &mut made, sink);
            }
            "mount.fstab" => fstab_files(jail, param, &mut made, sink),
            "ip_hostname" if param.truth() => sink.refuse(
                jail,
                param,
                format!("{}: addresses by `ip_hostname` are not supported", shown(&jail.name)),
                "write them in ip4.addr and ip6.addr",
            ),
            "ip_hostname" => {}
            // Without a user it says nothing; jail(8) lets it stand.
            "exec.system_jail_user" if jail.text("exec.jail_user").is_none() => {}
            // jail(8) runs it to its end, as it does exec.start, before exec.poststart.
            "command" => {}
            _ => {
                if let Some(value) = setting(jail, param, &name, &place, sink) {
                    made.table.0.insert(name, At { value, place });
                }
            }
        }
    }
    if let Some(command) = jail.get("command") {
        let more = commands(command);
        let place = jail::place(&owner, "exec.start");
        let entry = made.table.0.entry("exec.start".into());
        let start = entry.or_insert_with(|| At { value: Setting::Commands(Vec::new()), place });
        if let Setting::Commands(start) = &mut start.value {
            start.extend(more);
        }
    }
    // In jail.conf an environment is inherited unless exec.clean says otherwise.
    let clean =
        At { value: Setting::Value(ParamValue::Bool(false)), place: jail::place(&owner, "exec.clean") };
    made.table.0.entry("exec.clean".into()).or_insert(clean);
    Some(made)
}

fn commands(param: &Param) -> Vec<CommandLine> {
    let texts = param.values.iter().map(|value| &value.text).filter(|text| !text.trim().is_empty());
    texts.map(|text| CommandLine::Shell(text.to_string())).collect()
}

/// A parameter as a setting of the kind its name asks for.
fn setting(jail: &Jail, param: &Param, name: &str, place: &str, sink: &mut Sink) -> Option<Setting> {
    let last = param.values.last().map(|value| &*value.text);
    let texts = || {
        let given = param.values.iter().enumerate().filter(|(_, value)| !value.text.is_empty());
        given
            .map(|(n, value)| At { value: value.text.to_string(), place: join(place, &n.to_string()) })
            .collect()
    };
    let mut wrong = |what: String| {
        let said = shown(last.unwrap_or("nothing"));
        sink.refuse(jail, param, format!("{}: `{name}` cannot be `{said}`", shown(&jail.name)), &what);
        None
    };
    let value = |value: ParamValue| Some(Setting::Value(value));
    let Some(kind) = kind(name) else {
        // What modules add: a bare name is a boolean, several values a list.
        return value(match param.values.as_slice() {
            [] => ParamValue::Bool(param.truth()),
            [one] => ParamValue::Text(one.text.to_string()),
            many => ParamValue::List(many.iter().map(|value| value.text.to_string()).collect()),
        });
    };
    match kind {
        Kind::Bool => value(ParamValue::Bool(param.truth())),
        Kind::Int(min, max) => match last.and_then(integer).filter(|number| (min..=max).contains(number)) {
            Some(number) => value(ParamValue::Int(number)),
            None => wrong(format!("it is a whole number from {min} to {max}")),
        },
        Kind::Text(_) => value(ParamValue::Text(last.filter(|text| !text.is_empty())?.to_owned())),
        Kind::Texts => Some(Setting::Texts(texts())),
        Kind::Commands => Some(Setting::Commands(commands(param))),
        Kind::Wait => match last.and_then(integer).and_then(|seconds| u64::try_from(seconds).ok()) {
            Some(seconds) => Some(Setting::Wait(Duration::from_secs(seconds))),
            None => wrong("it is a whole number of seconds".into()),
        },
        Kind::Words(words) => match shared(param).filter(|word| words.contains(word)) {
            Some(word) => value(ParamValue::Text(word.to_owned())),
            None => wrong(format!("it is one of {}; the bare name is `new`", words.join(", "))),
        },
        Kind::Vnet => match shared(param) {
            Some(word) => value(ParamValue::Bool(word == "new")),
            None => wrong("it is `new` or `inherit`; the bare name is `new`".into()),
        },
        Kind::Any => value(ParamValue::Text(last.unwrap_or_default().to_owned())),
        Kind::Refused(why, instead) => wrong(format!("{why}: {instead}")),
    }
}

/// Whether something is the jail's own, the host's or neither: in words, in their numbers, or by the bare name
/// (`lib/libjail/jail.c`, `jailparam_import`).
fn shared(param: &Param) -> Option<&'static str> {
    const WORDS: [&str; 3] = ["disable", "new", "inherit"];
    let Some(last) = param.values.last() else { return Some(if param.truth() { "new" } else { "disable" }) };
    if last.text.is_empty() {
        return Some("new");
    }
    let number = || integer(&last.text).and_then(|number| usize::try_from(number).ok());
    let word = WORDS.iter().position(|word| last.text.eq_ignore_ascii_case(word));
    WORDS.get(word.or_else(number)?).copied()
}

/// Lines of fstab(5), whose mount points are paths of the host: at the jail's root or below.
fn mounts<'a>(
    jail: &Jail,
    param: &Param,
    lines: impl Iterator<Item = (&'a str, &'a Value)>,
    kind: MountKind,
    made: &mut Tables,
    sink: &mut Sink,
) {
    for (line, value) in lines {
        let at = Param {
            name: param.name.clone(),
            kind: param.kind,
            values: vec![value.clone()],
            place: param.place.clone(),
        };
        match fstab::line(line, kind) {
            Ok(None) => {}
            Ok(Some(mut mount)) => match mount.target.strip_prefix(&made.root) {
                Ok(below) => {
                    mount.target = Path::new("/").join(below);
                    made.mounts.push(mount);
                }
                Err(_) => {
                    let (target, root) =
                        (shown(&mount.target.display().to_string()), shown(&made.root.display().to_string()));
                    let message = format!("{}: {target} is not below its root {root}", shown(&jail.name));
                    sink.refuse(
                        jail,
                        &at,
                        message,
                        "Warren mounts only into a jail's own root: mount the rest in exec.prepare",
                    );
                }
            },
            Err(why) => sink.refuse(
                jail,
                &at,
                format!("{}: {why}", shown(&jail.name)),
                "as in fstab(5): \"/data /jails/web/mnt nullfs ro\"",
            ),
        }
    }
}

/// The files of `mount.fstab`, read now: what runs must not depend on a file that may change.
fn fstab_files(jail: &Jail, param: &Param, made: &mut Tables, sink: &mut Sink) {
    for value in param.values.iter().filter(|value| !value.text.is_empty()) {
        let text = match std::fs::read_to_string(&*value.text) {
            Ok(text) => text,
            Err(error) => {
                let message =
                    format!("{}: {} cannot be read: {error}", shown(&jail.name), shown(&value.text));
                sink.refuse(jail, param, message, "jail(8) would not start it either");
                continue;
            }
        };
        // As jail(8): what follows a # is a comment, wherever it stands.
        let lines = text.lines().map(|line| (line.split('#').next().unwrap_or_default(), value));
        mounts(jail, param, lines, MountKind::Fstab, made, sink);
    }
}

/// The service of a jail.
fn service(tables: &Tables, sink: &mut Sink) -> ServiceSpec {
    let owner = join("services", &tables.service);
    let mut read = |_: &Path| Err(io::Error::from(io::ErrorKind::Unsupported));
    let mut low =
        Lowering { found: Vec::new(), places: &mut sink.places, read: &mut read, dir: PathBuf::new() };
    let template = TemplateSpec {
        name: tables.service.clone(),
        source: TemplateSource::Shared { path: tables.root.clone() },
    };
    let mut made = instance(template, &tables.table, &mut low);
    made.mounts.splice(0..0, tables.mounts.iter().cloned());
    made.classic = classic(&owner, &tables.table, &mut low);
    // Nothing of it is in a fabric's network, so nothing is left to drain.
    made.drain = Duration::ZERO;
    let found = low.found;
    sink.problems.extend_without_echoes(found);
    ServiceSpec {
        name: tables.service.clone(),
        replicas: 1,
        depends_on: tables.depends.clone(),
        publish: Vec::new(),
        ports: Vec::new(),
        // jail(8) starts a jail once.
        restart: Restart {
            policy: RestartPolicy::No,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            retries: None,
        },
        health: None,
        instance: made,
    }
}
