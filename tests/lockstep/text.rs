//! What is wrong with a scenario is said with its place.

use flowproof_lockstep::parse;

const HOST: &str = "layout neutron
network a vlan 1053 physnet1
uplink 1 provider physnet1
group g
  rule r ingress IPv4 tcp 22
port p a mac fa:16:3e:00:00:01 ofport 11 vlan 1 ip 10.0.0.1 group g
port q a mac fa:16:3e:00:00:02 ip 10.0.0.2
";

#[track_caller]
fn check(line: &str, message: &str) {
    let text = format!("{HOST}{line}\n");
    assert_eq!(parse(&text).unwrap_err().to_string(), message, "{line}");
}

#[test]
fn a_complaint_has_line_column_and_text() {
    check("pakcet q > p tcp", "8:1: a line does not begin with this: `pakcet`");
    check("packet x > p tcp", "8:14: there is no port `x`: `tcp`");
    check("packet q > p tcp,nonsense=1", "8:18: unknown keyword nonsense (`nonsense=1`): `tcp,nonsense=1`");
    check(
        "packet q > p tcp sek=1",
        "8:18: an extra is payload, seq, ack, icmp-id, ip-id or fragment with `=` and a number, or `bad-checksum`: `sek=1`",
    );
    check("packet q >", "8:11: a port is missing at the end: `packet q >`");
    check("hex p 0123", "8:7: this is no frame in hexadecimal: `0123`");
    check("error q 3/3", "8:9: an error message needs a packet before it: `3/3`");
    check("remove-rule s", "8:13: this is not a rule that is there: `s`");
    check(
        "add-rule g s ingress IPv4 tcp 25-22",
        "8:12: port_range_max: range `25` to `22` ends before it begins: `s`",
    );
    check("add-rule h s ingress IPv4 tcp", "8:10: this is not a group that is there: `h`");
    check("advance soon", "8:9: this is not a time such as 30s: `soon`");
    check("expect dropped", "8:1: nothing has happened yet: `expect dropped`");
    check("flush\nlayout neutron", "9:1: this cannot be said after the first event: `layout`");
    check("flush\n  divergence x", "9:3: a divergence says why, after a colon: `divergence x`");
    check("flush\n  expect reason boredom", "9:17: this is not the name of a reason: `boredom`");
    check(
        "switch replies=nobody",
        "8:8: `nobody` is no setting of the policy switch `replies`: `replies=nobody`",
    );
    check("port r a ofport 3", "8:6: a port that is here needs both `ofport` and `vlan`: `r`");
    check("port r b mac fa:16:3e:00:00:03\nflush", "8:6: network_id: there is no network `b`: `r`");
    check("group \"g", "8:7: a quotation mark is missing: `\"g`");
    check(
        "tie sometimes",
        "8:5: this is not which of several flows of one priority wins (`first`, `last`): `sometimes`",
    );
    check("flows", "8:1: the tables have been said already: `flows`");
}

#[test]
fn names_with_blanks_stand_in_quotation_marks() {
    let text = "layout neutron\nnetwork \"a network\"\ngroup \"say \\\"g\\\"\"\nport \"p 1\" \"a network\" mac fa:16:3e:00:00:01 group \"say \\\"g\\\"\"\n";
    let scenario = parse(text).unwrap();
    assert_eq!(scenario.to_string(), text);
    assert!(scenario.policy.groups.contains_key("say \"g\""));
}

#[test]
fn flows_may_stand_in_the_scenario() {
    let text = "flows\n  table=0, priority=1,in_port=1 actions=output:11\n";
    let scenario = parse(text).unwrap();
    assert_eq!(parse(&scenario.to_string()).unwrap(), scenario);
    assert!(parse("flows\n  priority=1 actions=nonsense\n").unwrap_err().to_string().starts_with("2:"));
}
