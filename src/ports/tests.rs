use super::*;

/// As a real ovs-vsctl 3.1 printed it, with the numbers that the dummy bridge lacked.
const PORTS: &str = r#"{"data":[["int-br-phy",["set",[]]],["tap1",5]],"headings":["name","tag"]}
{"data":[["tap1",13],["gone",["set",[]]],["broken",-1],["int-br-phy",1]],"headings":["name","ofport"]}"#;

/// What `ovs-ofctl show` of Open vSwitch 3.1 printed, shortened.
const OFCTL_SHOW: &str = "OFPT_FEATURES_REPLY (xid=0x2): dpid:fedcba9876543210
n_tables:254, n_buffers:0
actions: output enqueue set_vlan_vid
 1(patch-br-int-to): addr:aa:55:aa:55:00:02
     config:     0
     state:      0
     speed: 0 Mbps now, 0 Mbps max
 13(tap1): addr:aa:55:aa:55:00:05
     config:     0
 LOCAL(br0): addr:aa:55:aa:55:00:00
OFPT_GET_CONFIG_REPLY (xid=0x4): frags=normal miss_send_len=0
";

/// What `ovs-vsctl show` of Open vSwitch 3.1 printed, shortened; before 2.12 names stood in quotes.
const VSCTL_SHOW: &str = "c0e15d00-11be-4feb-a39a-09a10bff9b60
    Bridge br0
        fail_mode: secure
        Port tap1
            tag: 5
            Interface tap1
        Port \"patch-br-int-to-provnet-1\"
            Interface \"patch-br-int-to-provnet-1\"
                type: patch
                options: {peer=x}
        Port gone
            tag: 4095
            Interface gone
                error: \"could not open network device gone (No such device)\"
        Port br0
            Interface br0
                type: internal
        Port vxlan-1
            Interface vxlan-1
                type: vxlan
                options: {df_default=\"true\", remote_ip=\"1.1.1.1\"}
    ovs_version: \"3.1.0\"
";

fn port(name: &str, ofport: u16, tag: Option<u16>, kind: Option<PortKind>) -> Port {
    Port { name: name.to_owned(), ofport, tag, kind }
}

#[test]
fn documents_are_joined_by_name() {
    let expected = vec![port("int-br-phy", 1, None, None), port("tap1", 13, Some(5), None)];
    assert_eq!(parse_ports(PORTS).unwrap(), PortList::Numbered(expected));
}

#[test]
fn other_columns_do_not_matter_and_types_are_kept() {
    let text = r#"{"headings":["name","ofport","type","options","external_ids","tag"],
        "data":[["a",1,"vxlan",["map",[["key","flow"]]],["map",[]],["set",[]]],
                ["b",2,"",["map",[]],["map",[]],7],["c",3,"internal",["map",[]],["map",[]],["set",[]]]]}"#;
    let kinds = [PortKind::Tunnel, PortKind::System, PortKind::Internal].map(Some);
    let [tunnel, system, internal] = kinds;
    let expected =
        vec![port("a", 1, None, tunnel), port("b", 2, Some(7), system), port("c", 3, None, internal)];
    assert_eq!(parse_ports(text).unwrap(), PortList::Numbered(expected));
}

#[test]
fn what_the_tools_show_is_read_and_joined_under_whole_and_cut_names() {
    let numbered = vec![
        port("patch-br-int-to", 1, None, None),
        port("tap1", 13, None, None),
        port("br0", 65534, None, None),
    ];
    assert_eq!(parse_ports(OFCTL_SHOW).unwrap(), PortList::Numbered(numbered));
    let both = vec![
        port("patch-br-int-to-provnet-1", 1, None, Some(PortKind::Patch)),
        port("tap1", 13, Some(5), Some(PortKind::System)),
        port("br0", 65534, None, Some(PortKind::Internal)),
    ];
    for text in [format!("{OFCTL_SHOW}{VSCTL_SHOW}"), format!("{VSCTL_SHOW}{OFCTL_SHOW}")] {
        assert_eq!(parse_ports(&text).unwrap(), PortList::Numbered(both.clone()));
    }
    let text = "  br0:\n    tap1 13/704: (system)\n    vx 5/3: (vxlan: key=flow, remote_ip=1.1.1.1)\n";
    let expected =
        vec![port("vx", 5, None, Some(PortKind::Tunnel)), port("tap1", 13, None, Some(PortKind::System))];
    assert_eq!(parse_ports(text).unwrap(), PortList::Numbered(expected));
}

#[test]
fn ports_without_numbers_have_names_tags_and_bridges() {
    let PortList::Named(named) = parse_ports(VSCTL_SHOW).unwrap() else { panic!("there are no numbers") };
    let names: Vec<_> =
        named.iter().map(|port| (port.name.as_str(), port.tag, port.bridge.as_str())).collect();
    let expected = [
        ("br0", None, "br0"),
        ("patch-br-int-to-provnet-1", None, "br0"),
        ("tap1", Some(5), "br0"),
        ("vxlan-1", None, "br0"),
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_cut_name_is_the_only_port_that_it_may_be() {
    let two = VSCTL_SHOW
        .replace("Port tap1", "Port patch-br-int-to-other")
        .replace("Interface tap1", "Interface patch-br-int-to-other");
    let error = parse_ports(&format!("{OFCTL_SHOW}{two}")).unwrap_err().to_string();
    assert!(error.contains("`patch-br-int-to-other` or `patch-br-int-to-provnet-1`"), "{error}");
    let ports = [
        port("patch-br-int-to-a", 1, None, None),
        port("patch-br-int-to-b", 2, None, None),
        port("a-quite-long-name", 3, None, None),
    ];
    let names = numbers(&ports);
    assert_eq!(names.get("patch-br-int-to"), None);
    assert_eq!(names.get("a-quite-long-na"), Some(&3));
    assert_eq!(names.get("patch-br-int-to-b"), Some(&2));
}

#[track_caller]
fn check(text: &str, message: &str) {
    let error = parse_ports(text).unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}

#[test]
fn what_the_tools_do_not_print_is_refused() {
    check("", "1:1: no port has both `name` and `ofport`");
    check("what is this\n", "1:1: no port has both `name` and `ofport`");
    check("{}", "1:1: document 1: no `headings`: is this `ovs-vsctl --format=json` output?");
    check(
        r#"{"headings":["name"]}"#,
        "1:1: document 1: no `data`: is this `ovs-vsctl --format=json` output?",
    );
    check(
        r#"{"headings":["tag"],"data":[]}"#,
        "1:1: document 1: no `name`: is this `ovs-vsctl --format=json` output?",
    );
    check(
        r#"{"headings":["name","ofport"],"data":[["a",70000]]}"#,
        "1:1: document 1: port `a`: `ofport` is `70000`",
    );
    check("{\n \"data\": x", "2:10: expected value");
    check(" 1(a): addr:x\n 70000(b): addr:y\n", "2:1: no OpenFlow port number: `70000`");
    check("Port a\n tag: 5000\n", "2:1: a VLAN is a number up to 4095: `5000`");
}
