//! `directorctl` itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so tests fail")]

mod common;

use common::{Director, ctl, run, tool};
use std::collections::BTreeMap;

use director_api::{Answer, Port, Reloaded, Request, Status, Sysctl};

#[test]
fn passes_arguments_and_exit_status_through() {
    let director = Director::start();
    let shell =
        run(director.exec(&[tool("sh"), "-c", "cat; echo \"$1\"; exit 7", "sh", "--json"]), "input\n");
    assert_eq!((shell.stdout.as_str(), shell.stderr.as_str(), shell.code), ("input\n--json\n", "", 7));
}

#[test]
fn keeps_what_is_preloaded_anyway() {
    let director = Director::start();
    let mut command = director.exec(&[tool("sh"), "-c", "echo $LD_PRELOAD $DIRECTOR_DIRECTORY"]);
    command.env("LD_PRELOAD", "/nonexistent/one.so");
    let shown = run(command, "").stdout;
    let directory = director.directory().display();
    assert!(shown.ends_with(&format!("libdirector_preload.so:/nonexistent/one.so {directory}\n")), "{shown}");
}

#[test]
fn a_command_that_cannot_run_ends_as_in_a_shell() {
    let director = Director::start();
    let missing = run(director.exec(&["no-such-command-here"]), "");
    assert_eq!(missing.code, 127);
    assert!(missing.stderr.starts_with("directorctl: cannot run `no-such-command-here`: "), "{missing:?}");
    assert_eq!(run(director.exec(&["/etc/passwd"]), "").code, 126);
}

#[test]
fn without_a_director_nothing_is_run() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = ctl();
    command.arg("--directory").arg(directory.path()).args(["exec", "--", "echo", "ran"]);
    let done = run(command, "");
    assert_eq!((done.stdout.as_str(), done.code), ("", 2));
    let socket = directory.path().join("ipvs.sock");
    let expected = format!(
        "directorctl: no director answers at {}: No such file or directory (os error 2) \
         (is it running, with this `[control] directory`?)\n",
        socket.display()
    );
    assert_eq!(done.stderr, expected);

    let mut command = ctl();
    command.arg("status").env("DIRECTOR_DIRECTORY", directory.path());
    let done = run(command, "");
    assert_eq!((done.stdout.as_str(), done.code), ("", 2));
    assert!(done.stderr.contains("control.sock"), "{done:?}");
}

#[test]
fn a_missing_library_is_named() {
    let director = Director::start();
    let mut command = director.exec(&["echo", "ran"]);
    command.env("DIRECTOR_PRELOAD", "/nonexistent/library.so");
    let done = run(command, "");
    assert_eq!((done.stdout.as_str(), done.code), ("", 2));
    assert!(done.stderr.contains("looked for /nonexistent/library.so"), "{done:?}");
}

#[test]
fn the_status_tells_whether_it_forwards() {
    let director = Director::start();
    *director.state().status.lock().unwrap() = Status {
        version: "0.1.0".into(),
        forwarding: true,
        ports: vec![Port { name: "front".into(), rx_packets: 12, ..Port::default() }],
        ..Status::default()
    };
    let done = run(director.ctl(&["status", "--json"]), "");
    assert_eq!((done.stderr.as_str(), done.code), ("", 0));
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(json["ports"][0]["rx_packets"], 12);
    let done = run(director.ctl(&["status"]), "");
    assert!(done.stdout.starts_with("director 0.1.0, up 00:00:00, forwarding\n"), "{done:?}");
    assert_eq!(done.code, 0);

    let mut status = director.state().status.lock().unwrap();
    status.forwarding = false;
    status.problems = vec!["port front: the link is down".into()];
    drop(status);
    let done = run(director.ctl(&["status"]), "");
    assert_eq!(
        (done.stderr.as_str(), done.code),
        ("directorctl: the director does not forward\ndirectorctl: port front: the link is down\n", 1)
    );
    assert!(done.stdout.contains("NOT forwarding"), "{done:?}");
}

#[test]
fn sysctls_are_shown_and_set() {
    let director = Director::start();
    let answers = |values: &[(&str, i32)]| {
        let values =
            values.iter().map(|(name, value)| ((*name).to_owned(), Sysctl::Number(*value))).collect();
        *director.state().prepared.lock().unwrap() = Some(Answer::Sysctls(values));
    };
    let asked = || director.state().asked.lock().unwrap().take().unwrap();
    let shown = |arguments: &[&str]| {
        let done = run(director.ctl(arguments), "");
        assert_eq!((done.stderr.as_str(), done.code), ("", 0));
        done.stdout
    };

    answers(&[("drop_packet", 0), ("am_droprate", -3)]);
    assert_eq!(shown(&["get"]), "am_droprate = -3\ndrop_packet = 0\n");
    assert_eq!(asked(), Request::Get { name: None });
    assert_eq!(shown(&["get", "--json"]), "{\n  \"am_droprate\": -3,\n  \"drop_packet\": 0\n}\n");

    answers(&[("drop_packet", 1)]);
    for name in ["drop_packet", "net.ipv4.vs.drop_packet"] {
        assert_eq!(shown(&["get", name]), "1\n");
        assert_eq!(asked(), Request::Get { name: Some("drop_packet".into()) });
        assert_eq!(shown(&["set", name, "-2"]), "");
        assert_eq!(asked(), Request::Set { name: "drop_packet".into(), value: "-2".into() });
    }
    assert_eq!(shown(&["get", "--json", "drop_packet"]), "{\n  \"drop_packet\": 1\n}\n");

    let text = BTreeMap::from([("sync_threshold".to_owned(), Sysctl::Text("3 50".to_owned()))]);
    *director.state().prepared.lock().unwrap() = Some(Answer::Sysctls(text));
    assert_eq!(shown(&["get", "sync_threshold"]), "3 50\n");
    assert_eq!(shown(&["get", "--json"]), "{\n  \"sync_threshold\": \"3 50\"\n}\n");
}

#[test]
fn what_the_director_refuses_is_an_error() {
    let director = Director::start();
    *director.state().prepared.lock().unwrap() = Some(Answer::Error("not that; this".into()));
    for arguments in [&["set", "drop_packet", "9"][..], &["get", "nothing"]] {
        let done = run(director.ctl(arguments), "");
        assert_eq!((done.stdout.as_str(), done.code), ("", 2));
        assert_eq!(done.stderr, "directorctl: the director refuses: not that; this\n");
    }
}

#[test]
fn a_reload_shows_what_has_changed() {
    let director = Director::start();
    let reload = |answer: Answer| {
        *director.state().prepared.lock().unwrap() = Some(answer);
        let done = run(director.ctl(&["reload"]), "");
        assert_eq!(director.state().asked.lock().unwrap().take().unwrap(), Request::Reload);
        (done.stdout, done.stderr, done.code)
    };
    let mut reloaded = Reloaded { file: "director.toml".into(), ..Reloaded::default() };
    let as_it_says = ("the director is as director.toml says\n".to_owned(), String::new(), 0);
    assert_eq!(reload(Answer::Reloaded(reloaded.clone())), as_it_says);
    reloaded.missing = vec!["setting route 10.9.0.0/16 on back: no".into()];
    let all_but = "directorctl: the director is as director.toml says but for this:\n\
        directorctl: setting route 10.9.0.0/16 on back: no\n";
    assert_eq!(reload(Answer::Reloaded(reloaded.clone())), (String::new(), all_but.into(), 1));
    reloaded.missing.clear();
    reloaded.changes = vec!["sloppy_tcp: 0 -> 1".into(), "service tcp 192.168.18.58:80 deleted".into()];
    reloaded.warnings = "warning: one\n".into();
    let shown = "sloppy_tcp: 0 -> 1\nservice tcp 192.168.18.58:80 deleted\n".to_owned();
    assert_eq!(reload(Answer::Reloaded(reloaded)), (shown, "warning: one\n".into(), 0));
    let report = "error: it is wrong\n";
    let refused = format!("{report}directorctl: nothing was changed\n");
    assert_eq!(reload(Answer::WrongFile(report.into())), (String::new(), refused, 2));
    let refused = "directorctl: the director refuses: no\n".to_owned();
    assert_eq!(reload(Answer::Error("no".into())), (String::new(), refused, 2));
}
