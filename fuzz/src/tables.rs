//! Small tables from choices, dense enough for most packets to get somewhere.
//!
//! Invariant: the real tools would accept every flow. Deliberately absent: anything that security groups need.

use crate::Choices;
use flowproof_switch::flow::parse::{ParseOptions, parse_flows};

/// What stands in templates: `?` a port, `#` a small number, `@` a table, mostly a later one.
const MACS: [&str; 3] = ["02:00:00:00:00:01", "02:00:00:00:00:02", "fa:16:3e:00:00:03"];
const V4: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.0/30", "10.0.0.2/255.0.0.254", "8.8.8.8"];
const V6: [&str; 4] = ["fd00::1", "fd00::2", "fd00::/64", "fe80::1"];
const ANY: [&str; 11] = [
    "in_port=?",
    "reg0=#",
    "reg1=#/0x1",
    "reg2=0",
    "metadata=#",
    "vlan_tci=0x0000",
    "dl_vlan=5",
    "dl_vlan=#",
    "vlan_tci=0x1000/0x1000",
    "vlan_tci=0x1005/0x1fff",
    "dl_vlan_pcp=3",
];
const STATES: [&str; 10] =
    ["-trk", "+trk", "+new", "+est", "+new-est", "+est-rel-rpl", "+est+rpl", "+inv+trk", "+rel", "-new+trk"];
const UPPER_V4: [&str; 11] = [
    "ip",
    "tcp",
    "udp",
    "icmp",
    "tcp,tp_dst=80",
    "tcp,tp_src=80",
    "udp,tp_dst=0x40/0xffc0",
    "icmp,icmp_type=8",
    "ip,nw_frag=no",
    "ip,nw_frag=yes",
    "udp,tp_src=67,tp_dst=68",
];
const UPPER_V6: [&str; 9] = [
    "ipv6",
    "tcp6",
    "udp6",
    "icmp6",
    "tcp6,tp_dst=80",
    "icmp6,icmp_type=134",
    "icmp6,icmp_type=136,icmp_code=0,nd_target=fd00::1",
    "ipv6,nw_frag=later",
    "ipv6,nw_proto=44",
];
const OTHER: [&str; 6] =
    ["arp", "arp,arp_op=1", "arp,arp_spa=10.0.0.1", "arp,arp_sha=02:00:00:00:00:01", "rarp", ""];
const ACTIONS: [&str; 29] = [
    "push_vlan:0x8100",
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
    "move:NXM_OF_ETH_SRC[0..7]->NXM_NX_REG0[0..7]",
    "set_field:#->metadata",
    "mod_vlan_vid:5",
    "mod_vlan_vid:#",
    "mod_vlan_pcp:3",
    "strip_vlan",
    "mod_dl_src:02:00:00:00:00:0#",
    "mod_dl_dst:fa:16:3e:00:00:03",
    "resubmit(,@)",
    "resubmit(,@)",
    "resubmit(,@)",
    "resubmit(?,@)",
    "output:NXM_NX_REG0[]",
    "ct_clear",
    "note:00.01",
];
const V4_ACTIONS: [&str; 2] = ["mod_nw_src:10.0.0.#", "mod_nw_dst:10.0.0.#"];
const TCP_ACTIONS: [&str; 4] =
    ["resubmit(,@)", "mod_tp_dst:8#", "mod_tp_src:80", "move:NXM_OF_TCP_SRC[]->NXM_NX_REG0[0..15]"];
/// `ct()`, for IP packets only.
const CT: [&str; 7] = [
    "ct(table=@)",
    "ct(table=@)",
    "ct(table=@,zone=#)",
    "ct(commit,table=@)",
    "ct(commit,zone=#)",
    "ct(table=@,zone=NXM_NX_REG0[0..15])",
    "ct(commit,zone=#,exec(load:0x#->NXM_NX_CT_MARK[]))",
];
const LAST_TABLE: usize = 4;

/// What may be in the tables besides the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spice {
    /// Percent of resubmits that go backwards.
    pub backwards: usize,
    /// Things that are not modelled.
    pub opaque: bool,
}

struct Writer<'a, 'c> {
    choices: &'a mut Choices<'c>,
    spice: Spice,
}

impl Writer<'_, '_> {
    fn filled(&mut self, template: &str, table: usize) -> String {
        let mut text = String::new();
        for c in template.chars() {
            match c {
                '?' => text.push_str(&(1 + self.choices.below(4)).to_string()),
                '#' => text.push_str(&(1 + self.choices.below(3)).to_string()),
                '@' if self.choices.chance(self.spice.backwards) => {
                    text.push_str(&self.choices.below(table + 1).to_string())
                }
                '@' => text.push_str(&(table + 1 + self.choices.below(2)).to_string()),
                c => text.push(c),
            }
        }
        text
    }

    fn matches(&mut self, table: usize) -> (Vec<String>, Family, bool) {
        let (upper, family) = match self.choices.below(10) {
            0..5 => (*self.choices.pick(&UPPER_V4), Family::V4),
            5..8 => (*self.choices.pick(&UPPER_V6), Family::V6),
            _ => (*self.choices.pick(&OTHER), Family::Neither),
        };
        let mut matches: Vec<String> = vec![upper.to_owned()];
        if self.choices.chance(30) {
            matches.push(format!("dl_{}={}", self.choices.pick(&["src", "dst"]), self.choices.pick(&MACS)));
        }
        if self.choices.chance(40) {
            let side = *self.choices.pick(&["src", "dst"]);
            match family {
                Family::V4 => matches.push(format!("nw_{side}={}", self.choices.pick(&V4))),
                Family::V6 => matches.push(format!("ipv6_{side}={}", self.choices.pick(&V6))),
                Family::Neither => {}
            }
        }
        if self.choices.chance(40) {
            let item = *self.choices.pick(&ANY);
            matches.push(self.filled(item, table));
        }
        if table > 0 && self.choices.chance(50) {
            matches.push(format!("ct_state={}", self.choices.pick(&STATES)));
            if self.choices.chance(30) {
                let item = *self.choices.pick(&["ct_mark=#", "ct_zone=#", "ct_mark=0/1", "ct_label=#"]);
                matches.push(self.filled(item, table));
            }
        }
        if self.spice.opaque && self.choices.chance(5) {
            matches.push("tun_metadata0=1".to_owned());
        }
        matches.retain(|item| !item.is_empty());
        (matches, family, upper.starts_with("tcp"))
    }

    fn flow(&mut self, table: usize) -> String {
        let (matches, family, is_tcp) = self.matches(table);
        let mut actions = Vec::new();
        for _ in 0..self.choices.below(4) {
            let template = match self.choices.below(10) {
                0..3 if family != Family::Neither => *self.choices.pick(&CT),
                3 if family == Family::V4 => *self.choices.pick(&V4_ACTIONS),
                4..7 if is_tcp => *self.choices.pick(&TCP_ACTIONS),
                7 if self.spice.opaque => {
                    *self.choices.pick(&["learn(table=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])", "group:1"])
                }
                8 if self.spice.opaque && family == Family::V4 => "dec_ttl",
                _ => *self.choices.pick(&ACTIONS),
            };
            actions.push(self.filled(template, table));
        }
        if actions.is_empty() {
            actions.push("drop".to_owned());
        } else if self.choices.chance(10) {
            actions.push(format!("goto_table:{}", table + 1 + self.choices.below(2)));
        }
        let actions = actions.join(",");
        let mut matches = matches.join(",");
        if actions.contains("commit") {
            // Refused: nothing invalid can be committed.
            matches = matches.replace("ct_state=+inv+trk", "ct_state=+trk");
        }
        let priority = 1 + self.choices.below(12);
        let comma = if matches.is_empty() { "" } else { "," };
        format!("table={table},priority={priority}{comma}{matches} actions={actions}")
    }

    /// The clauses of a conjunction, and its flow.
    fn conjunction(&mut self, table: usize) -> Vec<String> {
        let (id, priority) = (1 + self.choices.below(3), 1 + self.choices.below(12));
        let clause = |item: &str, clause: usize| {
            format!("table={table},priority={priority},ip,{item} actions=conjunction({id},{clause}/2)")
        };
        let mut flows: Vec<String> =
            (0..2).map(|_| clause(&format!("nw_src={}", self.choices.pick(&V4)), 1)).collect();
        for _ in 0..2 {
            let item = *self.choices.pick(&["in_port=?", "nw_dst=10.0.0.#", "reg0=#"]);
            let item = self.filled(item, table);
            flows.push(clause(&item, 2));
        }
        let last = self.filled("output:?,resubmit(,@)", table);
        flows.push(format!(
            "table={table},priority={},conj_id={id},ip actions={last}",
            1 + self.choices.below(12)
        ));
        flows
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
    Neither,
}

/// The flows, one a line.
#[must_use]
pub fn text(choices: &mut Choices<'_>, spice: Spice) -> String {
    let mut writer = Writer { choices, spice };
    let mut lines = Vec::new();
    for table in 0..=LAST_TABLE {
        for _ in 0..3 + writer.choices.below(6) {
            lines.push(writer.flow(table));
        }
        if writer.choices.chance(25) {
            lines.extend(writer.conjunction(table));
        }
        if writer.choices.chance(60) {
            let last = *writer.choices.pick(&["NORMAL", "output:?", "resubmit(,@)", "drop"]);
            let last = writer.filled(last, table);
            lines.push(format!("table={table},priority=0 actions={last}"));
        }
    }
    if writer.choices.chance(70) {
        lines.push("table=0,priority=1,ip actions=ct(table=1)".to_owned());
        lines.push("table=0,priority=1,ipv6 actions=ct(table=1,zone=1)".to_owned());
    }
    // Some combinations of actions are refused: no version of OpenFlow has them.
    lines.retain(|line| parse_flows(line, &ParseOptions::default()).is_ok());
    lines.join("\n")
}
