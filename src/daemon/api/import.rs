//! Taking over jails that somebody else started: looked at here, written down by the engine.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;

use super::body::Asked;
use super::requests::{DeclareQuery, verified};
use super::view::{Import, Imported, Taken};
use super::{Api, Rejected, Writer};
use crate::config::spec::{FabricSpec, InstanceSpec};
use crate::host::{Failure, Host};
use crate::lifecycle::engine::Command;
use crate::lifecycle::import::{self, Standing};

/// What looking at jails gave.
#[derive(Default)]
struct Looked {
    /// Those that can be taken over, by service.
    found: BTreeMap<String, Standing>,
    /// Jails that do not run.
    absent: Vec<String>,
    /// Why others cannot be taken over, a sentence each.
    reasons: Vec<String>,
}

#[utoipa::path(post, path = "/v1/fabrics/{fabric}/import", request_body = Import, params(("dry" = bool, Query, description = "only say what would be taken over")),
    responses((status = 200, body = Imported), (status = 409, body = super::view::Problem)))]
pub(super) async fn import(
    _: Writer,
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<DeclareQuery>,
    Asked(Import { spec, services }): Asked<Import>,
) -> Result<Json<Imported>, Rejected> {
    let invalid = |message: String| Rejected::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message);
    if spec.name != name {
        return Err(invalid(format!("the spec is of the fabric `{}`, not `{name}`", spec.name)));
    }
    if let Some(unknown) = services.iter().find(|service| !spec.services.contains_key(*service)) {
        return Err(Rejected::not_found(format!("the spec has no service `{unknown}`")));
    }
    let named = !services.is_empty();
    let asked: Vec<String> = if named { services } else { spec.services.keys().cloned().collect() };
    let of = name.clone();
    let (old, ours) = api
        .handle
        .query(move |engine, _| {
            (engine.state.fabrics.get(&of).map(|fabric| fabric.spec.clone()), engine.state.classic_jails())
        })
        .await?;
    verified(&import::merged(old.as_ref(), &spec, &asked))?;
    // What is Warren's already the engine refuses by name, and who named nothing did not mean it.
    let wanted: Vec<String> =
        asked.into_iter().filter(|service| named || !ours.contains(&jail(&spec, service))).collect();
    let (host, file) = (api.handle.host(), spec.clone());
    let looked = tokio::task::spawn_blocking(move || look(&*host, &file, &wanted)).await;
    let looked =
        looked.map_err(|e| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string()))?;
    let mut reasons = looked.reasons;
    if named {
        reasons.extend(looked.absent.iter().map(|jail| format!("jail {jail} does not run")));
    }
    if !reasons.is_empty() {
        let message = format!("nothing is taken over: {}", reasons.join("\n  "));
        return Err(Rejected::new(StatusCode::CONFLICT, "conflict", message));
    }
    let of = |service: &String| Taken {
        service: service.clone(),
        jail: jail(&spec, service),
        jid: None,
        name: None,
    };
    let mut taken: Vec<Taken> = looked.found.keys().map(of).collect();
    if !query.dry && !taken.is_empty() {
        let (host, file, found) = (api.handle.host(), spec.clone(), looked.found.clone());
        let owned = tokio::task::spawn_blocking(move || own(&*host, &file, &found)).await;
        owned.map_err(|e| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string()))??;
        let command = Command::Import { spec: Box::new(spec.clone()), found: looked.found };
        let answer = api.handle.ask(command).await??;
        taken = serde_json::from_value(answer)
            .map_err(|e| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string()))?;
    }
    Ok(Json(Imported { fabric: name, taken, absent: looked.absent }))
}

/// The name in the kernel of a service's jail.
fn jail(spec: &FabricSpec, service: &str) -> String {
    let classic = spec.services.get(service).and_then(|service| service.instance.classic.as_ref());
    classic.map_or_else(|| service.to_owned(), |classic| classic.jail.clone())
}

fn look(host: &dyn Host, spec: &FabricSpec, services: &[String]) -> Looked {
    let mut looked = Looked::default();
    for service in services {
        let Some(instance) = spec.services.get(service).map(|service| &service.instance) else { continue };
        match one(host, instance) {
            Ok(standing) => drop(looked.found.insert(service.clone(), standing)),
            Err(reasons) if reasons.iter().all(import::is_absence) => looked.absent.push(jail(spec, service)),
            Err(reasons) => {
                let jail = jail(spec, service);
                looked.reasons.extend(reasons.iter().map(|reason| format!("{jail}: {reason}")));
            }
        }
    }
    looked
}

/// Has the host take all of them for its own.
fn own(host: &dyn Host, spec: &FabricSpec, found: &BTreeMap<String, Standing>) -> Result<(), Failure> {
    let of = |service: &String| spec.services.get(service).map(|service| &service.instance);
    found.iter().try_for_each(|(service, standing)| {
        of(service).map_or(Ok(()), |instance| import::own(host, instance, standing))
    })
}

/// Only a jail that keeps its name can be anybody else's.
fn one(host: &dyn Host, instance: &InstanceSpec) -> Result<Standing, Vec<Failure>> {
    match instance.classic {
        Some(_) => import::look(host, instance),
        None => Err(vec![Failure::new("it is no jail of jail(8)'s").hint("`warren up FILE` brings it up")]),
    }
}
