//! A copy of the store, as the answer of a request.

use std::path::Path;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncReadExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::{Api, Rejected, Writer};
use crate::daemon::store_path;

/// Bytes sent at a time.
const PIECE: usize = 64 << 10;

/// Where the copy is while it is sent: it has no name for longer than it is being made.
fn place(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("warren.db.copying")
}

/// Removes what a daemon that died in the middle of a copy has left.
pub(in crate::daemon) fn sweep(state_dir: &Path) {
    let _ = std::fs::remove_file(place(state_dir));
}

/// Its file holds the environments of instances: who may only look does not get it.
#[utoipa::path(get, path = "/v1/backup", responses((status = 200, description = "the store, as one SQLite file"), (status = 409, body = super::view::Problem)))]
pub(super) async fn backup(_: Writer, State(api): State<Api>) -> Result<Response, Rejected> {
    let Ok(one_at_a_time) = std::sync::Arc::clone(&api.copying).try_lock_owned() else {
        return Err(Rejected::new(
            StatusCode::CONFLICT,
            "conflict",
            "another backup is being made; try again",
        ));
    };
    let dir = std::sync::Arc::clone(&api.state_dir);
    let made = tokio::task::spawn_blocking(move || -> Result<std::fs::File, crate::host::Failure> {
        let place = place(&dir);
        crate::store::backup::copy(&store_path(&dir), &place)
            .map_err(|e| crate::host::Failure::new(e.to_string()))?;
        let file = std::fs::File::open(&place);
        let _ = std::fs::remove_file(&place);
        file.map_err(|e| crate::host::Failure::os("opening the copy", &e))
    });
    let file = made
        .await
        .map_err(|e| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string()))??;
    drop(one_at_a_time);
    let (sender, pieces) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        let mut file = tokio::fs::File::from_std(file);
        loop {
            let mut piece = vec![0; PIECE];
            let sent = match file.read(&mut piece).await {
                Ok(0) => return,
                Ok(count) => {
                    piece.truncate(count);
                    sender.send(Ok(Bytes::from(piece))).await
                }
                // It breaks the answer off, so that half a file is not taken for a whole one.
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let body = Body::from_stream(ReceiverStream::new(pieces));
    Ok(([(CONTENT_TYPE, "application/vnd.sqlite3")], body).into_response())
}
