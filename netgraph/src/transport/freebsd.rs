//! The kernel's control and data sockets (FreeBSD, ng_socket(4)).
//!
//! What a careful program does with them is done here: the data socket is attached at once, since any local user may attach one to
//! a named socket node that has none; losses are reported (SO_RERROR, or a reply that does not fit would never be heard of); the
//! receive buffer is as large as the system allows; the module is loaded if it is not there.
#![allow(unsafe_code)]

use super::{RECEIVE_BUFFERS, Received, Transport, gone, wait};
use crate::addr::{NodeId, SockaddrNg};
use crate::data::DataSocket;
use crate::errno::Errno;
use crate::handle::Handle;
use crate::name::{HookName, NodeName};
use crate::sys;
use nix::poll::PollFlags;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

unsafe extern "C" {
    /// kldload(2), which the libc crate does not declare.
    fn kldload(file: *const libc::c_char) -> libc::c_int;
}

/// A control socket of the kernel. Its node dies with it.
#[derive(Debug)]
pub struct KernelTransport(OwnedFd);

/// A data socket of the kernel.
#[derive(Debug)]
pub struct KernelData(OwnedFd);

/// Opens a socket node, control and data, and tells its id. It needs PRIV_NETGRAPH_CONTROL (root, also root of a vnet jail).
///
/// # Errors
/// What socket(2), setsockopt(2) or kldload(2) say.
pub fn open() -> io::Result<(KernelTransport, KernelData, NodeId)> {
    let control = socket(sys::NG_CONTROL)?;
    set_option(&control, sys::SO_RERROR, 1)?;
    receive_buffer(&control)?;
    let handle = Handle::new(KernelTransport(control));
    let node = handle.own().map_err(io::Error::other)?.id;
    let data = socket(sys::NG_DATA)?;
    let address = SockaddrNg::new(format!("{node}:").as_bytes()).ok_or(Errno::EINVAL)?;
    connect(&data, &address)?;
    // Frames that do not fit are lost; the default holds a dozen.
    receive_buffer(&data)?;
    Ok((handle.into_transport(), KernelData(data), node))
}

/// A control socket with the default receive buffer (`net.graph.recvspace`), losses reported, and no data socket: for an unnamed
/// socket node, which nobody else can find by a name, that is all a short errand wants.
pub fn open_plain() -> io::Result<KernelTransport> {
    let fd = socket(sys::NG_CONTROL)?;
    set_option(&fd, sys::SO_RERROR, 1)?;
    Ok(KernelTransport(fd))
}

/// Loads the modules of these node types. A node of a type that is not loaded would be loaded by MKPEER, but on 13.2 two of them
/// at once make one fail with EEXIST.
pub fn load_types(types: &[&str]) -> io::Result<()> {
    types.iter().try_for_each(|name| {
        let module = CString::new(format!("ng_{name}")).map_err(|_| Errno::EINVAL)?;
        load(&module)
    })
}

fn load(module: &CStr) -> io::Result<()> {
    // SAFETY: a NUL-terminated string that lives through the call.
    match unsafe { kldload(module.as_ptr()) } {
        -1 => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            e => Err(io::Error::new(e.kind(), format!("kldload {}: {e}", module.to_string_lossy()))),
        },
        _ => Ok(()),
    }
}

fn socket(protocol: u32) -> io::Result<OwnedFd> {
    let attempt = || {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers.
        match unsafe { libc::socket(sys::AF_NETGRAPH as libc::c_int, kind, protocol as libc::c_int) } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: the descriptor is new and nobody else's.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    };
    match attempt() {
        Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            load(c"ng_socket")?;
            attempt()
        }
        outcome => outcome,
    }
}

fn set_option(fd: &OwnedFd, option: u32, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to an int, and the length is an int's.
    match unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            sys::SOL_SOCKET as libc::c_int,
            option as libc::c_int,
            std::ptr::from_ref(&value).cast(),
            len,
        )
    } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The largest receive buffer there is to have.
fn receive_buffer(fd: &OwnedFd) -> io::Result<()> {
    let mut last = Ok(());
    for size in RECEIVE_BUFFERS {
        match set_option(fd, sys::SO_RCVBUF, size as libc::c_int) {
            Ok(()) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => last = Err(e),
            Err(e) => return Err(e),
        }
    }
    last
}

fn connect(fd: &OwnedFd, address: &SockaddrNg) -> io::Result<()> {
    let bytes = address.as_bytes();
    // SAFETY: the address is valid for its length.
    match unsafe { libc::connect(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len() as libc::socklen_t) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// sendto(2), past interruptions.
fn send_to(fd: BorrowedFd<'_>, to: &SockaddrNg, bytes: &[u8], flags: libc::c_int) -> io::Result<()> {
    let address = to.as_bytes();
    loop {
        // SAFETY: both buffers are valid for their lengths.
        let sent = unsafe {
            libc::sendto(
                fd.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                flags,
                address.as_ptr().cast(),
                address.len() as libc::socklen_t,
            )
        };
        match sent {
            -1 => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
            _ => return Ok(()),
        }
    }
}

/// Bytes that wait to be received, of all messages together: FIONREAD (soo_ioctl() of sys_socket.c).
fn pending(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the number is made for an int, which lives through the call.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(usize::try_from(bytes).unwrap_or_default()),
    }
}

/// recvfrom(2) without waiting: the sender's address, the length, and whether something was cut off.
fn receive_from(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(SockaddrNg, usize, bool)> {
    loop {
        let mut address = [0u8; 64];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: `struct msghdr` is plain data, for which all zeroes are valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = address.as_mut_ptr().cast();
        message.msg_namelen = address.len() as libc::socklen_t;
        message.msg_iov = std::ptr::from_mut(&mut part);
        message.msg_iovlen = 1;
        // SAFETY: name and vector point to buffers that live through the call and are as long as they say.
        let got =
            unsafe { libc::recvmsg(fd.as_raw_fd(), std::ptr::from_mut(&mut message), libc::MSG_DONTWAIT) };
        match got {
            -1 => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
            // No message has no sender: the end.
            0 if message.msg_namelen == 0 => return Err(gone()),
            len => {
                let from = SockaddrNg::parse(&address).ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a netgraph message without the address of its sender",
                    )
                })?;
                return Ok((from, len as usize, message.msg_flags & libc::MSG_TRUNC != 0));
            }
        }
    }
}

impl KernelTransport {
    /// Names the socket's node: bind(2). Done only after the data socket is attached, as [`open`] does.
    pub fn bind(&self, name: &NodeName) -> io::Result<()> {
        let address = SockaddrNg::new(name.as_bytes()).ok_or(Errno::EINVAL)?;
        let bytes = address.as_bytes();
        // SAFETY: the address is valid for its length.
        match unsafe { libc::bind(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len() as libc::socklen_t) }
        {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl AsFd for KernelTransport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Transport for KernelTransport {
    fn send(&mut self, to: &SockaddrNg, message: &[u8]) -> io::Result<()> {
        send_to(self.0.as_fd(), to, message, 0)
    }

    fn receive(&mut self, timeout: Duration) -> io::Result<Option<Received>> {
        let fd = self.0.as_fd();
        loop {
            if !wait(fd, PollFlags::POLLIN, timeout)? {
                return Ok(None);
            }
            // Of that size and no larger: a socket may hold megabytes, and each thread that works has one.
            let mut message = vec![0; pending(fd)?];
            match receive_from(fd, &mut message) {
                Ok((from, len, false)) => {
                    message.truncate(len);
                    return Ok(Some(Received { from, message }));
                }
                // It came after the loss or the end that woke us.
                Ok((_, _, true)) => return Err(Errno::ENOBUFS.into()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for KernelData {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DataSocket for KernelData {
    fn send(&self, hook: &HookName, frame: &[u8]) -> io::Result<()> {
        let to = SockaddrNg::new(hook.as_bytes()).ok_or(Errno::EINVAL)?;
        send_to(self.0.as_fd(), &to, frame, libc::MSG_DONTWAIT)
    }

    fn receive(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<(HookName, usize)>> {
        loop {
            match receive_from(self.0.as_fd(), buffer) {
                Ok((from, len, false)) => return Ok(Some((HookName::from_wire(from.text()), len))),
                Ok((_, _, true)) => return Err(Errno::EMSGSIZE.into()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if timeout.is_zero() || !wait(self.0.as_fd(), PollFlags::POLLIN, timeout)? {
                        return Ok(None);
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
