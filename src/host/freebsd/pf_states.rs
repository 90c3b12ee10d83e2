//! pf's states by ioctl(2): listed and killed without a process for each, as a busy instance has thousands of them.
//!
//! Numbers and layouts are those of net/pfvar.h of 13.2. 15 has no DIOCKILLSTATES any more: the error says so, and pfctl(8) does it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::firewall::state_export::{self, SIZE, VERSION};
use crate::firewall::states::Table;

/// `_IOWR('D', 93, struct pfioc_states_v2)`.
const DIOCGETSTATESV2: u64 = 0xc018_445d;
/// `_IOWR('D', 41, struct pfioc_state_kill)`.
const DIOCKILLSTATES: u64 = 0xc0e0_4429;

/// struct pfioc_states_v2.
#[repr(C)]
struct List {
    length: i32,
    version: u64,
    buffer: *mut libc::c_void,
}

/// struct pfioc_state_kill, of which the id and the creator alone are used.
#[repr(C)]
struct Kill {
    id: [u8; 8],
    creator: [u8; 4],
    rest: [u8; 204],
    killed: u32,
    end: [u8; 4],
}

const _: () =
    assert!(size_of::<List>() == 24 && size_of::<Kill>() == 224 && std::mem::offset_of!(Kill, killed) == 216);

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
        // The kernel fills row by row and stops at one that does not fit: only room to spare says that all are there.
        if filled * 2 > room {
            room = (filled * 4).max(64);
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
        let (id, creator) = state_export::raw_id(id).ok_or(io::ErrorKind::InvalidInput)?;
        let mut kill = Kill { id, creator, rest: [0; 204], killed: 0, end: [0; 4] };
        // SAFETY: the number is made for a structure of this size (asserted above), which has no pointers.
        if unsafe { libc::ioctl(pf.as_raw_fd(), DIOCKILLSTATES, &raw mut kill) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn open() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/pf")
}
