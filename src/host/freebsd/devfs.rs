//! devfs(5)'s rulesets, asked by ioctl(2) on the host's /dev as devfs(8) asks (sys/fs/devfs/devfs.h; sbin/devfs/rule.c).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `_IOWR('D', 4, struct devfs_rule)`; size printed by a C program against the headers of 13.2.
const DEVFSIO_RGETNEXT: u64 = 0xc0ec_4404;
const DEVFS_MAGIC: u32 = 0xdb0a_087a;

/// struct devfs_rule, of which only the head is of interest.
#[repr(C)]
struct Rule {
    magic: u32,
    /// The ruleset in the upper half, the rule in the lower.
    id: u32,
    rest: [u32; 57],
}

const _: () = assert!(size_of::<Rule>() == 236);

/// Whether a ruleset is loaded and has a rule.
pub fn has_rules(ruleset: u16) -> io::Result<bool> {
    let dev = File::open("/dev")?;
    let mut rule = Rule { magic: DEVFS_MAGIC, id: u32::from(ruleset) << 16, rest: [0; 57] };
    // SAFETY: the number is made for a structure of this size (asserted above), which has no pointers.
    match unsafe { libc::ioctl(dev.as_raw_fd(), DEVFSIO_RGETNEXT, &raw mut rule) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            error => Err(error),
        },
    }
}
