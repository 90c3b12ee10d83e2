//! The kernel's table of mounts: getfsstat(2), and unmounting by its entries.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// sys/mount.h; what libc has of it is typed by release.
const MNT_BYFSID: c_int = 0x0800_0000;
const MNT_RDONLY: u64 = 1;
const MNT_FORCE: c_int = 0x0008_0000;
/// How many mounts more than there were a moment ago fit into the list.
const SPARE: usize = 8;
/// How long a busy mount is tried again: 1 + 2 + 4 + … milliseconds, a second in all.
const TRIES: u32 = 11;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where: the resolved path, as the kernel keeps it.
    pub point: PathBuf,
    /// What.
    pub source: String,
    /// Its type.
    pub fstype: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Its number.
    fsid: [i32; 2],
}

fn text(field: &[c_char]) -> &CStr {
    let bytes = field.iter().map(|c| c.cast_unsigned());
    if bytes.clone().any(|byte| byte == 0) {
        // SAFETY: there is a NUL within the field.
        unsafe { CStr::from_ptr(field.as_ptr()) }
    } else {
        c""
    }
}

/// The mount at a path, the topmost, as statfs(2) tells it: without a look at all the others. `None` says that nothing is mounted
/// right there, or that it could not be asked; the table knows.
pub fn top(point: &Path) -> Option<Mounted> {
    let path = CString::new(point.as_os_str().as_bytes()).ok()?;
    let mut one = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends with a NUL, and the structure is the kernel's to fill.
    let done = unsafe { libc::statfs(path.as_ptr(), one.as_mut_ptr()) } == 0;
    // SAFETY: it has filled all of it.
    let one = done.then(|| unsafe { one.assume_init() })?;
    (place(&one) == point).then(|| Mounted::new(&one))
}

/// All mounts of a moment, in the order they were made. An entry takes 2.3 KB, so they stay as the kernel gives them but for those
/// asked for.
pub struct Table(Vec<libc::statfs>);

impl Table {
    /// Asks the kernel.
    pub fn read() -> io::Result<Self> {
        let mut room = fill(&mut Vec::new())?;
        loop {
            // No more of them than there are, and a few that come meanwhile.
            room += SPARE;
            let mut list = Vec::with_capacity(room);
            let count = fill(&mut list)?;
            // A list that is full may have left some out.
            if count < list.capacity() {
                return Ok(Self(list));
            }
            room = count;
        }
    }

    /// The mounts whose place this holds for, the last made last.
    pub fn which(&self, holds: impl Fn(&Path) -> bool) -> impl DoubleEndedIterator<Item = Mounted> {
        self.0.iter().filter(move |it| holds(place(it))).map(Mounted::new)
    }

    /// Whether this very mount was there.
    pub fn has(&self, mount: &Mounted) -> bool {
        self.0.iter().any(|it| number(it) == mount.fsid)
    }
}

/// Fills a list as far as it has room, and says how many mounts there are: at least as many as it filled in.
fn fill(list: &mut Vec<libc::statfs>) -> io::Result<usize> {
    let room = list.capacity();
    let bytes = libc::c_long::try_from(room * size_of::<libc::statfs>()).unwrap_or(libc::c_long::MAX);
    let buffer = if room == 0 { std::ptr::null_mut() } else { list.as_mut_ptr() };
    // SAFETY: the kernel writes at most as many bytes as the vector has room for; without a buffer it counts.
    let count = unsafe { libc::getfsstat(buffer, bytes, libc::MNT_NOWAIT) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: so many have been written; they are plain data.
    unsafe { list.set_len(count.min(room)) };
    Ok(count)
}

fn place(it: &libc::statfs) -> &Path {
    Path::new(OsStr::from_bytes(text(&it.f_mntonname).to_bytes()))
}

fn number(it: &libc::statfs) -> [i32; 2] {
    // SAFETY: fsid_t is two 32-bit numbers, which libc keeps to itself.
    unsafe { std::mem::transmute_copy(&it.f_fsid) }
}

/// The mounts at a path, the topmost last.
pub fn all_at(point: &Path) -> io::Result<Vec<Mounted>> {
    Ok(Table::read()?.which(|at| at == point).collect())
}

/// The mounts at or below a path, the last made last.
pub fn below(path: &Path) -> io::Result<Vec<Mounted>> {
    Ok(Table::read()?.which(|at| at.starts_with(path)).collect())
}

impl Mounted {
    fn new(it: &libc::statfs) -> Self {
        Self {
            point: place(it).to_owned(),
            source: text(&it.f_mntfromname).to_string_lossy().into_owned(),
            fstype: text(&it.f_fstypename).to_string_lossy().into_owned(),
            read_only: it.f_flags & MNT_RDONLY != 0,
            fsid: number(it),
        }
    }

    /// Unmounts this very mount, whatever is at its path by now. A busy one is tried again for a second, then forced if that
    /// loses nothing.
    ///
    /// # Errors
    /// `EBUSY`. That it is gone is no error.
    pub fn unmount(&self, harmless: bool) -> io::Result<()> {
        let [first, second] = self.fsid;
        let id = CString::new(format!("FSID:{first}:{second}"))?;
        let unmount = |flags: c_int| {
            // SAFETY: the text ends with a NUL and lives through the call.
            match unsafe { libc::unmount(id.as_ptr(), MNT_BYFSID | flags) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        let mut pause = Duration::from_millis(1);
        for left in (0..TRIES).rev() {
            match unmount(0) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && left > 0 => {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && harmless => {
                    return unmount(MNT_FORCE);
                }
                // unmount(2) with MNT_BYFSID says ENOENT for a number that is not there.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
                    let gone = !Table::read()?.has(self);
                    return if gone { Ok(()) } else { Err(error) };
                }
                other => return other,
            }
        }
        Ok(())
    }
}
