//! Ethernet II frames, and which of them concern us.

use crate::mac::Mac;

use super::arp::Arp;
use super::nd::{NeighborSolicit, parse_icmp6};
use super::reader::Reader;
use super::udp::{Udp4, parse_udp4};

const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A frame and what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// To whom.
    pub dst: Mac,
    /// From whom.
    pub src: Mac,
    /// What.
    pub payload: Payload<'a>,
}

/// What a frame carries, as far as it concerns a DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload<'a> {
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// A whole, unfragmented UDP datagram over IPv4 with valid checksums.
    Udp4(Udp4<'a>),
    /// An IPv6 neighbour solicitation that passed the checks of RFC 4861 §7.1.1.
    NeighborSolicit(NeighborSolicit),
    /// Anything else.
    Other,
}

/// A frame that claims to be of a kind we read and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    /// It ends before its headers say.
    #[error("truncated frame")]
    Truncated,
    /// A header contradicts itself.
    #[error("malformed header")]
    Malformed,
    /// The IPv4 header checksum is wrong.
    #[error("wrong IPv4 header checksum")]
    IpChecksum,
    /// The UDP or ICMPv6 checksum is wrong.
    #[error("wrong transport checksum")]
    TransportChecksum,
    /// A fragment; DHCP messages are small enough not to need any, and FreeBSD's dhclient refuses them too.
    #[error("IP fragment")]
    Fragment,
}

/// Reads an Ethernet II frame without FCS.
///
/// Tagged frames are [`Payload::Other`]: on our links nobody but a station itself could have tagged them.
///
/// # Errors
/// [`FrameError`] if it is of a kind we read, and broken.
pub fn parse_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let mut r = Reader::new(bytes);
    let mut header = || Some((r.mac()?, r.mac()?, r.u16()?));
    let (dst, src, ethertype) = header().ok_or(FrameError::Truncated)?;
    let payload = match ethertype {
        ETHERTYPE_ARP => Arp::parse(r.rest())?.map_or(Payload::Other, Payload::Arp),
        ETHERTYPE_IPV4 => parse_udp4(r.rest())?.map_or(Payload::Other, Payload::Udp4),
        ETHERTYPE_IPV6 => parse_icmp6(r.rest())?.map_or(Payload::Other, Payload::NeighborSolicit),
        _ => Payload::Other,
    };
    Ok(Frame { dst, src, payload })
}

/// The start of a frame of ours, with room for `len` more octets.
pub(crate) fn ethernet(dst: Mac, src: Mac, ethertype: u16, len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + len);
    frame.extend(dst.0);
    frame.extend(src.0);
    frame.extend(ethertype.to_be_bytes());
    frame
}
