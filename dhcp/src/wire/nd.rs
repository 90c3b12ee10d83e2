//! IPv6 neighbour discovery, as far as one station needs it to be found (RFC 4861 §7).

use std::net::Ipv6Addr;

use crate::mac::Mac;

use super::frame::{FrameError, ethernet};
use super::reader::Reader;
use super::udp::icmp6_checksum;

const ICMPV6: u8 = 58;
const NEIGHBOR_SOLICIT: u8 = 135;
const NEIGHBOR_ADVERT: u8 = 136;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A neighbour solicitation: who has `target`?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborSolicit {
    /// Who asks; unspecified when it is duplicate address detection (RFC 4862 §5.4).
    pub src: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
}

/// `None`: IPv6, but not a solicitation. Extension headers are not followed: nobody sends them before ND.
pub(super) fn parse_icmp6(bytes: &[u8]) -> Result<Option<NeighborSolicit>, FrameError> {
    let mut r = Reader::new(bytes);
    let mut fields = || Some((r.u32()?, r.u16()?, r.u8()?, r.u8()?, r.ipv6()?, r.ipv6()?));
    let (version, len, next, hops, src, dst) = fields().ok_or(FrameError::Truncated)?;
    if version >> 28 != 6 {
        return Err(FrameError::Malformed);
    }
    if next != ICMPV6 {
        return Ok(None);
    }
    let message = r.take(usize::from(len)).ok_or(FrameError::Truncated)?;
    let mut r = Reader::new(message);
    let mut fields = || Some((r.u8()?, r.u8()?, r.u16()?));
    let (kind, code, _) = fields().ok_or(FrameError::Truncated)?;
    if kind != NEIGHBOR_SOLICIT {
        return Ok(None);
    }
    if icmp6_checksum(src, dst, message) != 0 {
        return Err(FrameError::TransportChecksum);
    }
    let mut fields = || Some((r.u32()?, r.ipv6()?));
    let (_, target) = fields().ok_or(FrameError::Truncated)?;
    // RFC 4861 §7.1.1; the hop limit proves that the sender is on the link.
    if hops != 255 || code != 0 || target.is_multicast() {
        return Err(FrameError::Malformed);
    }
    let mut probe = false;
    while !r.is_empty() {
        let mut option = || {
            let (kind, units) = (r.u8()?, r.u8()?);
            r.take((usize::from(units) * 8).checked_sub(2)?).map(|_| kind)
        };
        let kind = option().ok_or(FrameError::Malformed)?;
        probe |= kind == 1;
    }
    if src.is_unspecified() && (probe || !is_solicited_node(dst, target)) {
        return Err(FrameError::Malformed);
    }
    Ok(Some(NeighborSolicit { src, target }))
}

/// RFC 4291 §2.7.1: ff02::1:ffXX:XXXX with the low 24 bits of the target.
fn is_solicited_node(dst: Ipv6Addr, target: Ipv6Addr) -> bool {
    let [.., a, b, c] = target.octets();
    dst == Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The answer of the station `mac` that has `solicit.target`, as a whole frame to `asker`; to all nodes when the
/// solicitation was duplicate address detection (RFC 4861 §7.2.4).
pub fn build_neighbor_advert(solicit: &NeighborSolicit, asker: Mac, mac: Mac) -> Vec<u8> {
    let dad = solicit.src.is_unspecified();
    let (dst, dst_mac) = if dad { (ALL_NODES, Mac([0x33, 0x33, 0, 0, 0, 1])) } else { (solicit.src, asker) };
    // Solicited (unless to all nodes) and override; not a router.
    let flags = if dad { 0x20 } else { 0x60 };
    let mut message = vec![NEIGHBOR_ADVERT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(solicit.target.octets());
    // Target link-layer address, one unit of eight octets.
    message.extend([2, 1]);
    message.extend(mac.0);
    finish_icmp6(dst_mac, mac, solicit.target, dst, message)
}

/// Fills the checksum of an ICMPv6 message in and wraps it up with hop limit 255.
pub(crate) fn finish_icmp6(
    dst_mac: Mac,
    src_mac: Mac,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    mut message: Vec<u8>,
) -> Vec<u8> {
    let checksum = icmp6_checksum(src, dst, &message).to_be_bytes();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&checksum);
    }
    let mut f = ethernet(dst_mac, src_mac, 0x86dd, 40 + message.len());
    f.extend([0x60, 0, 0, 0]);
    f.extend((message.len() as u16).to_be_bytes());
    f.extend([ICMPV6, 255]);
    f.extend(src.octets());
    f.extend(dst.octets());
    f.extend(message);
    f
}
