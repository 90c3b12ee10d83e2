//! The body of a request: JSON, of a size that has an end.

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::{Api, Rejected};

/// The longest body that is read, in bytes. A service is about 1.5 kB of JSON: axum's own 2 MiB are some thirteen hundred, and this is
/// more than a machine has room for. It is held in memory, but those only are read who may change things.
pub const LONGEST_REQUEST: usize = 64 << 20;

/// What is said of a longer one.
#[must_use]
pub fn too_long() -> String {
    format!(
        "what is asked for is longer than {} MiB as JSON, and the daemon reads no more; divide the file into several fabrics",
        LONGEST_REQUEST >> 20
    )
}

/// The body, read. What is wrong with it is said as everything else is.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Asked<T> {
    type Rejection = Rejected;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Rejected> {
        match Json::<T>::from_request(request, api).await {
            Ok(Json(asked)) => Ok(Self(asked)),
            Err(wrong) if wrong.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Rejected::new(wrong.status(), "too-long", too_long()))
            }
            Err(wrong) => Err(Rejected::new(wrong.status(), "invalid", wrong.body_text())),
        }
    }
}
