//! Commands before flows: what is left of a file is what `ovs-ofctl add-flows` 3.1 left in an empty switch.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use flowproof_switch::flow::{ParseOptions, parse_flows};

/// What is left: table, priority, match and actions of each flow.
fn left(text: &str) -> Result<Vec<String>, String> {
    let mut options = ParseOptions::default();
    options.ports.insert("tap1".to_owned(), 1);
    let parsed = parse_flows(text, &options);
    let words = |flow: &flowproof_switch::flow::Flow| {
        let comma = if flow.match_text().is_empty() { "" } else { "," };
        let (table, priority) = (flow.table, flow.priority);
        format!("{table} {priority}{comma}{} {}", flow.match_text(), flow.actions_text(Default::default()))
    };
    match parsed {
        Ok(file) => Ok(file.flows.iter().map(words).collect()),
        // A switch without flows is fine for the tool; for us there is nothing to judge then.
        Err(errors) if errors.to_string().contains("no flow in the input") => Ok(Vec::new()),
        Err(errors) => Err(errors.to_string()),
    }
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(left(text).unwrap(), expected, "{text}");
}

#[track_caller]
fn check_refused(text: &str, line: u32, words: &str) {
    let error = left(text).unwrap_err();
    assert!(error.starts_with(&format!("line {line},")) && error.contains(words), "{text}: {error}");
}

#[test]
fn delete_takes_flows_that_match_as_much_or_more() {
    check("add priority=1,ip actions=1\ndelete tcp\n", &["0 1,ip output:1"]);
    check("add priority=1,ip actions=1\nadd priority=5,tcp,actions=2\ndelete table=0,ip\n", &[]);
    check("priority=1,ip actions=1\ntable=3,priority=1,ip actions=1\ndelete ip\n", &[]);
    check("priority=1,ip actions=1\ndelete table=1\n", &["0 1,ip output:1"]);
    check("priority=1,ip actions=1\ndelete\n", &[]);
    check("delete\nadd priority=2,tcp actions=2\n", &["0 2,tcp output:2"]);
    check("table=1,priority=1,ip actions=1\ndelete table=255,ip\n", &[]);
    check(
        "priority=1,ip,nw_src=10.0.0.0/8 actions=1\npriority=1,ip,nw_src=10.0.0.0/7 actions=1\n\
         delete ip,nw_src=10.0.0.0/8\n",
        &["0 1,ip,nw_src=10.0.0.0/7 output:1"],
    );
    check("priority=1,reg0=5/0xf actions=1\ndelete reg0=5/0x5\n", &[]);
    check("priority=1,tcp actions=1\ndelete tp_dst=5\n", &[]);
    check("delete duration=3,n_packets=4,ip\npriority=1,ip actions=drop", &["0 1,ip drop"]);
}

#[test]
fn strict_commands_mean_one_match_and_priority() {
    check("priority=1,ip actions=1\ndelete_strict ip\n", &["0 1,ip output:1"]);
    check("priority=1,ip actions=1\ndelete_strict priority=1,ip\n", &[]);
    check("table=2,priority=1,ip actions=1\ndelete_strict priority=1,ip\n", &[]);
    check(
        "priority=1,ip actions=1\nmodify_strict priority=2,ip actions=2\n",
        &["0 1,ip output:1", "0 2,ip output:2"],
    );
}

#[test]
fn modify_changes_what_is_there_and_adds_what_is_not() {
    check("priority=1,ip actions=1\nmodify ip actions=2\n", &["0 1,ip output:2"]);
    check("modify table=3,priority=3,ip actions=2\n", &["3 3,ip output:2"]);
    check("table=1,in_port=1 actions=drop\nmodify in_port=tap1,actions=2\n", &["1 32768,in_port=1 output:2"]);
    check(
        "priority=1,tcp actions=1\npriority=7,tcp,tp_dst=5 actions=1\nmodify ip actions=2\n",
        &["0 1,tcp output:2", "0 7,tcp,tp_dst=5 output:2"],
    );
}

#[test]
fn cookies_are_looked_at_under_a_mask() {
    let two = "cookie=5,priority=1,tcp actions=1\ncookie=6,priority=2,tcp actions=1\n";
    check(&format!("{two}delete cookie=5/0xf\n"), &["0 2,tcp output:1"]);
    check(&format!("{two}delete cookie=5/-1\n"), &["0 2,tcp output:1"]);
    check(&format!("{two}modify cookie=5/-1,tcp,actions=2\n"), &["0 1,tcp output:2", "0 2,tcp output:1"]);
    check("cookie=5,priority=1,tcp actions=1\nmodify cookie=9/-1,tcp,actions=2\n", &["0 1,tcp output:1"]);
    check("cookie=5,priority=1,tcp actions=1\nmodify cookie=9,tcp,actions=2\n", &["0 1,tcp output:2"]);
    check_refused(&format!("{two}delete cookie=5\n"), 3, "mask");
}

#[test]
fn out_port_means_flows_that_put_out_to_it() {
    let flows = "priority=1,tcp actions=learn(table=3,output:NXM_OF_IN_PORT[]),output:2\n\
                 priority=2,tcp actions=enqueue:2:1\n\
                 priority=3,tcp actions=output:NXM_OF_IN_PORT[]\n\
                 priority=4,udp,actions=bundle(eth_src,1,hrw,ofport,members:2,1)\n\
                 priority=7,udp,actions=clone(output:2)\n\
                 priority=8,udp,actions=output(port=2,max_len=100)\n\
                 priority=9,udp,actions=resubmit(2,3)\n";
    let text = format!("{flows}delete out_port=2\n");
    let priorities: Vec<_> = left(&text).unwrap().iter().map(|flow| flow.chars().nth(2).unwrap()).collect();
    assert_eq!(priorities, ['3', '4', '8', '9']);
}

#[test]
fn words_may_be_cut_short_and_stand_behind_blanks() {
    check("a priority=1,ip,actions=1\nd tcp\n", &["0 1,ip output:1"]);
    check("modify_ priority=3,tcp actions=drop\ndelete_s priority=4,tcp\n", &["0 3,tcp drop"]);
    check(
        " add\tpriority=2,tcp actions=2\nadd,priority=3,tcp actions=2\n",
        &["0 2,tcp output:2", "0 3,tcp output:2"],
    );
}

#[test]
fn what_the_tool_refuses_is_refused() {
    check_refused("adds priority=2,tcp actions=2\n", 1, "field adds missing value");
    check_refused("ADD priority=2,tcp actions=2\n", 1, "field ADD missing value");
    check_refused("priority=2,tcp actions=2\ndelete priority=2,tcp\n", 2, "priority");
    check_refused("delete tcp actions=output:2\n", 1, "actions");
    check_refused("delete ip,nosuch=3\n", 1, "nosuch");
    check_refused("delete idle_timeout=3,ip\n", 1, "idle_timeout");
    check_refused("delete send_flow_rem,ip\n", 1, "send_flow_rem");
    check_refused("modify priority=2,tcp\n", 1, "must specify an action");
    check_refused("modify importance=3,ip,actions=drop\n", 1, "importance");
    check_refused("modify ip,out_port=2,actions=drop\n", 1, "out_port");
    check_refused("table=7,ip,actions=drop\nmodify ip,actions=goto_table:5\n", 2, "above 7");
}
