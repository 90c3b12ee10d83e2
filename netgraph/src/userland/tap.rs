//! TAP devices as interfaces of eifaces: frames of a real network stack (Linux, drivers/net/tun.c).
//!
//! Requests go to the device's own descriptor, which reaches it wherever it is: the interface may have been moved to another
//! network namespace and renamed there. It is made in the namespace of the thread that makes it, and is gone when the port is
//! dropped.
#![allow(unsafe_code)]

use super::port::{Input, Port, PortFactory};
use super::pump::Pump;
use crate::addr::Mac;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// An open TAP device.
#[derive(Debug)]
pub struct Tap {
    file: File,
    lost: AtomicU64,
}

impl Tap {
    /// Makes a TAP device with this name (at most 15 bytes). It needs CAP_NET_ADMIN in the user namespace of the network namespace.
    pub fn create(name: &str) -> io::Result<Tap> {
        let mut request = empty_request();
        if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains(['/', '\0', '%']) {
            let text = format!("{name:?} cannot be the name of an interface (1 to 15 bytes, no '/' or '%')");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        let tap = Tap { file, lost: AtomicU64::new(0) };
        tap.ioctl(libc::TUNSETIFF, &mut request)?;
        Ok(tap)
    }

    /// A request of the device with a `struct ifreq`.
    fn ioctl(&self, request: libc::Ioctl, argument: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: the descriptor is open, and all requests this is called with read and write one `struct ifreq` or less.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), request, std::ptr::from_mut(argument)) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// The interface's name in its namespace, as it is now.
    pub fn name(&self) -> io::Result<String> {
        let mut request = empty_request();
        self.ioctl(libc::TUNGETIFF, &mut request)?;
        let name: Vec<u8> = request.ifr_name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> io::Result<Mac> {
        let mut request = empty_request();
        self.ioctl(libc::SIOCGIFHWADDR as libc::Ioctl, &mut request)?;
        // SAFETY: the request has filled in this member of the union, and any bytes are a valid sockaddr.
        let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(data) {
            *to = from as u8;
        }
        Ok(Mac(mac))
    }

    /// Sets it; the interface may be up.
    pub fn set_mac(&self, mac: Mac) -> io::Result<()> {
        let mut request = empty_request();
        let mut address = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: [0; 14] };
        for (to, from) in address.sa_data.iter_mut().zip(mac.0) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_hwaddr = address;
        self.ioctl(libc::SIOCSIFHWADDR as libc::Ioctl, &mut request)
    }

    /// Sets the carrier (Linux 5.0 and later).
    pub fn set_carrier(&self, up: bool) -> io::Result<()> {
        let mut value = libc::c_int::from(up);
        // SAFETY: the descriptor is open, and the request reads one int.
        match unsafe {
            libc::ioctl(self.file.as_raw_fd(), libc::TUNSETCARRIER, std::ptr::from_mut(&mut value))
        } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// The next frame that the stack sends; WouldBlock if there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Hands the stack a frame. What it does not take (the interface is down: EIO) is counted and lost.
    pub fn transmit(&self, frame: &[u8]) {
        if !matches!((&self.file).write(frame), Ok(len) if len == frame.len()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many frames the stack did not take.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn empty_request() -> libc::ifreq {
    // SAFETY: `struct ifreq` is plain data, for which all zeroes are valid.
    unsafe { std::mem::zeroed() }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A TAP device as the interface of a node; a [`Pump`] reads it.
pub struct TapPort {
    tap: Arc<Tap>,
    pump: Pump,
    registered: OnceLock<u64>,
}

impl TapPort {
    /// The port of this device.
    pub fn new(tap: Tap, pump: Pump) -> TapPort {
        TapPort { tap: Arc::new(tap), pump, registered: OnceLock::new() }
    }
}

impl Port for TapPort {
    fn name(&self) -> io::Result<String> {
        self.tap.name()
    }

    fn mac(&self) -> io::Result<Mac> {
        self.tap.mac()
    }

    fn set_mac(&self, mac: Mac) -> io::Result<()> {
        self.tap.set_mac(mac)
    }

    fn transmit(&self, frame: &[u8]) {
        self.tap.transmit(frame);
    }

    fn set_carrier(&self, up: bool) {
        // A kernel without the request leaves the carrier on, and the wire still is what it is.
        let _ = self.tap.set_carrier(up);
    }

    fn attach(&self, input: Input) {
        if let Ok(key) = self.pump.add(self.tap.clone(), input) {
            let _ = self.registered.set(key);
        }
    }
}

impl Drop for TapPort {
    /// When this returns, the pump has let go of the device, so that it is gone as soon as the last frame under way is.
    fn drop(&mut self) {
        if let Some(key) = self.registered.get() {
            self.pump.remove(*key);
        }
    }
}

/// Makes TAP devices, named `ngeth<unit>`, for the eifaces of a graph.
pub struct TapPorts {
    pump: Pump,
}

impl TapPorts {
    /// They are read by this pump.
    pub fn new(pump: Pump) -> TapPorts {
        TapPorts { pump }
    }
}

impl PortFactory for TapPorts {
    fn create(&self, unit: u16) -> io::Result<Box<dyn Port>> {
        Ok(Box::new(TapPort::new(Tap::create(&format!("ngeth{unit}"))?, self.pump.clone())))
    }
}
