//! Taking over jails that jail(8) started: what the steps of a start would have made is looked at, and where all of it is
//! there the start counts as done.
//!
//! Nothing on the machine is changed for it: the takeover is a commit of the store, whole or not at all. Hooks cannot be
//! looked at; that they ran is taken from the jail's being there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::journal::Mark;
use super::plan::{self, Assignment};
use super::step::{Act, Plan};
use crate::config::spec::{FabricSpec, InstanceSpec};
use crate::host::{Failure, Host, NoWitness, Op, Reply};
use crate::ids::Id;

/// What was found of a jail: the replies of its steps that left something, by key.
pub type Standing = BTreeMap<String, Reply>;

/// What has to be looked at, the jail itself first: without it the rest means nothing.
#[must_use]
pub fn questions(plan: &Plan) -> Vec<(String, Op)> {
    let mut all: Vec<(String, Op)> = (plan.up.iter())
        .filter_map(|step| match &step.act {
            Act::Host(op) if !matches!(op, Op::Run(_) | Op::Spawn(_)) && op.undo().is_some() => {
                Some((step.key.clone(), Op::Stands { made: Box::new(op.clone()) }))
            }
            _ => None,
        })
        .collect();
    all.sort_by_key(|(key, _)| key != "jail");
    all
}

/// Looks at the jail of a spec that keeps its own name.
///
/// # Errors
/// All reasons why it cannot be taken over; if it is not there, that alone.
pub fn look(host: &dyn Host, spec: &InstanceSpec) -> Result<Standing, Vec<Failure>> {
    let (mut standing, mut reasons) = (Standing::new(), Vec::new());
    for (key, question) in questions(&plan::instance(spec, &nobody())) {
        match host.perform(&question, &NoWitness) {
            Ok(reply) => drop(standing.insert(key, reply)),
            Err(failure) if key == "jail" && is_absence(&failure) => return Err(vec![failure]),
            Err(failure) => reasons.push(failure),
        }
    }
    if reasons.is_empty() { Ok(standing) } else { Err(reasons) }
}

/// The objects of a jail that keeps its name are named by its spec: what Warren draws for it does not occur in the questions.
fn nobody() -> Assignment {
    Assignment {
        id: Id::from_random(0),
        fabric: String::new(),
        domain: String::new(),
        service: String::new(),
        links: Vec::new(),
        roots: PathBuf::new(),
        program: PathBuf::new(),
    }
}

/// Has the host take what was found of a jail for its own.
///
/// # Errors
/// It could not be noted.
pub fn own(host: &dyn Host, spec: &InstanceSpec, standing: &Standing) -> Result<(), Failure> {
    questions(&plan::instance(spec, &nobody())).into_iter().try_for_each(|(key, question)| match question {
        Op::Stands { made } => standing.get(&key).map_or(Ok(()), |reply| host.own(&made, reply)),
        _ => Ok(()),
    })
}

/// Whether a failure says that there is no such jail.
#[must_use]
pub fn is_absence(failure: &Failure) -> bool {
    matches!(failure.errno, Some(libc::ENOENT | libc::ESRCH))
}

/// The marks of a start that somebody else did: every step on the machine is done.
#[must_use]
pub fn marks(plan: &Plan, standing: &Standing) -> Vec<(String, Mark)> {
    let done = |key: &String| Mark::Done(standing.get(key).cloned().unwrap_or(Reply::Done));
    let on_the_machine = plan.up.iter().filter(|step| matches!(step.act, Act::Host(_)));
    on_the_machine.map(|step| (step.key.clone(), done(&step.key))).collect()
}

/// The fabric once jails of `file` are taken over as the services `taken`. What is up already stays as it was declared; what the
/// jails depend on and nobody has declared is known from then on, and not wanted: taking over starts nothing.
#[must_use]
pub fn merged<'a>(
    old: Option<&FabricSpec>,
    file: &FabricSpec,
    taken: impl IntoIterator<Item = &'a String>,
) -> FabricSpec {
    let empty = || FabricSpec { services: BTreeMap::new(), ..file.clone() };
    let mut merged = old.cloned().unwrap_or_else(empty);
    let mut open: Vec<&String> = Vec::new();
    for name in taken {
        if let Some(service) = file.services.get(name) {
            merged.services.insert(name.clone(), service.clone());
            open.extend(&service.depends_on);
        }
    }
    while let Some(name) = open.pop() {
        if let Some(service) = file.services.get(name).filter(|_| !merged.services.contains_key(name)) {
            open.extend(&service.depends_on);
            merged
                .services
                .insert(name.clone(), crate::config::spec::ServiceSpec { replicas: 0, ..service.clone() });
        }
    }
    merged
}
