//! Writing and reading numbers and names, in the host's byte order, without ever reading past the end.

use crate::addr::Mac;
use thiserror::Error;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message ends too early.
    #[error("it ends after {have} of {need} bytes")]
    Short {
        /// Bytes wanted from where it stood.
        need: usize,
        /// Bytes there were.
        have: usize,
    },
    /// Something follows where nothing should.
    #[error("{0} bytes more than it should have")]
    Trailing(usize),
    /// A count and the bytes disagree.
    #[error("it says to hold {said} entries, and its length is that of {fit}")]
    Count {
        /// What the count says.
        said: u64,
        /// Whole entries in the bytes.
        fit: usize,
    },
    /// A header of another version of the protocol (NG_VERSION).
    #[error("message version {0}, not 8")]
    Version(u8),
    /// A value that cannot be.
    #[error("{0} is not a valid {1}")]
    Value(u64, &'static str),
}

/// Bytes being written.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

macro_rules! numbers {
    ($($put:ident $get:ident $ty:ident),*) => {
        impl Writer {
            $(#[doc = concat!("Appends a `", stringify!($ty), "`.")]
            pub fn $put(&mut self, value: $ty) {
                self.0.extend_from_slice(&value.to_ne_bytes());
            })*
        }
        impl Reader<'_> {
            $(#[doc = concat!("Takes a `", stringify!($ty), "`.")]
            pub fn $get(&mut self) -> Result<$ty, DecodeError> {
                Ok($ty::from_ne_bytes(self.array()?))
            })*
        }
    };
}
numbers!(put_u8 u8 u8, put_u16 u16 u16, put_u32 u32 u32, put_i32 i32 i32, put_u64 u64 u64);

impl Writer {
    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends a text, NUL-padded to `size`; it is cut to leave one NUL.
    pub fn put_padded(&mut self, text: &[u8], size: usize) {
        let text = text.get(..size.saturating_sub(1)).unwrap_or(text);
        self.0.extend_from_slice(text);
        self.0.resize(self.0.len() + size - text.len(), 0);
    }

    /// Appends an Ethernet address.
    pub fn put_mac(&mut self, mac: Mac) {
        self.put(&mac.0);
    }

    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes being read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// Takes `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or(DecodeError::Short { need: len, have: self.0.len() })?;
        self.0 = rest;
        Ok(taken)
    }

    /// Takes everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Takes an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.0.split_first_chunk().ok_or(DecodeError::Short { need: N, have: self.0.len() })?;
        self.0 = rest;
        Ok(*taken)
    }

    /// Takes `size` bytes and gives those before the first NUL, at most `size - 1` (the kernel terminates what it is sent).
    pub fn padded(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        let field = self.take(size)?;
        let text = field.split(|b| *b == 0).next().unwrap_or_default();
        Ok(text.get(..size - 1).unwrap_or(text))
    }

    /// Takes an Ethernet address.
    pub fn mac(&mut self) -> Result<Mac, DecodeError> {
        self.array().map(Mac)
    }

    /// Reads `said` entries of `size` bytes each with `read`, if that is exactly what is left.
    pub fn entries<T>(
        &mut self,
        said: u64,
        size: usize,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let fit = self.left() / size;
        if said != fit as u64 || !self.left().is_multiple_of(size) {
            return Err(DecodeError::Count { said, fit });
        }
        (0..fit).map(|_| read(self)).collect()
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.0.len())) }
    }
}
