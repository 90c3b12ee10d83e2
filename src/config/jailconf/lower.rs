//! From a jail's parameters to what Warren runs: the same `jail` table warren.toml has, so that both come to a spec by one
//! way, and one rule decides what cannot be done.
//!
//! Each jail becomes a service of one instance on a shared root that keeps its name (docs/reference/jail-conf.md says what
//! differs from jail(8)).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::JailConf;
use super::check;
use super::names::{is_wild, kind, positive, wild_match};
use super::resolve::{Jail, Param};
use super::tree::Place;
use super::{mounts, settings};
use crate::config::classic::classic;
use crate::config::decode::At;
use crate::config::diagnostics::{Places, Problem, Problems, Report, join};
use crate::config::jail::{self, JailTable, Setting};
use crate::config::lower::Lowering;
use crate::config::lower_instance::{instance, mount_place};
use crate::config::rules;
use crate::config::spec::{
    FabricSpec, MountSpec, ParamValue, Restart, RestartPolicy, ServiceSpec, TemplateSource, TemplateSpec,
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
    /// Its mounts, their targets as the jail sees them, each with the place it was written at.
    pub(super) mounts: Vec<(MountSpec, Place)>,
}

impl JailConf {
    /// What Warren runs of it: the jails that are named and what they depend on, or all.
    ///
    /// # Errors
    ///
    /// Everything that keeps them from being run, at once.
    pub fn fabric(&self, only: &[String]) -> Result<FabricSpec, Report> {
        let (spec, sink) = self.lowered(only)?;
        match sink.problems.is_empty() {
            true => Ok(spec),
            false => Err(Report::new(&*self.name, sink.problems.finish(&sink.places))),
        }
    }

    /// Whether jail(8) would start its jails.
    ///
    /// # Errors
    ///
    /// Everything for which it would not, at once. What only Warren refuses is among the remarks.
    pub fn check(&self) -> Result<Checked, Report> {
        let (_, sink) = self.lowered(&[])?;
        let found = sink.problems.finish(&sink.places);
        let runs = found.is_empty();
        let ours = |problem: &Problem| {
            matches!(problem.code, REFUSED | DOUBLE | NO_PATH) || !problem.code.starts_with("jail.conf::")
        };
        let (ours, theirs): (Vec<Problem>, Vec<Problem>) = found.into_iter().partition(ours);
        if !theirs.is_empty() {
            return Err(Report::new(&*self.name, theirs));
        }
        // That a jail is there twice is a remark already.
        let mut remarks = self.remarks();
        remarks.extend(ours.into_iter().filter(|problem| problem.code != DOUBLE));
        Ok(Checked { remarks, runs })
    }

    fn lowered(&self, only: &[String]) -> Result<(FabricSpec, Sink), Report> {
        let mut sink = Sink::default();
        let mut services = BTreeMap::new();
        for tables in self.tables(only, &mut sink)? {
            let service = service(&tables, &mut sink);
            services.insert(tables.service, service);
        }
        let name = self.fabric_name();
        let spec = FabricSpec {
            domain: format!("{name}.internal"),
            name,
            forward: Vec::new(),
            networks: BTreeMap::new(),
            templates: BTreeMap::new(),
            services,
            origin: self.origin(),
        };
        let found = rules::check(&spec);
        sink.problems.extend_without_echoes(found);
        Ok((spec, sink))
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
                let problem = Problem::new(DOUBLE, "", message).label("the second");
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
            open.extend(self.targets(name)?);
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
            gone.extend(self.targets(name)?);
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

    /// The services that a jail, or all that a wildcard covers, are run as.
    ///
    /// # Errors
    ///
    /// There is no such jail.
    pub fn services_of(&self, jail: &str) -> Result<Vec<String>, Report> {
        let names = service_names(&self.jails);
        Ok(self.targets(jail)?.into_iter().map(|number| names[number].clone()).collect())
    }

    /// The jails that a name on a command line means: a wildcard all that it covers (`usr.sbin/jail/state.c`, `start_state`).
    fn targets(&self, name: &str) -> Result<Vec<usize>, Report> {
        if is_wild(name) {
            let covered = |(number, jail): (usize, &Jail)| wild_match(&jail.name, name).then_some(number);
            let all: Vec<usize> = self.jails.iter().enumerate().filter_map(covered).collect();
            if !all.is_empty() {
                return Ok(all);
            }
        }
        self.named(name)?;
        Ok(self.jails.iter().position(|jail| jail.name == name).into_iter().collect())
    }

    /// The jails that are services of these names.
    #[must_use]
    pub fn jails_of(&self, services: &[&str]) -> Vec<String> {
        let names = service_names(&self.jails);
        let jails = self.jails.iter().zip(&names).filter(|(_, name)| services.contains(&name.as_str()));
        jails.map(|(jail, _)| jail.name.clone()).collect()
    }

    /// The file it is, whatever way led to it; none if it is no file, a pipe for one.
    #[must_use]
    pub fn origin(&self) -> Option<PathBuf> {
        std::fs::canonicalize(&self.name).ok().filter(|path| path.is_file())
    }

    /// The name of the fabric it is run as.
    #[must_use]
    pub fn fabric_name(&self) -> String {
        fabric_name(Path::new(&self.name))
    }
}

/// Where lowering puts what it finds.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) problems: Problems,
    pub(super) places: Places,
}

/// Two jails of one name.
const DOUBLE: &str = "jail.conf::double";
/// A jail without a root of its own.
const NO_PATH: &str = "jail.conf::path";
/// What only Warren refuses; jail(8) would run it.
const REFUSED: &str = "jail.conf::refused";

impl Sink {
    /// Something jail(8) would run and Warren does not.
    pub(super) fn refuse(&mut self, jail: &Jail, param: &Param, message: String, help: &str) {
        self.problem(REFUSED, jail, param, param.last_place(), message, help);
    }

    pub(super) fn refuse_at(
        &mut self,
        jail: &Jail,
        param: &Param,
        place: &Place,
        message: String,
        help: &str,
    ) {
        self.problem(REFUSED, jail, param, place, message, help);
    }

    /// Something jail(8) does not run either.
    pub(super) fn wrong(&mut self, jail: &Jail, param: &Param, message: String, help: &str) {
        self.problem("jail.conf::value", jail, param, param.last_place(), message, help);
    }

    pub(super) fn wrong_at(
        &mut self,
        jail: &Jail,
        param: &Param,
        place: &Place,
        message: String,
        help: &str,
    ) {
        self.problem("jail.conf::value", jail, param, place, message, help);
    }

    fn problem(
        &mut self,
        code: &'static str,
        jail: &Jail,
        param: &Param,
        place: &Place,
        message: String,
        help: &str,
    ) {
        let problem = Problem::new(code, super::parse::param_place(&jail.name, &param.name), message);
        self.problems.push(problem.help(help).at(&place.source, place.span.clone()));
    }
}

impl Param {
    /// Of its last value, or of its name.
    fn last_place(&self) -> &Place {
        self.values.last().map_or(&self.place, |value| &value.place)
    }
}

/// What a file comes to beyond its syntax.
#[derive(Debug)]
pub struct Checked {
    /// What is legal but perhaps not meant, where releases of jail(8) differ, and what Warren does not run.
    pub remarks: Vec<Problem>,
    /// Whether Warren runs it.
    pub runs: bool,
}

/// `/etc/jail.conf` is fabric `jail`, `/etc/jail.web.conf` is `jail-web`.
fn fabric_name(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let name = label(&stem, 63);
    // The standard input, `-`, leaves nothing of its name.
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

/// A service's name for each jail: its own where that is a label of DNS, else one like it that no other jail has. Two jails of one
/// name have one service's, as jail(8) takes them for one.
fn service_names(jails: &[Jail]) -> Vec<String> {
    const MOST: usize = 40;
    let mut used: HashSet<String> = jails
        .iter()
        .filter(|jail| label(&jail.name, MOST) == jail.name)
        .map(|jail| jail.name.clone())
        .collect();
    let mut made: HashMap<&str, String> = HashMap::new();
    // Where the search for a free number goes on, so that thousands of like names do not each begin at 2.
    let mut next: HashMap<String, usize> = HashMap::new();
    jails
        .iter()
        .map(|jail| {
            let like = label(&jail.name, MOST);
            if like == jail.name {
                return like;
            }
            if let Some(name) = made.get(&*jail.name) {
                return name.clone();
            }
            let like = if like.is_empty() { "jail".to_owned() } else { like };
            let count = next.entry(like.clone()).or_default();
            let name = loop {
                *count += 1;
                let name = if *count == 1 { like.clone() } else { format!("{like}-{count}") };
                if used.insert(name.clone()) {
                    break name;
                }
            };
            made.insert(&jail.name, name.clone());
            name
        })
        .collect()
}

/// The settings of one jail; `None` if it has no root to run on.
fn tables(jail: &Jail, service: &str, depends: Vec<String>, sink: &mut Sink) -> Option<Tables> {
    jail.params.iter().filter_map(|param| check::unknown(jail, param)).for_each(|p| sink.problems.push(p));
    let Some(root) = jail.text("path").filter(|path| !path.is_empty()) else {
        let message = format!("{}: it has no `path`", shown(&jail.name));
        let problem = Problem::new(NO_PATH, join("", &jail.name), message)
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
        one(jail, param, &owner, &mut made, sink);
    }
    if let Some(param) = jail.get("ip_hostname").filter(|param| param.truth()) {
        let place = jail::place(&owner, "ip_hostname");
        for address in settings::by_name(jail, param, sink) {
            let name = if address.is_ipv4() { "ip4.addr" } else { "ip6.addr" };
            let empty = || At { value: Setting::Texts(Vec::new()), place: place.clone() };
            let list = made.table.0.entry(name.into()).or_insert_with(empty);
            if let Setting::Texts(list) = &mut list.value {
                list.push(At { value: address.to_string(), place: place.clone() });
            }
        }
    }
    if let Some(command) = jail.get("command") {
        let more = settings::commands(command);
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
    // jail(8) mounts all of `mount` before the first line of a file, however the two are written (`jail.c`, `startcommands`).
    made.mounts.sort_by_key(|(mount, _)| mount.kind);
    Some(made)
}

/// One parameter of a jail.
fn one(jail: &Jail, param: &Param, owner: &str, made: &mut Tables, sink: &mut Sink) {
    let name = positive(&param.name).0;
    let name =
        if kind(&name).is_some_and(|_| kind(&param.name).is_some()) { name } else { param.name.to_string() };
    let place = jail::place(owner, &name);
    sink.places.note(&place, &param.place.source, param.place.span.clone());
    for (number, value) in param.values.iter().enumerate() {
        let item = join(&place, &number.to_string());
        sink.places.note(&item, &value.place.source, value.place.span.clone());
    }
    if check::unknown(jail, param).is_some() {
        return;
    }
    match name.as_str() {
        "path" | "depend" | "allow.dying" | "ip_hostname" => {}
        "mount" => mounts::lines(jail, param, made, sink),
        "mount.fstab" => mounts::files(jail, param, made, sink),
        // Without a user it says nothing; jail(8) lets it stand.
        "exec.system_jail_user" if jail.text("exec.jail_user").is_none() => {}
        // jail(8) runs it to its end, as it does exec.start, before exec.poststart.
        "command" => {}
        "ip4.addr" | "ip6.addr" => {
            let value = settings::addresses(jail, param, &name, &place, sink);
            made.table.0.insert(name, At { value, place });
        }
        _ => {
            if let Some(value) = settings::setting(jail, param, &name, &place, sink) {
                made.table.0.insert(name, At { value, place });
            }
        }
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
    made.mounts.splice(0..0, tables.mounts.iter().map(|(mount, _)| mount.clone()));
    for (number, (_, place)) in tables.mounts.iter().enumerate() {
        let (source, span) = place.parts();
        low.places.note(&mount_place(&owner, number), source, span);
    }
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
