//! UDP over IPv4 (RFC 768, 791) and the Internet checksum (RFC 1071).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::mac::Mac;

use super::frame::{FrameError, ethernet};
use super::reader::Reader;

const UDP: u8 = 17;
const IPV4_HEADER: u16 = 20;
const UDP_HEADER: u16 = 8;

/// A UDP datagram with its IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp4<'a> {
    /// From which address.
    pub src: Ipv4Addr,
    /// To which address.
    pub dst: Ipv4Addr,
    /// From which port.
    pub src_port: u16,
    /// To which port.
    pub dst_port: u16,
    /// The payload.
    pub payload: &'a [u8],
}

/// The one's complement sum of RFC 1071.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Checksum(u64);

impl Checksum {
    pub(crate) fn add(mut self, bytes: &[u8]) -> Self {
        let (pairs, odd) = bytes.as_chunks::<2>();
        self.0 += pairs.iter().map(|p| u64::from(u16::from_be_bytes(*p))).sum::<u64>();
        self.0 += odd.first().map_or(0, |b| u64::from(*b) << 8);
        self
    }

    /// The folded sum, not complemented.
    fn sum(self) -> u16 {
        let mut s = self.0;
        while s > 0xffff {
            s = (s & 0xffff) + (s >> 16);
        }
        s as u16
    }

    pub(crate) fn finish(self) -> u16 {
        !self.sum()
    }
}

fn pseudo4(src: Ipv4Addr, dst: Ipv4Addr, len: u16) -> Checksum {
    let [hi, lo] = len.to_be_bytes();
    Checksum::default().add(&src.octets()).add(&dst.octets()).add(&[0, UDP, hi, lo])
}

/// The ICMPv6 checksum (RFC 4443 §2.3); zero over a message that holds a right one.
pub(crate) fn icmp6_checksum(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> u16 {
    let len = (message.len() as u64).to_be_bytes();
    let pseudo = Checksum::default().add(&src.octets()).add(&dst.octets()).add(&len).add(&[0, 58]);
    pseudo.add(message).finish()
}

/// `None`: IPv4, but not UDP.
pub(super) fn parse_udp4(bytes: &[u8]) -> Result<Option<Udp4<'_>>, FrameError> {
    let mut r = Reader::new(bytes);
    let version_ihl = r.u8().ok_or(FrameError::Truncated)?;
    let header_len = usize::from(version_ihl & 0xf) * 4;
    if version_ihl >> 4 != 4 || header_len < usize::from(IPV4_HEADER) {
        return Err(FrameError::Malformed);
    }
    let header = bytes.get(..header_len).ok_or(FrameError::Truncated)?;
    if Checksum::default().add(header).finish() != 0 {
        return Err(FrameError::IpChecksum);
    }
    let mut fields = || {
        let (_tos, total, _id, fragment) = (r.u8()?, r.u16()?, r.u16()?, r.u16()?);
        let (_ttl, protocol, _sum) = (r.u8()?, r.u8()?, r.u16()?);
        Some((total, fragment, protocol, r.ipv4()?, r.ipv4()?))
    };
    let (total, fragment, protocol, src, dst) = fields().ok_or(FrameError::Truncated)?;
    if protocol != UDP {
        return Ok(None);
    }
    // More-fragments, or an offset.
    if fragment & 0x3fff != 0 {
        return Err(FrameError::Fragment);
    }
    if usize::from(total) < header_len {
        return Err(FrameError::Malformed);
    }
    let segment = bytes.get(header_len..usize::from(total)).ok_or(FrameError::Truncated)?;
    let mut r = Reader::new(segment);
    let mut fields = || Some((r.u16()?, r.u16()?, r.u16()?, r.u16()?));
    let (src_port, dst_port, len, checksum) = fields().ok_or(FrameError::Truncated)?;
    if len < UDP_HEADER {
        return Err(FrameError::Malformed);
    }
    let datagram = segment.get(..usize::from(len)).ok_or(FrameError::Truncated)?;
    let pseudo = pseudo4(src, dst, len);
    // Zero: none was made. The bare pseudo-header sum: the sender left the rest to a network card that was never
    // passed (Linux over veth); FreeBSD's dhclient accepts it for the same reason.
    if checksum != 0 && checksum != pseudo.sum() && pseudo.add(datagram).finish() != 0 {
        return Err(FrameError::TransportChecksum);
    }
    let payload = datagram.get(usize::from(UDP_HEADER)..).ok_or(FrameError::Truncated)?;
    Ok(Some(Udp4 { src, dst, src_port, dst_port, payload }))
}

/// A whole frame with a UDP datagram; `None` if the payload does not fit an IPv4 packet.
pub fn build_udp4(dst_mac: Mac, src_mac: Mac, udp: &Udp4<'_>) -> Option<Vec<u8>> {
    let len = u16::try_from(udp.payload.len()).ok()?.checked_add(UDP_HEADER)?;
    let total = len.checked_add(IPV4_HEADER)?;
    let mut ip = Vec::with_capacity(usize::from(IPV4_HEADER));
    // Version 4, five words, no service class.
    ip.extend([0x45, 0]);
    ip.extend(total.to_be_bytes());
    // Identification 0 is right with don't-fragment (RFC 6864 §4.1); time to live 64.
    ip.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    ip.extend(udp.src.octets());
    ip.extend(udp.dst.octets());
    let checksum = Checksum::default().add(&ip).finish().to_be_bytes();
    if let Some(field) = ip.get_mut(10..12) {
        field.copy_from_slice(&checksum);
    }

    let [sp, dp] = [udp.src_port, udp.dst_port].map(u16::to_be_bytes);
    let sum = pseudo4(udp.src, udp.dst, len).add(&sp).add(&dp).add(&len.to_be_bytes()).add(udp.payload);
    // RFC 768: a sum of zero is sent as all ones, since zero says there is none.
    let checksum = if sum.finish() == 0 { 0xffff } else { sum.finish() };

    let mut frame = ethernet(dst_mac, src_mac, 0x0800, usize::from(total));
    frame.extend(ip);
    for field in [sp, dp, len.to_be_bytes(), checksum.to_be_bytes()] {
        frame.extend(field);
    }
    frame.extend(udp.payload);
    Some(frame)
}
