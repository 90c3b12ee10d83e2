//! The members of pf's tables by ioctl(2): the part of pf's interface that is the same from 13.2 to 15 (facts C; net/pfvar.h).
//!
//! A join and a leave are one system call each, where pfctl(8) would be a process each.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

/// `_IOWR('D', 67, struct pfioc_table)` and its neighbours.
const DIOCRADDADDRS: u64 = 0xc450_4443;
const DIOCRDELADDRS: u64 = 0xc450_4444;
const DIOCRGETADDRS: u64 = 0xc450_4446;

/// Bytes of struct pfr_addr: address, family, prefix length, negation, feedback.
const ADDRESS: usize = 20;
/// Lengths of the texts in struct pfr_table, their NUL included.
const ANCHOR: usize = 1024;
const NAME: usize = 32;

/// struct pfioc_table: a pfr_table of 1064 bytes, then pointer, sizes, counts and flags.
#[repr(C)]
struct Request {
    anchor: [u8; ANCHOR],
    name: [u8; NAME],
    table_flags: u32,
    feedback: u8,
    buffer: *mut libc::c_void,
    element: i32,
    size: i32,
    size2: i32,
    added: i32,
    deleted: i32,
    changed: i32,
    flags: i32,
    ticket: u32,
}

const _: () = assert!(size_of::<Request>() == 1104 && std::mem::offset_of!(Request, buffer) == 1064);

/// What is done to the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They are added; those that are members already stay.
    Add,
    /// They are removed; those that are no members are no error.
    Remove,
}

/// A table of an anchor.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// `warren/<network>`.
    pub anchor: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Table<'_> {
    fn request(self, buffer: &mut [u8]) -> io::Result<Request> {
        let mut request = Request {
            anchor: [0; ANCHOR],
            name: [0; NAME],
            table_flags: 0,
            feedback: 0,
            buffer: buffer.as_mut_ptr().cast(),
            element: ADDRESS as i32,
            size: i32::try_from(buffer.len() / ADDRESS).unwrap_or(i32::MAX),
            size2: 0,
            added: 0,
            deleted: 0,
            changed: 0,
            flags: 0,
            ticket: 0,
        };
        put(&mut request.anchor, self.anchor)?;
        put(&mut request.name, self.name)?;
        Ok(request)
    }

    /// Changes the members.
    ///
    /// # Errors
    /// `ESRCH` if there is no such table; `ENOTTY` or `ENODEV` from a kernel that does this otherwise.
    pub fn change(self, change: Change, addresses: &[IpAddr]) -> io::Result<()> {
        let mut list: Vec<u8> = addresses.iter().copied().flat_map(encode).collect();
        let number = if change == Change::Add { DIOCRADDADDRS } else { DIOCRDELADDRS };
        ioctl(number, &mut self.request(&mut list)?)
    }

    /// The members.
    ///
    /// # Errors
    /// As [`Table::change`].
    pub fn members(self) -> io::Result<BTreeSet<IpAddr>> {
        let mut room = 256;
        loop {
            let mut list = vec![0_u8; room * ADDRESS];
            let mut request = self.request(&mut list)?;
            ioctl(DIOCRGETADDRS, &mut request)?;
            // What does not fit is not written at all, and the size says how many there are.
            let count = usize::try_from(request.size).unwrap_or_default();
            if count > room {
                room = count * 2;
                continue;
            }
            return Ok(list.chunks_exact(ADDRESS).take(count).filter_map(decode).collect());
        }
    }
}

fn put<const N: usize>(field: &mut [u8; N], text: &str) -> io::Result<()> {
    // Room for the NUL, and none within.
    if text.len() >= N || text.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    Ok(())
}

fn encode(address: IpAddr) -> [u8; ADDRESS] {
    let mut bytes = [0; ADDRESS];
    let (octets, family, length): (&[u8], i32, u8) = match &address {
        IpAddr::V4(v4) => (&v4.octets()[..], libc::AF_INET, 32),
        IpAddr::V6(v6) => (&v6.octets()[..], libc::AF_INET6, 128),
    };
    for (to, from) in bytes.iter_mut().zip(octets) {
        *to = *from;
    }
    bytes[16] = family as u8;
    bytes[17] = length;
    bytes
}

fn decode(bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(*bytes.get(16)?) {
        libc::AF_INET => bytes.first_chunk::<4>().map(|b| Ipv4Addr::from(*b).into()),
        libc::AF_INET6 => bytes.first_chunk::<16>().map(|b| Ipv6Addr::from(*b).into()),
        _ => None,
    }
}

fn ioctl(number: u64, request: &mut Request) -> io::Result<()> {
    let pf = File::options().read(true).write(true).open("/dev/pf")?;
    // SAFETY: the number is made for a structure of this size (asserted above), and the buffer it points to is the caller's, alive
    // and as long as `size` elements of `element` bytes.
    match unsafe { libc::ioctl(pf.as_raw_fd(), number, std::ptr::from_mut(request)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
