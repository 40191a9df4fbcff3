//! `flowproof run`.

use super::scenarios::directory;
use serde_json::Value;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowproof"))
        .arg("run")
        .args(arguments)
        .current_dir(directory())
        .output()
        .unwrap()
}

/// A scenario that diverges, in a directory of its own.
fn diverging() -> tempfile_like::File {
    let text = std::fs::read_to_string(directory().join("even-port.scn")).unwrap();
    let text: String =
        text.lines().filter(|line| !line.contains("divergence")).map(|line| format!("{line}\n")).collect();
    tempfile_like::File::new(&text)
}

/// A file that goes when it is dropped.
mod tempfile_like {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(super) struct File(pub(super) PathBuf);

    impl File {
        pub(super) fn new(text: &str) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path =
                std::env::temp_dir().join(format!("flowproof-run-{}-{number}.scn", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _gone = std::fs::remove_file(&self.0);
        }
    }
}

#[test]
fn what_holds_exits_zero_with_a_line_for_each_layout() {
    let output = run(&["even-port.scn"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text,
        "even-port.scn, mitaka: holds\neven-port.scn, neutron: holds\neven-port.scn, strict: holds\n"
    );
}

#[test]
fn what_diverges_exits_one_and_shows_both_sides() {
    let file = diverging();
    let output = run(&[file.0.to_str().unwrap(), "--minimise"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        ", mitaka: diverges at line 12",
        "differs: `vm` gets it and must not",
        "ingress drop: NoRule",
        "tp_dst=0x16/0xfffe",
        "as small as it can be:\nlayout mitaka\n",
        ", neutron: holds",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn json_says_the_same() {
    let file = diverging();
    let output = run(&[file.0.to_str().unwrap(), "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["verdict"], "diverges");
    let verdicts: Vec<_> = report["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["layout"].as_str().unwrap(), one["verdict"].as_str().unwrap()))
        .collect();
    assert_eq!(verdicts, [("mitaka", "diverges"), ("neutron", "holds"), ("strict", "holds")]);
    assert_eq!(report["results"][0]["divergence"]["event"], 2);
}

#[test]
fn input_that_is_wrong_exits_two_with_its_place() {
    let file = tempfile_like::File::new("layout neutron\npakcet\n");
    let output = run(&[file.0.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(".scn:2:1: a line does not begin with this: `pakcet`"), "{message}");
    assert_eq!(run(&["there-is-no-such-file.scn"]).status.code(), Some(2));
}
