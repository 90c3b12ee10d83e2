//! Where the state directory is.

use std::path::PathBuf;

use super::Fail;

/// The state directory that was asked for, or the usual one; absolute.
pub fn directory(asked: Option<PathBuf>) -> Result<PathBuf, Fail> {
    let dir = match asked {
        Some(dir) => dir,
        None => usual(|name| std::env::var_os(name))?,
    };
    let absolute = std::path::absolute(&dir);
    let absolute = absolute.map_err(|e| Fail::usage(format!("--state-dir {}: {e}", dir.display())))?;
    // One that is there is named as the kernel does, so that mount tables and sockets speak of it alike.
    Ok(absolute.canonicalize().unwrap_or(absolute))
}

#[cfg(target_os = "freebsd")]
fn usual(_: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<PathBuf, Fail> {
    Ok("/var/db/warren".into())
}

/// XDG Base Directory Specification 0.8: a relative `$XDG_STATE_HOME` is to be ignored.
#[cfg(not(target_os = "freebsd"))]
fn usual(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<PathBuf, Fail> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = absolute("XDG_STATE_HOME") {
        return Ok(state.join("warren"));
    }
    match absolute("HOME") {
        Some(home) => Ok(home.join(".local/state/warren")),
        None => Err(Fail::usage("neither HOME nor XDG_STATE_HOME is set")
            .hint("say where to keep everything: --state-dir DIR, or WARREN_STATE_DIR")),
    }
}

/// Makes the directory, for its owner alone.
pub fn make(dir: &std::path::Path) -> Result<PathBuf, Fail> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| dir.canonicalize())
        .map_err(|e| Fail::new(format!("the state directory {} cannot be made: {e}", dir.display())))
}

#[cfg(all(test, not(target_os = "freebsd")))]
mod tests {
    use super::usual;

    #[test]
    fn xdg_decides_and_relative_paths_do_not_count() {
        let of = |pairs: &'static [(&str, &str)]| {
            usual(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
                .map(|p| p.display().to_string())
        };
        assert_eq!(of(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")]).unwrap(), "/x/warren");
        assert_eq!(of(&[("XDG_STATE_HOME", "x"), ("HOME", "/h")]).unwrap(), "/h/.local/state/warren");
        assert_eq!(of(&[]).unwrap_err().code, 2);
    }
}
