//! What happens under a policy, event after event: talks begin and go on, rules come and go.

use super::Wishes;
use super::ends::{by_uplink, disguise, forge};
use super::items::service;
use super::talk::{Talk, new_talk};
use crate::Choices;
use flowproof_lockstep::frames::arrival;
use flowproof_lockstep::scenario::{Contents, Event, Extras, Packet, Sender};
use flowproof_model::policy::{AddressGroupId, GroupId, IpNet, Policy, Port, PortId, Rule, RuleId};
use std::collections::VecDeque;

/// Errors that somebody reports: type and code, of either family.
const ERRORS: &[(u8, u8)] = &[(3, 1), (3, 3), (11, 0), (1, 0)];

/// Waits, in milliseconds, on either side of common timeouts.
const WAITS: &[u64] = &[1000, 31_000, 61_000, 120_000];

/// What is to happen next.
#[derive(Clone, Debug)]
enum Plan {
    /// A packet of this talk, back or forth.
    Packet(usize, bool),
    /// A rule goes, or comes back.
    Rule(RuleId, bool),
    /// The far or the near end of this talk reports an error of the packet before.
    Error(usize, bool),
}

/// What has happened so far.
pub(super) struct Story<'c, 'b> {
    choices: &'c mut Choices<'b>,
    changes: usize,
    raw: usize,
    policy: Policy,
    talks: Vec<Talk>,
    /// Rules that were there once, or never yet.
    spare: Vec<(GroupId, Rule)>,
    /// What an error message would be about.
    about: Option<Packet>,
    plans: VecDeque<Plan>,
}

impl<'c, 'b> Story<'c, 'b> {
    pub(super) fn new(
        choices: &'c mut Choices<'b>,
        policy: Policy,
        spare: Vec<(GroupId, Rule)>,
        wishes: &Wishes<'_>,
    ) -> Self {
        let (talks, plans) = (Vec::new(), VecDeque::new());
        let Wishes { changes, raw, .. } = *wishes;
        Self { choices, changes, raw, policy, talks, spare, about: None, plans }
    }

    /// Whether nothing is left to decide by.
    pub(super) fn is_over(&self) -> bool {
        self.choices.is_empty()
    }

    /// An event, which may turn out to be impossible.
    pub(super) fn event(&mut self) -> Option<Event> {
        let event = match self.plans.pop_front() {
            Some(plan) => self.planned(plan)?,
            None if self.choices.chance(self.changes) => self.change()?,
            None => Event::Packet(self.packet()?),
        };
        if let Event::Packet(packet) = &event {
            arrival(&self.policy, packet, self.about.as_ref()).ok()?;
            if !matches!(packet.contents, Contents::Error(..)) {
                self.about = Some(packet.clone());
            }
        }
        Some(event)
    }

    /// Lets an event happen to the policy, if it can.
    pub(super) fn happens(&mut self, event: &Event) -> bool {
        let before = self.policy.clone();
        let possible = event.changes(&before).into_iter().all(|change| self.policy.apply(change).is_ok());
        // Somebody has to be here.
        let possible = possible && self.policy.local_ports().count() >= 2;
        if !possible {
            self.policy = before;
        }
        possible
    }

    fn packet(&mut self) -> Option<Packet> {
        let mut packet = match self.choices.below(20) {
            0..=9 => self.opening()?,
            10..=13 if !self.talks.is_empty() => self.answer(true)?,
            14..=16 if !self.talks.is_empty() => self.answer(false)?,
            17 if self.about.is_some() => {
                let reporter = self.anybody()?;
                return Some(self.error(reporter));
            }
            _ => return self.service(),
        };
        self.pretend(&mut packet, [10, 3, 10]);
        self.spoil(packet)
    }

    /// A packet that needs no rule; what is next to it must not pass, and who checks that has to look at each field.
    fn service(&mut self) -> Option<Packet> {
        let mut packet = service(self.choices, &self.policy)?;
        self.pretend(&mut packet, [35, 5, 40]);
        self.spoil(packet)
    }

    /// Lets a packet be from another end, come by an uplink, and say something false, each with so many percent.
    fn pretend(&mut self, packet: &mut Packet, percent: [usize; 3]) {
        for (percent, pretence) in percent.into_iter().zip([disguise, by_uplink, forge]) {
            if self.choices.chance(percent) {
                pretence(self.choices, &self.policy, packet);
            }
        }
    }

    /// A packet in fragments, damaged, or as nobody would write it; most often as it is.
    fn spoil(&mut self, mut packet: Packet) -> Option<Packet> {
        if self.choices.chance(4) {
            packet.extras.payload = Some(1600);
            packet.extras.fragment = Some(1400);
        }
        if self.choices.chance(3) {
            packet.extras.bad_checksum = true;
        }
        if self.raw > 0 && self.choices.chance(self.raw) {
            self.garble(&mut packet)?;
        }
        Some(packet)
    }

    /// The first packet of a new talk; sometimes its rule goes and comes back while it lasts.
    fn opening(&mut self) -> Option<Packet> {
        let mut talk = new_talk(self.choices, &self.policy)?;
        let packet = talk.packet(false);
        if let Some(rule) = talk.rule.clone().filter(|_| self.changes > 0 && self.choices.chance(20)) {
            let at = self.talks.len();
            let (forth, back) = (Plan::Packet(at, false), Plan::Packet(at, true));
            let (goes, returns) = (Plan::Rule(rule.clone(), false), Plan::Rule(rule, true));
            let story = [&back, &forth, &goes, &forth, &back, &forth, &returns, &forth, &back];
            self.plans.extend(story.into_iter().cloned());
        } else if self.choices.chance(15) {
            let at = self.talks.len();
            let (forth, back) = (Plan::Packet(at, false), Plan::Packet(at, true));
            let (far, near) = (Plan::Error(at, true), Plan::Error(at, false));
            let stories = [vec![far.clone()], vec![back.clone(), near], vec![back, forth, far]];
            self.plans.extend(self.choices.pick(&stories).iter().cloned());
        }
        self.talks.push(talk);
        Some(packet)
    }

    /// An error that this port reports of the packet before.
    fn error(&mut self, reporter: PortId) -> Packet {
        let (kind, code) = *self.choices.pick(ERRORS);
        let (from, contents) = (Sender::Port(reporter), Contents::Error(kind, code));
        Packet { from, to: None, contents, extras: Extras::default() }
    }

    /// Another packet of one of the latest talks.
    fn answer(&mut self, back: bool) -> Option<Packet> {
        let latest = self.talks.len().min(4);
        let at = self.talks.len() - 1 - self.choices.below(latest);
        Some(self.talks.get_mut(at)?.packet(back))
    }

    /// A frame as before, but for some bytes, or its end.
    fn garble(&mut self, packet: &mut Packet) -> Option<()> {
        let mut frame = arrival(&self.policy, packet, None).ok()?.whole;
        for _ in 0..=self.choices.below(3) {
            let at = self.choices.below(frame.len().min(256));
            *frame.get_mut(at)? = self.choices.byte();
        }
        if self.choices.chance(30) {
            frame.truncate(14 + self.choices.below(frame.len().min(256)));
        }
        packet.contents = Contents::Raw(frame);
        (packet.to, packet.extras) = (None, Extras::default());
        Some(())
    }

    fn anybody(&mut self) -> Option<PortId> {
        let ids: Vec<&PortId> = self.policy.ports.keys().collect();
        (!ids.is_empty()).then(|| (*self.choices.pick(&ids)).clone())
    }

    fn change(&mut self) -> Option<Event> {
        let port = self.anybody()?;
        let port: Port = self.policy.ports.get(&port)?.clone();
        let groups: Vec<GroupId> = self.policy.groups.keys().cloned().collect();
        let group = if groups.is_empty() { return None } else { self.choices.pick(&groups).clone() };
        Some(match self.choices.below(10) {
            0..=2 => self.remove_rule()?,
            3..=5 if !self.spare.is_empty() => {
                let at = self.choices.below(self.spare.len());
                let (group, rule) = self.spare.swap_remove(at);
                Event::AddRule(group, rule)
            }
            6 if port.groups.contains(&group) => Event::RemoveMember(group, port.id),
            6 => Event::AddMember(group, port.id),
            7 => Event::UpdatePort(port.id),
            8 => self.set_addresses()?,
            9 => Event::RemovePort(port.id),
            _ => Event::Advance(*self.choices.pick(WAITS)),
        })
    }

    fn remove_rule(&mut self) -> Option<Event> {
        let groups = self.policy.groups.iter();
        let rules: Vec<(GroupId, Rule)> = groups
            .flat_map(|(id, group)| group.rules.iter().map(|rule| (id.clone(), rule.clone())))
            .collect();
        if rules.is_empty() {
            return Some(Event::Advance(*self.choices.pick(WAITS)));
        }
        let (group, rule) = self.choices.pick(&rules).clone();
        let id = rule.id.clone();
        self.spare.push((group, rule));
        Some(Event::RemoveRule(id))
    }

    fn set_addresses(&mut self) -> Option<Event> {
        let id: AddressGroupId = self.policy.address_groups.keys().next()?.clone();
        let addresses: Vec<IpNet> =
            ["10.0.0.1/32", "fd00::/64"].iter().filter_map(|text| text.parse().ok()).collect();
        Some(Event::SetAddresses(id, addresses))
    }

    /// What was planned.
    fn planned(&mut self, plan: Plan) -> Option<Event> {
        match plan {
            Plan::Packet(at, back) => Some(Event::Packet(self.talks.get_mut(at)?.packet(back))),
            Plan::Error(at, far) => {
                let talk = self.talks.get(at)?;
                let reporter = if far { &talk.to } else { &talk.from }.clone();
                Some(Event::Packet(self.error(reporter)))
            }
            Plan::Rule(id, true) => {
                let at = self.spare.iter().position(|(_, rule)| rule.id == id)?;
                let (group, rule) = self.spare.swap_remove(at);
                Some(Event::AddRule(group, rule))
            }
            Plan::Rule(id, false) => {
                let mut groups = self.policy.groups.iter();
                let (group, rule) = groups.find_map(|(group, all)| {
                    all.rules.iter().find(|rule| rule.id == id).map(|rule| (group.clone(), rule.clone()))
                })?;
                self.spare.push((group, rule));
                Some(Event::RemoveRule(id))
            }
        }
    }
}
