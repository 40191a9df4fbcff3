//! Scenarios from bytes: a policy first, from networks to rules, then events about what is there.
//!
//! Values come from small shared pools, so that packets meet rules. Invariant: any bytes give a scenario that can be
//! run, and the same bytes the same; bytes that are missing count as zero.

use flowproof_compiler::Layout;
use flowproof_lockstep::frames::arrival;
use flowproof_lockstep::parse;
use flowproof_lockstep::scenario::{Contents, Event, Extras, Packet, Scenario, Sender, Step};
use flowproof_model::policy::{
    Ethertype, IcmpMatch, Policy, Port, PortId, Protocol, Rule, RulePeer, Transport,
};
use std::fmt::Write;
use std::net::IpAddr;

/// Choices made by bytes.
pub(crate) struct Choices<'b> {
    bytes: &'b [u8],
}

impl<'b> Choices<'b> {
    /// Choices made by these.
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) * count / 256
    }

    /// Never, if there are no bytes left.
    fn chance(&mut self, percent: u8) -> bool {
        u32::from(self.byte()) * 100 > u32::from(100 - percent) * 256
    }

    fn pick<'p, T>(&mut self, pool: &'p [T]) -> &'p T {
        &pool[self.below(pool.len())]
    }
}

const PROTOCOLS_V4: &[&str] = &[
    "any",
    "any",
    "tcp",
    "tcp 22",
    "tcp 23",
    "tcp 80",
    "tcp 22-25",
    "tcp 80-88",
    "tcp 1-65535",
    "udp",
    "udp 53",
    "udp 53-60",
    "udp 67-69",
    "icmp",
    "icmp 8",
    "icmp 8/0",
    "icmp 13",
    "sctp 80",
    "sctp",
    "vrrp",
    "6 22",
    "17",
    "dccp 5-6",
    "udplite 7",
    "1",
];
const PROTOCOLS_V6: &[&str] = &[
    "any",
    "any",
    "tcp",
    "tcp 22",
    "tcp 80-88",
    "udp",
    "udp 53",
    "udp 546-547",
    "icmp",
    "icmpv6 128",
    "ipv6-icmp 128/0",
    "58",
    "sctp 80",
    "ipv6-route",
    "112",
    "ipv6-icmp 134",
];
const PREFIXES_V4: &[&str] =
    &["10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.16/28", "0.0.0.0/0", "8.8.8.8/32"];
const PREFIXES_V6: &[&str] = &["fd00::/64", "fd00::1/128", "::/0", "fe80::/10"];
const GROUPS: [&str; 3] = ["g0", "g1", "g2"];
/// Ports that packets have besides those of rules.
const PORTS: &[u16] = &[22, 23, 24, 26, 53, 54, 80, 81, 89, 7, 67, 68, 546, 547, 0, 4000];

fn rule_line(choices: &mut Choices<'_>) -> String {
    let direction = choices.pick(&["ingress", "egress"]);
    let v6 = choices.chance(35);
    let (family, protocols, prefixes) =
        if v6 { ("IPv6", PROTOCOLS_V6, PREFIXES_V6) } else { ("IPv4", PROTOCOLS_V4, PREFIXES_V4) };
    let protocol = choices.pick(protocols);
    let peer = match choices.below(10) {
        0..=4 => String::new(),
        5 | 6 => format!(" with {}", choices.pick(prefixes)),
        7 | 8 => format!(" with group {}", choices.pick(&GROUPS)),
        _ => " with addresses ag".to_owned(),
    };
    format!("{direction} {family} {protocol}{peer}")
}

fn port_line(choices: &mut Choices<'_>, number: usize, local: bool, two: bool) -> String {
    let second = two && choices.chance(30);
    let network = if second { "b" } else { "a" };
    let mut line = format!("port p{number} {network} mac fa:16:3e:00:00:{number:02x}");
    if local {
        let _ = write!(line, " ofport {} vlan {}", 10 + number, if second { 2 } else { 1 });
    }
    if !choices.chance(8) {
        let _ = write!(line, " ip 10.0.0.{number}");
    }
    if choices.chance(70) {
        let _ = write!(line, " ip fd00::{number:x}");
    }
    // The API takes address pairs only with port security.
    let kind = choices.below(100);
    if kind >= 14 && choices.chance(20) {
        let mac = if choices.chance(50) { number } else { 16 + number };
        let prefixes = [
            format!("10.0.0.{}", 16 + number),
            format!("fd00::{:x}", 16 + number),
            "10.0.9.0/24".into(),
            "0.0.0.0/0".into(),
        ];
        let _ = write!(line, " pair fa:16:3e:00:00:{mac:02x} {}", choices.pick(&prefixes));
    }
    for group in GROUPS {
        if choices.chance(60) {
            let _ = write!(line, " group {group}");
        }
    }
    match kind {
        0..=7 => line.push_str(" unfiltered"),
        8..=13 => line.push_str(" owner network:dhcp"),
        _ => {}
    }
    line
}

/// A policy as the first half of a scenario's text.
fn policy_text(choices: &mut Choices<'_>) -> String {
    let two = choices.chance(40);
    let mut text = "layout mitaka\nnetwork a vlan 1053 physnet1\nuplink 1 provider physnet1\n".to_owned();
    if two {
        let tunnel = choices.chance(50);
        text.push_str(if tunnel {
            "network b vxlan 7\nuplink 2 tunnel\n"
        } else {
            "network b vlan 1054 physnet1\n"
        });
    }
    if choices.chance(20) {
        text.push_str("option permitted-ethertype 0x8863\n");
    }
    if choices.chance(15) {
        text.push_str("option explicitly-egress-direct\n");
    }
    text.push_str("addresses ag 10.0.0.3 10.0.0.16/28 fd00::2\n");
    for group in GROUPS {
        let _ = writeln!(text, "group {group}");
        if choices.chance(65) {
            let _ =
                writeln!(text, "  rule {group}-out4 egress IPv4 any\n  rule {group}-out6 egress IPv6 any");
        }
        if choices.chance(50) {
            let _ = writeln!(
                text,
                "  rule {group}-in4 ingress IPv4 any with group {group}\n  rule {group}-in6 ingress IPv6 any with group {group}"
            );
        }
        if choices.chance(30) {
            let _ = writeln!(
                text,
                "  rule {group}-ping4 egress IPv4 icmp with group {group}\n  rule {group}-ping6 egress IPv6 icmp with group {group}"
            );
        }
        for rule in 0..choices.below(6) {
            let _ = writeln!(text, "  rule {group}-r{rule} {}", rule_line(choices));
        }
    }
    let (local, remote) = (2 + choices.below(3), 1 + choices.below(2));
    for number in 1..=local + remote {
        let _ = writeln!(text, "{}", port_line(choices, number, number <= local, two));
    }
    text
}

/// Two ends that talk.
#[derive(Clone, Debug)]
struct Talk {
    from: PortId,
    to: PortId,
    v6: bool,
    /// Protocol number; 0 for one that is not named below.
    protocol: u8,
    /// Ports, or ICMP type and identifier.
    ends: (u16, u16),
    /// How many packets there were.
    packets: u8,
    /// The rule that it is about.
    rule: Option<flowproof_model::policy::RuleId>,
}

/// What is to happen next.
#[derive(Clone, Debug)]
enum Plan {
    /// A packet of this talk, back or forth.
    Packet(usize, bool),
    /// A rule goes, or comes back.
    Rule(flowproof_model::policy::RuleId, bool),
}

type Items = Vec<(String, Option<String>)>;

fn item(key: &str, value: impl ToString) -> (String, Option<String>) {
    (key.to_owned(), Some(value.to_string()))
}

fn word(key: &str) -> (String, Option<String>) {
    (key.to_owned(), None)
}

impl Talk {
    /// The next packet, in either direction.
    fn packet(&mut self, back: bool) -> Packet {
        let (mut items, mut extras) = (Items::new(), Extras::default());
        let (src, dst) = if back { (self.ends.1, self.ends.0) } else { self.ends };
        let transport = |items: &mut Items, name: &str, suffix: &str| {
            items.extend([
                word(&format!("{name}{suffix}")),
                item(&format!("{name}_src"), src),
                item(&format!("{name}_dst"), dst),
            ]);
        };
        let six = if self.v6 { "6" } else { "" };
        match self.protocol {
            6 => {
                transport(&mut items, "tcp", six);
                let (flags, seq, ack) = match (back, self.packets) {
                    (false, 0) => ("+syn", 100, 0),
                    (true, 0 | 1) => ("+syn+ack", 900, 101),
                    (false, _) => ("+ack", 101, 901),
                    (true, _) => ("+ack", 901, 101),
                };
                items.push(item("tcp_flags", flags));
                (extras.seq, extras.ack) = (Some(seq), Some(ack));
            }
            17 => transport(&mut items, "udp", six),
            132 => transport(&mut items, "sctp", six),
            1 | 58 => {
                let kind = match (self.v6, back) {
                    (false, false) => self.ends.0,
                    (false, true) => {
                        if self.ends.0 == 13 {
                            14
                        } else {
                            0
                        }
                    }
                    (true, false) => 128,
                    (true, true) => 129,
                };
                items.push(word(if self.v6 { "icmp6" } else { "icmp" }));
                items.push(item(if self.v6 { "icmpv6_type" } else { "icmp_type" }, kind));
                extras.icmp_id = Some(self.ends.1);
            }
            other => {
                items.push(word(if self.v6 { "ipv6" } else { "ip" }));
                items.push(item("nw_proto", other));
                extras.payload = Some(16);
            }
        }
        self.packets = self.packets.saturating_add(1);
        let (from, to) = if back { (&self.to, &self.from) } else { (&self.from, &self.to) };
        Packet {
            from: Sender::Port(from.clone()),
            to: Some(to.clone()),
            contents: Contents::Flow(items),
            extras,
        }
    }
}

/// A talk that a rule of one of its ends speaks of, more or less.
fn new_talk(choices: &mut Choices<'_>, policy: &Policy) -> Option<Talk> {
    let ports: Vec<&Port> = policy.ports.values().collect();
    let local: Vec<&Port> = policy.local_ports().map(|(port, _)| port).collect();
    let judged = *choices.pick(&local);
    let others: Vec<&&Port> =
        ports.iter().filter(|port| port.id != judged.id && (port.network == judged.network)).collect();
    if others.is_empty() {
        return None;
    }
    let rules: Vec<&Rule> = policy.rules_of(judged).collect();
    let rule = if rules.is_empty() || choices.chance(8) { None } else { Some(*choices.pick(&rules)) };
    let meant: Vec<&&&Port> =
        others.iter().filter(|port| rule.is_some_and(|rule| may_mean(policy, rule, port))).collect();
    let other = if meant.is_empty() || choices.chance(10) {
        **choices.pick(&others)
    } else {
        ***choices.pick(&meant)
    };
    let egress = rule.map_or_else(
        || choices.chance(50),
        |rule| rule.direction == flowproof_model::policy::Direction::Egress,
    );
    let v6 = rule.map_or_else(|| choices.chance(35), |rule| rule.ethertype == Ethertype::Ipv6);
    let (protocol, port) = match rule.map_or(Protocol::Any, |rule| rule.protocol) {
        Protocol::Transport(transport, range) => {
            let port = range.map(|range| {
                let near =
                    [range.min(), range.max(), range.min().saturating_sub(1), range.max().saturating_add(1)];
                *choices.pick(&near)
            });
            let protocol = match transport {
                Transport::Tcp | Transport::Udp | Transport::Sctp => transport.number(),
                Transport::Dccp | Transport::UdpLite => {
                    if choices.chance(50) {
                        transport.number()
                    } else {
                        17
                    }
                }
            };
            (protocol, port)
        }
        Protocol::Icmp(IcmpMatch::Any) => (if v6 { 58 } else { 1 }, Some(8)),
        Protocol::Icmp(IcmpMatch::Type(kind) | IcmpMatch::TypeCode(kind, _)) => {
            (if v6 { 58 } else { 1 }, Some(if kind == 13 { 13 } else { 8 }))
        }
        Protocol::Other(number) => (number, None),
        Protocol::Any => (*choices.pick(&[6, 17, 6, 17, 1, 132, 112, 47]), None),
    };
    let protocol = match (protocol, v6) {
        (1 | 58, true) => 58,
        (1 | 58, false) => 1,
        (0 | 43 | 44 | 51 | 60, _) => 47,
        (other, _) => other,
    };
    let port = port.unwrap_or_else(|| *choices.pick(PORTS));
    let ends = if matches!(protocol, 1 | 58) {
        (if port == 13 { 13 } else { 8 }, 1 + u16::from(choices.byte() % 3))
    } else {
        (4000 + u16::from(choices.byte() % 3), port)
    };
    let (from, to) = if egress { (judged, other) } else { (other, judged) };
    Some(Talk {
        from: from.id.clone(),
        to: to.id.clone(),
        v6,
        protocol,
        ends,
        packets: 0,
        rule: rule.map(|rule| rule.id.clone()),
    })
}

fn may_mean(policy: &Policy, rule: &Rule, port: &Port) -> bool {
    let has = |prefix: &flowproof_model::policy::IpNet| {
        port.fixed_ips.iter().any(|ip: &IpAddr| prefix.contains(ip))
    };
    match &rule.peer {
        RulePeer::Any => true,
        RulePeer::Prefix(prefix) => has(prefix),
        RulePeer::Group(group) => port.groups.contains(group),
        RulePeer::AddressGroup(id) => {
            policy.address_groups.get(id).is_some_and(|group| group.addresses.iter().any(has))
        }
    }
}

/// What needs no rule, or never passes: by family.
const SERVICES: &[&str] = &[
    "arp",
    "arp,arp_op=2",
    "arp,arp_spa=0.0.0.0",
    "arp,arp_spa=0.0.0.0,arp_tpa=10.0.0.1",
    "arp,arp_spa=0.0.0.0,arp_tpa=10.0.0.2",
    "rarp",
    "udp,udp_src=68,udp_dst=67",
    "udp,udp_src=67,udp_dst=68",
    "udp,nw_src=0.0.0.0,udp_src=68,udp_dst=67",
    "udp6,udp_src=546,udp_dst=547",
    "udp6,udp_src=547,udp_dst=546",
    "udp,udp_src=67,udp_dst=67",
    "udp,udp_src=4000,udp_dst=68",
    "icmp6,icmpv6_type=130",
    "icmp6,icmpv6_type=131",
    "icmp6,icmpv6_type=132",
    "icmp6,icmpv6_type=133",
    "icmp6,icmpv6_type=134",
    "icmp6,icmpv6_type=135,nd_target=fd00::2",
    "icmp6,icmpv6_type=136,nd_target=fd00::1",
    "icmp6,icmpv6_type=136,nd_target=fd00::2",
    "icmp6,icmpv6_type=137",
    "icmp6,icmpv6_type=143",
    "icmp6,ipv6_src=::,icmpv6_type=135,nd_target=fd00::1",
    "icmp6,ipv6_src=::,icmpv6_type=143",
    "icmp6,ipv6_src=::,icmpv6_type=131",
    "dl_type=0x8863",
    "dl_type=0x88cc",
    "icmp6,icmpv6_type=135,nd_target=fd00::2,nd_sll=fa:16:3e:00:00:01",
    "icmp6,icmpv6_type=136,nd_target=fd00::1,nd_tll=fa:16:3e:00:00:01",
    "icmp6,icmpv6_type=135,icmpv6_code=1",
];

/// What somebody writes over a field of a packet.
const FORGERIES: &[(&str, &[&str])] = &[
    ("dl_src", &["fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:11", "fa:16:3e:00:00:99"]),
    ("nw_src", &["10.0.0.1", "10.0.0.2", "10.0.0.17", "10.0.9.9", "8.8.8.8"]),
    ("ipv6_src", &["fd00::1", "fd00::2", "fd00::11", "fe80::1"]),
    ("arp_spa", &["10.0.0.1", "10.0.0.2", "10.0.0.17"]),
    ("arp_sha", &["fa:16:3e:00:00:01", "fa:16:3e:00:00:99"]),
    (
        "dl_dst",
        &[
            "fa:16:3e:00:00:01",
            "fa:16:3e:00:00:12",
            "fa:16:3e:00:00:99",
            "ff:ff:ff:ff:ff:ff",
            "33:33:00:00:00:01",
        ],
    ),
    ("nw_dst", &["10.0.0.1", "8.8.8.8", "255.255.255.255"]),
    ("ipv6_dst", &["fd00::1", "ff02::1"]),
    ("dl_vlan", &["1", "2", "5", "1053", "1054"]),
];

fn items_of(text: &str) -> Items {
    let split = |item: &str| match item.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (item.to_owned(), None),
    };
    text.split(',').map(split).collect()
}

fn forge(choices: &mut Choices<'_>, packet: &mut Packet) {
    let Contents::Flow(items) = &mut packet.contents else { return };
    let (field, values) = choices.pick(FORGERIES);
    let v6 = items.iter().any(|(key, _)| key.ends_with('6'));
    let v4 = items.iter().any(|(key, _)| ["ip", "tcp", "udp", "sctp", "icmp"].contains(&key.as_str()));
    let arp = items.iter().any(|(key, _)| key == "arp");
    let fits = match *field {
        "nw_src" | "nw_dst" => v4,
        "ipv6_src" | "ipv6_dst" => v6,
        "arp_spa" | "arp_sha" => arp,
        _ => true,
    };
    if fits {
        items.retain(|(key, _)| key != field);
        items.push(item(field, *choices.pick(values)));
    }
}

fn service(choices: &mut Choices<'_>, policy: &Policy) -> Option<Packet> {
    let ids: Vec<&PortId> = policy.ports.keys().collect();
    let (from, to) = (*choices.pick(&ids), *choices.pick(&ids));
    let service: &str = choices.pick::<&str>(SERVICES);
    let contents = Contents::Flow(items_of(service));
    (from != to).then(|| Packet {
        from: Sender::Port(from.clone()),
        to: Some(to.clone()),
        contents,
        extras: Extras::default(),
    })
}

struct Story<'c, 'b> {
    choices: &'c mut Choices<'b>,
    policy: Policy,
    talks: Vec<Talk>,
    /// Rules that were there once, or never yet.
    spare: Vec<(flowproof_model::policy::GroupId, Rule)>,
    about: Option<Packet>,
    plans: std::collections::VecDeque<Plan>,
}

impl Story<'_, '_> {
    fn packet(&mut self) -> Option<Packet> {
        let choices = &mut *self.choices;
        let mut packet = match choices.below(20) {
            0..=9 => {
                let mut talk = new_talk(choices, &self.policy)?;
                let packet = talk.packet(false);
                if let Some(rule) = talk.rule.clone().filter(|_| choices.chance(20)) {
                    // A connection is made, its rule goes, and comes back.
                    let at = self.talks.len();
                    let (forth, back) = (Plan::Packet(at, false), Plan::Packet(at, true));
                    let away = [
                        back.clone(),
                        forth.clone(),
                        Plan::Rule(rule.clone(), false),
                        forth.clone(),
                        back.clone(),
                    ];
                    self.plans.extend(away);
                    self.plans.extend([forth.clone(), Plan::Rule(rule, true), forth, back]);
                }
                self.talks.push(talk);
                packet
            }
            10..=13 if !self.talks.is_empty() => {
                let at = self.talks.len() - 1 - choices.below(self.talks.len().min(4));
                self.talks[at].packet(true)
            }
            14..=16 if !self.talks.is_empty() => {
                let at = self.talks.len() - 1 - choices.below(self.talks.len().min(4));
                self.talks[at].packet(false)
            }
            17 if self.about.is_some() => {
                let ids: Vec<&PortId> = self.policy.ports.keys().collect();
                let from = Sender::Port((*choices.pick(&ids)).clone());
                let (kind, code) = *choices.pick(&[(3, 1), (3, 3), (11, 0), (1, 0)]);
                return Some(Packet {
                    from,
                    to: None,
                    contents: Contents::Error(kind, code),
                    extras: Extras::default(),
                });
            }
            _ => service(choices, &self.policy)?,
        };
        if choices.chance(12) {
            forge(choices, &mut packet);
        }
        if choices.chance(4) {
            packet.extras.payload = Some(1600);
            packet.extras.fragment = Some(1400);
        }
        if choices.chance(3) {
            packet.extras.bad_checksum = true;
        }
        Some(packet)
    }

    fn change(&mut self) -> Option<Event> {
        let choices = &mut *self.choices;
        let rules: Vec<Rule> = self.policy.groups.values().flat_map(|group| group.rules.clone()).collect();
        let ports: Vec<&Port> = self.policy.ports.values().collect();
        let port = (*choices.pick(&ports)).clone();
        let group = choices.pick(&GROUPS).to_string();
        Some(match choices.below(10) {
            0..=2 if !rules.is_empty() => {
                let rule = choices.pick(&rules);
                let (id, _) = self.policy.groups.iter().find(|(_, group)| group.rules.contains(rule))?;
                self.spare.push((id.clone(), rule.clone()));
                Event::RemoveRule(rule.id.clone())
            }
            3..=5 if !self.spare.is_empty() => {
                let at = choices.below(self.spare.len());
                let (group, rule) = self.spare.swap_remove(at);
                Event::AddRule(group, rule)
            }
            6 => {
                if port.groups.iter().any(|has| has.as_str() == group) {
                    Event::RemoveMember(group.as_str().into(), port.id)
                } else {
                    Event::AddMember(group.as_str().into(), port.id)
                }
            }
            7 => Event::UpdatePort(port.id),
            8 => Event::SetAddresses(
                "ag".into(),
                vec!["10.0.0.1/32".parse().unwrap(), "fd00::/64".parse().unwrap()],
            ),
            9 => Event::RemovePort(port.id),
            _ => Event::Advance(*choices.pick(&[1000, 31_000, 61_000, 120_000])),
        })
    }

    /// What was planned.
    fn planned(&mut self, plan: Plan) -> Option<Event> {
        match plan {
            Plan::Packet(at, back) => Some(Event::Packet(self.talks.get_mut(at)?.packet(back))),
            Plan::Rule(id, true) => {
                let at = self.spare.iter().position(|(_, rule)| rule.id == id)?;
                let (group, rule) = self.spare.swap_remove(at);
                Some(Event::AddRule(group, rule))
            }
            Plan::Rule(id, false) => {
                let rules = self
                    .policy
                    .groups
                    .iter()
                    .flat_map(|(group, all)| all.rules.iter().map(move |rule| (group, rule)));
                let (group, rule) = rules.into_iter().find(|(_, rule)| rule.id == id)?;
                self.spare.push((group.clone(), rule.clone()));
                Some(Event::RemoveRule(id))
            }
        }
    }

    fn event(&mut self) -> Option<Event> {
        if let Some(plan) = self.plans.pop_front() {
            let event = self.planned(plan)?;
            if let Event::Packet(packet) = &event {
                arrival(&self.policy, packet, None).ok()?;
                self.about = Some(packet.clone());
            }
            return Some(event);
        }
        if self.choices.chance(14) {
            return self.change();
        }
        let packet = self.packet()?;
        arrival(&self.policy, &packet, self.about.as_ref()).ok()?;
        if !matches!(packet.contents, Contents::Error(..)) {
            self.about = Some(packet.clone());
        }
        Some(Event::Packet(packet))
    }

    /// Whether an event can be.
    fn happens(&mut self, event: &Event) -> bool {
        let before = self.policy.clone();
        let possible = event.changes(&before).into_iter().all(|change| self.policy.apply(change).is_ok());
        // Somebody has to be here.
        let possible = possible && self.policy.local_ports().count() >= 2;
        if !possible {
            self.policy = before;
        }
        possible
    }
}

/// A scenario of up to `events` events for these layouts.
pub(crate) fn scenario(bytes: &[u8], layouts: &[Layout], events: usize) -> Scenario {
    let mut choices = Choices::new(bytes);
    let text = policy_text(&mut choices);
    let mut scenario = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    scenario.tables = flowproof_lockstep::scenario::Tables::Compiled(layouts.to_vec());
    // Some rules come later.
    let mut spare = Vec::new();
    for group in scenario.policy.groups.values_mut() {
        let id = group.id.clone();
        group.rules.retain(|rule| {
            let stays = !choices.chance(10);
            if !stays {
                spare.push((id.clone(), rule.clone()));
            }
            stays
        });
    }
    let policy = scenario.policy.clone();
    let mut story = Story {
        choices: &mut choices,
        policy,
        talks: Vec::new(),
        spare,
        about: None,
        plans: Default::default(),
    };
    while scenario.steps.len() < events && !story.choices.is_empty() {
        if let Some(event) = story.event()
            && story.happens(&event)
        {
            scenario.steps.push(Step::new(event));
        }
    }
    scenario
}
