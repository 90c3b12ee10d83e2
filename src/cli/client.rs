//! The API's client: HTTP/1.1 over the daemon's Unix socket.
//!
//! Each request has a connection of its own: they are local and cheap, and a stream that is followed stands in nobody's way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::fail::{FAILED, Fail, NOT_FOUND};
use crate::daemon::api::view::{Info, Problem};
use crate::daemon::{api, socket_path};

/// An answer that is not a stream is not longer.
const LONGEST_ANSWER: usize = 256 << 20;
/// A line of a stream is not longer.
const LONGEST_LINE: usize = 1 << 20;
/// How long the daemon may take for an answer that needs no waiting, a busy disk included.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon, from outside.
#[derive(Debug, Clone)]
pub struct Client {
    state_dir: PathBuf,
}

/// Puts a name into a path: everything but letters, digits and `-._` is written as `%XX` (RFC 3986, section 2).
#[must_use]
pub fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

impl Client {
    /// The daemon of a state directory, whether one runs or not.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What answers, if anything does.
    ///
    /// # Errors
    /// Something is there, but does not answer as a daemon does, or not to us.
    pub async fn answering(&self) -> Result<Option<Info>, Fail> {
        match self.get::<Info>("/v1/info").await {
            Ok(info) => Ok(Some(info)),
            Err(fail) if fail.kind == "no-daemon" => Ok(None),
            Err(fail) => Err(fail),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Fail> {
        let socket = socket_path(&self.state_dir);
        let stream = patiently(&socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                let message = format!("no daemon answers in {}", self.state_dir.display());
                Fail::of(FAILED, "no-daemon", message)
                    .hint("`warren up FILE` starts one, `warren daemon` runs one in the foreground; --state-dir names another place")
            }
            std::io::ErrorKind::PermissionDenied => {
                Fail::of(FAILED, "forbidden", format!("you may not use {}", socket.display()))
                    .hint("the daemon's owner and root may, and members of the groups it was started with")
            }
            _ => Fail::of(FAILED, "unreachable", format!("connecting to {}: {error}", socket.display())),
        })?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(lost)?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Fail> {
        let mut sender = self.connect().await?;
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let answer = answer.map_err(|_| {
            Fail::of(FAILED, "unreachable", "the daemon does not answer; its log may say why")
        })?;
        let response = answer.map_err(lost)?;
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let status = response.status();
        let body = whole(response).await?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => refused(problem),
            Err(_) => {
                let said = String::from_utf8_lossy(&body);
                Fail::of(FAILED, "refused", format!("the daemon says {status}: {}", said.trim()))
            }
        })
    }

    async fn ask<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, Fail> {
        let body = whole(self.send(request).await?).await?;
        serde_json::from_slice(&body).map_err(|e| {
            Fail::of(FAILED, "unreachable", format!("the daemon gave an answer that makes no sense: {e}"))
        })
    }

    /// GET.
    ///
    /// # Errors
    /// No daemon answers, or it refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fail> {
        self.ask(request(Method::GET, path, Bytes::new())?).await
    }

    /// PUT.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Fail> {
        self.ask(request(Method::PUT, path, encode(body)?)?).await
    }

    /// POST.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Fail> {
        self.ask(request(Method::POST, path, encode(body)?)?).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fail> {
        self.ask(request(Method::DELETE, path, Bytes::new())?).await
    }

    /// GET of an answer that goes on, a JSON value to a line.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn stream(&self, path: &str) -> Result<Lines, Fail> {
        let response = self.send(request(Method::GET, path, Bytes::new())?).await?;
        Ok(Lines { body: response.into_body(), buffer: Vec::new(), start: 0 })
    }

    /// GET of a file. It is written as it comes.
    ///
    /// # Errors
    /// As [`get`](Self::get); and when it breaks off, or cannot be written.
    pub async fn download(&self, path: &str, to: &mut impl std::io::Write) -> Result<u64, Fail> {
        let mut body = self.send(request(Method::GET, path, Bytes::new())?).await?.into_body();
        let mut written = 0;
        while let Some(frame) = body.frame().await {
            let data = frame.map_err(lost)?.into_data().unwrap_or_default();
            to.write_all(&data).map_err(|e| Fail::new(format!("writing what the daemon sent: {e}")))?;
            written += data.len() as u64;
        }
        Ok(written)
    }

    /// POST that changes the connection into one of frames (see [`api::Frame`]).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn upgrade(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, Fail> {
        let mut request = request(Method::POST, path, encode(body)?)?;
        request.headers_mut().insert(CONNECTION, hyper::header::HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, hyper::header::HeaderValue::from_static(api::PROTOCOL));
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fail::of(
                FAILED,
                "unreachable",
                "the daemon did not change the connection's protocol",
            ));
        }
        hyper::upgrade::on(response).await.map(TokioIo::new).map_err(lost)
    }
}

fn encode(body: &impl Serialize) -> Result<Bytes, Fail> {
    let text = serde_json::to_vec(body).map_err(|e| Fail::new(format!("writing the request: {e}")))?;
    // The daemon says so too, but who is still sending when it closes the connection may not get to read that.
    if text.len() > api::LONGEST_REQUEST {
        return Err(Fail::of(FAILED, "too-long", api::too_long()));
    }
    Ok(text.into())
}

fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Fail> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "warren");
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    request.body(Full::new(body)).map_err(|e| Fail::usage(format!("{path} cannot be asked for: {e}")))
}

fn lost(error: hyper::Error) -> Fail {
    Fail::of(FAILED, "unreachable", format!("the connection to the daemon was lost: {error}"))
        .hint("`warren info` tells whether it runs; what was under way is taken up by the next daemon")
}

fn refused(problem: Problem) -> Fail {
    let code = if problem.kind == "not-found" { NOT_FOUND } else { FAILED };
    Fail::of(code, &problem.kind, problem.message)
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, Fail> {
    let limited = http_body_util::Limited::new(response.into_body(), LONGEST_ANSWER);
    let body = limited.collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|e| Fail::of(FAILED, "unreachable", format!("the daemon's answer broke off: {e}")))
}

/// The lines of an answer that goes on.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    start: usize,
}

impl Lines {
    /// The next one; `None` at the end. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection broke, or a line is not what it should be.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fail> {
        loop {
            if let Some(end) = self.buffer[self.start..].iter().position(|b| *b == b'\n') {
                let line = &self.buffer[self.start..self.start + end];
                let value = serde_json::from_slice(line);
                self.start += end + 1;
                let value = value
                    .map_err(|e| Fail::new(format!("the daemon sent a line that makes no sense: {e}")))?;
                return Ok(Some(value));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.len() > LONGEST_LINE {
                return Err(Fail::new("the daemon sent a line without end"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(lost(error)),
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
            }
        }
    }
}

/// Connects. FreeBSD refuses at once while as many wait to be accepted as may (listen(2)), as it does when nobody listens: that is not
/// so a moment later. Linux has the caller wait.
async fn patiently(socket: &Path) -> std::io::Result<UnixStream> {
    const PAUSES: &[u64] = if cfg!(target_os = "freebsd") { &[5, 10, 20, 40, 80] } else { &[] };
    for pause in PAUSES {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                tokio::time::sleep(Duration::from_millis(*pause)).await;
            }
            other => return other,
        }
    }
    UnixStream::connect(socket).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_of_the_path() {
        assert_eq!(segment("api-k3f9q2ab"), "api-k3f9q2ab");
        assert_eq!(segment("../x?y=z ü"), "..%2Fx%3Fy%3Dz%20%C3%BC");
    }

    #[test]
    fn what_the_daemon_would_not_read_is_not_sent() {
        let fail = encode(&"x".repeat(api::LONGEST_REQUEST)).unwrap_err();
        assert_eq!((fail.code, fail.kind.as_str()), (FAILED, "too-long"));
        assert!(encode(&"x".repeat(3 << 20)).is_ok());
    }
}
