//! What an instance without ZFS has of its own: copies, and empty directories.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

/// Directories that are the template's, read-only.
pub const SYSTEM: [&str; 8] = ["bin", "compat", "lib", "libexec", "rescue", "sbin", "stand", "usr"];
/// Directories of the host of which an instance gets copies. From the others it has the name only: a demo instance has no
/// business with anybody's home.
const COPIED_FROM_HOST: [&str; 1] = ["etc"];
/// Directories of the host of which an instance gets the directories without the files.
const HOLLOW_FROM_HOST: [&str; 1] = ["var"];
/// How deep.
const DEPTH: usize = 3;
/// The largest file at the top of the host's root that is copied.
const LARGEST: u64 = 1 << 20;

/// How a tree is copied.
#[derive(Debug, Clone, Copy)]
struct How<'a> {
    /// Whether files come along.
    files: bool,
    /// Whether files that others may not read come along: of the host's these are secrets.
    secrets: bool,
    /// Levels.
    depth: usize,
    /// The device it is on: what is mounted in it is not part of it.
    device: u64,
    /// A directory that is left empty.
    hide: &'a Path,
}

/// Fills a new root from a template: all of it (`whole`), or what may leave the host. Gives the system directories, which are there
/// and empty. Directories that other file systems are mounted on are empty, too.
pub fn make(template: &Path, root: &Path, whole: bool, hide: &Path) -> io::Result<Vec<PathBuf>> {
    let top = fs::metadata(template)?;
    attributes(&top, root)?;
    let mut system = Vec::new();
    let how = |files, depth| How { files, secrets: whole, depth, device: top.dev(), hide };
    for entry in fs::read_dir(template)? {
        let entry = entry?;
        let (from, name) = (entry.path(), entry.file_name());
        let meta = fs::symlink_metadata(&from)?;
        let to = root.join(&name);
        let is = |list: &[&str]| list.iter().any(|known| name == *known);
        if is(&SYSTEM) && meta.is_dir() {
            empty_dir(&meta, &to)?;
            system.push(PathBuf::from(name));
        } else if meta.is_dir() {
            let depth = if whole && !is(&["dev", "proc"]) || is(&COPIED_FROM_HOST) { usize::MAX } else { 0 };
            if is(&HOLLOW_FROM_HOST) && !whole {
                tree(&from, &to, how(false, DEPTH))?;
            } else {
                tree(&from, &to, how(true, depth))?;
            }
        } else if whole || meta.is_symlink() || meta.len() <= LARGEST {
            one(&from, &to, &meta, how(true, 0))?;
        }
    }
    system.sort();
    Ok(system)
}

fn empty_dir(like: &Metadata, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    attributes(like, to)
}

/// Owner and mode.
fn attributes(like: &Metadata, to: &Path) -> io::Result<()> {
    chown(to, Some(like.uid()), Some(like.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(like.mode() & 0o7777))
}

/// Copies a directory.
fn tree(from: &Path, to: &Path, how: How<'_>) -> io::Result<()> {
    let meta = fs::metadata(from)?;
    empty_dir(&meta, to)?;
    if how.depth == 0 || meta.dev() != how.device || from == how.hide {
        return Ok(());
    }
    let how = How { depth: how.depth - 1, ..how };
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let meta = fs::symlink_metadata(entry.path())?;
        one(&entry.path(), &to.join(entry.file_name()), &meta, how)?;
    }
    Ok(())
}

/// Copies one entry. Pipes, sockets and devices are not copied: they mean nothing without who made them.
fn one(from: &Path, to: &Path, meta: &Metadata, how: How<'_>) -> io::Result<()> {
    if meta.is_dir() {
        return tree(from, to, how);
    }
    if !how.files {
        return Ok(());
    }
    if meta.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return lchown(to, Some(meta.uid()), Some(meta.gid()));
    }
    let readable = meta.mode() & 0o004 != 0;
    if meta.is_file() && (how.secrets || readable) {
        fs::copy(from, to)?;
        attributes(meta, to)?;
    }
    Ok(())
}
