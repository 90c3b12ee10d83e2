//! The API: HTTP/1.1 and JSON under /v1 on a Unix socket. The CLI uses nothing else.
//!
//! Who may do what is decided by the peer's credentials: the owner of the daemon and root may do everything, members of
//! `--group` too, members of `--read-group` may look. Everybody else is refused at the [door], before the request is read.
//! Handlers say by [`Reader`] and [`Writer`] what they need.

mod body;
mod carry;
pub(super) mod copy;
mod door;
mod exec;
pub mod fuzz;
mod import;
mod peer;
mod requests;
mod rights;
mod stream;
pub mod view;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use tokio::net::UnixListener;
use utoipa::OpenApi;

use super::GRACE;
use super::driver::{Ending, Handle};
use super::names::Zones;
use crate::lifecycle::engine::Refusal;
pub use body::{LONGEST_REQUEST, too_long};
pub use exec::{ExecRequest, FRAME_HEAD, Frame, PROTOCOL};
pub use rights::{Access, Rights};
use view::Problem;

/// What requests need.
#[derive(Clone)]
pub struct Api {
    handle: Handle,
    /// `freebsd`, `lab` or `sim`.
    host: &'static str,
    state_dir: Arc<PathBuf>,
    rights: Arc<Rights>,
    names: Arc<Zones>,
    /// Held while the store is copied.
    copying: Arc<tokio::sync::Mutex<()>>,
    /// Told when somebody asks the daemon to end.
    ended: Arc<tokio::sync::Notify>,
    /// What runs for those who are connected.
    commands: Arc<exec::Commands>,
}

/// The published description: `warren config openapi` and `/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Warren",
        description = "The daemon's API, on the Unix socket `api.sock` of its state directory."
    ),
    paths(
        requests::info,
        requests::fabrics,
        requests::fabric,
        requests::declare,
        import::import,
        requests::drop_fabric,
        requests::cancel,
        requests::scale,
        requests::instances,
        requests::instance,
        requests::stop,
        requests::run,
        requests::networks,
        requests::leases,
        requests::names,
        requests::inventory,
        requests::repair,
        requests::shutdown,
        copy::backup,
        stream::events,
        stream::logs,
        stream::forget_logs,
        exec::exec
    ),
    components(schemas(
        view::Info,
        view::Fabric,
        view::Service,
        view::Network,
        view::Instance,
        view::Detail,
        view::Link,
        view::DoneStep,
        view::LeaseView,
        view::Scale,
        view::Run,
        view::Import,
        view::Imported,
        view::Taken,
        view::Repair,
        view::Problem
    ))
)]
pub struct Description;

/// A request that was not carried out.
#[derive(Debug)]
pub struct Rejected {
    status: StatusCode,
    problem: Problem,
}

impl Rejected {
    fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        Self { status, problem: Problem { kind: kind.into(), message: message.into() } }
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }
}

impl IntoResponse for Rejected {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.problem)).into_response()
    }
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            "not-found" => StatusCode::NOT_FOUND,
            "conflict" => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, refusal.kind, refusal.message)
    }
}

impl From<Ending> for Rejected {
    fn from(ending: Ending) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ending", ending.to_string())
    }
}

impl From<crate::host::Failure> for Rejected {
    fn from(failure: crate::host::Failure) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", failure.to_string())
    }
}

/// Whoever asks may look.
struct Reader {
    /// Whether they may see secrets: environments hold passwords.
    secrets: bool,
}
/// Whoever asks may change things.
struct Writer;

impl FromRequestParts<Api> for Reader {
    type Rejection = Rejected;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &Api) -> Result<Self, Rejected> {
        match Rights::access(parts) {
            Access::None => {
                Err(Rejected::new(StatusCode::FORBIDDEN, "forbidden", "you may not use this daemon"))
            }
            access => Ok(Self { secrets: access == Access::Write }),
        }
    }
}

impl FromRequestParts<Api> for Writer {
    type Rejection = Rejected;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &Api) -> Result<Self, Rejected> {
        match Rights::access(parts) {
            Access::Write => Ok(Self),
            Access::Read => Err(Rejected::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "you may look at this daemon, not change anything",
            )),
            Access::None => {
                Err(Rejected::new(StatusCode::FORBIDDEN, "forbidden", "you may not use this daemon"))
            }
        }
    }
}

impl Api {
    /// An API for the engine behind `handle`.
    #[must_use]
    pub fn new(
        handle: Handle,
        host: &'static str,
        state_dir: PathBuf,
        rights: Rights,
        names: Arc<Zones>,
    ) -> Self {
        let (state_dir, rights) = (Arc::new(state_dir), Arc::new(rights));
        let commands = Arc::new(exec::Commands::new(handle.host()));
        Self {
            handle,
            host,
            state_dir,
            rights,
            names,
            copying: Arc::default(),
            ended: Arc::default(),
            commands,
        }
    }

    /// What ends [`serve`](Self::serve) when it is notified.
    #[must_use]
    pub fn ended(&self) -> Arc<tokio::sync::Notify> {
        Arc::clone(&self.ended)
    }

    fn router(self) -> Router {
        Router::new()
            .route("/v1/info", get(requests::info))
            .route("/v1/fabrics", get(requests::fabrics))
            .route(
                "/v1/fabrics/{fabric}",
                get(requests::fabric).put(requests::declare).delete(requests::drop_fabric),
            )
            .route("/v1/fabrics/{fabric}/import", post(import::import))
            .route("/v1/fabrics/{fabric}/cancel", post(requests::cancel))
            .route("/v1/fabrics/{fabric}/services/{service}/scale", put(requests::scale))
            .route("/v1/instances", get(requests::instances).post(requests::run))
            .route("/v1/instances/{name}", get(requests::instance))
            .route("/v1/instances/{name}", delete(requests::stop))
            .route("/v1/instances/{name}/logs", get(stream::logs).delete(stream::forget_logs))
            .route("/v1/instances/{name}/exec", post(exec::exec))
            .route("/v1/networks", get(requests::networks))
            .route("/v1/leases", get(requests::leases))
            .route("/v1/names", get(requests::names))
            .route("/v1/inventory", get(requests::inventory))
            .route("/v1/events", get(stream::events))
            .route("/v1/repair", post(requests::repair))
            .route("/v1/shutdown", post(requests::shutdown))
            .route("/v1/backup", get(copy::backup))
            .route(
                "/openapi.json",
                get(|_: Reader, _: State<Self>| async { axum::Json(Description::openapi()) }),
            )
            .fallback(|_: Reader| async {
                Rejected::not_found("there is no such thing in this API; see /openapi.json")
            })
            .layer(axum::extract::DefaultBodyLimit::max(LONGEST_REQUEST))
            .with_state(self)
    }

    /// Serves until somebody asks the daemon to end, or `interrupted` is.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(
        self,
        listener: UnixListener,
        interrupted: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let ended = Arc::clone(&self.ended);
        let door = door::Door::new(listener, Arc::clone(&self.rights));
        let service = self.router().into_make_service_with_connect_info::<rights::Peer>();
        let end = async move {
            tokio::select! {
                () = ended.notified() => {}
                () = interrupted => {}
            }
        };
        let (ending, told) = tokio::sync::oneshot::channel::<()>();
        let server = axum::serve(door, service).with_graceful_shutdown(async move { drop(told.await) });
        // Whoever is being answered has a moment for it. Followers of events never end by themselves: nobody waits for them longer.
        tokio::select! {
            served = async { server.await } => served,
            () = async {
                end.await;
                let _ = ending.send(());
                tokio::time::sleep(GRACE).await;
            } => Ok(()),
        }
    }

    /// Ends the commands that are run by hand: they go with those who carry them, and these go with the daemon.
    pub fn end_commands(&self) {
        self.commands.end();
    }
}
