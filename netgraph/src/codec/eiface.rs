//! ng_eiface(4): an Ethernet interface whose wire is the hook `ether` (netgraph/ng_eiface.c).

use super::{DecodeError, Payload, Reader, Writer, bare_requests, requests};
use crate::addr::Mac;
use crate::sys;

/// The hook's name; any other is EPFNOSUPPORT, a second one EISCONN.
pub const HOOK: &str = "ether";

/// The name of an interface: 16 bytes, NUL-terminated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfName(pub String);

impl Payload for IfName {
    fn write(&self, out: &mut Writer) {
        out.put_padded(self.0.as_bytes(), sys::IFNAMSIZ as usize);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = from.padded(sys::IFNAMSIZ as usize)?;
        Ok(IfName(String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// Sets the Ethernet address (6 bytes exactly). Before the interface is moved and before it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetMac(pub Mac);

impl Payload for SetMac {
    fn write(&self, out: &mut Writer) {
        out.put_mac(self.0);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.mac().map(SetMac)
    }
}

/// Addresses of an interface: FreeBSD `struct sockaddr`s one after the other, each rounded up to 8 bytes (SA_SIZE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfAddrs(pub Vec<Vec<u8>>);

impl IfAddrs {
    /// The Ethernet address among them: the AF_LINK (18) one of six bytes (net/if_dl.h: lengths at 5 and 6, data at 8).
    pub fn mac(&self) -> Option<Mac> {
        self.0.iter().find_map(|address| match address.as_slice() {
            [_, 18, _, _, _, name, 6, _, data @ ..] => {
                data.get(usize::from(*name)..)?.first_chunk().map(|mac| Mac(*mac))
            }
            _ => None,
        })
    }
}

/// SA_SIZE of net/route.h: a sockaddr of no length takes 8 bytes.
fn sa_size(len: u8) -> usize {
    if len == 0 { 8 } else { usize::from(len).next_multiple_of(8) }
}

impl Payload for IfAddrs {
    fn write(&self, out: &mut Writer) {
        for address in &self.0 {
            let size = sa_size(address.first().copied().unwrap_or_default());
            let mut padded = address.clone();
            padded.resize(size, 0);
            out.put(&padded);
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut addresses = Vec::new();
        while from.left() > 0 {
            let mut ahead = *from;
            let len = ahead.u8()?;
            let whole = from.take(sa_size(len))?;
            addresses.push(whole.get(..usize::from(len)).unwrap_or_default().to_vec());
        }
        Ok(IfAddrs(addresses))
    }
}

requests! {
    SetMac NGM_EIFACE_COOKIE NGM_EIFACE_SET "set" Effect -> (),
}

bare_requests! {
    /// Asks for the interface's name (which need not be the node's).
    GetIfName NGM_EIFACE_COOKIE NGM_EIFACE_GET_IFNAME "getifname" Query -> IfName,
    /// Asks for the interface's addresses.
    GetIfAddrs NGM_EIFACE_COOKIE NGM_EIFACE_GET_IFADDRS "getifaddrs" Query -> IfAddrs,
    /// Carrier on (NGM_FLOW_COOKIE).
    LinkUp NGM_FLOW_COOKIE NGM_LINK_IS_UP "link_is_up" Effect -> (),
    /// Carrier off.
    LinkDown NGM_FLOW_COOKIE NGM_LINK_IS_DOWN "link_is_down" Effect -> (),
}
