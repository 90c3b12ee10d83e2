//! pf's states by ioctl(2): listed and killed without a process for each, as a busy instance has thousands of them.
//!
//! Numbers and layouts are those of net/pfvar.h of 13.2, which 15 still has. A kernel that no longer has them says so, and pfctl(8)
//! does it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::firewall::state_export::{self, SIZE, VERSION};
use crate::firewall::states::Table;

/// `_IOWR('D', 93, struct pfioc_states_v2)`.
const DIOCGETSTATESV2: u64 = 0xc018_445d;
/// `_IOWR('D', 41, struct pfioc_nv)`.
const DIOCKILLSTATESNV: u64 = 0xc018_4429;

/// struct pfioc_states_v2.
#[repr(C)]
struct List {
    length: i32,
    version: u64,
    buffer: *mut libc::c_void,
}

/// struct pfioc_nv: a packed list, and room for the answer, which is not asked for.
#[repr(C)]
struct Packed {
    data: *const libc::c_void,
    length: usize,
    room: usize,
}

const _: () = assert!(size_of::<List>() == 24 && size_of::<Packed>() == 24);

/// Says that a kernel does this otherwise, and pfctl(8) knows how.
pub fn is_done_otherwise(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::ENODEV | libc::EOPNOTSUPP))
}

/// All states there are.
///
/// # Errors
/// See [`is_done_otherwise`].
pub fn list() -> io::Result<Table> {
    let pf = open()?;
    let mut room = 0;
    loop {
        let mut buffer = vec![0_u8; room * SIZE];
        let length = i32::try_from(buffer.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut list = List { length, version: VERSION, buffer: buffer.as_mut_ptr().cast() };
        // SAFETY: the number is made for a structure of this size (asserted above), and its buffer has `length` bytes. A length of
        // 0 asks for the length alone.
        if unsafe { libc::ioctl(pf.as_raw_fd(), DIOCGETSTATESV2, &raw mut list) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let filled = usize::try_from(list.length).unwrap_or_default() / SIZE;
        // The kernel fills row by row and stops at one that does not fit: only room to spare says that all are there. A row holds a
        // few (their hash is seeded), and the states of a busy host are megabytes.
        let spare = 64 + filled / 8;
        if filled + spare > room {
            room = filled + spare * 2;
            continue;
        }
        let states = buffer.as_chunks::<SIZE>().0.iter().take(filled).filter_map(state_export::state);
        return Ok(Table { states: states.collect(), strange: Vec::new() });
    }
}

/// Kills states by their ids; those that have gone meanwhile are none to kill.
///
/// # Errors
/// See [`is_done_otherwise`].
pub fn kill(ids: &[&str]) -> io::Result<()> {
    let pf = open()?;
    for id in ids {
        let list = state_export::kill(id).ok_or(io::ErrorKind::InvalidInput)?;
        let mut packed = Packed { data: list.as_ptr().cast(), length: list.len(), room: 0 };
        // SAFETY: the number is made for a structure of this size (asserted above), and its list has `length` bytes, which are read.
        if unsafe { libc::ioctl(pf.as_raw_fd(), DIOCKILLSTATESNV, &raw mut packed) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn open() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/pf")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise pfctl(8) does it, state by state, and nobody would notice.
    #[test]
    fn the_kernel_lists_and_kills_by_these_numbers() {
        let loaded = std::process::Command::new("kldload").args(["-n", "pf"]).status();
        if !loaded.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "pf cannot be loaded");
            eprintln!("NOT RUN: pf cannot be loaded");
            return;
        }
        list().unwrap();
        // One that is not there.
        kill(&["00000000000000ff/1"]).unwrap();
        assert_eq!(kill(&["0000000000000000/1"]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
