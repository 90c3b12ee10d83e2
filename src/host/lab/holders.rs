//! Who keeps a mount busy: the processes with a descriptor, working directory, root or program there.

use std::path::Path;

/// The processes that hold something at or below `path`, by number and name. What cannot be read is passed over.
pub fn of(path: &Path) -> Vec<(i32, String)> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<(i32, String)> = processes
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let process = entry.path();
            let holds = |link: &Path| std::fs::read_link(link).is_ok_and(|to| to.starts_with(path));
            let directly = ["cwd", "root", "exe"].iter().any(|name| holds(&process.join(name)));
            let open = || {
                std::fs::read_dir(process.join("fd"))
                    .is_ok_and(|mut fds| fds.any(|fd| fd.is_ok_and(|fd| holds(&fd.path()))))
            };
            (directly || open()).then(|| {
                let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
                (pid, name.trim().to_owned())
            })
        })
        .collect();
    found.sort_unstable();
    found
}

/// The same for a hint.
pub fn sentence(path: &Path) -> String {
    let all = of(path);
    if all.is_empty() {
        return "no process was found that holds it; perhaps something is mounted below it".to_owned();
    }
    let names: Vec<String> = all.iter().take(10).map(|(pid, name)| format!("{name} ({pid})")).collect();
    format!("held by {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_names_its_process() {
        let dir = crate::host::lab::scratch::Scratch::new();
        let path = dir.path().canonicalize().unwrap();
        let _file = std::fs::File::create(path.join("x")).unwrap();
        assert!(of(&path).iter().any(|(pid, _)| *pid == std::process::id().cast_signed()));
        assert!(sentence(&path).starts_with("held by "));
    }
}
