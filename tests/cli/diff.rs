//! `flowproof diff`.

use super::{check_refused, example, run, run_with};
use serde_json::Value;

/// Two files of flows in a directory of their own.
struct Pair {
    directory: std::path::PathBuf,
}

impl Pair {
    fn new(name: &str, a: &str, b: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("flowproof-diff-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("a"), a).unwrap();
        std::fs::write(directory.join("b"), b).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

const CLOSED: &str = "in_port=1 actions=drop\n";
const OPEN: &str = "in_port=1 actions=drop\npriority=40000,in_port=1,tcp,tp_dst=22 actions=2\n";

#[test]
fn a_table_is_the_same_as_itself_whatever_its_cookies() {
    let host = example("flows.txt");
    let same = run(&["diff", &host, &host]);
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.out.contains("the same for all packets"), "{}", same.out);
    let pair =
        Pair::new("cookies", "cookie=1,in_port=1 actions=2\n", "cookie=2,in_port=1 actions=output:2\n");
    assert_eq!(run(&["diff", &pair.path("a"), &pair.path("b")]).code, Some(0));
}

#[test]
fn what_is_newly_delivered_is_said_with_its_flow_and_a_packet() {
    let pair = Pair::new("open", CLOSED, OPEN);
    let differ = run(&["diff", &pair.path("a"), &pair.path("b")]);
    assert_eq!(differ.code, Some(1), "{differ:?}");
    for words in
        ["newly delivered", "output:2", "in_port=1, tcp, tp_dst=22, whole", "B:2 ", "1 class of packets"]
    {
        assert!(differ.out.contains(words), "{words}: {}", differ.out);
    }
    assert!(differ.out.lines().all(|line| line.chars().count() <= 80), "{}", differ.out);
    let back = run(&["diff", &pair.path("b"), &pair.path("a")]);
    assert!(back.out.contains("no longer delivered"), "{}", back.out);
}

#[test]
fn the_report_has_classes_with_examples() {
    let pair = Pair::new("json", CLOSED, OPEN);
    let differ = run(&["diff", &pair.path("a"), &pair.path("b"), "--format", "json", "--datapath", "kernel"]);
    let report: Value = serde_json::from_str(&differ.out).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["verdict"], "differs");
    assert_eq!(report["datapaths"], serde_json::json!(["kernel"]));
    let class = &report["classes"][0];
    assert_eq!(
        (class["change"].as_str(), class["b"][0].as_str()),
        (Some("newly delivered"), Some("output:2"))
    );
    let shown = &class["packets"][0]["example"];
    assert_eq!((&shown["in_port"], &shown["flows"]["b"][0]["line"]), (&1.into(), &2.into()));
}

#[test]
fn the_answer_goes_to_a_file_and_flows_come_from_standard_input() {
    let pair = Pair::new("output", CLOSED, OPEN);
    let told = pair.path("told");
    let differ = run_with(&["diff", "-", &pair.path("b"), "--output", &told], CLOSED.as_bytes());
    assert_eq!((differ.code, differ.out.as_str()), (Some(1), ""), "{differ:?}");
    assert!(std::fs::read_to_string(&told).unwrap().contains("newly delivered"));
}

#[test]
fn what_cannot_be_read_is_refused_and_nothing_is_written() {
    let pair = Pair::new("bad", CLOSED, "in_port=1 actions=fly\n");
    let told = pair.path("told");
    let bad = run(&["diff", &pair.path("a"), &pair.path("b"), "--output", &told]);
    check_refused(&bad, &["b:1:", "fly"]);
    assert!(!std::path::Path::new(&told).exists());
    check_refused(&run(&["diff", "-", "-"]), &["standard input"]);
    check_refused(&run(&["diff", &pair.path("a"), "/nowhere"]), &["/nowhere"]);
}

#[test]
fn what_is_not_known_has_a_code_of_its_own() {
    let pair = Pair::new("unknown", "tun_metadata0=1 actions=drop\n", CLOSED);
    let unknown = run(&["diff", &pair.path("a"), &pair.path("b")]);
    assert_eq!(unknown.code, Some(3), "{unknown:?}");
    assert!(unknown.out.contains("not known"), "{}", unknown.out);
}
