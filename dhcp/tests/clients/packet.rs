//! A raw packet socket on the only interface of another network namespace.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};

/// Moves the calling thread into the namespace and opens a socket bound to `interface` there, which reads and writes
/// whole frames and gives up reading after 100 ms.
pub fn open_in(namespace: &str, interface: &str) -> File {
    let ns = File::open(format!("/run/netns/{namespace}")).expect("network namespace");
    nix::sched::setns(&ns, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
    let index = nix::net::if_::if_nametoindex(interface).expect("interface");
    let all = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(all)) };
    assert!(fd >= 0, "packet socket: {}", std::io::Error::last_os_error());
    // SAFETY: fd was just opened and is owned by no one else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all;
    address.sll_ifindex = index as i32;
    let len = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the pointer is to a live sockaddr_ll of exactly the length given.
    let bound = unsafe { libc::bind(fd, (&raw const address).cast(), len) };
    assert!(bound == 0, "bind: {}", std::io::Error::last_os_error());
    let timeout = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
    let len = size_of::<libc::timeval>() as u32;
    // SAFETY: the pointer is to a live timeval of exactly the length given.
    let set = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const timeout).cast(), len)
    };
    assert!(set == 0, "receive timeout: {}", std::io::Error::last_os_error());
    File::from(socket)
}
