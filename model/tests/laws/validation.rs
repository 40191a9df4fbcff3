//! What is refused: every fault names object, field and value, and all are found at once.

use crate::support::{group, intent, port, port_of, rule};
use flowproof_model::policy::{LoadError, Policy};
use serde_json::{Value, json};

/// The intent has exactly this fault.
#[track_caller]
fn check(intent: &Value, expected: &str) {
    match Policy::from_json(&intent.to_string()) {
        Ok(_) => panic!("accepted; expected: {expected}"),
        Err(error) => assert_eq!(error.to_string(), expected),
    }
}

#[track_caller]
fn check_rule(line: &str, expected: &str) {
    check(&intent(&[line], &[]), &format!("security group rule `sga-0`: {expected}"));
}

#[track_caller]
fn check_port(field: &str, value: Value, expected: &str) {
    let mut intent = intent(&[], &[]);
    port_of(&mut intent, "a")[field] = value;
    check(&intent, &format!("port `a`: `{field}`: {expected}"));
}

#[test]
fn rules_are_refused_as_the_api_refuses_them() {
    let rows = [
        ("sideways IPv4 tcp", "`direction`: `sideways` is not `ingress` or `egress`"),
        ("ingress IPv5 tcp", "`ethertype`: `IPv5` is not `IPv4` or `IPv6`"),
        (
            "ingress IPv4 tpc",
            "`protocol`: `tpc` is not a protocol name that the API knows, or a number from 0 to 255",
        ),
        (
            "ingress IPv4 256",
            "`protocol`: `256` is not a protocol name that the API knows, or a number from 0 to 255",
        ),
        (
            "ingress IPv4 -1",
            "`protocol`: `-1` is not a protocol name that the API knows, or a number from 0 to 255",
        ),
        ("ingress IPv4 any 22-22", "`port_range_min`: `22` given for protocol `any`, which has no ports"),
        ("ingress IPv4 vrrp 80-80", "`port_range_min`: `80` given for protocol `vrrp`, which has no ports"),
        ("ingress IPv4 tcp 0-22", "`port_range_min`: `0` is not a port from 1 to 65535"),
        ("ingress IPv4 tcp 23-22", "`port_range_max`: range `23` to `22` ends before it begins"),
        ("ingress IPv4 6 23-22", "`port_range_max`: range `23` to `22` ends before it begins"),
        (
            "ingress IPv4 tcp 22",
            "`port_range_max`: protocol `tcp` needs both ends of a port range, or neither",
        ),
        (
            "ingress IPv4 dccp 22",
            "`port_range_max`: protocol `dccp` needs both ends of a port range, or neither",
        ),
        ("ingress IPv4 tcp 22-65536", "`port_range_max`: `65536` is not a number from 0 to 65535"),
        ("ingress IPv4 icmp 256", "`port_range_min`: `256` is not a number from 0 to 255"),
        ("ingress IPv4 icmp 8/256", "`port_range_max`: `256` is not a number from 0 to 255"),
        ("ingress IPv4 ipv6-icmp", "`protocol`: protocol `ipv6-icmp` exists over IPv6 only"),
        ("ingress IPv4 58", "`protocol`: protocol `58` exists over IPv6 only"),
        ("ingress IPv4 ipv6-route", "`protocol`: protocol `ipv6-route` exists over IPv6 only"),
        (
            "ingress IPv4 any prefix=10.0.0.0/33",
            "`remote_ip_prefix`: `10.0.0.0/33` is not an address or a prefix in CIDR notation",
        ),
        (
            "ingress IPv4 any prefix=10.0.0/8",
            "`remote_ip_prefix`: `10.0.0/8` is not an address or a prefix in CIDR notation",
        ),
        (
            "ingress IPv4 any prefix=2001:db8::/32",
            "`remote_ip_prefix`: `2001:db8::/32` is not of family IPv4",
        ),
        ("ingress IPv6 any prefix=0.0.0.0/0", "`remote_ip_prefix`: `0.0.0.0/0` is not of family IPv6"),
        ("ingress IPv4 any group=nobody", "`remote_group_id`: there is no security group `nobody`"),
        (
            "ingress IPv4 any addresses=nowhere",
            "`remote_address_group_id`: there is no address group `nowhere`",
        ),
        (
            "ingress IPv4 any prefix=10.0.0.0/8 group=peers",
            "`remote_group_id`: `peers` cannot stand beside `remote_ip_prefix`",
        ),
        (
            "ingress IPv4 any group=peers addresses=offices",
            "`remote_address_group_id`: `offices` cannot stand beside `remote_group_id`",
        ),
    ];
    for (line, expected) in rows {
        check_rule(line, expected);
    }
}

#[test]
fn a_rule_without_a_narrowing_key_is_refused_not_widened() {
    let missing = "missing (where nothing is meant, write `null` or an empty list)";
    let keys = [
        "protocol",
        "port_range_min",
        "port_range_max",
        "remote_ip_prefix",
        "remote_group_id",
        "direction",
        "ethertype",
    ];
    for key in keys {
        let mut intent = intent(&["ingress IPv4 tcp"], &[]);
        intent["security_groups"][0]["security_group_rules"][0].as_object_mut().unwrap().remove(key);
        check(&intent, &format!("security group rule `sga-0`: `{key}`: {missing}"));
    }
    let mut intent = intent(&["ingress IPv4 tcp"], &[]);
    let rule = &mut intent["security_groups"][0]["security_group_rules"][0];
    rule.as_object_mut().unwrap().remove("remote_address_group_id");
    Policy::from_json(&intent.to_string()).unwrap();
}

#[test]
fn a_code_without_a_type_is_refused() {
    let mut intent = intent(&["ingress IPv4 icmp"], &[]);
    intent["security_groups"][0]["security_group_rules"][0]["port_range_max"] = 0.into();
    check(
        &intent,
        "security group rule `sga-0`: `port_range_max`: icmp code `0` needs a type in `port_range_min`",
    );
}

#[test]
fn what_the_api_cannot_set_is_refused_not_ignored() {
    let mut intent = intent(&["ingress IPv4 tcp"], &[]);
    intent["security_groups"][0]["security_group_rules"][0]["source_port_range_min"] = 42.into();
    check(
        &intent,
        "security group rule `sga-0`: `source_port_range_min`: `42` cannot be set through the API and is not modelled",
    );
}

#[test]
fn ports_are_refused_for_each_field_that_matters() {
    check_port("mac_address", json!("fa:16:3e"), "`fa:16:3e` is not the MAC address of an interface");
    check_port(
        "mac_address",
        json!("01:00:5e:00:00:01"),
        "`01:00:5e:00:00:01` is not the MAC address of an interface",
    );
    check_port("network_id", json!("net9"), "there is no network `net9`");
    check_port("security_groups", json!(["nobody"]), "there is no security group `nobody`");
    check_port("security_groups", json!(["sga", "sga"]), "`sga` is used twice");
    check_port(
        "fixed_ips",
        json!([{ "ip_address": "10.0.0" }]),
        "`{\"ip_address\":\"10.0.0\"}` is not an object with an `ip_address`",
    );
    check_port(
        "allowed_address_pairs",
        json!([{ "ip_address": "10.0.0.0/40" }]),
        "`10.0.0.0/40` is not an address or a prefix in CIDR notation",
    );
    check_port(
        "allowed_address_pairs",
        json!([{ "mac_address": "00:00:5e:00:01:33" }]),
        "`{\"mac_address\":\"00:00:5e:00:01:33\"}` is not an object with an `ip_address`",
    );
    check_port(
        "allowed_address_pairs",
        json!([{ "ip_address": "10.0.0.9", "mac_address": "x" }]),
        "`x` is not a MAC address",
    );
    check_port("port_security_enabled", json!("yes"), "`yes` is not true or false");
    let missing = "missing (where nothing is meant, write `null` or an empty list)";
    for field in ["mac_address", "network_id", "fixed_ips", "security_groups", "device_owner"] {
        check_port(field, Value::Null, missing);
    }
}

#[test]
fn nothing_is_there_twice() {
    let mut twice = intent(&[], &[]);
    twice["ports"].as_array_mut().unwrap().push(port("r", "net1", &[], &[]));
    check(&twice, "port `r`: `id`: `r` is used twice");

    let mut twice = intent(&[], &[]);
    twice["security_groups"].as_array_mut().unwrap().push(group("peers", &[]));
    check(&twice, "security group `peers`: `id`: `peers` is used twice");

    let mut twice = intent(&["ingress IPv4 any"], &[]);
    twice["security_groups"][1]["security_group_rules"] = json!([rule("sga-0", "ingress IPv4 any")]);
    check(&twice, "security group rule `sga-0`: `id`: `sga-0` is used twice");

    let mut twice = intent(&[], &[]);
    port_of(&mut twice, "b")["mac_address"] = json!("fa:16:3e:00:00:05");
    check(&twice, "port `b`: `mac_address`: `fa:16:3e:00:00:05` already belongs to port `a`");
}

#[test]
fn a_port_is_bound_once_in_the_vlan_of_its_network() {
    let bound = |index: usize, field: &str, value: Value| {
        let mut intent = intent(&[], &[]);
        intent["host"]["bindings"][index][field] = value;
        intent
    };
    let mut twice = intent(&[], &[]);
    let again = json!({ "port_id": "a", "ofport": 50, "vlan": 1 });
    twice["host"]["bindings"].as_array_mut().unwrap().push(again);
    check(&twice, "binding `a`: `port_id`: `a` is used twice");
    check(&bound(1, "port_id", json!("z")), "binding `z`: `port_id`: there is no port `z`");
    check(&bound(1, "ofport", json!(5)), "binding `b`: `ofport`: `5` already belongs to port `a`");
    check(
        &bound(1, "ofport", json!(65535)),
        "binding `b`: `ofport`: `65535` is not an OpenFlow port number from 1 to 65279",
    );
    check(
        &bound(1, "ofport", json!(-1)),
        "binding `b`: `ofport`: `-1` is not an OpenFlow port number from 1 to 65279",
    );
    check(&bound(1, "vlan", json!(4095)), "binding `b`: `vlan`: `4095` is not a VLAN id from 1 to 4094");
    check(
        &bound(1, "vlan", json!(3)),
        "binding `b`: `vlan`: `3` is not the local VLAN of the other ports of its network",
    );
    check(&bound(4, "vlan", json!(1)), "binding `x`: `vlan`: `1` already belongs to network `net1`");
    let mut uplink = intent(&[], &[]);
    uplink["host"]["uplinks"] = json!([{ "ofport": 5, "kind": "tunnel" }]);
    check(&uplink, "uplink `5`: `ofport`: `5` already belongs to port `a`");
    uplink["host"]["uplinks"] = json!([{ "ofport": 1, "kind": "sideways" }]);
    check(&uplink, "uplink `#1`: `kind`: `sideways` is not `provider`, `tunnel` or `flat`");
}

#[test]
fn what_the_firewall_judges_itself_cannot_be_permitted_by_ethertype() {
    for ethertype in ["0x0800", "0x86dd", "0x0806", "0x8035", "0x5ff", "lldp"] {
        let mut intent = intent(&[], &[]);
        intent["host"]["options"] = json!({ "permitted_ethertypes": [ethertype] });
        let expected = "an ethertype from 0x600 other than those of IP, ARP and RARP";
        check(
            &intent,
            &format!("host options `intent`: `permitted_ethertypes`: `{ethertype}` is not {expected}"),
        );
    }
}

#[test]
fn stateful_and_stateless_groups_do_not_mix_on_a_port() {
    let mut intent = intent(&[], &[]);
    intent["security_groups"][1]["stateful"] = false.into();
    Policy::from_json(&intent.to_string()).unwrap();
    port_of(&mut intent, "a")["security_groups"] = json!(["sga", "sgb"]);
    check(&intent, "port `a`: `security_groups`: stateful group `sga` and stateless group `sgb` on one port");
}

#[test]
fn a_vlan_network_has_its_vlan() {
    let mut intent = intent(&[], &[]);
    intent["networks"][1]["provider:network_type"] = json!("vlan");
    check(
        &intent,
        "network `net2`: `provider:segmentation_id`: missing (where nothing is meant, write `null` or an empty list)",
    );
}

#[test]
fn all_faults_are_found_at_once() {
    let mut intent =
        intent(&["ingress IPv4 tcp 23-22", "ingress IPv4 any group=nobody"], &["ingress IPv4 tpc"]);
    port_of(&mut intent, "a")["network_id"] = json!("net9");
    let Err(LoadError::Faults(faults)) = Policy::from_json(&intent.to_string()) else { panic!("accepted") };
    let found: Vec<_> = faults.iter().map(|fault| (fault.id.as_str(), fault.field)).collect();
    let expected = [
        ("sga-0", "port_range_max"),
        ("sgb-0", "protocol"),
        ("sga-1", "remote_group_id"),
        ("a", "network_id"),
    ];
    assert_eq!(found[..4], expected, "{faults:?}");
}

#[test]
fn other_documents_are_refused_by_name() {
    let error = Policy::merge([("groups.json", "{")]).unwrap_err().to_string();
    assert!(error.starts_with("`groups.json` is not JSON: "), "{error}");
    for text in ["{}", "[]", "null", r#"{"subnets": []}"#] {
        let error = Policy::merge([("groups.json", text)]).unwrap_err().to_string();
        assert!(error.starts_with("`groups.json` has none of `networks`"), "{error}");
    }
    check(&json!({ "ports": [7] }), "port `#1`: `7` is not an object");
    check(&json!({ "ports": {} }), "document `intent`: `ports`: `{}` is not a list");
}

#[test]
fn unknown_keys_are_fine() {
    let mut intent = intent(&["ingress IPv4 tcp"], &[]);
    port_of(&mut intent, "a")["binding:vif_type"] = json!("ovs");
    intent["security_groups"][0]["security_group_rules"][0]["normalized_cidr"] = json!(null);
    intent["extensions"] = json!([]);
    Policy::from_json(&intent.to_string()).unwrap();
}
