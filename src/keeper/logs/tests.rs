use super::*;

fn write(logs: &mut Logs, texts: &[&str]) {
    let mut batch = logs.batch("a", 5);
    for text in texts {
        batch.push(&LineRef { at: 5, job: "j", stream: Origin::Out, line: (*text).into(), part: false });
    }
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|l| l.line.as_str()).collect()
}

#[test]
fn logs_of_the_gone_are_kept_for_a_while_and_the_newest_of_them() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(list(dir.path()).unwrap(), []);
    let mut logs = Logs::new(dir.path()).unwrap();
    let now = SystemTime::now();
    for (name, age) in [("new", 60), ("old", KEPT_FOR.as_secs() + 60), ("middle", 3600)] {
        logs.open(name, 7).unwrap();
        let file = File::options().append(true).open(current(&dir.path().join("log"), name)).unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
    }
    std::fs::write(dir.path().join("log/other"), "not a log").unwrap();
    let all = list(dir.path()).unwrap();
    assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["new", "middle", "old"]);
    assert_eq!(expired(&all, now).collect::<Vec<_>>(), ["old"]);
    let many: Vec<_> = (0..KEPT + 2).map(|n| (n.to_string(), now)).collect();
    assert_eq!(expired(&many, now).count(), 2, "more than are kept");
}

#[test]
fn long_messages_are_put_aside_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daemon.log");
    set_aside(&path);
    std::fs::write(&path, "short").unwrap();
    set_aside(&path);
    assert!(path.exists());
    File::options().append(true).open(&path).unwrap().set_len(MAX_MESSAGES).unwrap();
    set_aside(&path);
    assert!(!path.exists() && dir.path().join("daemon.log.1").exists());
}

#[test]
fn what_is_written_can_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path(), "a", Position::default()).unwrap(), (vec![], Position::default()));
    let mut logs = Logs::new(dir.path()).unwrap();
    logs.open("a", 7).unwrap();
    write(&mut logs, &["one", "two"]);
    let (lines, position) = read(dir.path(), "a", Position::default()).unwrap();
    assert_eq!(texts(&lines), ["one", "two"]);
    assert_eq!(position.generation, 7);
    assert_eq!(read(dir.path(), "a", position).unwrap(), (vec![], position));
    // A second keeper goes on in the same file.
    drop(logs);
    let mut logs = Logs::new(dir.path()).unwrap();
    logs.open("a", 9).unwrap();
    write(&mut logs, &["three"]);
    assert_eq!(texts(&read(dir.path(), "a", position).unwrap().0), ["three"]);
    assert_eq!(texts(&tail(dir.path(), "a", 2).unwrap().0), ["two", "three"]);
    remove(dir.path(), "a").unwrap();
    assert_eq!(tail(dir.path(), "a", 2).unwrap().0, []);
}

#[test]
fn a_log_is_bounded_and_a_follower_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::new(dir.path()).unwrap();
    logs.open("a", 1).unwrap();
    let long = "x".repeat(4000);
    let mut position = Position::default();
    let mut seen = Vec::new();
    for number in 0..2000 {
        write(&mut logs, &[&format!("{number} {long}")]);
        if number % 100 == 99 {
            loop {
                let (lines, next) = read(dir.path(), "a", position).unwrap();
                position = next;
                if lines.is_empty() {
                    break;
                }
                seen.extend(lines.into_iter().map(|l| l.line));
            }
        }
    }
    assert_eq!(seen.len(), 2000);
    assert!(seen.iter().enumerate().all(|(number, l)| l.starts_with(&format!("{number} "))));
    let size: u64 = std::fs::read_dir(dir.path().join("log"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 2 * MAX_FILE, "{size}");
    // One that was overtaken goes on with what there is.
    let (lines, _) = read(dir.path(), "a", Position { generation: 1, offset: 100_000 }).unwrap();
    assert!(!lines.is_empty());
}

#[test]
fn a_torn_line_costs_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::new(dir.path()).unwrap();
    logs.open("a", 1).unwrap();
    write(&mut logs, &["one"]);
    let log = logs.open.get_mut("a").unwrap().file.as_mut().unwrap();
    log.put(b"{\"at\":5,\"jo").unwrap();
    log.lost = 1;
    write(&mut logs, &["three"]);
    let (lines, _) = read(dir.path(), "a", Position::default()).unwrap();
    assert_eq!(texts(&lines), ["one", "1 lines were lost because the log could not be written", "three"]);
}

#[test]
fn a_log_begun_on_a_full_disk_has_its_header_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::new(dir.path()).unwrap();
    let path = current(&dir.path().join("log"), "a");
    let full = || File::options().append(true).open("/dev/full").unwrap();
    // Once nothing of the header fits, once the half of it.
    for half in [false, true] {
        let file = open_append(&path).unwrap().0;
        let mut log =
            LogFile { file: full(), size: 0, generation: 0, owed: Vec::new(), torn: false, lost: 0 };
        log.begin("a", 7);
        if half {
            log.file = file.try_clone().unwrap();
            log.put(b"{\"log\":\"a\",\"for").unwrap();
            log.file = full();
        }
        logs.open.insert("a".into(), Used { streams: 1, file: Some(log), lost: 0 });
        write(&mut logs, &["one"]);
        logs.open.get_mut("a").unwrap().file.as_mut().unwrap().file = file;
        write(&mut logs, &["two"]);
        let told = "1 lines were lost because the log could not be written";
        assert_eq!(texts(&tail(dir.path(), "a", 9).unwrap().0), [told, "two"], "{half}");
        // The next keeper goes on in it.
        let mut logs = Logs::new(dir.path()).unwrap();
        logs.open("a", 9).unwrap();
        write(&mut logs, &["three"]);
        assert_eq!(texts(&tail(dir.path(), "a", 2).unwrap().0), ["two", "three"]);
        remove(dir.path(), "a").unwrap();
    }
}

#[test]
fn a_log_that_cannot_be_read_is_no_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::new(dir.path()).unwrap();
    std::fs::create_dir(current(&dir.path().join("log"), "a")).unwrap();
    assert!(tail(dir.path(), "a", 9).is_err() && read(dir.path(), "a", Position::default()).is_err());
    // Nor is it another one's, to be put aside.
    assert!(logs.open("a", 1).is_err());
    assert!(!previous(&dir.path().join("log"), "a").exists());
}

#[test]
fn a_log_that_could_not_be_opened_is_tried_again_and_stays_open_for_the_other_stream() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::new(dir.path()).unwrap();
    let path = current(&dir.path().join("log"), "a");
    std::fs::create_dir(&path).unwrap();
    assert!(logs.open("a", 1).is_err());
    write(&mut logs, &["one", "two"]);
    std::fs::remove_dir(&path).unwrap();
    write(&mut logs, &["three"]);
    logs.open("a", 1).unwrap();
    logs.close("a");
    write(&mut logs, &["four"]);
    let told = "2 lines were lost because the log could not be written";
    assert_eq!(texts(&tail(dir.path(), "a", 9).unwrap().0), [told, "three", "four"]);
    logs.close("a");
    assert!(logs.open.is_empty());
}

#[test]
fn a_strange_file_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::new(dir.path()).unwrap();
    std::fs::write(dir.path().join("log/a.log"), "what is this").unwrap();
    logs.open("a", 1).unwrap();
    write(&mut logs, &["one"]);
    assert_eq!(texts(&tail(dir.path(), "a", 9).unwrap().0), ["one"]);
    assert_eq!(std::fs::read(dir.path().join("log/a.log.1")).unwrap(), b"what is this");
}

#[test]
fn names_stay_in_the_directory() {
    for name in ["", ".", "..", ".a", "a/b", "a\0", "a b", &"a".repeat(201)] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
    for name in ["k3f9q2ab", "keeper", "a.b-c_d@e"] {
        assert!(check_name(name).is_ok(), "{name:?}");
    }
}
