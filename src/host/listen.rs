//! Listening sockets, for [`Op::Listen`](super::Op::Listen).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::config::spec::Proto;

/// The backlog of a listening socket.
const BACKLOG: i32 = 1024;
/// The receive buffer of a UDP socket, where the name server's questions wait: those of all instances in one queue. The usual one holds a
/// few hundred, and an instance that floods it takes the others' places before the server can tell whose they are.
const QUEUE: usize = 1 << 20;

/// A listening socket. Those for IPv6 take no IPv4, as on FreeBSD.
pub fn bind(address: SocketAddr, proto: Proto) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match proto {
        Proto::Tcp => SocketType::STREAM,
        Proto::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    match proto {
        Proto::Tcp => sockopt::set_socket_reuseaddr(&socket, true)?,
        Proto::Udp => lengthen(&socket),
    }
    rustix::net::bind(&socket, &address)?;
    if proto == Proto::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// Makes room for more in a socket's queue. The system may refuse: what room it gives serves as well, while nobody floods.
fn lengthen(socket: &OwnedFd) {
    // Beyond the limit for everybody, net.core.rmem_max, for who may administer the network.
    #[cfg(target_os = "linux")]
    if sockopt::set_socket_recv_buffer_size_force(socket, QUEUE).is_ok() {
        return;
    }
    let _ = sockopt::set_socket_recv_buffer_size(socket, QUEUE);
}
