//! What nodes of a known type can be asked.

use super::{Error, Handle, Node};
use crate::addr::{Mac, NodeRef};
use crate::bpf::Program;
use crate::codec::bridge::{self, Config, Host, LinkNumber, LinkStats};
use crate::codec::eiface::IfAddrs;
use crate::codec::{bpf, eiface, ether, hub, socket};
use crate::name::HookName;
use crate::transport::Transport;

macro_rules! typed {
    ($($(#[$doc:meta])* $name:ident $method:ident),*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name<'h, 'n, T>(Node<'h, 'n, T>);
        )*
        impl<T: Transport> Handle<T> { $(
            $(#[$doc])*
            pub fn $method<'n>(&self, node: impl Into<NodeRef<'n>>) -> $name<'_, 'n, T> {
                $name(self.node(node))
            }
        )* }
    };
}

typed! {
    /// An ng_bridge(4).
    Bridge bridge,
    /// An ng_eiface(4).
    Eiface eiface,
    /// An ng_ether(4).
    Ether ether,
    /// An ng_bpf(4).
    Bpf bpf,
    /// An ng_hub(4).
    Hub hub,
    /// An ng_socket(4): the handle's own (`NodeRef::Own`), or another.
    Socket socket
}

impl<T: Transport> Bridge<'_, '_, T> {
    /// Its configuration.
    pub fn config(&self) -> Result<Config, Error> {
        self.0.ask(&bridge::GetConfig)
    }

    /// Configures it.
    pub fn set_config(&self, config: Config) -> Result<(), Error> {
        self.0.ask(&bridge::SetConfig(config))
    }

    /// Forgets stations, counters and mutings.
    pub fn reset(&self) -> Result<(), Error> {
        self.0.ask(&bridge::Reset)
    }

    /// The counters of a link; ENOTCONN if there is none.
    pub fn stats(&self, link: LinkNumber) -> Result<LinkStats, Error> {
        self.0.ask(&bridge::GetStats::new(link).ok_or(Error::Link(link))?)
    }

    /// Sets the counters of a link to zero.
    pub fn clear_stats(&self, link: LinkNumber) -> Result<(), Error> {
        self.0.ask(&bridge::ClearStats::new(link).ok_or(Error::Link(link))?)
    }

    /// The counters of a link, which are zero from then on. Not asked again if the reply is lost.
    pub fn take_stats(&self, link: LinkNumber) -> Result<LinkStats, Error> {
        self.0.ask(&bridge::GetClearStats::new(link).ok_or(Error::Link(link))?)
    }

    /// The stations it knows. 42 bytes of reply each.
    pub fn table(&self) -> Result<Vec<Host>, Error> {
        self.0.ask(&bridge::GetTable).map(|table| table.0)
    }

    /// Lets it live without hooks.
    pub fn set_persistent(&self) -> Result<(), Error> {
        self.0.ask(&bridge::SetPersistent)
    }

    /// Puts a station on a link. ENOENT: no such link. ELOOP: it is on another one and may not move.
    pub fn move_host(&self, mac: Mac, hook: &str) -> Result<(), Error> {
        self.0.ask(&bridge::MoveHost { mac, hook: HookName::new(hook)? })
    }
}

impl<T: Transport> Eiface<'_, '_, T> {
    /// The interface's name, which need not be the node's.
    pub fn ifname(&self) -> Result<String, Error> {
        self.0.ask(&eiface::GetIfName).map(|name| name.0)
    }

    /// The interface's addresses.
    pub fn addresses(&self) -> Result<IfAddrs, Error> {
        self.0.ask(&eiface::GetIfAddrs)
    }

    /// Sets its Ethernet address.
    pub fn set_mac(&self, mac: Mac) -> Result<(), Error> {
        self.0.ask(&eiface::SetMac(mac))
    }

    /// Carrier on.
    pub fn link_up(&self) -> Result<(), Error> {
        self.0.ask(&eiface::LinkUp)
    }

    /// Carrier off.
    pub fn link_down(&self) -> Result<(), Error> {
        self.0.ask(&eiface::LinkDown)
    }
}

impl<T: Transport> Ether<'_, '_, T> {
    /// The interface's name.
    pub fn ifname(&self) -> Result<String, Error> {
        self.0.ask(&ether::GetIfName).map(|name| name.0)
    }

    /// The interface's index.
    pub fn ifindex(&self) -> Result<u32, Error> {
        self.0.ask(&ether::GetIfIndex).map(|n| n.0)
    }

    /// The interface's Ethernet address.
    pub fn mac(&self) -> Result<Mac, Error> {
        self.0.ask(&ether::GetMac).map(|mac| mac.0)
    }

    /// Sets it.
    pub fn set_mac(&self, mac: Mac) -> Result<(), Error> {
        self.0.ask(&ether::SetMac(mac))
    }

    /// Whether this node made the interface promiscuous.
    pub fn promisc(&self) -> Result<bool, Error> {
        self.0.ask(&ether::GetPromisc).map(|n| n.0 != 0)
    }

    /// Makes it so, or no more: on for a bridged interface.
    pub fn set_promisc(&self, on: bool) -> Result<(), Error> {
        self.0.ask(&ether::SetPromisc(on))
    }

    /// Whether frames sent get the interface's own source address.
    pub fn autosrc(&self) -> Result<bool, Error> {
        self.0.ask(&ether::GetAutoSrc).map(|n| n.0 != 0)
    }

    /// Makes it so, or no more: off for a bridged interface.
    pub fn set_autosrc(&self, on: bool) -> Result<(), Error> {
        self.0.ask(&ether::SetAutoSrc(on))
    }

    /// Joins a multicast group; EADDRINUSE if it is joined.
    pub fn add_multicast(&self, group: Mac) -> Result<(), Error> {
        self.0.ask(&ether::AddMulticast(group))
    }

    /// Leaves it.
    pub fn del_multicast(&self, group: Mac) -> Result<(), Error> {
        self.0.ask(&ether::DelMulticast(group))
    }

    /// Takes the node off its interface for good.
    pub fn detach(&self) -> Result<(), Error> {
        self.0.ask(&ether::Detach)
    }
}

/// A hook where nothing is one too: for ng_bpf, "drop".
fn hook_or_none(hook: &str) -> Result<HookName, Error> {
    if hook.is_empty() { Ok(HookName::from_wire(b"")) } else { Ok(HookName::new(hook)?) }
}

impl<T: Transport> Bpf<'_, '_, T> {
    /// Filters what comes in by `hook`: what the program keeps goes out of `if_match`, the rest out of `if_not_match`; an empty
    /// name drops. ENOENT if `hook` is not there; [`Error::Program`] if the program is not valid, before anything is sent.
    pub fn set_program(
        &self,
        hook: &str,
        if_match: &str,
        if_not_match: &str,
        program: &Program,
    ) -> Result<(), Error> {
        program.validate()?;
        self.0.ask(&bpf::HookProgram {
            hook: HookName::new(hook)?,
            if_match: hook_or_none(if_match)?,
            if_not_match: hook_or_none(if_not_match)?,
            program: program.clone(),
        })
    }

    /// The program of a hook.
    pub fn program(&self, hook: &str) -> Result<bpf::HookProgram, Error> {
        self.0.ask(&bpf::GetProgram(HookName::new(hook)?))
    }

    /// The counters of a hook.
    pub fn stats(&self, hook: &str) -> Result<bpf::HookStats, Error> {
        self.0.ask(&bpf::GetStats(HookName::new(hook)?))
    }

    /// Sets them to zero.
    pub fn clear_stats(&self, hook: &str) -> Result<(), Error> {
        self.0.ask(&bpf::ClearStats(HookName::new(hook)?))
    }

    /// Both at once. Not asked again if the reply is lost.
    pub fn take_stats(&self, hook: &str) -> Result<bpf::HookStats, Error> {
        self.0.ask(&bpf::GetClearStats(HookName::new(hook)?))
    }
}

impl<T: Transport> Hub<'_, '_, T> {
    /// Lets it live without hooks.
    pub fn set_persistent(&self) -> Result<(), Error> {
        self.0.ask(&hub::SetPersistent)
    }
}

impl<T: Transport> Socket<'_, '_, T> {
    /// The node ends with its last hook.
    pub fn no_linger(&self) -> Result<(), Error> {
        self.0.ask(&socket::NoLinger)
    }

    /// It stays until the socket is closed.
    pub fn linger(&self) -> Result<(), Error> {
        self.0.ask(&socket::Linger)
    }
}
