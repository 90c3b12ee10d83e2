//! `warren beacon`: a small responder, so that examples and tests need no other program.
//!
//! It answers HTTP/1.1 on IPv4 and IPv6: `/` says who answers, `/healthz` that it is well, `/peer` fetches the page of a peer,
//! found through the system's resolver. A connection that says nothing is taken for a look whether the port is open. One
//! thread, bounded connections, bounded requests: whoever calls is untrusted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The longest request; more is refused.
const MAX_REQUEST: usize = 8 << 10;
/// The longest page taken from a peer.
const MAX_PAGE: u64 = 64 << 10;
/// How long one connection may take in all.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections at a time; further ones wait in the backlog.
const CONNECTIONS: usize = 256;

/// The options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where it listens, on every address
    #[arg(long)]
    port: u16,
    /// What it calls itself
    #[arg(long)]
    name: String,
    /// The peer that /peer fetches
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
}

/// Runs until SIGTERM or SIGINT. Gives the exit status.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("beacon {}: {error}", args.name);
            return 1;
        }
    };
    match runtime.block_on(serve(args)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("beacon {}: {error}", args.name);
            1
        }
    }
}

/// One socket for both families where there is IPv6, else one for IPv4.
async fn listen(port: u16) -> io::Result<TcpListener> {
    // Linux takes IPv4 on `::` as well unless told otherwise; a system that does not is served by the second.
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

/// The second socket where the first takes IPv6 only.
async fn listen_v4(port: u16, first: &TcpListener) -> io::Result<Option<TcpListener>> {
    if cfg!(target_os = "linux") || first.local_addr()?.is_ipv4() {
        return Ok(None);
    }
    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await.map(Some)
}

async fn serve(args: &Args) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = listen(args.port).await?;
    let second = listen_v4(args.port, &listener).await?;
    println!("beacon {} listens on port {}", args.name, args.port);
    let (args, room) = (Arc::new(args.clone()), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let other = async {
            match &second {
                Some(second) => second.accept().await,
                None => std::future::pending().await,
            }
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            accepted = other => accepted,
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, or the caller went away again.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let args = Arc::clone(&args);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, answer(stream, &args)).await;
            drop(permit);
        });
    }
}

async fn answer(mut stream: TcpStream, args: &Args) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
        if request.len() > MAX_REQUEST {
            return respond(
                &mut stream,
                "431 Request Header Fields Too Large",
                "the request is too long\n",
                false,
            )
            .await;
        }
    }
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let head = method == "HEAD";
    if !head && method != "GET" {
        return respond(&mut stream, "405 Method Not Allowed", "only GET and HEAD\n", false).await;
    }
    let (status, body) = match target.split('?').next().unwrap_or_default() {
        "/" => ("200 OK", who(args)),
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/peer" => match fetch(args.peer.as_deref()).await {
            Ok(page) => ("200 OK", page),
            Err(error) => ("502 Bad Gateway", format!("the peer: {error}\n")),
        },
        _ => ("404 Not Found", "there is /, /healthz and /peer\n".to_owned()),
    };
    respond(&mut stream, status, &body, head).await
}

async fn respond(stream: &mut TcpStream, status: &str, body: &str, head: bool) -> io::Result<()> {
    let length = body.len();
    let body = if head { "" } else { body };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// Who answers: a line each for name, host, addresses and process.
fn who(args: &Args) -> String {
    let hostname =
        nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut addresses = Vec::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        if let Some(v4) =
            address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip).filter(|a| !a.is_loopback())
        {
            addresses.push(v4.to_string());
        }
        let v6 = address.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::ip);
        // fe80::/10 says nothing about who answers.
        if let Some(v6) = v6.filter(|a| !a.is_loopback() && a.segments()[0] & 0xffc0 != 0xfe80) {
            addresses.push(v6.to_string());
        }
    }
    let pid = std::process::id();
    format!("name {}\nhost {hostname}\naddresses {}\npid {pid}\n", args.name, addresses.join(" "))
}

/// The page of the peer, found through the system's resolver.
async fn fetch(peer: Option<&str>) -> io::Result<String> {
    let peer = peer.ok_or_else(|| io::Error::other("none was named with --peer"))?;
    let mut stream = TcpStream::connect(peer).await?;
    stream
        .write_all(format!("GET / HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut page = Vec::new();
    stream.take(MAX_PAGE).read_to_end(&mut page).await?;
    let text = String::from_utf8_lossy(&page).into_owned();
    match text.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(io::Error::other("it gave no answer that is HTTP")),
    }
}
