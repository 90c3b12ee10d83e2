//! Mounts below a root by nmount(2), found again in the kernel's table and told apart by type and source, so that what is not ours
//! is never unmounted.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fsstat::{self, Mounted, Table};
use super::iov::{Iov, Refusal};
use super::turns::Turn;
use super::{below, devfs, tool};
use crate::host::failure::{Context, hint_if};
use crate::host::names::components;
use crate::host::{Failure, Mount};

/// The options of fstab(5) that are for mount(8) and not for the kernel.
const FOR_MOUNT_8: [&str; 5] = ["rw", "late", "noauto", "failok", "quiet"];
/// File systems without anything of anybody's: cutting them loose loses nothing.
const NOTHING_TO_LOSE: [&str; 5] = ["devfs", "fdescfs", "procfs", "linprocfs", "linsysfs"];

/// File systems that the kernel mounts only from what a program of theirs prepares, as mount(8) has them (`sbin/mount/mount.c`,
/// `use_mountprog`), but for nullfs and unionfs, whose programs add nothing.
const BY_PROGRAM: [&str; 4] = ["nfs", "cd9660", "msdosfs", "udf"];
/// Those that leave something behind when they are unmounted, a memory disk or a server: nothing here would end that.
const WITH_REMAINS: [&str; 3] = ["mfs", "fusefs", "smbfs"];

/// How long such a program may take, and how long a turn is waited for. mount_nfs(8) tries a server that does not answer for ever.
const BOUND: Duration = Duration::from_secs(60);

/// The system call itself.
pub fn nmount(
    fstype: &str,
    source: &str,
    point: &Path,
    options: &[(&str, Option<&str>)],
) -> Result<(), Refusal> {
    let mut iov = Iov::default();
    iov.text("fstype", fstype).text("fspath", &point.to_string_lossy()).text("from", source);
    for (name, value) in options {
        match value {
            Some(value) => iov.text(name, value),
            None => iov.flag(name),
        };
    }
    iov.call(libc::nmount, 0).map(|_| ())
}

/// What the kernel is told: fstab(5)'s words, name and value apart.
fn options(mount: &Mount) -> Vec<(&str, Option<&str>)> {
    let words = mount.options.iter().flat_map(|words| words.split(',')).filter(|word| !word.is_empty());
    let mut all: Vec<_> = words
        .filter(|word| !FOR_MOUNT_8.contains(word))
        .map(|word| word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value))))
        .collect();
    if mount.read_only && !all.iter().any(|(name, _)| *name == "ro") {
        all.push(("ro", None));
    }
    all
}

/// Has mount(8) do it.
fn by_program(mount: &Mount, point: &Path, options: &[(&str, Option<&str>)]) -> Result<(), Failure> {
    let words =
        options.iter().map(|(name, value)| value.map_or((*name).into(), |value| format!("{name}={value}")));
    let words = words.collect::<Vec<_>>().join(",");
    let point = point.to_string_lossy();
    let mut arguments = vec!["-t", &mount.fstype];
    if !words.is_empty() {
        arguments.extend(["-o", &words]);
    }
    arguments.extend(["--", &mount.source, &point]);
    tool::run_within("/sbin/mount", &arguments, BOUND)?.or_failure("mount(8)").map(|_| ())
}

/// Mounts, by whom it takes.
fn make(mount: &Mount, point: &Path, options: &[(&str, Option<&str>)]) -> Result<(), Failure> {
    let fstype = mount.fstype.as_str();
    // It would have mount(8) run whatever it names.
    let program = options.iter().any(|(name, _)| *name == "mountprog");
    if program || WITH_REMAINS.contains(&fstype) {
        return Err(Failure::new(format!("{fstype} needs a program that has to be ended as well"))
            .hint("mount it in exec.prepare and unmount it in exec.release; for memory there is tmpfs"));
    }
    if BY_PROGRAM.contains(&fstype) {
        return by_program(mount, point, options);
    }
    nmount(fstype, &mount.source, point, options).map_err(|refusal| {
        let failure = refusal.failure("nmount");
        match failure.errno {
            Some(libc::ENODEV) => {
                let hint = format!("the kernel has no {fstype}: `kldload {fstype}`");
                failure.hint(hint)
            }
            Some(libc::EINVAL) => {
                failure.hint("an option the file system does not know, or a file as a mount point")
            }
            _ => failure,
        }
    })
}

/// Waits until no other mount is under way that could be taken for this one. The kernel's own kinds go one at a time. One that takes a
/// program waits for those of its type and source alone, which [`is_ours`] compares: a server that does not answer holds up nobody else.
fn turn(mount: &Mount) -> Result<Turn, Failure> {
    let what = || format!("wait for another mount of {}", mount.source);
    if BY_PROGRAM.contains(&mount.fstype.as_str()) {
        return Turn::take(format!("{} {}", mount.fstype, mount.source), BOUND).doing(what);
    }
    if matches!(mount.fstype.as_str(), "nullfs" | "unionfs") {
        // One on a server that does not answer stops us here and not in our turn. That there is none is the kernel's to say.
        let _ = std::fs::metadata(&mount.source);
    }
    Turn::take(String::new(), BOUND).doing(|| "wait for another mount")
}

/// Where it is, as the kernel's table names it.
pub(super) fn place(mount: &Mount) -> Result<PathBuf, Failure> {
    let what = || format!("mount point {}", mount.target.display());
    let names = components(&mount.target).doing(what)?;
    let root = std::fs::canonicalize(&mount.root).doing(what)?;
    Ok(names.iter().fold(root, |path, name| path.join(name)))
}

/// A devfs whose ruleset is not loaded shows every device of the host.
fn check_ruleset(options: &[(&str, Option<&str>)]) -> Result<(), Failure> {
    let ruleset = options.iter().rev().find(|(name, _)| *name == "ruleset").and_then(|(_, value)| *value);
    let Some(ruleset) = ruleset.filter(|ruleset| *ruleset != "0") else { return Ok(()) };
    let what = || format!("look at the devfs ruleset {ruleset}");
    let number = ruleset.parse().map_err(|_| Failure::new(format!("{}: it is not a number", what())))?;
    if !devfs::has_rules(number).doing(what)? {
        return Err(Failure::new(format!(
            "the devfs ruleset {ruleset} is empty: the instance would see every device"
        ))
        .hint("`service devfs restart` loads /etc/defaults/devfs.rules and /etc/devfs.rules"));
    }
    Ok(())
}

/// Mounts. A mount point that is missing is made if the root is a clone (`cloned`).
pub fn mount(mount: &Mount, cloned: bool) -> Result<(), Failure> {
    let what = || {
        format!(
            "mount {} ({}) on {} in {}",
            mount.source,
            mount.fstype,
            mount.target.display(),
            mount.root.display()
        )
    };
    let options = options(mount);
    if mount.fstype == "devfs" {
        check_ruleset(&options)?;
    }
    if cloned && components(&mount.target).doing(what)?.is_empty() {
        return Err(Failure::new(format!("{}: a mount on / of a clone would hide it", what())));
    }
    let point = place(mount)?;
    let root = below::open_root(&mount.root)
        .doing(|| format!("open the root {}", mount.root.display()))
        .map_err(|failure| hint_if(failure, libc::EMLINK, below::ROOT_IS_A_LINK))?;
    let hint = "a link is in the way, and links are not followed below a root";
    below::dirs(root.as_fd(), &mount.target, cloned)
        .doing(what)
        .map_err(|failure| hint_if(failure, libc::EMLINK, hint))?;
    // Had until it is known where the mount went, so that one that is new and like ours is ours and not another instance's.
    let named = |failure: Failure| Failure { message: format!("{}: {}", what(), failure.message), ..failure };
    let _turn = turn(mount).map_err(named)?;
    let before = Table::read().doing(what)?;
    make(mount, &point, &options).map_err(named)?;
    // The path was looked up once more by the kernel; if somebody put a link there meanwhile, it is somewhere else.
    let new_and_ours = |seen: &Mounted| !before.has(seen) && is_ours(mount, seen);
    if fsstat::top(&point).is_some_and(|seen| new_and_ours(&seen)) {
        return Ok(());
    }
    let after = Table::read().doing(what)?;
    if after.which(|at| at == point).any(|seen| new_and_ours(&seen)) {
        return Ok(());
    }
    let new = after.which(|_| true).rfind(new_and_ours);
    let astray = new.as_ref().map_or_else(|| "nowhere".into(), |seen| seen.point.display().to_string());
    if let Some(seen) = new {
        seen.unmount(true).doing(|| format!("take back the mount on {astray}"))?;
    }
    Err(Failure::new(format!("{}: it went to {astray}: a link was put in the way", what())))
}

/// Whether what is seen there is what was asked for.
pub(super) fn is_ours(mount: &Mount, seen: &Mounted) -> bool {
    if seen.fstype != mount.fstype {
        return false;
    }
    match mount.fstype.as_str() {
        "nullfs" | "unionfs" => {
            // unionfs prefixes its source: `<above>:/path` (union_vfsops.c).
            let source = seen.source.rsplit_once(">:").map_or(seen.source.as_str(), |(_, path)| path);
            source == mount.source
                || std::fs::canonicalize(&mount.source).is_ok_and(|path| path == Path::new(source))
        }
        // Their sources are words without meaning, which the kernel replaces by its own.
        kind if NOTHING_TO_LOSE.contains(&kind) || kind == "tmpfs" => true,
        _ => seen.source == mount.source,
    }
}

/// Unmounts what [`mount`] mounted.
pub fn unmount(mount: &Mount) -> Result<(), Failure> {
    if !mount.root.exists() {
        return Ok(());
    }
    let point = place(mount)?;
    let what = || format!("unmount {}", point.display());
    let mut there = Vec::new();
    let top = match fsstat::top(&point).filter(|top| is_ours(mount, top)) {
        Some(top) => Some(top),
        None => {
            there = fsstat::all_at(&point).doing(what)?;
            there.pop()
        }
    };
    let Some(seen) = top else { return Ok(()) };
    if !is_ours(mount, &seen) {
        // What it was to lie on; it never came to lie there.
        if mount.stacked && !there.iter().any(|covered| is_ours(mount, covered)) {
            return Ok(());
        }
        return Err(Failure::new(format!(
            "{} is a mount of {} ({}), not of {} ({}): left alone",
            point.display(),
            seen.source,
            seen.fstype,
            mount.source,
            mount.fstype
        )));
    }
    let harmless = NOTHING_TO_LOSE.contains(&mount.fstype.as_str()) || mount.read_only;
    release(&seen, harmless)
        .map_err(|failure| Failure { message: format!("{}: {}", what(), failure.message), ..failure })
}

/// Unmounts an entry of the table, and says who holds it if it is busy.
pub fn release(seen: &Mounted, harmless: bool) -> Result<(), Failure> {
    seen.unmount(harmless).doing(|| format!("{} ({})", seen.point.display(), seen.fstype)).map_err(
        |failure| {
            let hint = format!("`fstat -f {}` shows who holds it", seen.point.display());
            hint_if(failure, libc::EBUSY, &hint)
        },
    )
}

/// Unmounts what is below a root and not in `kept`, the last made first. `kept` are places in the kernel's words; where several
/// mounts are at one, as many are kept as it is there times, the lowest first. What the root itself is stays.
pub fn unmount_foreign(root: &Path, kept: &[PathBuf]) -> Result<(), Failure> {
    let what = || format!("unmount what was mounted below {}", root.display());
    if !root.exists() {
        return Ok(());
    }
    let root = std::fs::canonicalize(root).doing(what)?;
    let mut kept = kept.to_vec();
    if !kept.contains(&root) {
        kept.push(root.clone());
    }
    let mut all = fsstat::below(&root).doing(what)?;
    all.retain(|mount| match kept.iter().position(|point| *point == mount.point) {
        Some(at) => {
            kept.swap_remove(at);
            false
        }
        None => true,
    });
    all.iter().rev().try_for_each(|mount| release(mount, NOTHING_TO_LOSE.contains(&mount.fstype.as_str())))
}
