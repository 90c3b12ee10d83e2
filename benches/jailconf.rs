//! How long a large jail.conf takes: 5,000 jails in 100 included files, parsed and resolved.
//!
//! The peer is the `toml` crate reading the same jails as TOML into a tree, which merges and substitutes nothing. The ratio
//! is what counts; the goal for the whole is 100 ms on an ordinary machine.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use warren::config::jailconf::{self, Files};

const JAILS: usize = 5_000;
const FILES: usize = 100;
const ROUNDS: usize = 21;

/// Files in memory: the disk is not what is measured.
struct Memory(Vec<String>);

impl Files for Memory {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let name = path.to_string_lossy();
        let number = name.strip_prefix("/etc/jail.conf.d/").and_then(|name| name.strip_suffix(".conf"));
        let number: usize = number.and_then(|n| n.parse().ok()).ok_or(io::ErrorKind::NotFound)?;
        self.0.get(number).map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&mut self, directory: &Path) -> Vec<String> {
        let here = directory == Path::new("/etc/jail.conf.d");
        (0..self.0.len()).filter(|_| here).map(|number| format!("{number:03}.conf")).collect()
    }

    fn exists(&mut self, path: &Path) -> bool {
        Path::new("/etc/jail.conf.d").starts_with(path)
    }
}

const HEAD: &str = r#"
# What all have in common.
exec.start = "/bin/sh /etc/rc";
exec.stop = "/bin/sh /etc/rc.shutdown jail";
exec.clean; mount.devfs; allow.raw_sockets;
$domain = "example.org"; $root = "/jails";
path = "$root/$name"; host.hostname = "$name.$domain";
exec.consolelog = "/var/log/jail_${name}.log";
vnet; vnet.interface = "epair${id}b";
exec.prestart = "ifconfig epair${id} create up", "ifconfig bridge0 addm epair${id}a up";
exec.poststop = "ifconfig epair${id}a destroy";
.include "/etc/jail.conf.d/*.conf";
"#;

fn jail(number: usize) -> String {
    format!(
        "j{number} {{\n\t$id = {number};\n\tdevfs_ruleset = 11; # for DHCP\n\texec.start += \"logger $name is up\";\n\
         \tmount = \"/data/$name $path/data nullfs rw 0 0\";\n\tdepend = j{};\n}}\n",
        number / 2
    )
}

fn table(number: usize) -> String {
    let mut text = format!("[j{number}]\n");
    let (start, rc) = (format!("logger j{number} is up"), "/bin/sh /etc/rc");
    let _ = writeln!(text, "devfs_ruleset = 11 # for DHCP\n\"exec.start\" = [\"{rc}\", \"{start}\"]");
    let _ = writeln!(
        text,
        "mount = [\"/data/j{number} /jails/j{number}/data nullfs rw 0 0\"]\ndepend = [\"j{}\"]",
        number / 2
    );
    text
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

fn main() {
    let mut files: Vec<String> = vec![String::new(); FILES];
    (1..=JAILS).for_each(|number| files[number % FILES].push_str(&jail(number)));
    // The first depends on one there is.
    files[0].push_str("j0 { $id = 0; }\n");
    let toml: String = (1..=JAILS).map(table).collect();
    let bytes = HEAD.len() + files.iter().map(String::len).sum::<usize>();
    let mut memory = Memory(files);
    let mut read = || {
        let conf = jailconf::parse(Path::new("/etc/jail.conf"), HEAD.into(), &mut memory);
        let conf = conf.unwrap_or_else(|report| panic!("{report:#}"));
        conf.verify(None).unwrap_or_else(|report| panic!("{report:#}"));
        assert_eq!(conf.jails.len(), JAILS + 1);
        black_box(conf);
    };
    read();
    let ours = median(&mut read);
    let peer = median(|| {
        black_box(toml::de::DeTable::parse(black_box(&toml)).expect("it is TOML"));
    });
    println!("jail.conf: {JAILS} jails in {FILES} files ({bytes} bytes) parsed and resolved in {ours:.1?}");
    println!("toml: a tree of the same jails ({} bytes) in {peer:.1?}", toml.len());
    println!("ratio {:.2}", ours.as_secs_f64() / peer.as_secs_f64());
}
