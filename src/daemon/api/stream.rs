//! Answers that go on: events, and the log of an instance. Both are NDJSON; events can be resumed after a cursor.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Api, Reader, Rejected, Writer};
use crate::keeper::logs;
use crate::store::db::Event;

/// How many events are read from the store at once.
const PAGE: usize = 500;
/// How often a log that is followed is looked at.
const LOG_POLL: Duration = Duration::from_millis(100);

fn ndjson(body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], body.into()).into_response()
}

/// An error in the place of a line breaks the answer off, so that it is not taken for a whole one.
fn going_on(lines: mpsc::Receiver<std::io::Result<Bytes>>) -> Response {
    ndjson(Body::from_stream(ReceiverStream::new(lines)))
}

fn line(event: &impl serde::Serialize) -> Bytes {
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    /// Events after this cursor.
    #[serde(default)]
    since: i64,
    /// Go on with what comes.
    #[serde(default)]
    follow: bool,
    /// Leave out what has happened: whatever happens after the answer's head is seen, and nothing else.
    #[serde(default)]
    now: bool,
}

#[utoipa::path(get, path = "/v1/events", params(
    ("since" = i64, Query, description = "events after this cursor"), ("follow" = bool, Query, description = "go on with what comes"),
    ("now" = bool, Query, description = "leave out what has happened")),
    responses((status = 200, description = "one event a line: cursor, at, kind, …"),
        (status = 422, description = "no event has that cursor yet", body = super::view::Problem)))]
pub(super) async fn events(
    _: Reader,
    State(api): State<Api>,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Rejected> {
    let mut followed = api.handle.follow();
    let last = api.handle.query(|_, store| store.cursor()).await?;
    // Of another store: all that happens until this one has counted so far would be passed over in silence.
    if query.since > last {
        let message = format!(
            "no event has the cursor {} yet, the last one has {last}: it is of another store, or of what a power cut took; \
             go on after {last}, or after 0 to see all there is",
            query.since
        );
        return Err(Rejected::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "cursor", message));
    }
    let (sender, lines) = mpsc::channel(256);
    tokio::spawn(async move {
        let mut cursor = if query.now { last } else { query.since };
        loop {
            // First what the store has, page by page; then what is told; and the store again when the telling was too fast.
            loop {
                let page = api.handle.query(move |_, store| store.events_after(cursor, PAGE)).await;
                let Ok(Ok(page)) = page else { return };
                let full = page.len() == PAGE;
                for event in page {
                    cursor = event.cursor;
                    if sender.send(Ok(line(&event))).await.is_err() {
                        return;
                    }
                }
                if !full {
                    break;
                }
            }
            if !query.follow {
                return;
            }
            loop {
                let told: std::sync::Arc<Event> = tokio::select! {
                    told = followed.recv() => match told {
                        Ok(told) => told,
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return,
                    },
                    () = sender.closed() => return,
                };
                if told.cursor > cursor {
                    cursor = told.cursor;
                    if sender.send(Ok(line(&*told))).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    Ok(going_on(lines))
}

/// What of a log is wanted.
enum Look {
    Last(usize),
    From(logs::Position),
}

/// Reads a log where waiting for a disk holds up nobody: the runtime's two threads answer DNS as well.
async fn look(api: &Api, log: String, wanted: Look) -> std::io::Result<(Vec<logs::Line>, logs::Position)> {
    let dir = std::sync::Arc::clone(&api.state_dir);
    let read = move || match wanted {
        Look::Last(count) => logs::tail(&dir, &log, count),
        Look::From(place) => logs::read(&dir, &log, place),
    };
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}

#[derive(Deserialize)]
pub(super) struct LogsQuery {
    /// Go on with what comes, until the instance is gone.
    #[serde(default)]
    follow: bool,
    /// Only so many of the last lines.
    lines: Option<usize>,
}

#[utoipa::path(get, path = "/v1/instances/{name}/logs", params(
    ("follow" = bool, Query, description = "go on with what comes"), ("lines" = usize, Query, description = "only the last lines")),
    responses((status = 200, description = "one line of the log a line: at, job, stream, line"), (status = 404, body = super::view::Problem)))]
pub(super) async fn logs(
    _: Reader,
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Rejected> {
    let unread = |e: std::io::Error| crate::host::Failure::os(format!("reading the log of {name}"), &e);
    // The log outlives its instance.
    let log = match api.resolve(name.clone()).await {
        Ok(id) => id.to_string(),
        Err(rejected) => {
            let id = name.rsplit_once('-').map_or(name.as_str(), |(_, id)| id);
            match id.parse::<crate::ids::Id>() {
                Ok(id) if !look(&api, id.to_string(), Look::Last(1)).await.map_err(unread)?.0.is_empty() => {
                    id.to_string()
                }
                _ => return Err(rejected),
            }
        }
    };
    if !query.follow {
        // One look: who prints without a pause would keep whoever asked what it printed until now for ever.
        let last = Look::Last(query.lines.unwrap_or(usize::MAX));
        let (entries, _) = look(&api, log, last).await.map_err(unread)?;
        return Ok(ndjson(entries.iter().flat_map(line).collect::<Vec<u8>>()));
    }
    let (sender, lines) = mpsc::channel(256);
    tokio::spawn(async move {
        let mut place = logs::Position::default();
        let mut last = query.lines;
        loop {
            // Asked before the read, so that what was written before the end is read after it.
            let id = log.parse::<crate::ids::Id>().ok();
            let gone =
                api.handle.query(move |e, _| id.is_none_or(|id| !e.state.instances.contains_key(&id))).await;
            let wanted = last.take().map_or(Look::From(place), Look::Last);
            let found = look(&api, log.clone(), wanted).await;
            let (entries, next) = match found {
                Ok(found) => found,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            let more = next != place;
            place = next;
            for entry in entries {
                if sender.send(Ok(line(&entry))).await.is_err() {
                    return;
                }
            }
            if !more && gone.unwrap_or(true) {
                return;
            }
            if more {
                continue;
            }
            tokio::time::sleep(LOG_POLL).await;
            if sender.is_closed() {
                return;
            }
        }
    });
    Ok(going_on(lines))
}

#[utoipa::path(delete, path = "/v1/instances/{name}/logs",
    responses((status = 200), (status = 404, body = super::view::Problem), (status = 409, body = super::view::Problem)))]
pub(super) async fn forget_logs(
    _: Writer,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<axum::Json<serde_json::Value>, Rejected> {
    let id = name.rsplit_once('-').map_or(name.as_str(), |(_, id)| id);
    let id: crate::ids::Id =
        id.parse().map_err(|_| Rejected::not_found(format!("`{name}` is not the name of an instance")))?;
    if api.handle.query(move |engine, _| engine.state.instances.contains_key(&id)).await? {
        let status = axum::http::StatusCode::CONFLICT;
        return Err(Rejected::new(
            status,
            "conflict",
            format!("{name} is there and writes its log; stop it first"),
        ));
    }
    logs::remove(&api.state_dir, id.as_str())
        .map_err(|e| crate::host::Failure::os(format!("removing the log of {name}"), &e))?;
    Ok(axum::Json(serde_json::json!({ "removed": id })))
}
