//! Who a job runs as, and the environment that goes with it.
//!
//! On the host users come from the system's own lookup. Inside an instance `/etc/passwd` and `/etc/group` are read by the
//! parser here: getpwnam(3) there would load lookup modules out of a root that anybody may have written.
//!
//! Rules of jail(8) (`usr.sbin/jail/command.c:run_command`): with exec.clean the environment is emptied but for PATH and
//! TERM; with exec.clean or a user, USER, HOME and SHELL are set; with exec.clean the job starts in its home directory.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, getgrouplist};

use crate::host::Failure;

/// The most that is read of a user database inside an instance, in bytes.
const MAX_DATABASE: u64 = 4 << 20;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// All groups, `gid` first.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: PathBuf,
    /// Shell; never empty.
    pub shell: String,
    /// Login class; empty for the default one, and where there are none.
    pub class: String,
}

impl Account {
    /// The one that is assumed where nobody says otherwise and the place has no user database.
    #[must_use]
    pub fn root() -> Self {
        Self {
            name: "root".into(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".into(),
            shell: "/bin/sh".into(),
            class: String::new(),
        }
    }
}

fn unknown(name: &str, place: &str) -> Failure {
    Failure::new(format!("there is no user {name} {place}"))
}

/// Looks a user up where the keeper is.
///
/// # Errors
/// There is none of that name, or the lookup failed.
pub fn on_host(name: &str) -> Result<Account, Failure> {
    let what = |e: nix::Error| Failure::os(format!("looking up the user {name} on the host"), &e.into());
    let user = User::from_name(name).map_err(what)?.ok_or_else(|| unknown(name, "on the host"))?;
    let c_name = CString::new(name).map_err(|_| unknown(name, "on the host"))?;
    let mut groups = vec![user.gid.as_raw()];
    groups.extend(
        getgrouplist(&c_name, user.gid)
            .map_err(what)?
            .into_iter()
            .map(Gid::as_raw)
            .filter(|g| *g != user.gid.as_raw()),
    );
    let shell = user.shell.to_string_lossy().into_owned();
    Ok(Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups,
        home: user.dir,
        shell: if shell.is_empty() { "/bin/sh".into() } else { shell },
        #[cfg(target_os = "freebsd")]
        class: user.class.to_string_lossy().into_owned(),
        #[cfg(not(target_os = "freebsd"))]
        class: String::new(),
    })
}

/// Looks a user up in the databases of the root this process is in.
///
/// # Errors
/// There is none of that name, or the databases cannot be read.
pub fn inside(name: &str) -> Result<Account, Failure> {
    // The first has login classes as well, where there are any.
    let files = ["/etc/master.passwd", "/etc/passwd"];
    let files = if cfg!(target_os = "freebsd") { &files[..] } else { &files[1..] };
    let passwd = files
        .iter()
        .map(|file| read_bounded(Path::new(file)))
        .reduce(io::Result::or)
        .unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
        .map_err(|e| Failure::os(format!("looking up the user {name} in the instance's /etc/passwd"), &e))?;
    // Without groups a user has its own one only.
    let group = read_bounded(Path::new("/etc/group")).unwrap_or_default();
    find(&passwd, &group, name).ok_or_else(|| unknown(name, "in the instance"))
}

/// An instance may have put anything there: a pipe nobody writes to, a file without end.
fn read_bounded(path: &Path) -> io::Result<String> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_DATABASE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// passwd(5), group(5). A line of FreeBSD's master.passwd has class, change and expiry behind the group.
fn find(passwd: &str, group: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f.first() == Some(&name))?;
    let (uid, gid, class, home, shell) = match fields.as_slice() {
        [_, _, uid, gid, class, _, _, _, home, shell, ..] => (uid, gid, *class, *home, Some(*shell)),
        [_, _, uid, gid, _, home, rest @ ..] => (uid, gid, "", *home, rest.first().copied()),
        _ => return None,
    };
    let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
    let mut groups = vec![gid];
    for line in group.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(Ok(number)), Some(members)) = (fields.next().map(str::parse::<u32>), fields.next()) else {
            continue;
        };
        if members.split(',').any(|member| member == name) && !groups.contains(&number) {
            groups.push(number);
        }
    }
    let home = if home.is_empty() { "/" } else { home };
    let shell = shell.filter(|s| !s.is_empty()).unwrap_or("/bin/sh");
    Some(Account {
        name: name.into(),
        uid,
        gid,
        groups,
        home: home.into(),
        shell: shell.into(),
        class: class.into(),
    })
}

/// Becomes a user, for good.
///
/// # Errors
/// This process may not.
pub fn become_user(account: &Account) -> Result<(), Failure> {
    let what = |e: nix::Error| Failure::os(format!("becoming the user {}", account.name), &e.into());
    // FreeBSD takes 1023 beside the effective one (kern.ngroups), Linux more; whoever is in more groups has the first ones.
    let groups: Vec<Gid> = account.groups.iter().take(1023).map(|g| Gid::from_raw(*g)).collect();
    match nix::unistd::setgroups(&groups) {
        // In a user namespace made by an ordinary user setgroups(2) is forbidden. Who stays root loses nothing by that.
        Err(nix::Error::EPERM) if account.uid == 0 && Uid::effective().is_root() => {}
        other => other.map_err(what)?,
    }
    nix::unistd::setgid(Gid::from_raw(account.gid)).map_err(what)?;
    #[cfg(target_os = "freebsd")]
    super::login::apply(account, true)?;
    nix::unistd::setuid(Uid::from_raw(account.uid)).map_err(what)
}

/// The environment of a job. `account` is given when the job has a user or a clean environment.
#[must_use]
pub fn environment(
    inherited: impl Iterator<Item = (OsString, OsString)>,
    clean: bool,
    account: Option<&Account>,
    added: &BTreeMap<String, String>,
) -> BTreeMap<OsString, OsString> {
    let mut result: BTreeMap<OsString, OsString> =
        inherited.filter(|(key, _)| !clean || key == "TERM").collect();
    if clean {
        result.insert("PATH".into(), "/bin:/usr/bin".into());
    }
    if let Some(account) = account {
        result.insert("USER".into(), account.name.clone().into());
        result.insert("HOME".into(), account.home.clone().into());
        result.insert("SHELL".into(), account.shell.clone().into());
    }
    result.extend(added.iter().map(|(key, value)| (key.into(), value.into())));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "# comment\nroot:*:0:0:Charlie &:/root:/bin/csh\nwww:*:80:81:x:/nonexistent:\nshort:*:7\nodd:*:x:1::/:/bin/sh\n";
    const GROUP: &str =
        "wheel:*:0:root\nwww:*:81:\nvideo:*:44:root,www\nbad\naudio:*:45:wwww,www\nagain:*:44:www\n";

    #[test]
    fn users_are_found() {
        let it = find(PASSWD, GROUP, "www").unwrap();
        assert_eq!((it.uid, it.gid, it.groups.as_slice()), (80, 81, &[81, 44, 45][..]));
        assert_eq!((it.home.as_path(), it.shell.as_str()), (Path::new("/nonexistent"), "/bin/sh"));
        assert_eq!(find(PASSWD, GROUP, "root").unwrap().shell, "/bin/csh");
        let master = "root:$6$x:0:5:daemon:0:0:Charlie &:/root:/bin/csh\n";
        let it = find(master, "", "root").unwrap();
        assert_eq!((it.gid, it.class.as_str(), it.home.as_path()), (5, "daemon", Path::new("/root")));
        for name in ["short", "odd", "nobody", "", "# comment"] {
            assert_eq!(find(PASSWD, GROUP, name), None, "{name}");
        }
    }

    #[test]
    fn the_host_knows_root() {
        let it = on_host("root").unwrap();
        assert_eq!((it.uid, it.groups.first()), (0, Some(&it.gid)));
        assert!(on_host("no-such-user-here").is_err());
    }

    fn env(clean: bool, account: Option<&Account>) -> String {
        let inherited =
            [("PATH", "/x"), ("TERM", "vt100"), ("SECRET", "1")].map(|(k, v)| (k.into(), v.into()));
        let added = BTreeMap::from([("JNAME".to_owned(), "j".to_owned())]);
        let all = environment(inherited.into_iter(), clean, account, &added);
        all.iter().map(|(k, v)| format!("{}={} ", k.display(), v.display())).collect()
    }

    #[test]
    fn environments_are_those_of_jail() {
        let root = Account::root();
        assert_eq!(env(false, None), "JNAME=j PATH=/x SECRET=1 TERM=vt100 ");
        assert_eq!(
            env(false, Some(&root)),
            "HOME=/root JNAME=j PATH=/x SECRET=1 SHELL=/bin/sh TERM=vt100 USER=root "
        );
        assert_eq!(
            env(true, Some(&root)),
            "HOME=/root JNAME=j PATH=/bin:/usr/bin SHELL=/bin/sh TERM=vt100 USER=root "
        );
    }

    proptest::proptest! {
        #[test]
        fn databases_of_strangers_do_no_harm(passwd: String, group: String, name: String) {
            let _ = find(&passwd, &group, &name);
            let _ = find(&format!("{name}:{passwd}"), &format!("a:b:{group}"), &name);
        }
    }
}
