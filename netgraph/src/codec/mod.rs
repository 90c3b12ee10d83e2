//! Control messages: typed requests and replies, and the kernel's bytes for them. Pure, both ways.
//!
//! A request is a type ([`Request`]) that knows its cookie, its command and the type of its reply; request and reply are
//! [`Payload`]s, which can be written and read back. Reading goes by the length at hand and never panics: the other side may
//! be a kernel of another release, or someone who is no kernel.
//!
//! Numbers are in the host's byte order, as in netgraph/ng_message.h.

pub mod bpf;
pub mod bridge;
pub mod eiface;
pub mod ether;
pub mod generic;
pub mod header;
pub mod hub;
pub mod socket;
mod wire;

pub use header::{HEADER_LEN, Header, Message, encode};
pub use wire::{DecodeError, Reader, Writer};

/// Something that goes after the header.
pub trait Payload: Sized {
    /// Appends its bytes.
    fn write(&self, out: &mut Writer);
    /// Reads it from exactly these bytes; what is left over in the reader afterwards is refused.
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Its bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads it from all of `bytes`.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

impl Payload for () {
    fn write(&self, _: &mut Writer) {}
    fn read(_: &mut Reader<'_>) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// What a request does, and so what may be done when its answer gets lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changes something; there is no reply, the errno of the send is the answer.
    Effect,
    /// Only reads; may be sent again.
    Query,
    /// Changes something and replies: sending it again would do it twice.
    Exchange,
}

/// A request to a node.
pub trait Request: Payload {
    /// Cookie of the node type, or the generic one.
    const COOKIE: u32;
    /// The command, with NGM_READONLY and NGM_HASREPLY where they are part of its value.
    const COMMAND: u32;
    /// Its name as ngctl(8) and error messages have it.
    const NAME: &'static str;
    /// Whether it changes something, and whether it is answered.
    const KIND: Kind;
    /// The answer; `()` where there is none.
    type Reply: Payload;
}

/// Declares the requests that carry no arguments.
macro_rules! bare_requests {
    ($($(#[$doc:meta])* $name:ident $cookie:ident $command:ident $text:literal $kind:ident -> $reply:ty),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;
        impl $crate::codec::Payload for $name {
            fn write(&self, _: &mut $crate::codec::Writer) {}
            fn read(_: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                Ok($name)
            }
        }
        $crate::codec::requests!($name $cookie $command $text $kind -> $reply);
    )* };
}

/// Ties a payload to its command.
macro_rules! requests {
    ($($name:ident $cookie:ident $command:ident $text:literal $kind:ident -> $reply:ty),* $(,)?) => { $(
        impl $crate::codec::Request for $name {
            const COOKIE: u32 = $crate::sys::$cookie;
            const COMMAND: u32 = $crate::sys::$command;
            const NAME: &'static str = $text;
            const KIND: $crate::codec::Kind = $crate::codec::Kind::$kind;
            type Reply = $reply;
        }
    )* };
}
use bare_requests;
use requests;

/// Entry point for fuzzing: any bytes as a message, and as every payload there is. What reads survives the way to bytes and back.
///
/// # Panics
/// When a promise of this module does not hold.
pub fn fuzz(bytes: &[u8]) {
    fn read<P: Payload + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        if let Ok(payload) = P::from_bytes(bytes) {
            assert_eq!(
                P::from_bytes(&payload.to_bytes()).as_ref(),
                Ok(&payload),
                "what is written reads back"
            );
        }
    }
    let data = Message::parse(bytes).map_or(bytes, |message| {
        let reply = message.reply(message.data);
        assert!(Message::parse(&reply).is_ok_and(|m| m.header.is_response() && m.data == message.data));
        message.data
    });
    read::<generic::MkPeer>(data);
    read::<generic::Connect>(data);
    read::<generic::HookList>(data);
    read::<generic::NodeList>(data);
    read::<generic::TypeList>(data);
    read::<generic::Text>(data);
    read::<bridge::Table>(data);
    read::<bridge::Config>(data);
    read::<bridge::MoveHost>(data);
    read::<eiface::IfAddrs>(data);
    read::<bpf::HookProgram>(data);
    read::<bpf::GetProgram>(data);
    read::<ether::Address>(data);
    if let Ok(name) = eiface::IfName::from_bytes(data) {
        // A name that is no UTF-8 is shown with replacements, which need more room than there is.
        assert!(eiface::IfName::from_bytes(&name.to_bytes()).is_ok());
    }
    if let Ok(addresses) = eiface::IfAddrs::from_bytes(data) {
        let _ = addresses.mac();
    }
}

#[cfg(test)]
mod tests;
