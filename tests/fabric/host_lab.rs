//! The machine behind the tests on Linux: the lab, one for each test.

use std::process::{Command, Output};

use nix::unistd::Pid;

use crate::lab::Lab;

/// `ping` that gives up after two seconds: where nothing is to answer.
pub const PING: [&str; 5] = ["ping", "-c", "1", "-W", "2"];
/// `ping` that does not give up because the machine is busy: where something is.
pub const PATIENT_PING: [&str; 5] = ["ping", "-c", "1", "-W", "20"];

/// What is missing for a lab.
pub fn missing() -> Vec<String> {
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    tun.err().map(|_| "/dev/net/tun".to_owned()).into_iter().collect()
}

/// A program on the lab's host side.
pub fn command(lab: &Lab, argv: &[&str]) -> Command {
    let mut all = vec!["lab", "exec", "--"];
    all.extend(argv);
    lab.command(&all)
}

/// The daemon's number. SO_PEERCRED tells it in our own pid namespace, `warren info` in the lab's.
pub fn daemon(lab: &Lab) -> i32 {
    let stream = std::os::unix::net::UnixStream::connect(lab.state().join("api.sock")).unwrap();
    nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials).unwrap().pid()
}

/// Ends everything.
pub fn end(lab: &Lab) -> Output {
    let ended = lab.warren(&["shutdown", "--force"]);
    // With fabrics up `shutdown` ends the daemon alone.
    let _ = lab.warren(&["lab", "off"]);
    ended
}

/// Fetches the page behind a published port, from outside.
pub fn fetch(port: u16) -> Result<String, String> {
    use std::io::{Read, Write};
    let mut stream =
        std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let get = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(get).map_err(|error| format!("write: {error}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("read: {error}, after {answer:?}"))?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(format!("the answer is {answer:?}")) }
}

/// Whether a process has given up its descriptors: all its threads are zombies, or it is gone. Its memory goes before its sockets do,
/// and its first thread may be a zombie while others have yet to end.
pub fn is_dead(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default())
        .all(|stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])))
}
