//! The requests that are answered at once.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Asked;
use super::view::{self, Detail, Fabric, Info, Instance, LeaseView, Network, Problem, Repair, Run, Scale};
use super::{Api, Reader, Rejected, Writer};
use crate::config::spec::{FabricSpec, Restart, RestartPolicy, ServiceSpec};
use crate::host::{Inventory, Wanted};
use crate::ids::Id;
use crate::lifecycle::engine::{Command, Engine, Refusal};

type Answer<T> = Result<Json<T>, Rejected>;

impl Api {
    async fn ask(&self, command: Command) -> Answer<Value> {
        Ok(Json(self.handle.ask(command).await??))
    }

    /// Asks the machine for what only it can tell: whether templates are there and ports are free. What is in use by the
    /// fabric already is.
    async fn can_have(&self, spec: &FabricSpec) -> Result<(), Rejected> {
        let name = spec.name.clone();
        let old = self
            .handle
            .query(move |engine, _| engine.state.fabrics.get(&name).map(|f| f.spec.clone()))
            .await?;
        let had: Vec<Wanted> = old.iter().flat_map(wanted_of).collect();
        let fresh: Vec<Wanted> = wanted_of(spec).filter(|w| !had.contains(w)).collect();
        let host = self.handle.host();
        let checked =
            tokio::task::spawn_blocking(move || fresh.iter().try_for_each(|wanted| host.check(wanted))).await;
        let checked =
            checked.map_err(|e| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string()))?;
        checked.map_err(|failure| Rejected::new(StatusCode::CONFLICT, "conflict", failure.to_string()))
    }

    /// The one instance a name means: an id, `service-id`, or a service of one instance.
    pub(super) async fn resolve(&self, name: String) -> Result<Id, Rejected> {
        self.handle.query(move |engine, _| resolve(engine, &name)).await?
    }
}

fn resolve(engine: &Engine, name: &str) -> Result<Id, Rejected> {
    let instances = &engine.state.instances;
    let id = name.parse::<Id>().ok().or_else(|| name.rsplit_once('-').and_then(|(_, id)| id.parse().ok()));
    if let Some(id) = id.filter(|id| instances.contains_key(id)) {
        return Ok(id);
    }
    let of_service: Vec<Id> =
        instances.values().filter(|i| i.given.service == name).map(|i| i.given.id).collect();
    match of_service[..] {
        [one] => Ok(one),
        [] => Err(Rejected::not_found(format!("no instance is called `{name}`; `warren ps` lists them"))),
        ref many => {
            let names: Vec<String> = many.iter().map(|id| format!("{name}-{id}")).collect();
            Err(Rejected::new(
                StatusCode::CONFLICT,
                "ambiguous",
                format!("`{name}` has several instances: {}", names.join(", ")),
            ))
        }
    }
}

#[utoipa::path(get, path = "/v1/info", responses((status = 200, body = Info)))]
pub(super) async fn info(_: Reader, State(api): State<Api>) -> Answer<Info> {
    let look = |engine: &Engine, store: &crate::store::Store| {
        let strays: Vec<String> = engine.strays().map(str::to_owned).collect();
        (store.rows().unwrap_or(0), engine.is_idle(), strays)
    };
    let (rows, idle, strays) = api.handle.query(look).await?;
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION").into(),
        host: api.host.into(),
        boot: api.handle.host().boot_id(),
        pid: std::process::id(),
        state_dir: api.state_dir.display().to_string(),
        rows,
        idle,
        strays,
    }))
}

#[utoipa::path(get, path = "/v1/fabrics", responses((status = 200, body = Vec<Fabric>)))]
pub(super) async fn fabrics(_: Reader, State(api): State<Api>) -> Answer<Vec<Fabric>> {
    let all =
        |engine: &Engine| engine.state.fabrics.keys().filter_map(|name| view::fabric(engine, name)).collect();
    Ok(Json(api.handle.query(move |engine, _| all(engine)).await?))
}

fn no_fabric(name: &str) -> Rejected {
    Rejected::not_found(format!("no fabric is called `{name}`"))
}

#[utoipa::path(get, path = "/v1/fabrics/{fabric}", responses((status = 200, body = Fabric), (status = 404, body = Problem)))]
pub(super) async fn fabric(_: Reader, State(api): State<Api>, Path(name): Path<String>) -> Answer<Fabric> {
    let missing = no_fabric(&name);
    let found = api.handle.query(move |engine, _| view::fabric(engine, &name)).await?;
    found.map(Json).ok_or(missing)
}

#[derive(Deserialize)]
pub(super) struct DeclareQuery {
    /// Only say what would change.
    #[serde(default)]
    pub(super) dry: bool,
}

fn wanted_of(spec: &FabricSpec) -> impl Iterator<Item = Wanted> + '_ {
    // The root of a jail that keeps its name may be made by its own hooks.
    let cloned = spec.services.values().filter(|s| s.instance.classic.is_none());
    let templates = cloned.map(|s| Wanted::Template(s.instance.template.source.clone()));
    templates.chain(spec.services.values().flat_map(|s| s.publish.iter().cloned().map(Wanted::Port)))
}

/// A client may send any spec; the rules hold for it as for a file. They close the character sets of names, too.
pub(super) fn verified(spec: &FabricSpec) -> Result<(), Rejected> {
    let report = crate::config::verify(spec);
    report.map_err(|r| Rejected::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", format!("{r:#}")))
}

/// What declaring this would change, in sentences.
fn changes(engine: &Engine, spec: &FabricSpec) -> Vec<String> {
    match engine.state.fabrics.get(&spec.name) {
        Some(old) => crate::config::diff(&old.spec, spec).sentences(),
        None => vec![format!("fabric `{}` is new: it comes up", spec.name)],
    }
}

#[utoipa::path(put, path = "/v1/fabrics/{fabric}", request_body = Object, params(("dry" = bool, Query, description = "only say what would change")),
    responses((status = 200, description = "what changes, in sentences"), (status = 409, body = Problem)))]
pub(super) async fn declare(
    _: Writer,
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<DeclareQuery>,
    Asked(spec): Asked<FabricSpec>,
) -> Answer<Value> {
    if spec.name != name {
        let message = format!("the spec is of the fabric `{}`, not `{name}`", spec.name);
        return Err(Rejected::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message));
    }
    verified(&spec)?;
    let (spec, changes) = api
        .handle
        .query(move |engine, _| {
            // Also for a question: what would be refused is not promised.
            engine.check_declaration(&spec)?;
            let changes = changes(engine, &spec);
            Ok::<_, Refusal>((spec, changes))
        })
        .await??;
    api.can_have(&spec).await?;
    if !query.dry {
        let _ = api.ask(Command::Declare(Box::new(spec))).await?;
    }
    Ok(Json(json!({ "fabric": name, "changes": changes })))
}

#[utoipa::path(delete, path = "/v1/fabrics/{fabric}", responses((status = 200), (status = 404, body = Problem)))]
pub(super) async fn drop_fabric(
    _: Writer,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Answer<Value> {
    api.ask(Command::Drop(name)).await
}

#[utoipa::path(post, path = "/v1/fabrics/{fabric}/cancel", responses((status = 200), (status = 404, body = Problem)))]
pub(super) async fn cancel(_: Writer, State(api): State<Api>, Path(name): Path<String>) -> Answer<Value> {
    api.ask(Command::Cancel(name)).await
}

#[utoipa::path(put, path = "/v1/fabrics/{fabric}/services/{service}/scale", request_body = Scale, responses((status = 200), (status = 404, body = Problem)))]
pub(super) async fn scale(
    _: Writer,
    State(api): State<Api>,
    Path((fabric, service)): Path<(String, String)>,
    Asked(Scale { replicas }): Asked<Scale>,
) -> Answer<Value> {
    api.ask(Command::Scale { fabric, service, replicas }).await
}

#[utoipa::path(get, path = "/v1/instances", responses((status = 200, body = Vec<Instance>)))]
pub(super) async fn instances(_: Reader, State(api): State<Api>) -> Answer<Vec<Instance>> {
    let mut all = api
        .handle
        .query(|engine, _| {
            let mut units: Vec<_> = engine.state.instances.values().collect();
            units.sort_by_key(|u| (u.given.fabric.clone(), u.given.service.clone(), u.born));
            units.into_iter().map(|unit| view::instance(engine, unit)).collect::<Vec<_>>()
        })
        .await?;
    all.shrink_to_fit();
    Ok(Json(all))
}

#[utoipa::path(get, path = "/v1/instances/{name}", responses((status = 200, body = Detail), (status = 404, body = Problem)))]
pub(super) async fn instance(
    Reader { secrets }: Reader,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Answer<Detail> {
    let id = api.resolve(name).await?;
    let found = api
        .handle
        .query(move |engine, _| engine.state.instances.get(&id).map(|u| view::detail(engine, u, secrets)))
        .await?;
    found.map(Json).ok_or_else(|| Rejected::not_found("the instance has just gone"))
}

#[utoipa::path(delete, path = "/v1/instances/{name}", responses((status = 200), (status = 404, body = Problem)))]
pub(super) async fn stop(_: Writer, State(api): State<Api>, Path(name): Path<String>) -> Answer<Value> {
    let id = api.resolve(name).await?;
    api.ask(Command::Stop(id)).await
}

#[utoipa::path(post, path = "/v1/instances", request_body = Run, responses((status = 200), (status = 404, body = Problem)))]
pub(super) async fn run(_: Writer, State(api): State<Api>, Asked(run): Asked<Run>) -> Answer<Value> {
    let Run { fabric, name, spec } = run;
    let missing = no_fabric(&fabric);
    // Judged as a service of its fabric would be.
    let service = ServiceSpec {
        name: name.clone(),
        replicas: 1,
        depends_on: Vec::new(),
        publish: Vec::new(),
        ports: Vec::new(),
        restart: Restart {
            policy: RestartPolicy::No,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(1),
            retries: None,
        },
        health: None,
        instance: spec.clone(),
    };
    let of = fabric.clone();
    let whole = api.handle.query(move |engine, _| {
        let mut whole = engine.state.fabrics.get(&of)?.spec.clone();
        whole.services.insert(service.name.clone(), service);
        Some(whole)
    });
    verified(&whole.await?.ok_or(missing)?)?;
    api.ask(Command::Run { fabric, service: name, spec: Box::new(spec) }).await
}

#[utoipa::path(get, path = "/v1/networks", responses((status = 200, body = Vec<Network>)))]
pub(super) async fn networks(_: Reader, State(api): State<Api>) -> Answer<Vec<Network>> {
    Ok(Json(api.handle.query(|engine, _| view::networks(engine, None)).await?))
}

#[utoipa::path(get, path = "/v1/leases", responses((status = 200, body = Vec<LeaseView>)))]
pub(super) async fn leases(_: Reader, State(api): State<Api>) -> Answer<Vec<LeaseView>> {
    Ok(Json(api.handle.query(|engine, _| view::leases(engine)).await?))
}

#[utoipa::path(get, path = "/v1/names", responses((status = 200, description = "the zones' records: name, type, ttl, data")))]
pub(super) async fn names(_: Reader, State(api): State<Api>) -> Answer<Value> {
    Ok(Json(api.names.records()))
}

#[utoipa::path(get, path = "/v1/inventory", responses((status = 200, description = "what exists on the machine under names of ours")))]
pub(super) async fn inventory(_: Reader, State(api): State<Api>) -> Answer<Inventory> {
    let host = api.handle.host();
    let also = api.handle.query(|engine, _| engine.state.classic_jails()).await?;
    let seen = tokio::task::spawn_blocking(move || host.observe(&also)).await;
    let seen = seen.map_err(|e| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string()))?;
    Ok(Json(seen?))
}

#[utoipa::path(post, path = "/v1/repair", request_body = Repair, responses((status = 200)))]
pub(super) async fn repair(
    _: Writer,
    State(api): State<Api>,
    Asked(Repair { unit }): Asked<Repair>,
) -> Answer<Value> {
    api.ask(Command::Repair(unit)).await
}

#[derive(Deserialize)]
pub(super) struct ShutdownQuery {
    /// Also when fabrics are up: they go on running, and a later daemon takes them up again.
    #[serde(default)]
    force: bool,
}

#[utoipa::path(post, path = "/v1/shutdown", params(("force" = bool, Query, description = "also when fabrics are up")), responses((status = 200), (status = 409, body = Problem)))]
pub(super) async fn shutdown(
    _: Writer,
    State(api): State<Api>,
    Query(query): Query<ShutdownQuery>,
) -> Answer<Value> {
    let up = api.handle.query(|engine, _| engine.state.fabrics.keys().cloned().collect::<Vec<_>>()).await?;
    if !up.is_empty() && !query.force {
        let message = format!("{} up; take it down first (`warren down`), or say --force", up.join(", "));
        return Err(Rejected::new(StatusCode::CONFLICT, "conflict", message));
    }
    // Whoever is being answered, as this one, has his answer before the end.
    api.ended.notify_one();
    Ok(Json(json!({ "ending": true, "up": up })))
}
