//! Making a failing scenario small: events first, then rules and ports, then what packets and rules say.
//!
//! Invariant: what comes out still fails, is the same for the same input, and no single step of what is tried here
//! makes it smaller and still fail. Deliberately absent: what failing is.

use crate::scenario::{Contents, Event, Extras, Packet, Scenario, Tables};
use flowproof_model::policy::{
    GroupId, IcmpMatch, Policy, Port, PortId, PortRange, Protocol, Rule, RulePeer, Transport,
};
use flowproof_switch::table::TieBreak;

/// The smallest scenario to be found that still fails. Its policy has no faults that this one has not, so that its
/// text can be read; tables that are given keep their policy, for which somebody made them.
#[must_use]
pub fn shrink(scenario: &Scenario, mut fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let faults = scenario.policy.faults().len();
    let mut still_fails =
        |candidate: &Scenario| candidate.policy.faults().len() <= faults && fails(candidate);
    let mut best = scenario.clone();
    drop_events(&mut best, &mut still_fails);
    loop {
        let mut progress = false;
        let compiled = matches!(best.tables, Tables::Compiled(_));
        for pass in PASSES.into_iter().chain(POLICY.into_iter().filter(|_| compiled)) {
            // After a step that helped, the same place may help again.
            let mut at = 0;
            while let Some(candidate) = pass(&best, at) {
                if candidate != best && still_fails(&candidate) {
                    best = candidate;
                    progress = true;
                } else {
                    at += 1;
                }
            }
        }
        if !progress {
            return best;
        }
    }
}

/// Leaves out runs of events, long ones first.
fn drop_events(best: &mut Scenario, still_fails: &mut impl FnMut(&Scenario) -> bool) {
    let mut length = best.steps.len();
    while length > 0 {
        let mut start = 0;
        while start < best.steps.len() {
            let mut candidate = best.clone();
            let end = (start + length).min(candidate.steps.len());
            candidate.steps.drain(start..end);
            if still_fails(&candidate) { *best = candidate } else { start += length }
        }
        length /= 2;
    }
}

/// One way to make a scenario smaller, at the n-th place where it applies; nothing when there are no more places.
type Pass = fn(&Scenario, usize) -> Option<Scenario>;

/// What happens, in the order in which it is tried.
const PASSES: [Pass; 4] = [layouts, events, remarks, packets];
/// What is there.
const POLICY: [Pass; 4] = [rules, ports, objects, rule_contents];

fn changed(scenario: &Scenario, change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut new = scenario.clone();
    change(&mut new);
    new
}

/// A scenario with another policy, which then stands in it.
fn with_policy(scenario: &Scenario, change: impl FnOnce(&mut Policy)) -> Scenario {
    changed(scenario, |new| {
        new.intent = None;
        change(&mut new.policy);
    })
}

fn layouts(scenario: &Scenario, at: usize) -> Option<Scenario> {
    let Tables::Compiled(layouts) = &scenario.tables else { return None };
    let one = *layouts.get(at).filter(|_| layouts.len() > 1)?;
    Some(changed(scenario, |new| new.tables = Tables::Compiled(vec![one])))
}

fn events(scenario: &Scenario, at: usize) -> Option<Scenario> {
    (at < scenario.steps.len()).then(|| {
        changed(scenario, |new| {
            new.steps.remove(at);
        })
    })
}

/// Everything that is only said about a scenario, and settings.
fn remarks(scenario: &Scenario, at: usize) -> Option<Scenario> {
    let clear = |new: &mut Scenario| match at {
        0 => new.notes.clear(),
        1 => new.switches.clear(),
        2 => new.steps.iter_mut().for_each(|step| step.comments.clear()),
        3 => new.steps.iter_mut().for_each(|step| step.expectations.clear()),
        4 => new.steps.iter_mut().for_each(|step| step.divergences.clear()),
        5 => new.tie = TieBreak::First,
        _ => {}
    };
    (at < 6).then(|| changed(scenario, clear))
}

fn rules(scenario: &Scenario, at: usize) -> Option<Scenario> {
    let rule = scenario.policy.groups.values().flat_map(|group| &group.rules).nth(at)?.id.clone();
    Some(with_policy(scenario, |policy| {
        for group in policy.groups.values_mut() {
            group.rules.retain(|other| other.id != rule);
        }
    }))
}

fn ports(scenario: &Scenario, at: usize) -> Option<Scenario> {
    let (id, _) = scenario.policy.ports.get_index(at)?;
    let id: PortId = id.clone();
    Some(with_policy(scenario, |policy| {
        policy.ports.shift_remove(&id);
        if let Some(host) = &mut policy.host {
            host.bindings.shift_remove(&id);
        }
    }))
}

/// Groups, networks, address groups, uplinks, options, and what ports have more than one of.
fn objects(scenario: &Scenario, at: usize) -> Option<Scenario> {
    let policy = &scenario.policy;
    let mut left = at;
    // Whether this kind has the place that is meant; otherwise its places are counted off.
    let mut here = |count: usize| {
        let found = (left < count).then_some(left);
        left = left.saturating_sub(if found.is_some() { 0 } else { count });
        found
    };
    if let Some(at) = here(policy.groups.len()) {
        let id: GroupId = policy.groups.get_index(at)?.0.clone();
        return Some(with_policy(scenario, |policy| {
            policy.groups.shift_remove(&id);
            policy.ports.values_mut().for_each(|port| port.groups.retain(|group| *group != id));
        }));
    }
    if let Some(at) = here(policy.networks.len()) {
        return Some(with_policy(scenario, |policy| drop(policy.networks.shift_remove_index(at))));
    }
    if let Some(at) = here(policy.address_groups.len()) {
        return Some(with_policy(scenario, |policy| drop(policy.address_groups.shift_remove_index(at))));
    }
    if let Some(at) = here(policy.host.as_ref().map_or(0, |host| host.uplinks.len())) {
        return Some(with_policy(scenario, |policy| {
            policy.host.iter_mut().for_each(|host| drop(host.uplinks.remove(at)));
        }));
    }
    if here(1).is_some() {
        return Some(with_policy(scenario, |policy| {
            policy.host.iter_mut().for_each(|host| host.options = Default::default());
        }));
    }
    for (place, port) in policy.ports.values().enumerate() {
        if let Some(part) = here(port.groups.len() + port.fixed_ips.len() + port.address_pairs.len()) {
            return Some(with_policy(scenario, |policy| {
                if let Some((_, port)) = policy.ports.get_index_mut(place) {
                    without_part(port, part);
                }
            }));
        }
    }
    None
}

fn without_part(port: &mut Port, part: usize) {
    let (groups, ips) = (port.groups.len(), port.fixed_ips.len());
    if part < groups {
        port.groups.remove(part);
    } else if part < groups + ips {
        port.fixed_ips.remove(part - groups);
    } else {
        port.address_pairs.remove(part - groups - ips);
    }
}

/// What a packet says, item by item, then simpler values.
fn packets(scenario: &Scenario, at: usize) -> Option<Scenario> {
    let mut left = at;
    for (place, step) in scenario.steps.iter().enumerate() {
        let Event::Packet(packet) = &step.event else { continue };
        let all = simpler_packets(packet);
        let count = all.len();
        if let Some(packet) = all.into_iter().nth(left) {
            return Some(changed(scenario, |new| {
                if let Some(step) = new.steps.get_mut(place) {
                    step.event = Event::Packet(packet);
                }
            }));
        }
        left -= count;
    }
    None
}

/// Numbers to try in the place of a larger one, the simplest first.
fn smaller(number: u64) -> impl Iterator<Item = u64> {
    let fixed = [0, 1, 22, 80].into_iter();
    fixed.chain([number / 2, number.saturating_sub(1)]).filter(move |other| *other < number)
}

fn simpler_packets(packet: &Packet) -> Vec<Packet> {
    let mut all = Vec::new();
    let plain = Packet { extras: Extras::default(), ..packet.clone() };
    if plain != *packet {
        all.push(plain);
    }
    for extras in simpler_extras(&packet.extras) {
        all.push(Packet { extras, ..packet.clone() });
    }
    let Contents::Flow(items) = &packet.contents else { return all };
    let with =
        |items: Vec<(String, Option<String>)>| Packet { contents: Contents::Flow(items), ..packet.clone() };
    for at in 0..items.len() {
        let mut fewer = items.clone();
        fewer.remove(at);
        all.push(with(fewer));
    }
    for (at, (_, value)) in items.iter().enumerate() {
        let Some(number) = value.as_ref().and_then(|value| value.parse::<u64>().ok()) else { continue };
        for number in smaller(number) {
            let mut simpler = items.clone();
            if let Some((_, value)) = simpler.get_mut(at) {
                *value = Some(number.to_string());
            }
            all.push(with(simpler));
        }
    }
    all
}

fn simpler_extras(extras: &Extras) -> Vec<Extras> {
    vec![
        Extras { payload: None, ..extras.clone() },
        Extras { seq: None, ..extras.clone() },
        Extras { ack: None, ..extras.clone() },
        Extras { icmp_id: None, ..extras.clone() },
        Extras { ip_id: None, ..extras.clone() },
        Extras { bad_checksum: false, ..extras.clone() },
        Extras { fragment: None, ..extras.clone() },
    ]
    .into_iter()
    .filter(|other| other != extras)
    .collect()
}

/// What rules say: anybody instead of somebody, every protocol instead of one, one port instead of many.
fn rule_contents(scenario: &Scenario, at: usize) -> Option<Scenario> {
    let mut left = at;
    for (group, contents) in scenario.policy.groups.values().enumerate() {
        for (place, rule) in contents.rules.iter().enumerate() {
            let all = simpler_rules(rule);
            let count = all.len();
            if let Some(rule) = all.into_iter().nth(left) {
                return Some(with_policy(scenario, |policy| {
                    let group = policy.groups.get_index_mut(group);
                    if let Some(old) = group.and_then(|(_, group)| group.rules.get_mut(place)) {
                        *old = rule;
                    }
                }));
            }
            left -= count;
        }
    }
    None
}

fn simpler_rules(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    if rule.peer != RulePeer::Any {
        all.push(Rule { peer: RulePeer::Any, ..rule.clone() });
    }
    let protocols: Vec<Protocol> = match rule.protocol {
        Protocol::Any => Vec::new(),
        Protocol::Transport(_, None) | Protocol::Icmp(IcmpMatch::Any) | Protocol::Other(_) => {
            vec![Protocol::Any]
        }
        Protocol::Transport(transport, Some(range)) => simpler_range(transport, range),
        Protocol::Icmp(IcmpMatch::Type(_)) => vec![Protocol::Icmp(IcmpMatch::Any)],
        Protocol::Icmp(IcmpMatch::TypeCode(kind, _)) => vec![Protocol::Icmp(IcmpMatch::Type(kind))],
    };
    for protocol in protocols {
        let spelling = rule.protocol_spelling.clone().filter(|_| protocol != Protocol::Any);
        all.push(Rule { protocol, protocol_spelling: spelling, ..rule.clone() });
    }
    all
}

fn simpler_range(transport: Transport, range: PortRange) -> Vec<Protocol> {
    let ends = [(range.min(), range.min()), (range.max(), range.max())];
    let single = ends.into_iter().filter(|ends| *ends != (range.min(), range.max()));
    let ranges = single.filter_map(|(min, max)| PortRange::new(min, max));
    [Protocol::Transport(transport, None)]
        .into_iter()
        .chain(ranges.map(|range| Protocol::Transport(transport, Some(range))))
        .collect()
}
