//! How much goes through: a sender and a receiver of UDP datagrams or of a TCP stream, for `benches/freebsd/data_plane.sh`.
//!
//! ```text
//! packets receive udp|tcp PORT SECONDS       prints what arrived in a second: datagrams, or MiB
//! packets send udp|tcp ADDRESS PORT SECONDS
//! ```
//! The receiver's time begins with the first that arrives.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Small enough that the packet counts and not its bytes.
const DATAGRAM: usize = 64;
const CHUNK: usize = 64 << 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["receive", kind, port, seconds] => receive(kind, number(port), number(seconds)),
        ["send", kind, address, port, seconds] => send(kind, &format!("{address}:{port}"), number(seconds)),
        _ => {
            eprintln!("packets receive udp|tcp PORT SECONDS, or packets send udp|tcp ADDRESS PORT SECONDS");
            std::process::exit(2);
        }
    };
    if let Err(error) = done {
        eprintln!("packets: {error}");
        std::process::exit(1);
    }
}

fn number<N: std::str::FromStr>(word: &str) -> N {
    word.parse().unwrap_or_else(|_| {
        eprintln!("packets: `{word}` is no number");
        std::process::exit(2);
    })
}

fn receive(kind: &str, port: u16, seconds: u64) -> std::io::Result<()> {
    let time = Duration::from_secs(seconds);
    if kind == "tcp" {
        let (mut stream, _) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?.accept()?;
        let (begin, mut bytes, mut buffer) = (Instant::now(), 0_u64, vec![0; CHUNK]);
        while begin.elapsed() < time {
            match stream.read(&mut buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
        println!("{:.1}", bytes as f64 / f64::from(1 << 20) / begin.elapsed().as_secs_f64());
        return Ok(());
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let mut buffer = [0; DATAGRAM];
    socket.recv(&mut buffer)?;
    let (begin, mut count) = (Instant::now(), 1_u64);
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    while begin.elapsed() < time && socket.recv(&mut buffer).is_ok() {
        count += 1;
    }
    println!("{:.0}", count as f64 / begin.elapsed().as_secs_f64());
    Ok(())
}

fn send(kind: &str, to: &str, seconds: u64) -> std::io::Result<()> {
    // Longer than the receiver listens.
    let end = Instant::now() + Duration::from_secs(seconds + 2);
    if kind == "tcp" {
        let mut stream = TcpStream::connect(to)?;
        let chunk = vec![7; CHUNK];
        while Instant::now() < end && stream.write_all(&chunk).is_ok() {}
        return Ok(());
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    while Instant::now() < end {
        // A full queue, and a receiver that has gone, are no reason to stop.
        for _ in 0..64 {
            let _ = socket.send(&[7; DATAGRAM]);
        }
    }
    Ok(())
}
