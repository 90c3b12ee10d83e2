//! Login classes: what FreeBSD adds to becoming a user. jail(8) sets them, and with exec.clean takes the PATH from them, in which
//! `/usr/sbin/service` is found and in `/bin:/usr/bin` is not.
//!
//! libutil is asked, because login.conf(5) has a compiler, a database and overrides of its own.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::users::Account;
use crate::host::Failure;

#[link(name = "util")]
unsafe extern "C" {
    fn login_getpwclass(user: *const libc::passwd) -> *mut c_void;
    fn login_close(class: *mut c_void);
    fn setusercontext(
        class: *mut c_void,
        user: *const libc::passwd,
        uid: libc::uid_t,
        flags: c_uint,
    ) -> c_int;
}

// login_cap.h
const LOGIN_SETGROUP: c_uint = 0x0001;
const LOGIN_SETLOGIN: c_uint = 0x0002;
const LOGIN_SETPATH: c_uint = 0x0004;
const LOGIN_SETENV: c_uint = 0x0080;
const LOGIN_SETALL: c_uint = 0x07ff;

/// Empties the environment of this process but for TERM, and sets the PATH that holds until a login class has another.
pub fn clean_environment() {
    for (key, _) in std::env::vars_os().filter(|(key, _)| key != "TERM") {
        // SAFETY: this is the child of a fork of a process with one thread.
        unsafe { std::env::remove_var(key) };
    }
    // SAFETY: as above.
    unsafe { std::env::set_var("PATH", "/bin:/usr/bin") };
}

/// Applies the login class of an account: its environment and, if this process is to become the user, its limits, priority,
/// umask and user number. Groups are set by then.
///
/// # Errors
/// This process may not become the user.
pub fn apply(account: &Account, become_user: bool) -> Result<(), Failure> {
    let text = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| Failure::new(format!("the user {}: a NUL byte", account.name)))
    };
    let name = text(account.name.as_bytes())?;
    let class = text(account.class.as_bytes())?;
    let home = text(account.home.as_os_str().as_bytes())?;
    let shell = text(account.shell.as_bytes())?;
    let mutable = |text: &CString| text.as_ptr().cast::<c_char>().cast_mut();
    // SAFETY: a structure of integers and pointers may be zero; those that are used are set below.
    let mut user: libc::passwd = unsafe { std::mem::zeroed() };
    user.pw_name = mutable(&name);
    user.pw_passwd = c"*".as_ptr().cast_mut();
    user.pw_uid = account.uid;
    user.pw_gid = account.gid;
    user.pw_class = mutable(&class);
    user.pw_gecos = c"".as_ptr().cast_mut();
    user.pw_dir = mutable(&home);
    user.pw_shell = mutable(&shell);
    let flags = if become_user {
        LOGIN_SETALL & !LOGIN_SETGROUP & !LOGIN_SETLOGIN
    } else {
        LOGIN_SETPATH | LOGIN_SETENV
    };
    // SAFETY: libutil reads the structure, whose strings outlive the calls, and writes to none of them (login_cap(3)).
    let done = unsafe {
        let found = login_getpwclass(&raw const user);
        let done = setusercontext(found, &raw const user, account.uid, flags);
        login_close(found);
        done
    };
    if done == 0 {
        return Ok(());
    }
    Err(Failure::os(
        format!("setting the login class of the user {}", account.name),
        &io::Error::last_os_error(),
    ))
}
