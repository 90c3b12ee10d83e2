//! ARP for IPv4 over Ethernet (RFC 826), with the probes and announcements of RFC 5227.

use std::net::Ipv4Addr;

use crate::mac::Mac;

use super::frame::{ETHERTYPE_ARP, FrameError, ethernet};
use super::reader::Reader;

/// Request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpOp {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub op: ArpOp,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address; unspecified in a probe.
    pub sender_ip: Ipv4Addr,
    /// Target hardware address; zero in a request.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// `None`: ARP, but not for IPv4 over Ethernet, or another operation.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Arp>, FrameError> {
        let mut r = Reader::new(bytes);
        let mut read = || {
            let header = (r.u16()?, r.u16()?, r.u8()?, r.u8()?);
            Some((header, r.u16()?, r.mac()?, r.ipv4()?, r.mac()?, r.ipv4()?))
        };
        let (header, op, sender_mac, sender_ip, target_mac, target_ip) =
            read().ok_or(FrameError::Truncated)?;
        let op = match op {
            1 => ArpOp::Request,
            2 => ArpOp::Reply,
            _ => return Ok(None),
        };
        Ok((header == (1, 0x0800, 6, 4)).then_some(Arp { op, sender_mac, sender_ip, target_mac, target_ip }))
    }

    /// RFC 5227 §2.1.1: does anyone have this address?
    pub fn probe(mac: Mac, address: Ipv4Addr) -> Arp {
        Arp {
            op: ArpOp::Request,
            sender_mac: mac,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::ZERO,
            target_ip: address,
        }
    }

    /// RFC 5227 §2.3: this address is mine.
    pub fn announcement(mac: Mac, address: Ipv4Addr) -> Arp {
        Arp { sender_ip: address, ..Arp::probe(mac, address) }
    }

    /// The answer to a request, from the station that has its target address.
    pub fn reply(&self, mac: Mac) -> Arp {
        Arp {
            op: ArpOp::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// The whole frame.
    pub fn build(&self, dst: Mac) -> Vec<u8> {
        let mut f = ethernet(dst, self.sender_mac, ETHERTYPE_ARP, 28);
        f.extend([0, 1, 8, 0, 6, 4, 0, if self.op == ArpOp::Request { 1 } else { 2 }]);
        f.extend(self.sender_mac.0);
        f.extend(self.sender_ip.octets());
        f.extend(self.target_mac.0);
        f.extend(self.target_ip.octets());
        f
    }
}
