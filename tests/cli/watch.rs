//! `flowproof prove --watch`.

use super::{check_refused, example, run, scratch};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A process that ends with the test, however that ends.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// One rule of what port 13 sends is gone: port 13 is proved again, port 10 is not; and a file that is none is waited out.
#[test]
fn after_a_change_only_what_depends_on_it_is_proved_again() {
    let flows = std::fs::read_to_string(example("flows.txt")).unwrap();
    let file = scratch("watched.flows", flows.as_bytes());
    let words = ["--watch", "--engine", "diagram", "--property", "spoofed-*"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowproof"));
    command.arg("prove").arg(&file).args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watcher = Watcher(command.spawn().unwrap());
    let child = &mut watcher.0;
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(out.any(|line| line.starts_with("verdict: refuted")));
    std::fs::write(&file, format!("{flows}\nno flow\n")).unwrap();
    assert!(err.next().unwrap().contains("watched.flows:"));
    let rule =
        |line: &&str| !(line.contains("table=72") && line.contains("reg5=0xd") && line.contains("+new"));
    let fewer: Vec<&str> = flows.lines().filter(rule).collect();
    let gone = flows.lines().count() - fewer.len();
    assert!(gone > 0);
    std::fs::write(&file, fewer.join("\n")).unwrap();
    let told = err.find(|line| line.contains("proved again")).unwrap();
    assert!(told.contains(&format!("{gone} flow")) && told.contains("1 of 2 ports proved again"), "{told}");
    assert!(out.any(|line| line.starts_with("verdict: refuted")));
}

#[test]
fn standard_input_cannot_be_watched() {
    check_refused(&run(&["prove", "-", "--watch"]), &["--watch wants a file, not standard input"]);
}
