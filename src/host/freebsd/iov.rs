//! Names and values for jail_set(2), jail_get(2) and nmount(2), which take them alike (vfs_getopts(9)).
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};
use std::io;

use crate::host::Failure;

/// Room for what the kernel says of an error.
const ERRMSG: usize = 1024;

/// A system call that takes pairs.
pub type Call = unsafe extern "C" fn(*mut libc::iovec, c_uint, c_int) -> c_int;

/// Pairs of name and value.
#[derive(Debug, Default)]
pub struct Iov {
    /// Names with their NUL, and values; an empty value is a null pointer.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// A text with a NUL in it was given: the kernel would take half of it.
    cut: bool,
}

/// What the kernel said when it refused.
#[derive(Debug)]
pub struct Refusal {
    /// The error number.
    pub error: io::Error,
    /// Its words; may be empty.
    pub text: String,
}

impl Refusal {
    /// With what was being done.
    pub fn failure(self, what: impl std::fmt::Display) -> Failure {
        let said = if self.text.is_empty() { String::new() } else { format!("{}: ", self.text) };
        Failure::os(format!("{what}: {said}").trim_end_matches(": "), &self.error)
    }
}

impl Iov {
    /// A name with raw bytes; none is presence alone.
    pub fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.cut |= name.contains('\0');
        self.pairs.push(([name.as_bytes(), b"\0"].concat(), value.to_vec()));
        self
    }

    /// A name with a text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.cut |= value.contains('\0');
        self.bytes(name, &[value.as_bytes(), b"\0"].concat())
    }

    /// A name with a number.
    pub fn int(&mut self, name: &str, value: i32) -> &mut Self {
        self.bytes(name, &value.to_ne_bytes())
    }

    /// A name alone.
    pub fn flag(&mut self, name: &str) -> &mut Self {
        self.bytes(name, &[])
    }

    /// Room for an answer.
    pub fn room(&mut self, name: &str, size: usize) -> &mut Self {
        self.bytes(name, &vec![0; size])
    }

    /// Makes the call; values then hold what the kernel wrote. `errmsg` is always passed.
    pub fn call(&mut self, call: Call, flags: c_int) -> Result<c_int, Refusal> {
        if self.cut {
            let error = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(Refusal { error, text: "a text holds a NUL".into() });
        }
        let mut errmsg = (b"errmsg\0".to_vec(), vec![0; ERRMSG]);
        let vector = |bytes: &mut Vec<u8>| libc::iovec {
            iov_base: if bytes.is_empty() { std::ptr::null_mut() } else { bytes.as_mut_ptr().cast() },
            iov_len: bytes.len(),
        };
        let mut all: Vec<libc::iovec> = (self.pairs.iter_mut().chain([&mut errmsg]))
            .flat_map(|(name, value)| [vector(name), vector(value)])
            .collect();
        let count = c_uint::try_from(all.len()).unwrap_or(c_uint::MAX);
        // SAFETY: every vector points to a buffer that lives through the call and is as long as it says; names end with a NUL.
        let done = unsafe { call(all.as_mut_ptr(), count, flags) };
        if done < 0 {
            let error = io::Error::last_os_error();
            return Err(Refusal { error, text: string(&errmsg.1) });
        }
        Ok(done)
    }

    /// Names and values, in the order in which they were given.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.pairs.iter().filter_map(|(name, value)| {
            Some((std::str::from_utf8(name.strip_suffix(b"\0")?).ok()?, value.as_slice()))
        })
    }

    /// What is at a name.
    pub fn value(&self, name: &str) -> &[u8] {
        let found = self.pairs.iter().find(|(n, _)| n.strip_suffix(b"\0") == Some(name.as_bytes()));
        found.map_or(&[], |(_, value)| value)
    }

    /// The number at a name, 0 if it is none.
    pub fn number(&self, name: &str) -> i32 {
        self.value(name).first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    }

    /// The text at a name.
    pub fn string(&self, name: &str) -> String {
        string(self.value(name))
    }
}

/// Up to the first NUL.
pub fn string(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
