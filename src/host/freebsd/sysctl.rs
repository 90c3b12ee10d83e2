//! sysctl(3) by name, and what kind of value is behind one; kenv(2).
#![allow(unsafe_code)]

use std::ffi::{CString, c_int};
use std::io;

/// sysctl's own commands (sys/sysctl.h): `CTL_SYSCTL` and `CTL_SYSCTL_OIDFMT`.
const CTL_SYSCTL: c_int = 0;
const OIDFMT: c_int = 4;
/// sys/kenv.h.
const KENV_GET: c_int = 0;
const KENV_SET: c_int = 1;
/// The longest value of a kernel variable (`KENV_MVALLEN`).
const KENV_ROOM: usize = 128;

unsafe extern "C" {
    /// kenv(2), which the libc crate does not declare.
    fn kenv(action: c_int, name: *const libc::c_char, value: *mut libc::c_char, len: c_int) -> c_int;
    /// modfind(2), likewise.
    fn modfind(name: *const libc::c_char) -> c_int;
    /// kldload(2), likewise.
    fn kldload(file: *const libc::c_char) -> c_int;
}

/// What a variable is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// `CTLTYPE_*`.
    pub ctltype: u32,
    /// `I`, `B`, `A`, `S,in_addr`, `E,jailsys`, ….
    pub format: String,
}

fn fetch(mib: &[c_int]) -> io::Result<Vec<u8>> {
    let count = u32::try_from(mib.len()).unwrap_or_default();
    let mut room = 1024;
    loop {
        let mut value = vec![0; room];
        let mut length = room;
        // SAFETY: name and value are valid for the lengths given.
        let done = unsafe {
            libc::sysctl(mib.as_ptr(), count, value.as_mut_ptr().cast(), &raw mut length, std::ptr::null(), 0)
        };
        if done == 0 {
            value.truncate(length);
            return Ok(value);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOMEM) || room > 1 << 20 {
            return Err(error);
        }
        room *= 4;
    }
}

fn mib(name: &str) -> io::Result<Vec<c_int>> {
    let name = CString::new(name)?;
    let mut mib = [0; 24]; // CTL_MAXNAME
    let mut length = mib.len();
    // SAFETY: the name ends with a NUL, the vector is as long as `length` says.
    if unsafe { libc::sysctlnametomib(name.as_ptr(), mib.as_mut_ptr(), &raw mut length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(mib.into_iter().take(length).collect())
}

/// The kind of a variable; `None` if there is none of that name.
pub fn kind(name: &str) -> io::Result<Option<Kind>> {
    let mib = match mib(name) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        other => other?,
    };
    let answer = fetch(&[&[CTL_SYSCTL, OIDFMT], &mib[..]].concat())?;
    let Some((kind, format)) = answer.split_first_chunk() else { return Ok(None) };
    // CTLTYPE, the low four bits.
    Ok(Some(Kind { ctltype: u32::from_ne_bytes(*kind) & 0xf, format: super::iov::string(format) }))
}

fn value(name: &str) -> Option<Vec<u8>> {
    fetch(&mib(name).ok()?).ok()
}

/// An integer variable of any width; `None` if the kernel has none of that name.
pub fn integer(name: &str) -> Option<i64> {
    let bytes = value(name)?;
    match bytes.len() {
        4 => bytes.first_chunk().map(|b| i64::from(i32::from_ne_bytes(*b))),
        8 => bytes.first_chunk().map(|b| i64::from_ne_bytes(*b)),
        _ => None,
    }
}

/// A text variable.
pub fn text(name: &str) -> Option<String> {
    value(name).map(|bytes| super::iov::string(&bytes))
}

/// Whether the kernel has a module, loaded or built in.
pub fn has_module(name: &str) -> bool {
    // SAFETY: the name ends with a NUL and lives through the call.
    CString::new(name).is_ok_and(|name| unsafe { modfind(name.as_ptr()) } >= 0)
}

/// Loads a module by its plain name, if the kernel finds one that it does not have yet; whether it did.
///
/// # Errors
/// It is there and could not be loaded: a securelevel, a jail, a module of another kernel.
pub fn load_module(name: &str) -> io::Result<bool> {
    // kldload(2) takes paths as well.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(false);
    }
    let name = CString::new(name)?;
    // SAFETY: the name ends with a NUL and lives through the call.
    if unsafe { kldload(name.as_ptr()) } >= 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EEXIST)) => Ok(false),
        error => Err(error),
    }
}

/// A variable of the kernel's environment (kenv(1)): it lives as long as the boot.
pub fn kernel_variable(name: &str) -> io::Result<Option<String>> {
    let name = CString::new(name)?;
    let mut value = [0_u8; KENV_ROOM];
    // SAFETY: the name ends with a NUL and the kernel writes at most the length given.
    let done = unsafe { kenv(KENV_GET, name.as_ptr(), value.as_mut_ptr().cast(), KENV_ROOM as c_int) };
    if done >= 0 {
        return Ok(Some(super::iov::string(&value)));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        error => Err(error),
    }
}

/// Sets one.
pub fn set_kernel_variable(name: &str, value: &str) -> io::Result<()> {
    let (name, value) = (CString::new(name)?, CString::new(value)?);
    let length = c_int::try_from(value.as_bytes_with_nul().len()).unwrap_or(c_int::MAX);
    // SAFETY: both end with a NUL; KENV_SET only reads the value.
    if unsafe { kenv(KENV_SET, name.as_ptr(), value.as_ptr().cast_mut(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
