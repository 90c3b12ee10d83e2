//! The engine: frames in, decisions out.

use std::net::{IpAddr, Ipv4Addr};

use super::action::{Action, Event, Ignored, NakReason, Stats};
use super::config::{ConfigError, DynamicRange, ServerConfig};
use super::dynamic::Offers;
use super::lease::{ClientKey, Lease, LeaseChange, LeaseState};
use super::limit::{RateLimit, Verdict};
use super::reply::{Built, Grant, Replier};
use super::request::{Incoming, RequestState};
use super::view::LeaseView;
use crate::mac::Mac;
use crate::wire::{
    Arp, ArpOp, Frame, Message, MessageType, Op, Payload, Udp4, build_neighbor_advert, code, parse_frame,
};

/// RFC 5227 §2.4: defend an address at most once in ten seconds.
const DEFEND_INTERVAL_MS: u64 = 10_000;

/// A DHCP server for one network.
#[derive(Debug, Clone)]
pub struct Server {
    replier: Replier,
    offers: Offers,
    /// Stations with a reservation, and others: a flood of invented MACs must not slow the former down.
    reserved_rate: RateLimit,
    other_rate: RateLimit,
    /// As many addresses as a MAC may lease, it may have resting for its DECLINEs: else one client could use the
    /// range up by declining all of it.
    decline_rate: RateLimit,
    defended_at: Option<u64>,
    stats: Stats,
}

/// The address a client is to have.
struct Binding {
    address: Ipv4Addr,
    hostname: Option<String>,
}

impl Server {
    /// A server for the network of `config`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: ServerConfig) -> Result<Self, ConfigError> {
        let table = config.compile()?;
        let limits = config.limits;
        let rate = || RateLimit::new(limits.burst, limits.per_second, limits.tracked);
        Ok(Server {
            offers: Offers::new(limits.pending_offers),
            reserved_rate: rate(),
            other_rate: rate(),
            decline_rate: RateLimit::with_token(
                limits.leases_per_mac as u64,
                config.decline_hold_ms.max(1),
                limits.tracked,
            ),
            defended_at: None,
            stats: Stats::default(),
            replier: Replier { config, table },
        })
    }

    /// What it was told.
    pub fn config(&self) -> &ServerConfig {
        &self.replier.config
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// A frame that tells the network where the server is, for when it starts (RFC 5227 §2.3).
    pub fn announcement(&self) -> Vec<u8> {
        Arp::announcement(self.config().mac, self.config().ip).build(Mac::BROADCAST)
    }

    /// Answers a frame seen on the network; `now` is in milliseconds since the epoch.
    pub fn handle(&mut self, frame: &[u8], now: u64, view: &dyn LeaseView) -> Vec<Action> {
        self.stats.frames += 1;
        match parse_frame(frame) {
            // Our own, come back.
            Ok(frame) if frame.src == self.config().mac => vec![],
            Ok(Frame { src, payload: Payload::Arp(arp), .. }) => self.on_arp(src, &arp, now),
            Ok(Frame { src, payload: Payload::NeighborSolicit(ns), .. }) => {
                if self.config().ipv6 != Some(ns.target) {
                    return vec![];
                }
                self.stats.neighbor_adverts += 1;
                vec![Action::Send(build_neighbor_advert(&ns, src, self.config().mac))]
            }
            Ok(Frame { src, dst, payload: Payload::Udp4(udp) }) => self.on_udp(src, dst, &udp, now, view),
            Ok(Frame { payload: Payload::Other, .. }) => vec![],
            Err(error) => {
                let source = frame.get(6..12).and_then(|s| <[u8; 6]>::try_from(s).ok());
                let mac = source.map_or(Mac::ZERO, Mac);
                // Anyone can make broken frames fast; the log follows the same rate as answers do.
                match self.other_rate.take(mac, now) {
                    Verdict::Pass => self.ignore(mac, None, Ignored::BadFrame(error)),
                    _ => self.ignore_silently(),
                }
            }
        }
    }

    /// When [`Server::poll`] has something to do next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.offers.next_due()
    }

    /// Sends offers whose address probe met silence, and forgets old offers.
    pub fn poll(&mut self, now: u64) -> Vec<Action> {
        let due = self.offers.due(now);
        self.stats.offers += due.len() as u64;
        let actions = due.into_iter().flat_map(|(mac, address, frame)| {
            [Action::Send(frame), Action::Log(Event::Offered { mac, address })]
        });
        actions.collect()
    }

    fn on_arp(&mut self, src: Mac, arp: &Arp, now: u64) -> Vec<Action> {
        let (mac, ip) = (self.config().mac, self.config().ip);
        if arp.sender_mac != src {
            return vec![];
        }
        if arp.sender_ip == ip {
            if self.defended_at.is_some_and(|t| now < t.saturating_add(DEFEND_INTERVAL_MS) && now >= t) {
                return vec![];
            }
            self.defended_at = Some(now);
            let event = Event::Conflict { address: IpAddr::V4(ip), by: src };
            return vec![Action::Send(self.announcement()), Action::Log(event)];
        }
        let mut actions = self.probe_answered(src, arp, now);
        if arp.op == ArpOp::Request && arp.target_ip == ip {
            self.stats.arp_replies += 1;
            actions.push(Action::Send(arp.reply(mac).build(src)));
        }
        actions
    }

    /// Someone speaks for an address we are about to offer: it rests, and the client's next DISCOVER gets another.
    fn probe_answered(&mut self, src: Mac, arp: &Arp, now: u64) -> Vec<Action> {
        let Some(client) = self.offers.holder(arp.sender_ip).filter(|c| c.mac != src).cloned() else {
            return vec![];
        };
        if !self.offers.is_probing(&client) {
            return vec![];
        }
        self.offers.forget(&client);
        let until = now.saturating_add(self.config().decline_hold_ms);
        let change = LeaseChange::Declined { address: arp.sender_ip, client, at: now, until };
        let event = Event::Conflict { address: IpAddr::V4(arp.sender_ip), by: src };
        vec![Action::Persist { change, then: None }, Action::Log(event)]
    }

    fn on_udp(&mut self, src: Mac, dst: Mac, udp: &Udp4<'_>, now: u64, view: &dyn LeaseView) -> Vec<Action> {
        let config = self.config();
        let to_all = udp.dst == Ipv4Addr::BROADCAST || udp.dst == config.prefix.broadcast();
        let to_us = (dst == config.mac && udp.dst == config.ip) || (dst == Mac::BROADCAST && to_all);
        // A unicast address in a broadcast frame, or the reverse, is nobody's honest mistake.
        if udp.dst_port != 67 || !to_us {
            return vec![];
        }
        let rate =
            if view.reservation(src).is_some() { &mut self.reserved_rate } else { &mut self.other_rate };
        match rate.take(src, now) {
            Verdict::Pass => {}
            Verdict::Refuse => {
                self.stats.rate_limited += 1;
                return self.ignore(src, None, Ignored::RateLimited);
            }
            Verdict::RefuseSilently => {
                self.stats.rate_limited += 1;
                return self.ignore_silently();
            }
        }
        let message = match Message::parse(udp.payload) {
            Ok(message) if message.op == Op::Request => message,
            Ok(_) => return vec![],
            Err(error) => return self.ignore(src, None, Ignored::BadMessage(error)),
        };
        let incoming = Incoming::new(message, src, udp, self.config().ip);
        match self.refusal(&incoming) {
            Some(why) => self.ignore(src, Some(incoming.message.kind), why),
            None => self.on_message(&incoming, now, view),
        }
    }

    /// Why a message must not be looked at further.
    fn refusal(&self, incoming: &Incoming) -> Option<Ignored> {
        let message = &incoming.message;
        if message.giaddr.is_unspecified() {
            if incoming.from != message.chaddr || !message.chaddr.is_unicast() {
                return Some(Ignored::ForeignHardwareAddress);
            }
        } else if !self.config().relays.contains(&message.giaddr) {
            return Some(Ignored::UnknownRelay);
        }
        if incoming.client.client_id.as_ref().is_some_and(|id| id.len() > 255) {
            return Some(Ignored::OversizedClientId);
        }
        let subnet = incoming.selected_subnet();
        subnet.filter(|s| !self.config().prefix.contains(s)).map(|_| Ignored::OtherSubnet)
    }

    fn on_message(&mut self, incoming: &Incoming, now: u64, view: &dyn LeaseView) -> Vec<Action> {
        match incoming.message.kind {
            MessageType::Discover => {
                self.stats.discovers += 1;
                self.on_discover(incoming, now, view)
            }
            MessageType::Request => {
                self.stats.requests += 1;
                self.on_request(incoming, now, view)
            }
            MessageType::Decline => {
                self.stats.declines += 1;
                self.on_decline(incoming, now, view)
            }
            MessageType::Release => {
                self.stats.releases += 1;
                self.on_release(incoming, now, view)
            }
            MessageType::Inform => {
                self.stats.informs += 1;
                self.on_inform(incoming, view)
            }
            // A server's words from a client's mouth.
            MessageType::Offer | MessageType::Ack | MessageType::Nak => {
                self.ignore(incoming.mac(), Some(incoming.message.kind), Ignored::Inconsistent)
            }
        }
    }

    fn on_discover(&mut self, incoming: &Incoming, now: u64, view: &dyn LeaseView) -> Vec<Action> {
        let mac = incoming.mac();
        if let Some(r) = view.reservation(mac) {
            let built = self.offer(incoming, r.address, r.hostname.as_deref());
            return self.send_offer(mac, r.address, built);
        }
        // Make room first: old offers must not refuse new ones.
        let mut actions = self.poll(now);
        match self.choose_dynamic(incoming, view) {
            Ok(address) => {
                let built = self.offer(incoming, address, None);
                actions.extend(self.offer_dynamic(incoming, address, built, now, view));
            }
            Err(why) => {
                // RFC 2563 §2.3: no address for you, and do not make one up either.
                if self.config().forbid_autoconf
                    && incoming.message.options.get(code::AUTO_CONFIGURE).is_some()
                {
                    let none = Ipv4Addr::UNSPECIFIED;
                    let grant =
                        Grant { kind: MessageType::Offer, yiaddr: none, lease_s: None, hostname: None };
                    actions.extend(self.replier.grant(incoming, &grant).frame.map(Action::Send));
                }
                actions.extend(self.ignore(mac, Some(MessageType::Discover), why));
            }
        }
        actions
    }

    fn offer(&self, incoming: &Incoming, address: Ipv4Addr, hostname: Option<&str>) -> Built {
        let lease_s = Some(self.lease_time(incoming));
        self.replier.grant(incoming, &Grant { kind: MessageType::Offer, yiaddr: address, lease_s, hostname })
    }

    fn send_offer(&mut self, mac: Mac, address: Ipv4Addr, built: Built) -> Vec<Action> {
        self.stats.offers += 1;
        let event = Action::Log(Event::Offered { mac, address });
        let left_out = left_out(mac, built.left_out);
        built.frame.map(Action::Send).into_iter().chain([event]).chain(left_out).collect()
    }

    fn offer_dynamic(
        &mut self,
        incoming: &Incoming,
        address: Ipv4Addr,
        built: Built,
        now: u64,
        view: &dyn LeaseView,
    ) -> Vec<Action> {
        let mac = incoming.mac();
        if self.offers.is_probing(&incoming.client) {
            return vec![];
        }
        let probe_ms = self.config().dynamic.map_or(0, |d| d.probe_ms);
        let known =
            self.offers.of(&incoming.client).is_some() || is_bound_to(view, address, &incoming.client);
        match built.frame {
            Some(frame) if probe_ms > 0 && !known => {
                self.offers.hold(&incoming.client, address, now, Some((probe_ms, frame)));
                vec![Action::Send(Arp::probe(self.config().mac, address).build(Mac::BROADCAST))]
            }
            frame => {
                self.offers.hold(&incoming.client, address, now, None);
                self.send_offer(mac, address, Built { frame, left_out: built.left_out })
            }
        }
    }

    /// RFC 2131 §4.3.1: what the client has; what it had; what it asks for; any.
    fn choose_dynamic(&self, incoming: &Incoming, view: &dyn LeaseView) -> Result<Ipv4Addr, Ignored> {
        if self.config().dynamic.is_none() {
            return Err(Ignored::UnknownClient);
        }
        let client = &incoming.client;
        if let Some(offer) = self.offers.of(client) {
            return Ok(offer.address);
        }
        if self.offers.is_full() {
            return Err(Ignored::OffersFull);
        }
        let mine = view.lease_of(client);
        if let Some(lease) = mine.filter(|l| self.may_have(client, l.address, view)) {
            return Ok(lease.address);
        }
        if view.bound_to(client.mac) + self.offers.count_of(client.mac) >= self.config().limits.leases_per_mac
        {
            return Err(Ignored::TooManyLeases);
        }
        if let Some(asked) = incoming.requested_ip().filter(|a| self.may_have(client, *a, view)) {
            return Ok(asked);
        }
        view.free(&|address| !self.may_have(client, address, view)).ok_or(Ignored::PoolExhausted)
    }

    /// May this client have this dynamic address?
    fn may_have(&self, client: &ClientKey, address: Ipv4Addr, view: &dyn LeaseView) -> bool {
        let Some(DynamicRange { first, last, .. }) = self.config().dynamic else { return false };
        let offered_to_other = self.offers.holder(address).is_some_and(|holder| holder != client);
        let taken = view.lease_at(address).is_some_and(|lease| match lease.state {
            LeaseState::Bound => lease.client != *client,
            LeaseState::Declined => true,
            LeaseState::Released | LeaseState::Expired => false,
        });
        (first..=last).contains(&address) && !offered_to_other && !taken && !view.is_reserved(address)
    }

    fn on_request(&mut self, incoming: &Incoming, now: u64, view: &dyn LeaseView) -> Vec<Action> {
        let mac = incoming.mac();
        let kind = Some(MessageType::Request);
        let Some(state) = incoming.request_state(self.config().ip) else {
            return self.ignore(mac, kind, Ignored::Inconsistent);
        };
        let asked = match state {
            RequestState::SelectingOther => {
                self.offers.forget(&incoming.client);
                return self.ignore(mac, kind, Ignored::OtherServer);
            }
            RequestState::Selecting(a)
            | RequestState::InitReboot(a)
            | RequestState::Renewing(a)
            | RequestState::Rebinding(a) => a,
        };
        match self.judge(incoming, state, asked, view) {
            Ok(Some(binding)) => self.acknowledge(incoming, &binding, now, view),
            Ok(None) => self.ignore(mac, kind, Ignored::UnknownClient),
            Err(why) => {
                self.stats.naks += 1;
                self.offers.forget(&incoming.client);
                let built = self.replier.nak(incoming, why);
                let event = Action::Log(Event::Refused { mac, asked, why });
                built.frame.map(Action::Send).into_iter().chain([event]).collect()
            }
        }
    }

    /// RFC 2131 §4.3.2. `Ok(None)`: silence, for we know nothing of this client.
    fn judge(
        &self,
        incoming: &Incoming,
        state: RequestState,
        asked: Ipv4Addr,
        view: &dyn LeaseView,
    ) -> Result<Option<Binding>, NakReason> {
        let client = &incoming.client;
        let lease = view.lease_of(client).filter(|_| self.config().dynamic.is_some());
        if !self.config().prefix.contains(&asked) {
            let to_us = matches!(state, RequestState::Selecting(_) | RequestState::Renewing(_));
            let known = view.reservation(incoming.mac()).is_some()
                || self.offers.of(client).is_some()
                || lease.is_some();
            // Beside other servers it is one of theirs who asks, for an address of a prefix that we do not know.
            return if to_us || known || self.config().authoritative {
                Err(NakReason::WrongNetwork)
            } else {
                Ok(None)
            };
        }
        if let Some(r) = view.reservation(incoming.mac()) {
            return if r.address == asked {
                Ok(Some(Binding { address: asked, hostname: r.hostname }))
            } else {
                Err(NakReason::OtherAddress)
            };
        }
        let granted = Ok(Some(Binding { address: asked, hostname: None }));
        if let Some(offer) = self.offers.of(client) {
            // An address still being probed was not offered yet.
            return match offer.address == asked && !self.offers.is_probing(client) {
                true if self.may_have(client, asked, view) => granted,
                true => Err(NakReason::NotAvailable),
                false => Err(NakReason::OtherAddress),
            };
        }
        if let Some(lease) = lease {
            return match lease.address == asked {
                true if self.may_have(client, asked, view) => granted,
                true => Err(NakReason::NotAvailable),
                false => Err(NakReason::OtherAddress),
            };
        }
        match state {
            // Our offer, forgotten since (a restart): still good if the address is.
            RequestState::Selecting(_) if self.may_have(client, asked, view) => {
                if view.bound_to(client.mac) >= self.config().limits.leases_per_mac {
                    return Err(NakReason::NotAvailable);
                }
                granted
            }
            RequestState::Selecting(_) => Err(NakReason::NotAvailable),
            // It asked us by name, so nobody else will tell it.
            RequestState::Renewing(_) => Err(NakReason::NoLease),
            _ if self.config().authoritative => Err(NakReason::NoLease),
            _ => Ok(None),
        }
    }

    fn acknowledge(
        &mut self,
        incoming: &Incoming,
        binding: &Binding,
        now: u64,
        view: &dyn LeaseView,
    ) -> Vec<Action> {
        let mac = incoming.mac();
        let address = binding.address;
        let seconds = self.lease_time(incoming);
        let hostname = binding.hostname.as_deref();
        let grant = Grant { kind: MessageType::Ack, yiaddr: address, lease_s: Some(seconds), hostname };
        let built = self.replier.grant(incoming, &grant);
        let old =
            view.lease_at(address).filter(|l| l.state == LeaseState::Bound && l.client == incoming.client);
        let lease = Lease {
            address,
            client: incoming.client.clone(),
            state: LeaseState::Bound,
            since: old.map_or(now, |l| l.since),
            expiry: if seconds == u32::MAX {
                u64::MAX
            } else {
                now.saturating_add(u64::from(seconds) * 1000)
            },
            last_seen: now,
            client_name: incoming.client_name(),
        };
        if view.reservation(mac).is_none() {
            // Held on, so that nobody else is offered the address before the caller has stored the lease.
            self.offers.hold(&incoming.client, address, now, None);
        }
        self.stats.acks += 1;
        let persist = Action::Persist { change: LeaseChange::Bound(lease), then: built.frame };
        let event = Action::Log(Event::Acknowledged { mac, address, seconds });
        [persist, event].into_iter().chain(left_out(mac, built.left_out)).collect()
    }

    fn on_decline(&mut self, incoming: &Incoming, now: u64, view: &dyn LeaseView) -> Vec<Action> {
        let mac = incoming.mac();
        let held = incoming.requested_ip().filter(|a| self.holds(incoming, *a, view));
        let (Some(address), true) = (held, self.is_for_us(incoming)) else {
            return self.ignore(mac, Some(MessageType::Decline), Ignored::Inconsistent);
        };
        match self.decline_rate.take(mac, now) {
            Verdict::Pass => {}
            Verdict::Refuse => return self.ignore(mac, Some(MessageType::Decline), Ignored::RateLimited),
            Verdict::RefuseSilently => return self.ignore_silently(),
        }
        self.offers.forget(&incoming.client);
        let until = now.saturating_add(self.config().decline_hold_ms);
        let change = LeaseChange::Declined { address, client: incoming.client.clone(), at: now, until };
        vec![Action::Persist { change, then: None }, Action::Log(Event::Declined { mac, address })]
    }

    fn on_release(&mut self, incoming: &Incoming, now: u64, view: &dyn LeaseView) -> Vec<Action> {
        let mac = incoming.mac();
        let address = incoming.message.ciaddr;
        // A reservation is the station's, whatever client-id it got the lease under.
        let same_station = || view.lease_at(address).is_some_and(|l| l.client.mac == mac);
        let reserved = view.reservation(mac).is_some_and(|r| r.address == address) && same_station();
        let bound = reserved || is_bound_to(view, address, &incoming.client);
        if !bound || !self.is_for_us(incoming) {
            return self.ignore(mac, Some(MessageType::Release), Ignored::Inconsistent);
        }
        self.offers.forget(&incoming.client);
        let change = LeaseChange::Released { address, at: now };
        vec![Action::Persist { change, then: None }, Action::Log(Event::Released { mac, address })]
    }

    /// RFC 2131 §4.3.5: settings for a client that has its address from elsewhere.
    fn on_inform(&mut self, incoming: &Incoming, view: &dyn LeaseView) -> Vec<Action> {
        let mac = incoming.mac();
        let address = incoming.message.ciaddr;
        if address.is_unspecified() || !self.holds(incoming, address, view) {
            return self.ignore(mac, Some(MessageType::Inform), Ignored::Inconsistent);
        }
        let hostname = view.reservation(mac).and_then(|r| r.hostname);
        let grant = Grant {
            kind: MessageType::Ack,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            lease_s: None,
            hostname: hostname.as_deref(),
        };
        let built = self.replier.grant(incoming, &grant);
        let event = Action::Log(Event::Informed { mac, address });
        built
            .frame
            .map(Action::Send)
            .into_iter()
            .chain([event])
            .chain(left_out(mac, built.left_out))
            .collect()
    }

    /// Is the address this client's, by reservation, lease or offer?
    fn holds(&self, incoming: &Incoming, address: Ipv4Addr, view: &dyn LeaseView) -> bool {
        view.reservation(incoming.mac()).is_some_and(|r| r.address == address)
            || is_bound_to(view, address, &incoming.client)
            || self.offers.of(&incoming.client).is_some_and(|o| o.address == address)
    }

    fn is_for_us(&self, incoming: &Incoming) -> bool {
        incoming.server_id().is_none_or(|id| id == self.config().ip)
    }

    fn lease_time(&self, incoming: &Incoming) -> u32 {
        let times = self.config().lease;
        let asked = incoming.message.options.u32(code::LEASE_TIME);
        asked.map_or(times.default_s, |s| s.clamp(times.min_s, times.max_s))
    }

    fn ignore(&mut self, mac: Mac, kind: Option<MessageType>, why: Ignored) -> Vec<Action> {
        self.stats.ignored += 1;
        vec![Action::Log(Event::Ignored { mac, kind, why })]
    }

    fn ignore_silently(&mut self) -> Vec<Action> {
        self.stats.ignored += 1;
        vec![]
    }
}

fn is_bound_to(view: &dyn LeaseView, address: Ipv4Addr, client: &ClientKey) -> bool {
    view.lease_at(address).is_some_and(|l| l.state == LeaseState::Bound && l.client == *client)
}

fn left_out(mac: Mac, codes: Vec<u8>) -> Option<Action> {
    (!codes.is_empty()).then_some(Action::Log(Event::OptionsLeftOut { mac, codes }))
}
