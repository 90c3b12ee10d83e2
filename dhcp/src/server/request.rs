//! What a client's message asks for, read out of it once.

use std::net::Ipv4Addr;

use super::lease::ClientKey;
use crate::mac::Mac;
use crate::wire::{Message, Udp4, code, parse_fqdn};

/// A client's message with where it came from.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) message: Message,
    /// The frame's source: the client's, or its relay's.
    pub(super) from: Mac,
    /// Sent to our address, not to everyone's.
    pub(super) unicast: bool,
    pub(super) client: ClientKey,
}

/// The state a REQUEST is sent in (RFC 2131 §4.3.2, table 4), with the address it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestState {
    /// It takes an offer of ours.
    Selecting(Ipv4Addr),
    /// It takes another server's offer.
    SelectingOther,
    /// It comes back and remembers an address.
    InitReboot(Ipv4Addr),
    /// It asks us, by unicast, for more time.
    Renewing(Ipv4Addr),
    /// It asks anyone for more time.
    Rebinding(Ipv4Addr),
}

impl Incoming {
    pub(super) fn new(message: Message, from: Mac, udp: &Udp4<'_>, server: Ipv4Addr) -> Self {
        let client_id = message.options.get(code::CLIENT_ID).filter(|id| !id.is_empty()).map(<[u8]>::to_vec);
        Incoming {
            client: ClientKey { mac: message.chaddr, client_id },
            message,
            from,
            unicast: udp.dst == server,
        }
    }

    pub(super) fn mac(&self) -> Mac {
        self.message.chaddr
    }

    pub(super) fn server_id(&self) -> Option<Ipv4Addr> {
        self.message.options.ipv4(code::SERVER_ID)
    }

    pub(super) fn requested_ip(&self) -> Option<Ipv4Addr> {
        self.message.options.ipv4(code::REQUESTED_IP)
    }

    /// `None` for a REQUEST of no state.
    pub(super) fn request_state(&self, server: Ipv4Addr) -> Option<RequestState> {
        let ciaddr = Some(self.message.ciaddr).filter(|a| !a.is_unspecified());
        match (self.server_id(), self.requested_ip(), ciaddr) {
            (Some(id), ..) if id != server => Some(RequestState::SelectingOther),
            (Some(_), Some(asked), _) => Some(RequestState::Selecting(asked)),
            // Some clients name the server when renewing, too; ciaddr tells.
            (_, _, Some(has)) if self.unicast => Some(RequestState::Renewing(has)),
            (_, _, Some(has)) => Some(RequestState::Rebinding(has)),
            (None, Some(asked), None) => Some(RequestState::InitReboot(asked)),
            (_, None, None) => None,
        }
    }

    /// Subnet selection (RFC 3011), or a relay's link selection (RFC 3527), names a subnet.
    pub(super) fn selected_subnet(&self) -> Option<Ipv4Addr> {
        let options = &self.message.options;
        let link = options.get(code::RELAY_AGENT).and_then(|relay| suboption(relay, 5));
        let link = link.and_then(|v| <[u8; 4]>::try_from(v).ok()).map(Ipv4Addr::from);
        link.or_else(|| options.ipv4(code::SUBNET_SELECTION))
    }

    /// What the client calls itself, made printable.
    pub(super) fn client_name(&self) -> Option<String> {
        let options = &self.message.options;
        let fqdn = options.get(code::CLIENT_FQDN).and_then(parse_fqdn).map(|f| f.name);
        let name = fqdn
            .filter(|n| !n.is_empty())
            .or_else(|| options.get(code::HOST_NAME).map(crate::wire::printable));
        name.filter(|n| !n.is_empty())
    }
}

fn suboption(mut relay: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [code, len, rest @ ..] = relay {
        let (value, next) = rest.split_at_checked(usize::from(*len))?;
        if *code == wanted {
            return Some(value);
        }
        relay = next;
    }
    None
}
