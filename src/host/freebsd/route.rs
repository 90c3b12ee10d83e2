//! Default routes by routing messages: route(4).

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

use super::stack::{Stack, sockaddr};

/// net/route.h.
const RTM_VERSION: u8 = 5;
const RTM_ADD: u8 = 1;
const RTM_CHANGE: u8 = 3;
/// RTF_UP, RTF_GATEWAY, RTF_STATIC.
const FLAGS: i32 = 0x1 | 0x2 | 0x800;
/// RTA_DST, RTA_GATEWAY, RTA_NETMASK.
const ADDRESSES: i32 = 0x1 | 0x2 | 0x4;
/// Bytes of struct rt_msghdr, on machines of 64 bits.
const HEADER: usize = 152;

/// A message that makes `gateway` the default route of its family.
fn message(kind: u8, gateway: IpAddr) -> Vec<u8> {
    let any: IpAddr = if gateway.is_ipv4() { [0; 4].into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let mut bytes = vec![0; 8];
    bytes.extend(FLAGS.to_ne_bytes());
    bytes.extend(ADDRESSES.to_ne_bytes());
    bytes.resize(HEADER, 0);
    // Destination, gateway, mask, each filled up to a multiple of a long (SA_SIZE).
    for address in [any, gateway, any] {
        bytes.extend(sockaddr(address));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_ne_bytes();
    for (to, from) in bytes.iter_mut().zip([length[0], length[1], RTM_VERSION, kind]) {
        *to = from;
    }
    bytes
}

impl Stack {
    /// Sets the default route of the gateway's family, also where there is one.
    pub fn default_route(&self, gateway: IpAddr) -> io::Result<()> {
        match rustix::io::write(&self.route, &message(RTM_ADD, gateway)) {
            Err(Errno::EXIST) => rustix::io::write(&self.route, &message(RTM_CHANGE, gateway))?,
            other => other?,
        };
        Ok(())
    }
}
