//! Small tables at random, dense enough for most packets to get somewhere.

use super::rng::Rng;

const MACS: [&str; 3] = ["02:00:00:00:00:01", "02:00:00:00:00:02", "fa:16:3e:00:00:03"];
const V4: [&str; 6] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.0/30", "10.0.0.2/255.0.0.254", "8.8.8.8"];
const V6: [&str; 4] = ["fd00::1", "fd00::2", "fd00::/64", "fe80::1"];
/// Fields that any packet may be asked for; `?` is a port, `#` a small number, `@` a table behind.
const ANY: [&str; 9] = [
    "in_port=?",
    "in_port=?",
    "reg0=#",
    "reg1=#/0x1",
    "metadata=#",
    "vlan_tci=0x0000",
    "dl_vlan=5",
    "vlan_tci=0x1000/0x1000",
    "vlan_tci=0x1005/0x1fff",
];
const STATES: [&str; 10] =
    ["-trk", "+trk", "+new", "+est", "+new-est", "+est-rel-rpl", "+est+rpl", "+inv+trk", "+rel", "-new+trk"];
const UPPER_V4: [&str; 9] = [
    "ip",
    "tcp",
    "udp",
    "icmp",
    "tcp,tp_dst=80",
    "tcp,tp_src=80",
    "udp,tp_dst=0x50/0xfff0",
    "icmp,icmp_type=8",
    "sctp,tp_dst=80",
];
const UPPER_V6: [&str; 7] =
    ["ipv6", "tcp6", "udp6", "icmp6", "tcp6,tp_dst=80", "icmp6,icmp_type=128", "udp6,tp_src=80"];
const OTHER: [&str; 9] = [
    "arp",
    "arp,arp_op=1",
    "arp,arp_spa=10.0.0.1",
    "rarp",
    "icmp6,icmp_type=135,nd_target=fd00::1",
    "icmp6,icmp_type=136",
    "",
    "ip,nw_frag=no",
    "tcp,tcp_flags=+syn-ack",
];
const ACTIONS: [&str; 26] = [
    "output:?",
    "output:?",
    "output:?",
    "NORMAL",
    "NORMAL",
    "IN_PORT",
    "ALL",
    "FLOOD",
    "LOCAL",
    "load:#->NXM_NX_REG0[]",
    "load:#->NXM_NX_REG1[]",
    "load:0x#->NXM_NX_REG2[4..11]",
    "move:NXM_NX_REG0[0..15]->NXM_NX_REG1[16..31]",
    "set_field:#->metadata",
    "mod_vlan_vid:5",
    "mod_vlan_vid:#",
    "mod_vlan_pcp:3",
    "strip_vlan",
    "mod_dl_src:02:00:00:00:00:0#",
    "mod_dl_dst:fa:16:3e:00:00:03",
    "resubmit(,@)",
    "resubmit(,@)",
    "resubmit(?,@)",
    "output:NXM_NX_REG0[]",
    "ct_clear",
    "note:00.01",
];
/// Actions that need an IPv4 packet.
const V4_ACTIONS: [&str; 5] =
    ["dec_ttl", "dec_ttl(1,2)", "mod_nw_src:10.0.0.#", "mod_nw_dst:10.0.0.#", "mod_nw_tos:4"];
const TCP_ACTIONS: [&str; 2] = ["mod_tp_dst:8#", "mod_tp_src:80"];
/// `ct()`, for IP packets only.
const CT: [&str; 9] = [
    "ct(table=@)",
    "ct(table=@,zone=#)",
    "ct(commit)",
    "ct(commit,zone=#)",
    "ct(commit,table=@)",
    "ct(commit,zone=#,exec(load:0x#->NXM_NX_CT_MARK[]))",
    "ct(table=@,zone=NXM_NX_REG0[0..15])",
    "ct(commit,force,zone=#)",
    "ct(commit,zone=#,exec(set_field:0x#/0x3->ct_mark,set_field:0x#->ct_label))",
];
const LAST_TABLE: usize = 4;

/// Fills the places of a template.
fn filled(template: &str, table: usize, rng: &mut Rng) -> String {
    let mut text = String::new();
    for c in template.chars() {
        match c {
            '?' => text.push_str(&(1 + rng.below(4)).to_string()),
            '#' => text.push_str(&(1 + rng.below(3)).to_string()),
            // Seldom backwards: such tables call themselves until they hit a limit.
            '@' if rng.chance(1) => text.push_str(&rng.below(table + 1).to_string()),
            '@' => text.push_str(&(table + 1 + rng.below(2)).to_string()),
            c => text.push(c),
        }
    }
    text
}

fn flow(table: usize, rng: &mut Rng) -> String {
    let upper = match rng.below(10) {
        0..5 => *rng.pick(&UPPER_V4),
        5..8 => *rng.pick(&UPPER_V6),
        _ => *rng.pick(&OTHER),
    };
    let keyword = upper.split(',').next().unwrap();
    let v6 = keyword.ends_with('6') || keyword == "ipv6";
    let v4 = !v6 && !matches!(keyword, "" | "arp" | "rarp");
    let mut matches: Vec<String> = vec![upper.to_owned()];
    if rng.chance(30) {
        matches.push(format!("dl_{}={}", rng.pick(&["src", "dst"]), rng.pick(&MACS)));
    }
    if rng.chance(40) {
        let side = rng.pick(&["src", "dst"]);
        if v4 {
            matches.push(format!("nw_{side}={}", rng.pick(&V4)));
        } else if v6 && !upper.contains("nd_") {
            matches.push(format!("ipv6_{side}={}", rng.pick(&V6)));
        }
    }
    if rng.chance(40) {
        let any = *rng.pick(&ANY);
        matches.push(filled(any, table, rng));
    }
    if table > 0 && rng.chance(50) {
        matches.push(format!("ct_state={}", rng.pick(&STATES)));
        if rng.chance(30) {
            let more = *rng.pick(&["ct_mark=#", "ct_zone=#", "ct_mark=0/1"]);
            matches.push(filled(more, table, rng));
        }
    }
    let mut actions = Vec::new();
    for _ in 0..rng.below(4) {
        let template = match rng.below(10) {
            0..3 if v4 || v6 => *rng.pick(&CT),
            3 if v4 => *rng.pick(&V4_ACTIONS),
            4 if keyword == "tcp" => *rng.pick(&TCP_ACTIONS),
            _ => *rng.pick(&ACTIONS),
        };
        actions.push(filled(template, table, rng));
    }
    if actions.is_empty() {
        actions.push("drop".to_owned());
    }
    let priority = 1 + rng.below(40);
    let matches = matches.into_iter().filter(|item| !item.is_empty()).collect::<Vec<_>>().join(",");
    let comma = if matches.is_empty() { "" } else { "," };
    format!("table={table},priority={priority}{comma}{matches} actions={}", actions.join(","))
}

/// The clauses of a conjunction, and its flow.
fn conjunction(table: usize, rng: &mut Rng) -> Vec<String> {
    let (id, priority) = (1 + rng.below(3), 1 + rng.below(40));
    let clause = |item: String, clause: usize| {
        format!("table={table},priority={priority},ip,{item} actions=conjunction({id},{clause}/2)")
    };
    let mut flows: Vec<String> = (0..2).map(|_| clause(format!("nw_src={}", rng.pick(&V4)), 1)).collect();
    flows.extend((0..2).map(|_| clause(filled("in_port=?", table, rng), 2)));
    let last = filled("output:?,resubmit(,@)", table, rng);
    flows.push(format!("table={table},priority={},conj_id={id},ip actions={last}", 1 + rng.below(40)));
    flows
}

/// The flows, one a line.
pub(super) fn lines(rng: &mut Rng) -> Vec<String> {
    let mut lines = Vec::new();
    for table in 0..=LAST_TABLE {
        for _ in 0..3 + rng.below(6) {
            lines.push(flow(table, rng));
        }
        if rng.chance(20) {
            lines.extend(conjunction(table, rng));
        }
        if rng.chance(60) {
            let last = *rng.pick(&["NORMAL", "output:?", "resubmit(,@)", "drop"]);
            let last = filled(last, table, rng);
            lines.push(format!("table={table},priority=0 actions={last}"));
        }
    }
    lines.push("table=0,priority=1,ip actions=ct(table=1)".to_owned());
    lines.push("table=0,priority=1,ipv6 actions=ct(table=1,zone=1)".to_owned());
    lines
}
