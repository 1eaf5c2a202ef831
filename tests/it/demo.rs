//! The demo as a newcomer runs it, into a pipe: the whole program with real OTLP, the API and the signed
//! webhook. Each run takes about half a minute; they run side by side.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn start(scenario: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rollguard"))
        .args(["demo", "--scenario", scenario])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the demo")
}

/// Where a run keeps its database and its secret.
fn scratch(child: &Child) -> PathBuf {
    std::env::temp_dir().join(format!("rollguard-demo-{}", child.id()))
}

/// Plays a scenario to its end; it must be as expected, plain, and leave nothing behind.
fn play(scenario: &str) -> String {
    let child = start(scenario);
    let scratch = scratch(&child);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("the demo ends");
    let text = String::from_utf8(stdout).expect("text");
    let errors = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(0), "{text}\n{errors}");
    assert_eq!(errors, "");
    assert!(!text.contains('\x1b'), "escape codes in plain output:\n{text}");
    assert!(!scratch.exists(), "{} is left behind", scratch.display());
    text
}

/// The lines must come in this order.
fn check(text: &str, expected: &[&str]) {
    let mut rest = text;
    for line in expected {
        let Some(at) = rest.find(line) else { panic!("{line:?} is missing, or too early, in:\n{text}") };
        rest = &rest[at + line.len()..];
    }
}

/// Guarantees: a bad version fails, one signed webhook arrives, and after its traffic is gone all is well.
#[test]
fn a_bad_version_fails_and_is_rolled_back() {
    let text = play("errors");
    check(
        &text,
        &[
            "/metrics",
            "v2 comes up",
            "evaluating: ",
            "failed: v2 fails ",
            "mostly POST /checkout",
            "the deployer got rollguard.rollback for v2",
            "its signature holds",
            "moves all traffic back to v1",
            "recovered: ",
            "FAIL: v2 fails ",
            " 0 refused",
            "As expected: ",
            "Next: ",
        ],
    );
    assert_eq!(text.matches("the deployer got").count(), 1, "{text}");
}

/// Guarantees: a good version passes, and nothing is sent.
#[test]
fn a_good_version_passes() {
    let text = play("healthy");
    check(&text, &["v2 comes up", "watching: v2 is not worse than v1", "PASS: ", "As expected: v2 passed"]);
    assert!(!text.contains("the deployer got"), "{text}");
}

/// Guarantees: Ctrl-C ends it with a code of its own, in order, without leaving its folder behind.
#[test]
fn ctrl_c_cleans_up() {
    let mut child = start("errors");
    let scratch = scratch(&child);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.is_ok_and(|l| l.contains("the shop opens"))), "it never began");
    assert!(scratch.exists());
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    while lines.next().is_some() {}
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let mut errors = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut errors).expect("text");
    assert_eq!(errors, "rollguard: interrupted\n");
    assert!(!scratch.exists(), "{} is left behind", scratch.display());
}
