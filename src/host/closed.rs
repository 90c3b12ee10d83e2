//! Directories that nobody but their owner passes through.
//!
//! Root in a jail makes what it likes in its root: a program with the set-user-ID bit is one of the host's root, for whoever of
//! the host can reach it. What runs in a jail starts below these directories and passes none of them.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Makes the directory if it is missing, and closes it in any case: an older Warren left it open.
///
/// # Errors
/// It cannot be made, or is somebody else's.
pub fn make(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_is_closed_and_what_is_above_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let roots = dir.path().join("roots");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for _ in 0..2 {
            make(&roots).unwrap();
            assert_eq!((mode(dir.path()), mode(&roots)), (0o755, 0o700));
            std::fs::set_permissions(&roots, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}
