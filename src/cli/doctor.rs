//! `warren doctor`: looks whether what Warren needs is there, and says what mends it.

use serde_json::json;

use super::daemon::HostKind;
use super::out::{self, Output};
use super::{Context, Fail};
use crate::daemon::api::view::{Fabric, Instance};
use crate::host::requirements::{Check, Level};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What it is to run on [default: what the daemon that answers runs on; else freebsd on FreeBSD, lab on Linux]
    #[arg(long, env = "WARREN_HOST", value_enum)]
    host: Option<HostKind>,
    #[command(flatten)]
    pub output: Output,
}

/// A look that is either well or not.
fn check(name: &str, result: Result<String, (String, String)>) -> Check {
    match result {
        Ok(detail) => Check::good(name, detail),
        Err((detail, mend)) => Check::bad(name, detail, mend),
    }
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let client = context.client();
    let info = client.answering().await;
    let running = info.as_ref().ok().and_then(Option::as_ref).map(|info| info.host.clone());
    let kind = args.host.or_else(|| {
        let kinds = [HostKind::Freebsd, HostKind::Lab, HostKind::Sim];
        kinds.into_iter().find(|kind| Some(kind.as_str()) == running.as_deref())
    });
    let kind = kind.unwrap_or_else(HostKind::usual);
    let mut checks = host(kind);
    checks.push(state_dir(context));
    checks.push(match &info {
        Ok(Some(info)) => check(
            "daemon",
            Ok(format!("warren {} answers on {}, boot {}", info.version, info.host, info.boot)),
        ),
        Ok(None) => check("daemon", Ok("none runs; `warren up FILE` starts one".into())),
        Err(fail) => {
            let log = super::daemon::log_path(&context.state_dir);
            check("daemon", Err((fail.message.clone(), format!("look into {}", log.display()))))
        }
    });
    if let Ok(Some(info)) = &info {
        checks.extend(strays(&info.strays));
        checks.extend(units(&client).await?);
    }
    let ok = checks.iter().all(|check| check.level != Level::Bad);
    if args.output.json {
        out::json(&json!({ "ok": ok, "host": kind.as_str(), "checks": checks }));
    } else {
        for check in &checks {
            let mark = match check.level {
                Level::Good => out::good("✓"),
                Level::Advice => out::warning("!"),
                Level::Bad => out::bad("✗"),
            };
            out::line(format_args!("{mark} {:<28} {}", check.name, out::plain(&check.detail)));
            if let Some(cost) = &check.cost {
                out::line(format_args!("    costs: {cost}"));
            }
            if let Some(mend) = &check.mend {
                out::line(format_args!("    mend:  {mend}"));
            }
        }
    }
    Ok(if ok { 0 } else { super::fail::FAILED })
}

/// What stands in the way of what is up.
async fn units(client: &super::Client) -> Result<Vec<Check>, Fail> {
    let fabrics: Vec<Fabric> = client.get("/v1/fabrics").await?;
    let instances: Vec<Instance> = client.get("/v1/instances").await?;
    let mut checks = Vec::new();
    for fabric in &fabrics {
        let result = if fabric.stuck.is_empty() {
            let ready: usize = fabric.services.iter().map(|s| s.ready).sum();
            Ok(format!("{ready} instances ready{}", if fabric.settled { "" } else { ", not settled yet" }))
        } else {
            Err((
                fabric.stuck.join("; "),
                "`warren repair` tries again, once what is named is out of the way".into(),
            ))
        };
        checks.push(check(&format!("fabric {}", fabric.name), result));
    }
    for network in fabrics.iter().flat_map(|f| &f.networks).filter(|n| !n.drift.is_empty()) {
        let mend = format!(
            "put it right by hand, or take {} down and bring it up: `warren down {}`",
            network.fabric, network.fabric
        );
        let name = format!("network {}/{}", network.fabric, network.name);
        checks.push(Check::bad(name, network.drift.join("; "), mend));
    }
    for instance in instances.iter().filter(|i| !i.left.is_empty()) {
        let mend = format!("`warren repair {}`", instance.name);
        checks.push(check(&instance.name, Err((format!("left behind: {}", instance.left.join("; ")), mend))));
    }
    for instance in instances.iter().filter(|i| !i.drift.is_empty()) {
        let mend =
            format!("put it right by hand, or `warren stop {}`: its service starts another", instance.name);
        checks.push(Check::bad(&instance.name, instance.drift.join("; "), mend));
    }
    Ok(checks)
}

/// What bears names of Warren's and belongs to nobody.
fn strays(strays: &[String]) -> Option<Check> {
    let detail = format!("{} belong to nothing in the store, and are left alone", strays.join(", "));
    let mend =
        "another Warren's, or left by one whose store was lost: look, and take them away by hand".to_owned();
    (!strays.is_empty()).then(|| Check::bad("strays", detail, mend))
}

/// Whether the state directory, or what it would be made in, can be written.
fn state_dir(context: &Context) -> Check {
    use nix::unistd::{AccessFlags, access};
    let dir = &context.state_dir;
    let there = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
    let result = match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) if there == dir => Ok(dir.display().to_string()),
        Ok(()) => Ok(format!("{} will be made", dir.display())),
        Err(error) => Err((
            format!("{} cannot be written: {error}", there.display()),
            "name another place: --state-dir DIR, or WARREN_STATE_DIR".into(),
        )),
    };
    check("state directory", result)
}

fn host(kind: HostKind) -> Vec<Check> {
    match kind {
        HostKind::Sim => vec![check("host sim", Ok("needs nothing".into()))],
        HostKind::Lab => lab(),
        HostKind::Freebsd => freebsd(),
    }
}

#[cfg(target_os = "freebsd")]
fn freebsd() -> Vec<Check> {
    crate::host::requirements::judge(&crate::host::freebsd::doctor::look())
}

#[cfg(not(target_os = "freebsd"))]
fn freebsd() -> Vec<Check> {
    vec![Check::bad("host freebsd", "needs FreeBSD", "--host lab runs on Linux, --host sim everywhere")]
}

#[cfg(not(target_os = "linux"))]
fn lab() -> Vec<Check> {
    vec![check("host lab", Err(("needs Linux".into(), "--host sim runs everywhere".into())))]
}

#[cfg(target_os = "linux")]
fn lab() -> Vec<Check> {
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    let tun = match tun {
        Ok(_) => Ok("/dev/net/tun opens".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err((
            "/dev/net/tun is not there".to_owned(),
            "modprobe tun; in a container: run it with --device /dev/net/tun".to_owned(),
        )),
        Err(error) => Err((
            format!("/dev/net/tun: {error}"),
            "as root: chmod 666 /dev/net/tun, or run Warren as root".to_owned(),
        )),
    };
    let mut checks = vec![check("TAP devices", tun)];
    // Entering namespaces needs a process of one thread, which this one is not.
    checks.extend(match probe() {
        Ok(probed) => probed,
        Err(said) => {
            vec![check(
                "namespaces",
                Err((said, "run `warren doctor` again; if it says so again, it is a bug".into())),
            )]
        }
    });
    checks
}

#[cfg(target_os = "linux")]
fn probe() -> Result<Vec<Check>, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = std::process::Command::new(exe).arg(PROBE).output().map_err(|e| e.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        format!("the probe ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
    })
}

/// The internal entry that makes namespaces and looks what can be done in them.
#[cfg(target_os = "linux")]
pub const PROBE: &str = "doctor-probe";

/// What runs behind [`PROBE`]: prints its checks as JSON. Whatever it makes goes with it.
#[cfg(target_os = "linux")]
pub fn probe_main() -> std::process::ExitCode {
    let checks = look_inside();
    out::json_line(&checks);
    std::process::ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn look_inside() -> Vec<Check> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let root = nix::unistd::geteuid().is_root();
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut kinds = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    if !root {
        kinds |= CloneFlags::CLONE_NEWUSER;
    }
    if let Err(error) = unshare(kinds) {
        let mend = if root {
            "in a container: run it with --privileged, or with --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined".to_owned()
        } else {
            "as root: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 \
             kernel.apparmor_restrict_unprivileged_userns=0 (those that are there), or run Warren as root"
                .to_owned()
        };
        let what = if root { "namespaces cannot be made" } else { "user namespaces are not open to you" };
        return vec![check("namespaces", Err((format!("{what}: {error}"), mend)))];
    }
    if !root {
        // user_namespaces(7): the groups are given up before the map may be written.
        let maps = [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ];
        for (file, text) in maps {
            if let Err(error) = std::fs::write(format!("/proc/self/{file}"), text) {
                let mend = "run Warren as root".to_owned();
                return vec![check("namespaces", Err((format!("/proc/self/{file}: {error}"), mend)))];
            }
        }
    }
    let how = if root { "as root" } else { "in a user namespace" };
    let mut checks = vec![check("namespaces", Ok(format!("can be made, {how}")))];
    let none: Option<&str> = None;
    let overlay = (|| -> nix::Result<()> {
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        // Over a directory that every system has, in a mount namespace that ends with this process.
        mount(Some("warren"), "/proc/sys", Some("tmpfs"), MsFlags::empty(), none)
            .or_else(|_| mount(Some("warren"), "/mnt", Some("tmpfs"), MsFlags::empty(), none))?;
        Ok(())
    })()
    .and_then(|()| {
        let base =
            ["/proc/sys", "/mnt"].into_iter().find(|dir| std::fs::create_dir(format!("{dir}/upper")).is_ok());
        let base = base.ok_or(nix::errno::Errno::EROFS)?;
        for dir in ["work", "root"] {
            std::fs::create_dir(format!("{base}/{dir}"))
                .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        }
        let options = format!("lowerdir=/usr,upperdir={base}/upper,workdir={base}/work,userxattr");
        let target = format!("{base}/root");
        mount(Some("overlay"), target.as_str(), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
    });
    checks.push(check(
        "overlay",
        overlay.map(|()| "can be mounted: instances get clones".into()).map_err(|error| {
            (
                format!("cannot be mounted: {error}"),
                "modprobe overlay; an ordinary user needs Linux 5.11 or later".into(),
            )
        }),
    ));
    checks.push(check(
        "nf_tables",
        crate::firewall::nft::inventory().map(|_| "answers: NAT and published ports work".into()).map_err(
            |failure| {
                (
                    failure.to_string(),
                    "modprobe nf_tables nft_nat nft_masq nft_ct; the kernel needs CONFIG_NF_TABLES".into(),
                )
            },
        ),
    ));
    checks
}
