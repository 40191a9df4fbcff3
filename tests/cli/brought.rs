//! What packets bring with them besides their bytes, as `trace` takes it, and where they may leave by. Expectations
//! are what `ofproto/trace` of Open vSwitch 3.1 says of the same flows and packets.

use super::{check_refused, run, scratch};

const FIELD: &str = "tests/fixtures/field";

/// The last line that says what became of the packet, and the exit code.
#[track_caller]
fn check(flows: &str, arguments: &[&str], code: i32, ending: &str) {
    let path = format!("{FIELD}/{flows}");
    let path = if flows.starts_with('/') { flows } else { &path };
    let run = run(&[&["trace", path], arguments].concat());
    assert_eq!(run.code, Some(code), "{arguments:?}: {run:?}");
    let last = run.out.lines().rfind(|line| line.starts_with("= ")).unwrap();
    assert!(last.starts_with(ending), "{arguments:?}: {last}");
}

#[test]
fn tunnel_fields_are_given_or_decide_nothing() {
    let flows = "tunnel-trace/flows.txt";
    let icmp = "icmp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02,nw_src=1.1.1.1,nw_dst=2.2.2.2";
    let with = |id: &str| format!("{icmp},tun_id={id}");
    check(flows, &["--in-port", "2", "--packet", &with("0x6ab")], 0, "= leaves by 1: VLAN 2:");
    check(flows, &["--in-port", "2", "--packet", &with("0x6ac")], 0, "= dropped: line 4");
    check(flows, &["--in-port", "2", "--packet", icmp], 3, "= unknown: line 3 asks for tun_id");
    check(flows, &["--packet", &format!("in_port=2,{}", with("0x6ab"))], 0, "= leaves by 1");
    // The other port's table does not ask.
    check("tunnel-trace/flows.txt", &["--in-port", "1", "--packet", icmp], 0, "= dropped");
}

/// An ordinary port brings no tunnel's fields, whoever asks for them.
#[test]
fn ports_that_are_described_bring_what_their_type_has() {
    let icmp = "icmp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02";
    for (kind, code, ending) in [
        ("", 0, "= dropped: line 4"),
        ("internal", 0, "= dropped: line 4"),
        ("patch", 0, "= dropped: line 4"),
        ("vxlan", 3, "= unknown"),
        ("geneve", 3, "= unknown"),
        ("something-new", 3, "= unknown"),
    ] {
        let text = format!(r#"{{"headings":["name","ofport","type"],"data":[["a",1,""],["b",2,"{kind}"]]}}"#);
        let ports = scratch(&format!("brought-{kind}.json"), text.as_bytes());
        let arguments = ["--ports", ports.to_str().unwrap(), "--in-port", "b", "--packet", icmp];
        check("tunnel-trace/flows.txt", &arguments, code, ending);
    }
}

/// What an action writes is known from there on.
#[test]
fn what_is_written_is_no_longer_open() {
    let written = scratch(
        "brought-written.txt",
        b"in_port=2 actions=set_field:5->tun_id,resubmit(,1)\ntable=1,priority=2,tun_id=6 actions=output:3\ntable=1,priority=1 actions=output:4\n",
    );
    check(written.to_str().unwrap(), &["--in-port", "2", "--packet", "ip"], 0, "= leaves by 4");
    let copied = scratch(
        "brought-copied.txt",
        b"in_port=2 actions=move:NXM_NX_TUN_ID[0..31]->NXM_NX_REG3[],resubmit(,1)\ntable=1,priority=2,reg3=6 actions=output:3\ntable=1,priority=1 actions=output:4\n",
    );
    check(
        copied.to_str().unwrap(),
        &["--in-port", "2", "--packet", "ip"],
        3,
        "= unknown: line 2 asks for reg3",
    );
}

#[test]
fn all_that_ofproto_trace_takes_is_taken() {
    let flows = scratch(
        "brought-all.txt",
        b"priority=9,reg5=7,metadata=0x9,pkt_mark=3,ct_state=+trk+est,ct_zone=5,ct_mark=0x3,ct_label=0x4,udp,tp_src=5 actions=output:9\n\
          priority=8,tun_src=1.1.1.1,tun_dst=2.2.2.2,ip actions=output:8\n\
          priority=7,dl_type=0x894f,nsh_spi=5,nsh_si=3,nsh_c1=0x7 actions=output:7\n\
          priority=6,icmp6,icmp_type=135,nd_target=::1 actions=output:6\n\
          priority=5,ct_state=+trk-inv,ct_nw_src=1.1.1.1,ct_nw_proto=6,ct_tp_src=4,tcp actions=output:5\n\
          priority=1 actions=drop\n\
          table=3,reg0=1 actions=output:3\n",
    );
    let flows = flows.to_str().unwrap();
    let check = |packet: &str, ending: &str| check(flows, &["--packet", packet], 0, ending);
    let all = "pkt_mark=0x3,ct_state=est|trk,ct_zone=5,ct_mark=0x3,ct_label=0x4,udp,reg5=0x7,metadata=0x9,in_port=2";
    check(&format!("{all},tp_src=5,tun_id=0"), "= leaves by 9");
    // As the real switch printed it.
    check(
        &format!(
            "Flow: {all},vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,tp_src=5,tp_dst=0"
        ),
        "= leaves by 9",
    );
    check(
        "Flow: ip,tun_src=1.1.1.1,tun_dst=2.2.2.2,tun_ipv6_src=::,tun_ipv6_dst=::,tun_gbp_id=0,tun_gbp_flags=0,tun_tos=0,tun_ttl=0,tun_erspan_ver=0,gtpu_flags=0,gtpu_msgtype=0,tun_flags=0,in_port=2,dl_vlan=5,dl_vlan_pcp=0,vlan_tci1=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_proto=0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no",
        "= leaves by 8",
    );
    check(
        "Flow: tun_id=0x1,tun_src=3.3.3.3,in_port=2,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x894f,nsh_flags=0,nsh_ttl=0,nsh_mdtype=1,nsh_np=3,nsh_spi=0x5,nsh_si=3,nsh_c1=0x7,nsh_c2=0x0,nsh_c3=0x0,nsh_c4=0x0,nw_proto=0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no",
        "= leaves by 7",
    );
    check(
        "Flow: icmp6,in_port=2,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,ipv6_src=::,ipv6_dst=::,ipv6_label=0x00000,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,icmp_type=135,icmp_code=0,nd_target=::1,nd_sll=00:00:00:00:00:00,nd_tll=00:00:00:00:00:00",
        "= leaves by 6",
    );
    check(
        "Flow: ct_state=new|trk,ct_nw_src=1.1.1.1,ct_nw_dst=0.0.0.0,ct_nw_proto=6,ct_tp_src=4,ct_tp_dst=0,tcp,tun_src=4.4.4.4,in_port=2,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,tp_src=0,tp_dst=0,tcp_flags=0",
        "= leaves by 5",
    );
    super::brought::check(flows, &["--table", "3", "--packet", "in_port=1,ip,reg0=1"], 0, "= leaves by 3");
    super::brought::check(
        flows,
        &["--table", "3", "--packet", "in_port=1,ip"],
        0,
        "= dropped: no flow of table 3",
    );
    check_refused(
        &run(&["trace", flows, "--packet", "in_port=1,ip,tun_metadata0=5"]),
        &["--packet:1:", "tun_metadata0"],
    );
    check_refused(
        &run(&["trace", flows, "--packet", "in_port=1,ip,nw_frag=later,tp_src=5"]),
        &["--packet:1:"],
    );
}

#[test]
fn a_register_may_name_any_port_where_nobody_listed_them() {
    let arguments = ["--in-port", "1", "--packet", "icmp"];
    check("output-by-register/a.flows", &arguments, 0, "= leaves by 73");
    check("output-by-register/b.flows", &arguments, 0, "= leaves by 74");
    check("output-by-register/c.flows", &arguments, 0, "= dropped: line 2");
    let ports =
        scratch("brought-listed.json", br#"{"headings":["name","ofport"],"data":[["a",1],["b",74]]}"#);
    let listed = ["--ports", ports.to_str().unwrap(), "--in-port", "1", "--packet", "icmp"];
    check("output-by-register/a.flows", &listed, 0, "= dropped: there is no port 73");
    check("output-by-register/b.flows", &listed, 0, "= leaves by 74");
}
