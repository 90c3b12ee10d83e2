//! The header of a control message: 56 bytes, alike in FreeBSD 13.2 and 15 (netgraph/ng_message.h).

use super::{DecodeError, Payload, Reader, Request, Writer};
use crate::sys;

/// Bytes of a header.
pub const HEADER_LEN: usize = std::mem::size_of::<sys::ng_mesg_ng_msghdr>();

/// The header, without what is the same in every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes that follow the header.
    pub arglen: u32,
    /// The command, with its flag bits.
    pub command: u32,
    /// NGF_ORIG or NGF_RESP.
    pub flags: u32,
    /// Chosen by the sender of a request and echoed in the reply.
    pub token: u32,
    /// Cookie of the node type whose command it is.
    pub cookie: u32,
    /// The command's name, for people; NUL-padded. The kernel does not look at it.
    pub cmdstr: [u8; sys::NG_CMDSTRSIZ as usize],
}

impl Header {
    /// Whether it answers a request.
    pub fn is_response(&self) -> bool {
        self.flags & sys::NGF_RESP != 0
    }
}

impl Payload for Header {
    fn write(&self, out: &mut Writer) {
        out.put_u8(sys::NG_VERSION as u8);
        out.put_u8(0);
        out.put_u16(0);
        out.put_u32(self.arglen);
        out.put_u32(self.command);
        out.put_u32(self.flags);
        out.put_u32(self.token);
        out.put_u32(self.cookie);
        out.put(&self.cmdstr);
    }

    fn read(from: &mut Reader<'_>) -> Result<Header, DecodeError> {
        let version = from.u8()?;
        if u32::from(version) != sys::NG_VERSION {
            return Err(DecodeError::Version(version));
        }
        from.take(3)?;
        Ok(Header {
            arglen: from.u32()?,
            command: from.u32()?,
            flags: from.u32()?,
            token: from.u32()?,
            cookie: from.u32()?,
            cmdstr: from.array()?,
        })
    }
}

/// A message taken apart: its header, and as many bytes as the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The header.
    pub header: Header,
    /// `header.arglen` bytes.
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes a message apart. The bytes after the header must be as many as it says.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header = Header::read(&mut reader)?;
        let data = reader.take(header.arglen as usize)?;
        reader.finish()?;
        Ok(Message { header, data })
    }

    /// The bytes of a reply to this message, as NG_MKRESPONSE makes them: the same command, cookie, token and text.
    pub fn reply(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = Writer::default();
        Header { arglen: payload.len() as u32, flags: sys::NGF_RESP, ..self.header }.write(&mut out);
        out.put(payload);
        out.into_bytes()
    }
}

/// A request as bytes, with this token.
pub fn encode<R: Request>(request: &R, token: u32) -> Vec<u8> {
    let payload = request.to_bytes();
    let mut text = Writer::default();
    text.put_padded(R::NAME.as_bytes(), sys::NG_CMDSTRSIZ as usize);
    let mut cmdstr = [0; sys::NG_CMDSTRSIZ as usize];
    cmdstr.copy_from_slice(&text.into_bytes());
    let mut out = Writer::default();
    Header {
        arglen: payload.len() as u32,
        command: R::COMMAND,
        flags: sys::NGF_ORIG,
        token,
        cookie: R::COOKIE,
        cmdstr,
    }
    .write(&mut out);
    out.put(&payload);
    out.into_bytes()
}
