//! `warren resolve NAME`: asks a DNS server, and prints what it says. Instances have it for tests and demonstrations, since they
//! may hold no other such program.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde::{Deserialize, Serialize};

use super::out::{self, Output};
use super::{Fail, dns::Record};

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is asked over UDP, which may lose a packet.
const TRIES: u32 = 3;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name; an address asks for its PTR record
    #[arg(value_name = "NAME")]
    name: String,
    /// The type of record
    #[arg(short = 't', long = "type", default_value = "A", value_parser = kind)]
    kind: RecordType,
    /// The server, with or without a port [default: the first of /etc/resolv.conf]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = server)]
    server: Option<SocketAddr>,
    /// Ask over TCP
    #[arg(long)]
    tcp: bool,
    #[command(flatten)]
    pub output: Output,
}

fn kind(text: &str) -> Result<RecordType, String> {
    text.to_ascii_uppercase().parse().map_err(|_| format!("there is no type of record `{text}`"))
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let plain = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    plain.or_else(|_| text.parse()).map_err(|_| "an address, or an address and a port".to_owned())
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// `NOERROR`, `NXDOMAIN`, ….
    pub status: String,
    /// The records of the answer.
    pub answers: Vec<Record>,
}

pub fn run(args: &Args) -> Result<u8, Fail> {
    let server = match args.server {
        Some(server) => server,
        None => configured()?,
    };
    let (name, kind) = match args.name.parse::<IpAddr>() {
        Ok(address) => (Name::from(address), RecordType::PTR),
        Err(_) => (name(&args.name)?, args.kind),
    };
    let answer = ask(server, name, kind, args.tcp)?;
    if args.output.json {
        out::json(&answer);
    } else {
        for r in &answer.answers {
            out::line(out::plain(&format!("{} {} {} {}", r.name, r.ttl, r.rtype, r.data)));
        }
        if answer.answers.is_empty() {
            out::note(format_args!("{}: no such record", answer.status));
        }
    }
    Ok(match answer.status.as_str() {
        "NOERROR" => 0,
        "NXDOMAIN" => super::fail::NOT_FOUND,
        _ => super::fail::FAILED,
    })
}

fn name(text: &str) -> Result<Name, Fail> {
    let dotted = if text.ends_with('.') { text.to_owned() } else { format!("{text}.") };
    Name::from_ascii(&dotted).map_err(|e| Fail::usage(format!("`{text}` is not a name: {e}")))
}

/// The first server of resolv.conf(5).
fn configured() -> Result<SocketAddr, Fail> {
    let text = std::fs::read_to_string("/etc/resolv.conf")
        .map_err(|e| Fail::new(format!("reading /etc/resolv.conf: {e}")).hint("say --server ADDR"))?;
    let first =
        text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok()).next();
    first
        .map(|address| SocketAddr::new(address, 53))
        .ok_or_else(|| Fail::new("/etc/resolv.conf names no server").hint("say --server ADDR"))
}

/// Asks, over UDP with some patience or over TCP.
pub fn ask(server: SocketAddr, name: Name, kind: RecordType, tcp: bool) -> Result<Answer, Fail> {
    let random = getrandom::u32().map_err(|e| Fail::new(format!("drawing a number: {e}")))?;
    let id = u16::try_from(random & 0xffff).unwrap_or(0);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    let query = message.to_vec().map_err(|e| Fail::new(format!("writing the question: {e}")))?;
    let failed = |e: std::io::Error| Fail::of(1, "unreachable", format!("{server} gives no answer: {e}"));
    let bytes = if tcp { over_tcp(server, &query) } else { over_udp(server, &query) }.map_err(failed)?;
    let message = Message::from_vec(&bytes)
        .map_err(|e| Fail::new(format!("{server} gave an answer that is none: {e}")))?;
    if message.metadata.truncation && !tcp {
        let bytes = over_tcp(server, &query).map_err(failed)?;
        let message = Message::from_vec(&bytes)
            .map_err(|e| Fail::new(format!("{server} gave an answer that is none: {e}")))?;
        return Ok(read(&message));
    }
    Ok(read(&message))
}

/// Asks for a name given as text.
pub fn lookup(server: SocketAddr, text: &str, kind: RecordType) -> Result<Answer, Fail> {
    ask(server, name(text)?, kind, false)
}

fn read(message: &Message) -> Answer {
    let status = match message.metadata.response_code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_string(),
    };
    let record = |r: &hickory_proto::rr::Record| Record {
        name: r.name.to_ascii(),
        rtype: r.record_type().to_string(),
        ttl: r.ttl,
        data: r.data.to_string(),
    };
    Answer { status, answers: message.answers.iter().map(record).collect() }
}

fn over_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE / TRIES))?;
    let mut buffer = vec![0; 65_535];
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    for _ in 0..TRIES {
        socket.send(query)?;
        match socket.recv(&mut buffer) {
            // Anything else is not the answer to this question (RFC 5452, section 9.1).
            Ok(length) if buffer.get(..2) == query.get(..2) => return Ok(buffer[..length].to_vec()),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length =
        u16::try_from(query.len()).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(head))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_with_or_without_a_port() {
        assert_eq!(server("10.0.0.1").unwrap().port(), 53);
        assert_eq!(server("[fd00::1]:5300").unwrap().port(), 5300);
        assert!(server("localhost").is_err());
        assert_eq!(kind("aaaa"), Ok(RecordType::AAAA));
    }
}
