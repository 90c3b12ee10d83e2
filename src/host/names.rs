//! Paths as an instance sees them, taken apart.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The directory and the last name of a path.
pub fn split(path: &Path) -> io::Result<(PathBuf, std::ffi::OsString)> {
    let mut all = components(path)?;
    let name = all.pop().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    Ok((all.iter().collect(), name.to_owned()))
}

/// The names of a path as the instance sees it. `..` is not among them.
pub fn components(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
        }
    }
    Ok(names)
}
