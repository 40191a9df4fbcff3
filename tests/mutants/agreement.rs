//! Model and tables side by side on packets about a policy: conversations between its ports, and what they forge.
//!
//! The packets are of the policy, not of the defect: the same for every mutant of a base. Invariant: where tables as
//! the compiler wrote them diverge, for known reasons, both sides begin anew; what counts is any other divergence.

use super::bases::Base;
use flowproof_lockstep::{Lockstep, Scenario, StepRun, parse, patch::Patch, scenario::Tables};
use flowproof_model::policy::PortId;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Chance that can be repeated (splitmix64).
pub(super) struct Rng(pub(super) u64);

impl Rng {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn pick<'t, T: ?Sized>(&mut self, from: &[&'t T]) -> &'t T {
        from[(self.next() >> 11) as usize % from.len()]
    }

    fn chance(&mut self, percent: u64) -> bool {
        (self.next() >> 11) % 100 < percent
    }
}

/// What begins a conversation: the packet, and its answer.
const TALKS: &[(&str, &str)] = &[
    ("tcp,tp_src=4000,tp_dst=PORT", "tcp,tp_src=PORT,tp_dst=4000,tcp_flags=+syn+ack"),
    ("tcp6,tp_src=4000,tp_dst=PORT", "tcp6,tp_src=PORT,tp_dst=4000,tcp_flags=+syn+ack"),
    ("udp,tp_src=4000,tp_dst=PORT", "udp,tp_src=PORT,tp_dst=4000"),
    ("udp6,tp_src=4000,tp_dst=PORT", "udp6,tp_src=PORT,tp_dst=4000"),
    ("sctp,tp_src=4000,tp_dst=PORT", "sctp,tp_src=PORT,tp_dst=4000"),
    ("icmp,icmp_type=8", "icmp,icmp_type=0"),
    ("icmp,icmp_type=13", "icmp,icmp_type=14"),
    ("icmp,icmp_type=8,icmp_code=1", "icmp,icmp_type=0"),
    ("icmp6,icmpv6_type=128", "icmp6,icmpv6_type=129"),
    ("ip,nw_proto=112", "ip,nw_proto=112"),
    ("ip,nw_proto=47", "ip,nw_proto=47"),
];

/// What needs no rule, or never passes.
const SERVICES: &[&str] = &[
    "arp",
    "arp,arp_op=2",
    "rarp",
    "udp,tp_src=68,tp_dst=67",
    "udp,nw_src=0.0.0.0,tp_src=68,tp_dst=67",
    "udp,tp_src=67,tp_dst=68",
    "udp6,tp_src=546,tp_dst=547",
    "udp6,tp_src=547,tp_dst=546",
    "icmp6,icmpv6_type=130",
    "icmp6,icmpv6_type=133",
    "icmp6,icmpv6_type=134",
    "icmp6,icmpv6_type=135,nd_target=fd00::7",
    "icmp6,icmpv6_type=136,nd_target=fd00::8",
    "icmp6,icmpv6_type=136,nd_target=fd00::7",
    "icmp6,icmpv6_type=143",
    "dl_type=0x8863",
    "dl_type=0x88cc",
];

const PORTS: &[&str] =
    &["22", "23", "24", "25", "53", "54", "79", "80", "81", "88", "89", "443", "444", "442"];

/// What somebody writes over a field.
const FORGERIES: &[&str] = &[
    "dl_src=fa:16:3e:00:00:0c",
    "dl_src=fa:16:3e:00:00:0f",
    "dl_src=fa:16:3e:00:00:dd",
    "dl_dst=fa:16:3e:00:00:dd",
    "dl_dst=fa:16:3e:00:00:0c",
    "dl_dst=fa:16:3e:00:00:0f",
];
const FORGERIES4: &[&str] = &["nw_src=10.0.1.9", "nw_src=10.0.1.200", "nw_dst=10.0.1.200", "nw_src=10.0.2.9"];
const FORGERIES6: &[&str] = &["ipv6_src=fd00::9", "ipv6_src=fd00::7", "ipv6_dst=fd00::99"];
const FORGERIES_ARP: &[&str] = &["arp_spa=10.0.1.9", "arp_spa=10.0.1.200", "arp_sha=fa:16:3e:00:00:0c"];

fn forgery<'t>(rng: &mut Rng, packet: &str) -> &'t str {
    let own: &[&'t str] = match packet.split(',').next() {
        Some("arp" | "rarp") => FORGERIES_ARP,
        Some("tcp6" | "udp6" | "icmp6") => FORGERIES6,
        Some("dl_type=0x8863" | "dl_type=0x88cc") | None => FORGERIES,
        Some(_) => FORGERIES4,
    };
    if rng.chance(50) { rng.pick(own) } else { rng.pick(FORGERIES) }
}

fn packet(text: &mut String, rng: &mut Rng, (from, to): (&str, &str), what: &str, more: &str) {
    let field = |item: &str| item.split('=').next().unwrap_or_default().to_owned();
    let named: BTreeSet<String> = what.split(',').map(field).collect();
    let forged = forgery(rng, what);
    let forged =
        if rng.chance(20) && !named.contains(&field(forged)) { format!(",{forged}") } else { String::new() };
    let _infallible = writeln!(text, "packet {from} > {to} {what}{forged}{more}");
}

/// One conversation between two ports.
fn talk(text: &mut String, rng: &mut Rng, ends: (&str, &str), number: usize) {
    let back = (ends.1, ends.0);
    if rng.chance(30) {
        let service = rng.pick(SERVICES);
        return packet(text, rng, ends, service, "");
    }
    let (open, answer) = TALKS[(rng.next() >> 11) as usize % TALKS.len()];
    let port = rng.pick(PORTS);
    let source = (4000 + number % 1000).to_string();
    let filled = |what: &str| what.replace("PORT", port).replace("4000", &source);
    let (tcp, icmp) = (open.starts_with("tcp"), open.starts_with("icmp"));
    let id = if icmp { format!(" icmp-id={number}") } else { String::new() };
    let numbers = |seq: u32, ack: u32| if tcp { format!(" seq={seq} ack={ack}") } else { id.clone() };
    let flags = |what: String| if tcp { format!("{what},tcp_flags=+ack") } else { what };
    packet(text, rng, ends, &filled(open), &numbers(100, 0));
    packet(text, rng, back, &filled(answer), &numbers(900, 101));
    if rng.chance(50) {
        packet(text, rng, ends, &flags(filled(open)), &numbers(101, 901));
    }
    if rng.chance(20) {
        let _infallible =
            writeln!(text, "error {} {}", back.0, if open.contains('6') { "1/4" } else { "3/3" });
    }
}

/// The rules of a base, as lines of its scenario: group, rule, what it says.
fn rules(story: &str) -> Vec<(String, String, String)> {
    let (mut group, mut all) = (String::new(), Vec::new());
    for line in story.lines() {
        if let Some(name) = line.strip_prefix("group ") {
            name.clone_into(&mut group);
        } else if let Some((id, rest)) = line.strip_prefix("  rule ").and_then(|rule| rule.split_once(' ')) {
            all.push((group.clone(), id.to_owned(), rest.to_owned()));
        }
    }
    all
}

/// A connection that a rule admits: its first packet and its answer.
fn admitted(rng: &mut Rng, words: &str, number: usize) -> Option<[String; 2]> {
    let mut words = words.split(' ').skip(1);
    let six = if words.next()? == "IPv6" { "6" } else { "" };
    let (protocol, port) = (words.next()?, words.next().unwrap_or_default());
    let port = if port.starts_with(|c: char| c.is_ascii_digit()) { port } else { rng.pick(PORTS) };
    let port = port.split(['-', '/']).next()?;
    let source = 10_000 + number;
    Some(match protocol {
        "icmp" | "icmpv6" => {
            let (name, field, query, answer) =
                if six.is_empty() { ("icmp", "icmp_type", 8, 0) } else { ("icmp6", "icmpv6_type", 128, 129) };
            [query, answer].map(|kind| format!("{name},{field}={kind}"))
        }
        "vrrp" => [(); 2].map(|()| "ip,nw_proto=112".to_owned()),
        "tcp" => [
            format!("tcp{six},tp_src={source},tp_dst={port}"),
            format!("tcp{six},tp_src={port},tp_dst={source},tcp_flags=+syn+ack"),
        ],
        other => {
            let name = if other == "sctp" { "sctp" } else { "udp" };
            [
                format!("{name}{six},tp_src={source},tp_dst={port}"),
                format!("{name}{six},tp_src={port},tp_dst={source}"),
            ]
        }
    })
}

/// A connection, a rule that goes, packets of the connection both ways; the rule comes back.
fn revocation(
    text: &mut String,
    rng: &mut Rng,
    ends: (&str, &str),
    (group, id, words): &(String, String, String),
    number: usize,
) {
    let Some([open, answer]) = admitted(rng, words, number) else { return };
    let (tcp, icmp) = (open.starts_with("tcp"), open.starts_with("icmp"));
    let more = |seq: u32, ack: u32| match (tcp, icmp) {
        (true, _) => format!(" seq={seq} ack={ack}"),
        (_, true) => format!(" icmp-id={number}"),
        _ => String::new(),
    };
    let going_on = |what: &str| {
        if tcp {
            format!("{},tcp_flags=+ack", what.replace(",tcp_flags=+syn+ack", ""))
        } else {
            what.to_owned()
        }
    };
    let line = |text: &mut String, (from, to): (&str, &str), what: &str, more: &str| {
        let _infallible = writeln!(text, "packet {from} > {to} {what}{more}");
    };
    let back = (ends.1, ends.0);
    line(text, ends, &open, &more(100, 0));
    line(text, back, &answer, &more(900, 101));
    let _infallible = writeln!(text, "remove-rule {id}");
    for _ in 0..2 {
        line(text, ends, &going_on(&open), &more(101, 901));
        line(text, back, &going_on(&answer), &more(901, 101));
    }
    let _infallible = writeln!(text, "add-rule {group} {id} {words}");
}

/// What comes in under a VLAN that is no network here, or another's.
fn stray(text: &mut String, rng: &mut Rng, number: usize) {
    let vlan = rng.pick(&["2000", "1054", "1", "2"]);
    let to = rng.pick(&["fa:16:3e:00:00:0d", "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0f"]);
    let what = rng.pick(&[
        "tcp,nw_src=10.0.1.5,nw_dst=10.0.1.8,tp_dst=22",
        "icmp,nw_src=10.0.1.5,nw_dst=10.0.1.8,icmp_type=8",
        "arp,arp_spa=10.0.1.5,arp_tpa=10.0.1.8",
        "icmp6,ipv6_src=fd00::5,ipv6_dst=fd00::8,icmpv6_type=135,nd_target=fd00::8",
    ]);
    let id = if what.starts_with("icmp,") { format!(" icmp-id={number}") } else { String::new() };
    let _infallible =
        writeln!(text, "packet uplink:1 dl_vlan={vlan},dl_src=fa:16:3e:00:00:99,dl_dst={to},{what}{id}");
}

/// The scenario of a base, with that many conversations.
pub(super) fn conversations(base: Base, count: usize, seed: u64) -> Scenario {
    let (mut rng, policy) = (Rng(seed), base.policy());
    let names: Vec<&str> = policy.ports.keys().map(|id| id.as_str()).collect();
    let mut text = format!("{}\n", base.story());
    let rules = rules(&text);
    let mut number = 0;
    while number < count {
        let (from, to) = (rng.pick(&names), rng.pick(&names));
        let (one, other) = (&policy.ports[&PortId::from(from)], &policy.ports[&PortId::from(to)]);
        let here =
            |id: &str| policy.host.as_ref().is_some_and(|host| host.bindings.contains_key(&PortId::from(id)));
        if from == to || one.network != other.network || !(here(from) || here(to)) {
            continue;
        }
        match rng.next() >> 11 & 15 {
            0 | 1 => {
                let rule = &rules[(rng.next() >> 11) as usize % rules.len()];
                let group = rule.0.as_str().into();
                let concerned = if rule.2.starts_with("ingress") { to } else { from };
                if !policy.ports[&PortId::from(concerned)].groups.contains(&group) || !here(concerned) {
                    continue;
                }
                revocation(&mut text, &mut rng, (from, to), rule, number + 1);
            }
            2 => stray(&mut text, &mut rng, number + 1),
            _ => talk(&mut text, &mut rng, (from, to), number + 1),
        }
        number += 1;
    }
    let mut scenario = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    scenario.tables = Tables::Compiled(vec![base.layout()]);
    scenario
}

/// The steps at which model and tables diverge; both begin anew there, and after the steps of `before`.
/// With `stop` the first one that is not of `before` is the last.
fn divergences(
    scenario: &Scenario,
    base: Base,
    patch: &Patch,
    before: &BTreeSet<usize>,
    stop: bool,
) -> BTreeSet<usize> {
    let mut lockstep = Lockstep::patched(scenario, Some(base.layout()), patch).unwrap();
    let mut found = BTreeSet::new();
    for (at, step) in scenario.steps.iter().enumerate() {
        let StepRun::Packet(seen) = lockstep.step(step).unwrap() else { continue };
        if !seen.differences.is_empty() {
            found.insert(at);
            if stop && !before.contains(&at) {
                return found;
            }
        }
        if !seen.differences.is_empty() || before.contains(&at) {
            lockstep.flush();
        }
    }
    found
}

/// Conversations of a base, and where its own tables diverge from the model.
pub(super) struct Judge {
    base: Base,
    scenario: Scenario,
    known: BTreeSet<usize>,
}

impl Judge {
    pub(super) fn new(base: Base, count: usize, seed: u64) -> Self {
        let scenario = conversations(base, count, seed);
        let known = divergences(&scenario, base, &Patch::default(), &BTreeSet::new(), false);
        Self { base, scenario, known }
    }

    /// The first step at which tables diverge that `change` changes whenever they are compiled, and those of the base do
    /// not. Where there is nothing to change they stay.
    pub(super) fn diverges(
        &self,
        change: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Option<String> {
        let patch = Patch::new(move |flows| {
            let text: String = flows.iter().map(|flow| format!("{flow}\n")).collect();
            change(&text).map_or(flows, |text| super::bases::flows(&text))
        });
        let found = divergences(&self.scenario, self.base, &patch, &self.known, true);
        let at = found.difference(&self.known).next()?;
        Some(self.scenario.steps[*at].event.to_string())
    }

    /// How many packets there are.
    pub(super) fn packets(&self) -> usize {
        self.scenario.steps.len()
    }
}
