//! What files come to, and what is said about those that come to nothing.

use std::path::Path;

use proptest::prelude::*;

use super::files::tests::InMemory;
use super::*;

fn read(text: &str) -> Result<JailConf, Report> {
    read_all(&[("jail.conf", text)])
}

fn read_all(files: &[(&str, &str)]) -> Result<JailConf, Report> {
    load(Path::new(files[0].0), &mut InMemory::new(files))
}

/// A jail's parameters but its name, one line each.
fn shown_of(text: &str, jail: &str) -> String {
    let conf = read(text).unwrap_or_else(|report| panic!("{report:#}"));
    conf.verify(Some(jail)).unwrap_or_else(|report| panic!("{report:#}"));
    let shown = conf.named(jail).expect("it is there").shown();
    let lines = shown.parameters.iter().filter(|(name, _)| *name != "name");
    lines.map(|(name, values)| format!("{name}={}", values.join("|"))).collect::<Vec<_>>().join(" ")
}

/// What is said about a text: of the syntax, or else of its jails.
fn complaint(text: &str) -> String {
    let report = match read(text) {
        Ok(conf) => conf.verify(None).expect_err("something is wrong"),
        Err(report) => report,
    };
    format!("{report:#}")
}

#[test]
fn assignments_in_all_their_forms() {
    let text = r#"
        # the three comments
        web { path = "/jails/web"; // one
              host.hostname web.example.org; /* two */
              ip4.addr = "lo1|10.0.0.1/24", 10.0.0.2; ip4.addr += 10.0.0.3;
              exec.start = "/bin/sh /etc/rc"; exec.start += 'echo $x';
              persist; allow.nomount; allow.chflags = 0; mount.devfs = "true"; vnet; ip6 = inherit;
              ;; }"#;
    assert_eq!(
        shown_of(text, "web"),
        "allow.chflags=false allow.mount=false exec.start=/bin/sh /etc/rc|echo $x host.hostname=web.example.org \
         ip4.addr=lo1|10.0.0.1/24|10.0.0.2|10.0.0.3 ip6=inherit mount.devfs=true path=/jails/web persist=true vnet=true"
    );
}

#[test]
fn variables_are_bound_late_and_per_jail() {
    let text = r#"
        path = "$root/${name}"; $root = /jails;
        host.hostname = "$name.${dom ain}"; ${dom ain} = example.org;
        a {} b { $root = "/other/$name"; }"#;
    assert_eq!(shown_of(text, "a"), "host.hostname=a.example.org path=/jails/a");
    assert_eq!(shown_of(text, "b"), "host.hostname=b.example.org path=/other/b/b");
}

#[test]
fn a_parameter_is_a_variable_too_and_a_list_is_spliced_whole() {
    let text = r#"
        $ips = 10.0.0.1, 10.0.0.2; $none = "";
        a { ip4.addr = 10.0.0.9, $ips, "${ips}"; exec.start = "echo $path"; path = /x; ip6.addr = "$none$ips"; }"#;
    assert_eq!(
        shown_of(text, "a"),
        "exec.start=echo /x ip4.addr=10.0.0.9|10.0.0.1|10.0.0.2|10.0.0.1|10.0.0.2 ip6.addr=10.0.0.1|10.0.0.2 path=/x"
    );
    assert!(
        complaint("$l = a, b; j { path = \"/$l\"; }")
            .contains("`l` is a list and stands inside a longer string")
    );
    assert!(complaint("$l = a, b; j { path = $l$l; }").contains("is a list"));
}

#[test]
fn what_is_wrong_with_variables_concerns_their_jail_only() {
    let text = "a { path = $nowhere; } b { $x = $y; $y = $x; path = $x; } c { path = /c; } d { $path = x; } e { x = $persist; persist; }";
    let conf = read(text).expect("its syntax is right");
    assert!(conf.verify(Some("c")).is_ok());
    for (jail, words) in [
        ("a", "a: variable `nowhere` is not defined"),
        ("b", "leads back to itself"),
        ("d", "variable `$path` has the name of a parameter"),
        ("e", "`persist` has no value that could be put in"),
    ] {
        let said = format!("{:#}", conf.verify(Some(jail)).expect_err(jail));
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(conf.verify(None).expect_err("four are wrong").problems().len(), 4);
}

#[test]
fn wildcards_and_globals_stand_around_the_jail_in_the_order_of_the_text() {
    let text = r#"
        path = /first; securelevel = 1;
        a { path = /own; securelevel = 2; x.y = own; }
        * { path += /last; }
        securelevel = 3;
        a.b { } "a.*" { x.y = under; } "*.b" { x.z = b; } "web*" { path = /w; }"#;
    assert_eq!(shown_of(text, "a"), "path=/own|/last securelevel=3 x.y=own");
    assert_eq!(shown_of(text, "a.b"), "path=/first|/last securelevel=3 x.y=under x.z=b");
    assert_eq!(shown_of(text, "web*"), "path=/w securelevel=3");
    let remarks = read(text).expect("it is right").remarks();
    assert!(remarks.iter().any(|remark| remark.code == "jail.conf::globals-below"), "{remarks:?}");
}

#[test]
fn blocks_nest_and_a_bare_wildcard_is_understood() {
    let text = "a { persist; b { path = /b; c { } } * { x.y = 1; } } a.b.* { x.z = 2; }";
    let conf = read(text).unwrap_or_else(|report| panic!("{report:#}"));
    let names: Vec<&str> = conf.jails.iter().map(|jail| jail.name.as_str()).collect();
    assert_eq!(names, ["a", "a.b", "a.b.c"]);
    assert_eq!(shown_of(text, "a"), "persist=true");
    assert_eq!(shown_of(text, "a.b"), "path=/b x.y=1");
    assert_eq!(shown_of(text, "a.b.c"), "x.y=1 x.z=2");
}

#[test]
fn the_blocks_name_is_the_jails_name_or_number_for_good() {
    assert_eq!(shown_of("7 { name = seven; }", "7"), "jid=7");
    assert_eq!(shown_of("web { jid = 9; }", "web"), "jid=9");
    let conf = read("7 { } 0 { }").expect("it is right");
    assert_eq!(conf.jails[0].shown().parameters["name"], ["7"]);
    assert!(!conf.jails[1].shown().parameters.contains_key("jid"));
    for text in ["a { name = b; }", "7 { jid = 8; }", "a { jid = 1; jid += 2; }", "name = x; a { }"] {
        assert!(complaint(text).contains("cannot be set again"), "{text}");
    }
}

#[test]
fn included_files_stand_where_they_are_named() {
    let files = [
        (
            "/etc/jail.conf",
            "path = /j/$name; .include \"jail.conf.d/*.conf\", none[.]conf; z { .include zz; }",
        ),
        ("/etc/jail.conf.d/a.conf", "a { .include \"../common/a\"; }"),
        ("/etc/jail.conf.d/b.conf", "b { depend = a; }"),
        ("/etc/jail.conf.d/../common/a", "persist; sub { }"),
        ("/etc/zz", "vnet;"),
    ];
    let conf = read_all(&files).unwrap_or_else(|report| panic!("{report:#}"));
    conf.verify(None).unwrap_or_else(|report| panic!("{report:#}"));
    let names: Vec<&str> = conf.jails.iter().map(|jail| jail.name.as_str()).collect();
    assert_eq!(names, ["a", "a.sub", "b", "z"]);
    assert!(conf.named("a").expect("there").bool("persist"));
    assert!(conf.named("z").expect("there").bool("vnet"));
}

#[test]
fn includes_that_cannot_be() {
    let said = |files: &[(&str, &str)]| format!("{:#}", read_all(files).expect_err("it is refused"));
    assert!(said(&[("/a", ".include b;")]).contains("/b cannot be read"));
    assert!(said(&[("/a", ".include b;"), ("/b", ".include \"/a\";")]).contains("/a includes itself"));
    assert!(said(&[("/a", "$x = b; .include \"$x\";")]).contains("has a variable"));
    assert!(said(&[("/a", "j { .include b;"), ("/b", "} ")]).contains("closes nothing"));
    let chain: Vec<(String, String)> =
        (0..34).map(|n| (format!("/{n}"), format!(".include {};", n + 1))).collect();
    let chain: Vec<(&str, &str)> = chain.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    assert!(said(&chain).contains("more than 32 deep"));
    let whole: Vec<(&str, &str)> = chain[..32].iter().copied().chain([("/32", "j {}")]).collect();
    assert_eq!(read_all(&whole).expect("32 are allowed").jails.len(), 1);
    // With `=` it is a parameter like others, and so without a value.
    assert_eq!(shown_of("j { .include = x; }", "j"), ".include=x");
}

#[test]
fn common_mistakes_are_named() {
    for (text, code, words) in [
        ("web { path = /x\n persist; }", "jail.conf::missing-semicolon", "a `;` is missing after `path`"),
        ("web { path = /x }", "jail.conf::missing-semicolon", "a `;` is missing after `path`"),
        ("web { exec.start = /bin/sh /etc/rc; }", "jail.conf::syntax", "exec.start = \"/bin/sh /etc/rc\";"),
        ("web { path = /jails//web; }", "jail.conf::missing-semicolon", "quote the value"),
        (".include /etc/jail.conf.d/*.conf;\n", "jail.conf::open-comment", "quote the pattern"),
        (
            ".include /etc/j/*.conf;\n/* text */\nweb { persist; }",
            "jail.conf::missing-semicolon",
            "quote the pattern",
        ),
        ("[DEFAULT]\nignoreip = 127.0.0.1/8 ::1\n[sshd]\nenabled = true\n", "jail.conf::ini", "fail2ban"),
        ("web { persist;", "jail.conf::open-block", "the block of `web` is not closed"),
        ("web { persist; } }", "jail.conf::syntax", "closes nothing"),
        ("web { exec.start = \"echo; }", "jail.conf::open-string", "a quote is not closed"),
        ("web { path = ; }", "jail.conf::syntax", "a value is expected, not `;`"),
        (
            "web { persist\n path = /x; }",
            "jail.conf::missing-semicolon",
            "jail.conf:1:7: a `;` is missing after `persist`",
        ),
        (
            "web { vnet\n exec.start += x; }",
            "jail.conf::missing-semicolon",
            "jail.conf:1:7: a `;` is missing after `vnet`",
        ),
        (
            "web { persist\n db { } }",
            "jail.conf::missing-semicolon",
            "jail.conf:1:7: a `;` is missing after `persist`",
        ),
        (
            "web { vnet\n persist }",
            "jail.conf::missing-semicolon",
            "jail.conf:1:7: a `;` is missing after `vnet`",
        ),
        (
            "web { ip4.addr = 10.0.0.1 10.0.0.2; }",
            "jail.conf::syntax",
            "have `,` between them: ip4.addr = 10.0.0.1, 10.0.0.2;",
        ),
        ("web = { persist; }", "jail.conf::syntax", "there is no `=` before the block of `web`"),
        ("web { path = \u{e4}; }", "jail.conf::syntax", "must be quoted"),
        ("$x { }", "jail.conf::syntax", "expected"),
    ] {
        let report = read(text).expect_err(text);
        let said = format!("{report:#}");
        let first = &report.problems()[0];
        assert!(said.contains(words), "{text}\n{said}");
        assert!(report.problems().iter().any(|problem| problem.code == code), "{text}\n{said}");
        assert!(first.position().is_some(), "{text}: no place");
        assert!(text.starts_with('[') || report.problems().len() <= 2, "{text}\n{said}");
    }
}

#[test]
fn values_and_dependencies_are_checked() {
    for (text, words) in [
        ("a { exec.timeout = 5s; }", "`exec.timeout` is a whole number"),
        ("a { mount.devfs = maybe; }", "`mount.devfs` is a boolean"),
        ("a { depend = b; }", "a depends on undefined jail `b`"),
        ("a { depend = b; } b { depend = c; } c { depend = b; }", "in a circle: b, c"),
        ("a { depend = a.b; } a.b { }", "in a circle: a, a.b"),
    ] {
        let said = complaint(text);
        assert!(said.contains(words), "{text}\n{said}");
        assert!(said.starts_with("jail.conf has a problem"), "{text}\n{said}");
    }
    let conf = read("a { } a { } b { allow.raw_socket; mod.x; allow.raw_sockets; }").expect("it is right");
    let codes: Vec<&str> = conf.remarks().iter().map(|remark| remark.code).collect();
    assert_eq!(codes, ["jail.conf::double", "jail.conf::module-parameter"]);
    assert!(conf.verify(None).is_ok());
}

#[test]
fn a_value_on_a_line_of_its_own_is_remarked_upon() {
    let codes = |text: &str| -> Vec<&str> {
        read(text).expect("jail(8) takes it").remarks().iter().map(|remark| remark.code).collect()
    };
    assert_eq!(codes("web { path = /x; vnet\n persist; }"), ["jail.conf::swallowed"]);
    assert_eq!(codes("web { host.hostname\n www.example.org; }"), [""; 0]);
    assert_eq!(codes("web { .include = \"x\"; }"), ["jail.conf::no-include"]);
    assert_eq!(codes("include \"x\";"), ["jail.conf::no-include"]);
    assert!(complaint("web { persist\n vnet; }").contains("a `;` is missing after `persist`"));
}

#[test]
fn globals_that_releases_weigh_differently_are_remarked_upon() {
    let remarked = |text: &str| {
        let remarks = read(text).expect("it is right").remarks();
        remarks.iter().filter(|remark| remark.code == "jail.conf::globals-below").count()
    };
    assert_eq!(remarked("x.y = 1; * { x.y = 2; } x.y = 3; b { }"), 1);
    assert_eq!(remarked("x.y = 1; b { x.y = 2; } x.y = 3;"), 1);
    assert_eq!(remarked("x.y = 1; \"a.*\" { x.y = 2; } x.y = 3; a.b { }"), 1);
    assert_eq!(remarked("x.y = 1; b { x.z = 2; } x.y = 3; x.y = 4;"), 0);
    assert_eq!(remarked("* { x.y = 2; } b { } x.y = 3;"), 0);
}

#[test]
fn only_booleans_are_negated() {
    assert_eq!(shown_of("a { nopath; }", "a"), "nopath=");
    assert_eq!(shown_of("a { allow.nofuture; notify; }", "a"), "allow.nofuture= notify=");
    let said =
        |text: &str| format!("{:#}", read(text).expect("its syntax is right").check().expect_err(text));
    assert!(said("a { path = /a; persist; nopath; }").contains("say path = …"));
    assert!(said("a { path = /a; persist; novnet; }").contains("only booleans are negated"));
}

#[test]
fn bytes_that_are_not_utf_8_are_fine_in_comments_only() {
    let mut bytes = b"# caf\xe9\nweb { path = '/x'; } # \xff".to_vec();
    let parse = |bytes: &[u8]| parse(Path::new("x"), bytes.to_vec(), &mut files::NoFiles);
    assert!(parse(&bytes).is_ok());
    bytes.extend(b"\nb { path = '/\xe9'; }");
    let codes = |bytes: &[u8]| -> Vec<&str> {
        parse(bytes).expect_err("jail(8) takes it").problems().iter().map(|problem| problem.code).collect()
    };
    assert_eq!(codes(&bytes), ["jail.conf::utf8"]);
    // Two halves of a character, with a variable between them.
    assert_eq!(codes(b"$x = ''; a { path = '\xc3'$x'\xa9'; }"), ["jail.conf::utf8"]);
}

#[test]
fn nothing_grows_without_end() {
    let mut text = String::from("$v0 = xxxxxxxxxxxxxxxx; $l0 = a, b;\n");
    for n in 0..60 {
        text.push_str(&format!("$v{} = \"$v{n}$v{n}\"; $l{} = $l{n}, $l{n};\n", n + 1, n + 1));
    }
    assert!(complaint(&format!("{text} a {{ path = $v60; }}")).contains("too long"));
    assert!(complaint(&format!("{text} a {{ path = $l60; }}")).contains("too long"));
    let deep = "a {".repeat(1000);
    assert!(complaint(&deep).contains("nested deeper"));
    let chain: String = (0..4_000).map(|n| format!("$v{n} = $v{};", n + 1)).collect();
    assert!(complaint(&format!("a {{ path = $v0; {chain} }}")).contains("variable `v4000` is not defined"));
}

/// Texts made of what means something to the scanner, so that most get far.
fn texts() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a",
        "b",
        "path",
        "persist",
        "nopersist",
        "allow.nomount",
        "depend",
        "ip4.addr",
        "$x",
        "${x y}",
        "$a",
        "=",
        "+=",
        ",",
        ";",
        ";",
        ";",
        "{",
        "}",
        "\"",
        "'",
        "\\",
        "\\n",
        "\\x4",
        "$",
        "${",
        " ",
        " ",
        "\n",
        "/",
        "//",
        "/*",
        "*/",
        "#",
        "*",
        "a.*",
        ".include",
        "7",
        "true",
        "\u{e9}",
        "name",
        "jid",
        "[x]",
        "no",
        "nonox",
        "x",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_breaks_a_promise(text in texts()) {
        fuzz(text.as_bytes());
    }

    #[test]
    fn what_is_written_comes_back(
        jails in prop::collection::btree_map("[a-z'\\\\ ]{1,6}", prop::collection::btree_map(
            "(exec\\.[a-m]{1,4}|ip4\\.addr|mount)", prop::collection::vec("[ -~\u{e4}\n]{0,12}", 1..4), 0..5,
        ), 0..5),
    ) {
        let jails: Vec<Shown> = jails.into_iter().map(|(name, mut parameters)| {
            parameters.insert("name".into(), vec![name.clone()]);
            Shown { name, parameters }
        }).collect();
        let text = write::text(&jails);
        let conf = read(&text).unwrap_or_else(|report| panic!("{report:#}\n{text}"));
        prop_assert_eq!(conf.shown(), jails);
    }
}
