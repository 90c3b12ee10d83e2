//! Asking an instance whether it is well: a TCP connection, or a GET and the status of its answer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::host::{Failure, Question};

/// A status line is not longer than this, or it is none.
const LONGEST_STATUS_LINE: usize = 1024;

/// Asks, and fails if the answer is not a good one.
pub fn ask(question: &Question, address: IpAddr, timeout: Duration) -> Result<(), Failure> {
    match question {
        Question::Tcp { port } => tcp(address, *port, timeout),
        Question::Http { port, path } => http(address, *port, path, timeout),
    }
}

/// Whether a TCP connection is accepted.
fn tcp(address: IpAddr, port: u16, timeout: Duration) -> Result<(), Failure> {
    connect(address, port, timeout)
        .map(|_| ())
        .map_err(|error| Failure::os(format!("connect to {address} port {port}"), &error))
}

/// Whether a GET is answered with a status from 200 to 399.
fn http(address: IpAddr, port: u16, path: &str, timeout: Duration) -> Result<(), Failure> {
    let url = format!("http://{}{path}", SocketAddr::new(address, port));
    let end = Instant::now() + timeout;
    let status =
        get(address, port, path, end, timeout).map_err(|error| Failure::os(format!("GET {url}"), &error))?;
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(Failure::new(format!("GET {url}: status {status}")))
    }
}

fn connect(address: IpAddr, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    // connect_timeout refuses zero.
    TcpStream::connect_timeout(&SocketAddr::new(address, port), timeout.max(Duration::from_millis(1)))
}

/// The status of the answer. RFC 9112, sections 3 and 4.
fn get(address: IpAddr, port: u16, path: &str, end: Instant, timeout: Duration) -> io::Result<u16> {
    if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path has no spaces"));
    }
    let mut stream = connect(address, port, timeout)?;
    stream.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    let host = SocketAddr::new(address, port);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: warren-health\r\nConnection: close\r\n\r\n"
    )?;
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while !line.contains(&b'\n') {
        // The time is for all of it: one that sends a byte a second does not get longer.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            other => other?,
        };
        if read == 0 || line.len() > LONGEST_STATUS_LINE {
            break;
        }
        line.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    parse_status(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

/// The number in `HTTP/1.1 200 OK`.
fn parse_status(line: &[u8]) -> Option<u16> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [_, b' ', code @ ..] = rest else { return None };
    let code = code.get(..3)?;
    if !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that answers one connection with this and keeps it open as long as the client does.
    fn server(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        port
    }

    fn ask(answer: &'static [u8], patience: Duration) -> Result<(), Failure> {
        http("127.0.0.1".parse().unwrap(), server(answer), "/health", patience)
    }

    #[test]
    fn the_status_decides() {
        let (long, short) = (Duration::from_secs(20), Duration::from_millis(200));
        assert_eq!(ask(b"HTTP/1.1 204 No Content\r\n\r\n", long), Ok(()));
        assert_eq!(ask(b"HTTP/1.0 302 Found\r\n", long), Ok(()));
        assert!(ask(b"HTTP/1.1 500 Oh\r\n\r\n", long).unwrap_err().message.ends_with("status 500"));
        assert!(ask(b"SSH-2.0-x\r\n", long).unwrap_err().message.contains("not HTTP"));
        assert!(ask(b"HTTP/1.1 200", short).unwrap_err().message.contains("timed out"));
    }

    #[test]
    fn nobody_there_is_a_failure() {
        let port = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
        assert!(tcp("127.0.0.1".parse().unwrap(), port, Duration::from_secs(1)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            parse_status(&line);
        }
    }
}
