//! Every verb of the command line, against a daemon on the sim in a state directory of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shop.toml");

/// A state directory; its daemon ends with it.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        // Short: a Unix socket's path holds 107 bytes.
        Self { dir: tempfile::Builder::new().prefix("wcli").tempdir_in("/tmp").unwrap() }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
        command.args(words).env("WARREN_STATE_DIR", self.state()).env("WARREN_HOST", "sim");
        command.env_remove("WARREN_DNS").env_remove("WARREN_JOBS").stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs, checks the exit status, gives what was printed.
    fn text(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{out}\n{err}");
        format!("{out}{err}")
    }

    /// Runs with `--json` and reads the last line.
    fn json(&self, code: i32, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {out} {output:?}");
        let last = out.lines().last().unwrap_or_else(|| panic!("{words:?} printed nothing"));
        for line in out.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{words:?}: {e}: {line}"));
        }
        serde_json::from_str(last).unwrap()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.run(&["shutdown", "--force"]);
    }
}

fn names(instances: &Value, service: &str) -> Vec<String> {
    let all = instances["instances"].as_array().unwrap();
    all.iter().filter(|i| i["service"] == service).map(|i| i["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_verb_in_the_life_of_a_fabric() {
    let world = World::new();
    assert!(world.text(1, &["ps"]).contains("no daemon answers"));
    let up = world.json(0, &["up", SHOP]);
    assert_eq!((&up["ok"], &up["ready"], &up["wanted"]), (&true.into(), &6.into(), &6.into()));
    assert!(world.text(0, &["up", SHOP]).contains("nothing changes"));

    let ps = world.json(0, &["ps"]);
    assert_eq!(names(&ps, "api").len(), 3);
    assert_eq!(world.json(3, &["ps", "nope"])["error"]["kind"], "not-found");
    let db = &names(&ps, "db")[0];
    assert_eq!(world.json(0, &["inspect", db])["name"], **db);
    assert!(world.text(0, &["inspect", "db"]).contains("main"));
    assert_eq!(world.json(3, &["inspect", "nope"])["error"]["exit"], 3);
    assert_eq!(world.json(1, &["inspect", "api"])["error"]["kind"], "ambiguous");

    assert_eq!(world.json(0, &["network", "ls"])[0]["links"], 6);
    assert_eq!(world.json(0, &["lease", "ls"]).as_array().unwrap().len(), 12);
    let records = world.json(0, &["dns", "ls"]);
    let web =
        records.as_array().unwrap().iter().filter(|r| r["name"] == "web.shop.internal" && r["type"] == "A");
    assert_eq!(web.count(), 2);
    assert_eq!(world.json(0, &["info"])["host"], "sim");
    assert_eq!(world.json(0, &["doctor"])["ok"], true);

    assert_eq!(world.json(0, &["scale", "api=5"])["ready"], 8);
    assert_eq!(world.json(3, &["scale", "nope=5"])["error"]["kind"], "not-found");
    world.text(2, &["scale", "api"]);
    let again = world.text(0, &["up", "--dry-run", SHOP]);
    assert!(again.contains("3 instances instead of 5"), "{again}");
    assert_eq!(world.json(0, &["stop", db])["ready"], 7);
    let web = &names(&ps, "web")[0];
    world.text(0, &["exec", web, "--", "true"]);
    world.text(0, &["logs", web]);
    let last = world.json(0, &["events"])["cursor"].as_i64().unwrap();
    assert_eq!(world.text(0, &["events", "--since", &last.to_string()]), "");
    assert_eq!(world.json(0, &["repair"])["tried"], Value::Array(vec![]));

    assert_eq!(world.run(&["run", "host", "--", "exit", "3"]).status.code(), Some(3));
    assert_eq!(world.run(&["run", "--rm", "host", "--", "true"]).status.code(), Some(0));
    assert!(world.text(1, &["run", "/no/such/template", "--", "true"]).contains("no template"));

    assert!(world.json(1, &["shutdown"])["error"]["message"].as_str().unwrap().contains("shop"));
    assert_eq!(world.json(0, &["down", SHOP])["present"], false);
    assert_eq!(world.json(3, &["down", "shop"])["error"]["kind"], "not-found");
    assert_eq!(world.json(0, &["info"])["rows"], 1);
    assert_eq!(world.json(0, &["shutdown"])["ended"][0], "daemon");
    assert!(world.text(0, &["shutdown"]).contains("nothing runs"));
}

/// What follows `warren` where it is named as a command: in backquotes, and at the head of a line.
fn named_commands(text: &str) -> Vec<Vec<&str>> {
    let quoted = text.split('`').filter(|piece| piece.starts_with("warren "));
    let lines = text.lines().filter(|line| line.starts_with("warren "));
    let words = quoted.chain(lines).map(|command| command.split_whitespace().skip(1).collect());
    words.filter(|words: &Vec<&str>| words.iter().all(|w| !w.contains("{"))).collect()
}

#[test]
fn every_command_that_is_named_somewhere_is_there() {
    use clap::CommandFactory;
    fn texts(dir: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let text = path.extension().is_some_and(|e| e == "md" || e == "rs");
            if path.is_dir() {
                texts(&path, found)
            } else if text {
                found.push(path)
            }
        }
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![here.join("README.md")];
    texts(&here.join("docs"), &mut files);
    texts(&here.join("src"), &mut files);
    let program = warren::cli::Cli::command();
    // Other programs' names begin so, and the program's own entries, which are not for people.
    let ours = ["lab-kernel", "jail-init", "keeper", "beacon", "help"];
    let mut seen = 0;
    for file in &files {
        for words in named_commands(&std::fs::read_to_string(file).unwrap()) {
            let mut at = &program;
            for word in words.iter().map(|word| word.trim_matches([',', '.', ';', '"'])) {
                if ours.contains(&word) || !word.starts_with(|c: char| c.is_ascii_lowercase()) {
                    break;
                }
                let Some(next) = at.find_subcommand(word) else {
                    let values =
                        at.get_positionals().next().map(|arg| arg.get_possible_values()).unwrap_or_default();
                    let known = values.is_empty() || values.iter().any(|value| value.matches(word, false));
                    let well = known && !at.has_subcommands();
                    assert!(well, "{}: `warren {}`", file.display(), words.join(" "));
                    break;
                };
                (at, seen) = (next, seen + 1);
            }
        }
    }
    assert!(seen > 100, "only {seen} were found");
}

#[test]
fn the_boot_script_that_is_installed_by_hand_runs_the_program_that_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/install.md")).unwrap();
    let installed = |place: &str| {
        let line = page.lines().find(|line| line.starts_with("install ") && line.ends_with(place));
        line.unwrap_or_else(|| panic!("docs/install.md installs no {place}"))
            .split_whitespace()
            .nth_back(1)
            .unwrap()
    };
    assert!(installed("/usr/local/bin/warren").starts_with("target/"));
    let script = std::fs::read_to_string(root.join(installed("/etc/rc.d/warren"))).unwrap();
    assert!(!script.contains("%%"), "what only the ports tree fills in is left in the script");
    assert!(script.contains("\nprocname=\"/usr/local/bin/warren\"\n"), "{script}");
    // The port puts its own prefix there, in the file that it makes of the same script.
    let port = root.join("packaging/port");
    assert_eq!(std::fs::read_to_string(port.join("files/warren.in")).unwrap(), script);
    let makefile = std::fs::read_to_string(port.join("Makefile")).unwrap();
    assert!(makefile.contains("'s|/usr/local/|${PREFIX}/|g' ${WRKDIR}/warren\n"), "{makefile}");
}

#[test]
fn a_bad_file_changes_nothing() {
    let world = World::new();
    let bad = world.file("bad.toml", "name = \"shop\"\n[services.x]\ntemplate = \"nope\"\nreplicsa = 2\n");
    let refused = world.json(1, &["up", &bad]);
    assert_eq!(refused["error"]["kind"], "invalid");
    assert!(refused["error"]["details"].as_array().unwrap().iter().all(|p| p["line"].is_u64()), "{refused}");
    // Not even a daemon was started.
    assert!(!world.state().exists());
    world.text(0, &["up", SHOP]);
    let before = world.json(0, &["ps"]);
    let drawn = world.text(1, &["up", &bad]);
    assert!(drawn.contains("replicsa") && drawn.contains("replicas"), "{drawn}");
    assert_eq!(world.json(0, &["ps"]), before);
    // The file may be gone or broken: the name is enough.
    world.text(0, &["down", "shop"]);
}

#[test]
fn what_up_would_refuse_is_not_promised() {
    let world = World::new();
    world.text(0, &["up", SHOP]);
    let shop = std::fs::read_to_string(SHOP).unwrap();
    let head = "[networks.shop]\n";
    assert!(shop.contains(head));
    // The addresses are those it has: with an uplink they must be said.
    let uplink = "uplink = \"em0\"\ngateway = [\"10.77.0.1\", \"fd77:7::1\"]\ndhcp = \"10.77.0.2\"";
    for (key, line) in [("mtu", "mtu = 1400"), ("uplink", uplink)] {
        let file = world.file("other.toml", &shop.replace(head, &format!("{head}{line}\n")));
        for words in [&["up", "--dry-run", &file][..], &["up", &file]] {
            let refused = world.text(1, words);
            assert!(
                refused.contains("`shop`") && refused.contains(key) && refused.contains("warren down shop"),
                "{refused}"
            );
        }
    }
    // What it can do it still tells.
    let more = shop.replace("nat = true", "nat = false\nexclude = [\"10.77.0.200\"]");
    let told = world.text(0, &["up", "--dry-run", &world.file("other.toml", &more)]);
    assert!(told.contains("nat and exclude changed, without an interruption"), "{told}");
}

#[test]
fn a_start_that_fails_is_told_and_leaves_nothing() {
    let world = World::new();
    let file = world.file(
        "fails.toml",
        "name = \"f\"\n[templates.h]\nhost = true\n[services.x]\ntemplate = \"h\"\ncommand = \"nginx\"\nrestart = { retries = 1, backoff = \"10ms\" }\n[services.x.jail]\n\"exec.start\" = \"false\"\n",
    );
    let failed = world.json(1, &["up", &file, "--timeout", "100s"]);
    assert_eq!(failed["ok"], false);
    assert!(failed["failed"].to_string().contains("start"), "{failed}");
    assert_eq!(failed["left"], Value::Array(vec![]));
    assert_eq!(world.json(0, &["ps"])["instances"], Value::Array(vec![]));
    world.text(0, &["down", "f"]);
}

#[test]
fn ctrl_c_at_up_undoes_what_is_not_ready() {
    let world = World::new();
    // One is ready at once, the other never: its check does not pass.
    let file = world.file(
        "stuck.toml",
        "name = \"s\"\n[templates.h]\nhost = true\n[services.good]\ntemplate = \"h\"\ncommand = \"nginx\"\n[services.bad]\ntemplate = \"h\"\ncommand = \"nginx\"\nhealth = { command = \"false\" }\n",
    );
    let mut up = world.command(&["up", &file, "--json", "--timeout", "100s"]);
    let mut child = up.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut told = String::new();
    // Not the key `ready` of the fabric's services, which is there from the beginning.
    while !told.contains(r#""kind":"ready""#) {
        assert!(out.read_line(&mut told).unwrap() > 0, "nothing became ready: {told}");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT)
        .unwrap();
    out.read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
    let ps = world.json(0, &["ps"]);
    assert_eq!((names(&ps, "good").len(), names(&ps, "bad").len()), (1, 0), "{ps}");
    let waited = world.json(124, &["up", &file, "--timeout", "300ms"]);
    assert_eq!(waited["exit"], 124);
    world.text(0, &["down", "s"]);
}

#[test]
fn verbs_without_a_daemon() {
    let world = World::new();
    let plan = world.json(0, &["plan", SHOP]);
    let units = plan["units"].as_array().unwrap();
    let order: Vec<&str> = units.iter().map(|u| u["name"].as_str().unwrap()).collect();
    assert_eq!(order, ["shop", "db", "api", "web"]);
    assert_eq!(world.json(0, &["plan", SHOP]), plan, "a plan is the same every time");
    assert_eq!(world.json(3, &["plan", SHOP, "--service", "nope"])["error"]["kind"], "not-found");
    assert_eq!(world.json(0, &["config", "check", SHOP])["spec"]["name"], "shop");
    let schema: Value = serde_json::from_str(&world.text(0, &["config", "schema"])).unwrap();
    assert_eq!(schema["title"], "warren.toml");
    let api: Value = serde_json::from_str(&world.text(0, &["config", "openapi"])).unwrap();
    assert!(api["paths"]["/v1/fabrics/{fabric}"]["put"].is_object());
    assert!(world.text(0, &["completions", "bash"]).contains("warren"));
    assert!(world.text(0, &["man"]).contains(".TH warren"));
    let pages = world.dir.path().join("man");
    std::fs::create_dir(&pages).unwrap();
    world.text(0, &["man", "--dir", pages.to_str().unwrap()]);
    assert!(Path::new(&pages).join("warren-up.1").exists());
    world.text(2, &["no-such-verb"]);
}

#[test]
fn the_store_is_backed_up_while_the_daemon_runs_and_put_back_when_none_does() {
    let world = World::new();
    let at = |name: &str| world.dir.path().join(name).display().to_string();
    assert!(world.text(1, &["backup", &at("none")]).contains("there is no store"));
    world.json(0, &["up", SHOP]);
    let made = world.json(0, &["backup", &at("backup")]);
    assert_eq!(made["from"], "daemon");
    assert_eq!(made["contents"]["fabrics"], serde_json::json!(["shop"]));
    assert_eq!(made["contents"]["instances"], 6);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(at("backup")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Over the one that is there; a place that cannot be written leaves nothing.
    assert!(world.text(0, &["backup", &at("backup")]).contains("6 instances"));
    assert!(world.text(1, &["backup", "/nowhere/at/all"]).contains("/nowhere"));
    // Nothing is put back under a running daemon.
    let refused = world.json(1, &["restore", &at("backup")]);
    assert_eq!(refused["error"]["kind"], "conflict");
    world.json(0, &["down", SHOP]);
    world.json(0, &["shutdown"]);
    // Without a daemon the file itself is copied.
    let empty = world.json(0, &["backup", &at("empty")]);
    assert_eq!((&empty["from"], &empty["contents"]["instances"]), (&"file".into(), &0.into()));
    assert!(world.text(1, &["restore", &at("nothing")]).contains("nothing"));
    std::fs::write(at("text"), "not a store").unwrap();
    let wrong = world.text(1, &["restore", &at("text")]);
    assert!(wrong.contains("is damaged") && wrong.contains("text"), "{wrong}");
    let back = world.json(0, &["restore", &at("backup")]);
    assert_eq!(back["contents"]["instances"], 6);
    let replaced = back["replaced"].as_str().unwrap();
    assert!(Path::new(replaced).exists(), "{replaced}");
    // What was wanted then comes up anew: other instances, since those of the backup are long gone.
    let mut daemon = world.command(&["daemon"]).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let all = world.run(&["ps", "--json"]).stdout;
        let ready = serde_json::from_slice::<Value>(&all).ok().map_or(0, |all| {
            all["instances"].as_array().map_or(0, |all| all.iter().filter(|i| i["stage"] == "ready").count())
        });
        if ready == 6 {
            break;
        }
        assert!(Instant::now() < end, "{ready} are ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    world.json(0, &["down", "shop"]);
    world.json(0, &["shutdown"]);
    daemon.wait().unwrap();
}

#[test]
fn taking_over_says_what_it_took_and_why_not() {
    let world = World::new();
    let conf = world.file("jail.conf", "path = \"/j/$name\"; persist; db { } web { depend = db; }");
    let import =
        |code: i32, more: &[&str]| world.json(code, &[&["import", "--jail-conf", &conf], more].concat());
    let none = import(0, &[]);
    assert_eq!(
        (&none["fabric"], &none["taken"], &none["absent"]),
        (&"jail".into(), &Value::Array(vec![]), &serde_json::json!(["db", "web"]))
    );
    assert!(world.text(0, &["import", "--jail-conf", &conf]).contains("nothing is taken over"));
    let refused = import(1, &["web"]);
    assert_eq!(refused["error"]["kind"], "conflict");
    assert!(refused["error"]["message"].as_str().unwrap().contains("jail web does not run"), "{refused}");
    assert_eq!(import(1, &["wep"])["error"]["details"][0]["help"], "did you mean `web`?");
    assert_eq!(world.json(0, &["ps"])["instances"], Value::Array(vec![]));
    // One that Warren started is not somebody else's.
    world.json(0, &["up", "--jail-conf", &conf]);
    assert!(import(1, &["web"])["error"]["message"].as_str().unwrap().contains("is Warren's already: web-"));
    assert_eq!(import(0, &["--dry-run"])["taken"], Value::Array(vec![]));
    world.json(0, &["down", "--jail-conf", &conf]);
}

#[test]
fn a_jail_conf_may_be_a_pipe_and_its_remarks_are_told_beside_the_answer() {
    let world = World::new();
    let text = "web { path = /x; persist; allow.newthing; mount = '/a /x nullfs ro'; }";
    let piped = |words: &[&str]| -> (Value, String) {
        let mut command = world.command(words);
        command.arg("--json").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?} {told}");
        (serde_json::from_slice(&output.stdout).unwrap(), told)
    };
    // Twice the same text: a pipe has it once.
    assert_eq!(piped(&["config", "show", "/dev/stdin"]).0[0]["name"], "web");
    assert_eq!(piped(&["config", "show", "-"]).0[0]["name"], "web");
    let (checked, told) = piped(&["config", "check", "-"]);
    assert_eq!((&checked["runs"], checked["remarks"].as_array().unwrap().len()), (&true.into(), 1));
    assert!(told.contains("`allow.newthing` is not a parameter of jail(8)'s base system"), "{told}");
    for words in [&["plan", "--jail-conf", "-"][..], &["convert", "-"]] {
        assert!(piped(words).1.contains("allow.newthing"), "{words:?}");
    }
    let conf = world.file("jail.conf", "web { path = /x; persist; host = inherit; }");
    assert_eq!(world.json(0, &["config", "check", &conf])["runs"], false);
    assert!(world.text(0, &["config", "check", &conf]).contains("`warren up` does not"));
    let wrong = world.file("jail.conf", "web { path = /x; persist; depends = db; }");
    assert!(world.text(1, &["config", "check", &wrong]).contains("did you mean `depend`?"));
    assert!(world.text(1, &["plan", "--jail-conf", &wrong]).contains("did you mean `depend`?"));
}

#[test]
fn jails_that_go_down_are_told_of_once_and_so_are_those_that_are_not_up() {
    let world = World::new();
    let conf = world.file("jail.conf", "path = /j/$name; persist; db { } web { depend = db; } mail { }");
    world.json(0, &["up", SHOP]);
    let down = |jails: &[&'static str]| [&["down", "--jail-conf", &conf][..], jails].concat();
    let missing = world.json(3, &down(&["web"]));
    assert_eq!(missing["error"]["kind"], "not-found", "{missing}");
    assert!(world.text(3, &down(&["web"])).contains("no fabric is called `jail`"));
    world.json(0, &["up", "--jail-conf", &conf]);
    // web goes with db, and before it: two jails, one result.
    let output = world.run(&[&down(&["db"])[..], &["--json"]].concat());
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let results: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "result").collect();
    let [result] = results[..] else { panic!("{} results: {out}", results.len()) };
    assert_eq!((&result["ok"], &result["ready"], &result["wanted"]), (&true.into(), &1.into(), &1.into()));
    let ps = world.json(0, &["ps"]);
    let left: Vec<&Value> =
        ps["instances"].as_array().unwrap().iter().filter(|i| i["fabric"] == "jail").collect();
    assert!(matches!(left[..], [mail] if mail["service"] == "mail"), "{left:?}");
    // Again: nothing is there to go, and that is said.
    let again = world.json(0, &down(&["db"]));
    assert_eq!((&again["kind"], &again["ok"], &again["exit"]), (&"result".into(), &true.into(), &0.into()));
    assert!(again["text"].as_str().unwrap().contains("jail db is not up"), "{again}");
    assert!(world.text(0, &down(&["db", "web"])).contains("jails db, web are not up"));
    assert!(world.text(0, &down(&["mail"])).contains("jail: 0 of 0 ready"));
    world.json(0, &["down", "--jail-conf", &conf]);
}

#[test]
fn two_files_of_one_name_are_not_one_fabric() {
    let world = World::new();
    std::fs::create_dir(world.dir.path().join("other")).unwrap();
    let conf = world.file("jail.conf", "path = /j/$name; persist; web { }");
    let other = world.file("other/jail.conf", "path = /k/$name; persist; db { }");
    world.json(0, &["up", "--jail-conf", &conf]);
    for words in [
        &["up", "--jail-conf", &other][..],
        &["down", "--jail-conf", &other],
        &["down", "--jail-conf", &other, "db"],
    ] {
        let refused = world.text(1, words);
        assert!(
            refused.contains("the fabric `jail` is of") && refused.contains("other/jail.conf"),
            "{refused}"
        );
    }
    world.json(0, &["up", "--jail-conf", &conf]);
    world.json(0, &["down", "--jail-conf", &conf]);
    world.json(0, &["up", "--jail-conf", &other]);
    world.json(0, &["down", "--jail-conf", &other]);
}

#[test]
fn the_log_of_who_prints_without_a_pause_has_an_end() {
    use warren::keeper::logs::{LineRef, Logs, Origin};
    let world = World::new();
    world.json(0, &["up", SHOP]);
    let name = names(&world.json(0, &["ps"]), "web").remove(0);
    let id = name.rsplit_once('-').unwrap().1.to_owned();
    let end = std::sync::atomic::AtomicBool::new(false);
    let mut logs = Logs::new(&world.state()).unwrap();
    logs.open(&id, 1).unwrap();
    let mut print = |from: u64| {
        let mut batch = logs.batch(&id, 1);
        for number in from..from + 100 {
            let line = number.to_string().into();
            batch.push(&LineRef { at: 1, job: "j", stream: Origin::Out, line, part: false });
        }
    };
    print(0);
    std::thread::scope(|scope| {
        let (end, world, name) = (&end, &world, &name);
        scope.spawn(move || {
            for round in 1.. {
                if end.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                print(round * 100);
            }
        });
        // The printer ends whatever is found here; a panic before that would wait for it.
        let read = |words: &[&str]| -> Option<Vec<u64>> {
            let file = std::fs::File::create(world.dir.path().join("out")).unwrap();
            let mut child = world.command(words).stdout(file).spawn().unwrap();
            let late = Instant::now() + Duration::from_secs(120);
            while child.try_wait().unwrap().is_none() {
                if Instant::now() > late {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return None;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let text = std::fs::read_to_string(world.dir.path().join("out")).unwrap();
            Some(text.lines().filter_map(|line| line.parse().ok()).collect())
        };
        let (few, all) = (read(&["logs", name, "-n", "3"]), read(&["logs", name]));
        end.store(true, std::sync::atomic::Ordering::Relaxed);
        let (few, all) = (few.expect("logs -n 3 does not end"), all.expect("logs does not end"));
        assert_eq!(few.len(), 3, "more than were asked for");
        for lines in [&few, &all] {
            assert!(lines.windows(2).all(|two| two[1] == two[0] + 1), "a line is missing");
        }
        assert!(all.len() >= 100 && all[0] == 0 || all.len() > 10_000, "{} lines", all.len());
    });
}

#[test]
fn a_log_that_cannot_be_read_is_not_shown_as_an_empty_one() {
    let world = World::new();
    world.json(0, &["up", SHOP]);
    let name = names(&world.json(0, &["ps"]), "web").remove(0);
    let log = world.state().join("log").join(format!("{}.log", name.rsplit_once('-').unwrap().1));
    let _ = std::fs::remove_file(&log);
    std::fs::create_dir_all(&log).unwrap();
    for words in [&["logs", &name][..], &["logs", &name, "-f"], &["logs", &name, "-n", "3"]] {
        let output = world.command(words).output().unwrap();
        assert!(!output.status.success(), "{words:?} shows nothing, and says that is all");
    }
    // How a command ends is known without its log.
    std::fs::remove_dir_all(world.state().join("log")).unwrap();
    std::fs::write(world.state().join("log"), "").unwrap();
    let output = world.command(&["run", "host", "--", "exit", "3"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("its log breaks off"), "{said}");
}

#[test]
fn a_long_declaration_is_taken_and_one_that_is_too_long_is_told_what_to_do() {
    let world = World::new();
    let spec = world.json(0, &["config", "check", SHOP])["spec"].to_string();
    world.json(0, &["up", SHOP]);
    let put = |length: usize| -> (String, Value) {
        use std::io::Write;
        // Blanks before the value are JSON's.
        let body = [vec![b' '; length - spec.len()], spec.clone().into_bytes()].concat();
        let mut stream = std::os::unix::net::UnixStream::connect(world.state().join("api.sock")).unwrap();
        let head = format!(
            "PUT /v1/fabrics/shop?dry=true HTTP/1.1\r\nHost: w\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, said) = answer.split_once("\r\n\r\n").unwrap();
        let said = serde_json::from_str(said).unwrap_or_else(|_| panic!("no Problem: {answer}"));
        (head.split(' ').nth(1).unwrap().to_owned(), said)
    };
    let (status, said) = put(3 << 20);
    assert_eq!((status.as_str(), &said["changes"]), ("200", &serde_json::json!([])), "{said}");
    let (status, said) = put((64 << 20) + 1);
    assert_eq!((status.as_str(), &said["kind"]), ("413", &"too-long".into()), "{said}");
    assert!(said["message"].as_str().unwrap().contains("longer than 64 MiB"), "{said}");
}

#[test]
fn events_after_one_that_has_not_happened_are_refused_and_not_waited_for() {
    let world = World::new();
    world.json(0, &["up", SHOP]);
    let last = world.json(0, &["events"])["cursor"].as_i64().unwrap();
    world.text(0, &["events", "--since", &last.to_string()]);
    let beyond = (last + 1000).to_string();
    for follow in [&[][..], &["-f"]] {
        let refused = world.json(1, &[&["events", "--since", &beyond], follow].concat());
        assert_eq!(refused["error"]["kind"], "cursor");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(&beyond) && message.contains("go on after"), "{message}");
    }
    // A store that was put back counts on from the one before, which had gone on.
    let backup = world.dir.path().join("backup").display().to_string();
    world.json(0, &["backup", &backup]);
    world.json(0, &["down", SHOP]);
    let seen = world.json(0, &["events"])["cursor"].to_string();
    world.json(0, &["shutdown"]);
    world.json(0, &["restore", &backup]);
    world.json(0, &["up", SHOP]);
    let news = world.text(0, &["events", "--since", &seen]);
    assert!(news.lines().next().is_some_and(|line| line.contains("put back from a backup")), "{news}");
    world.json(0, &["down", SHOP]);
}

#[test]
fn a_daemon_goes_on_where_its_log_cannot_be_written() {
    let world = World::new();
    let nowhere = std::fs::File::options().write(true).open("/dev/full").unwrap();
    std::fs::create_dir(world.state()).unwrap();
    let mut daemon = world.command(&["daemon", "-vv"]).stderr(nowhere).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !world.state().join("api.sock").exists() {
        assert_eq!(daemon.try_wait().unwrap(), None, "it ended over its log");
        assert!(Instant::now() < end, "it does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    world.text(0, &["up", SHOP]);
    world.text(0, &["down", "shop"]);
    world.text(0, &["shutdown"]);
    assert!(daemon.wait().unwrap().success());
}
