//! Packets one after the other through both switches: what leaves them byte for byte, the tracked connections, the
//! learned addresses.

use super::{
    Budget, Findings,
    packets::{self, Draft, Packet},
    rng::Rng,
    scenario::{self, Pair, Step, Verdict, View},
    world::{self, World},
};
use flowproof_ovs::RealSwitch;
use flowproof_packet::{
    Field, PortNo,
    build::{BadChecksum, FragmentOptions, IcmpError, fragment_with, icmp_error},
    wire::{self, ethertype, proto},
};
use flowproof_switch::{conntrack::Profile, pipeline::SwitchConfig};
use std::fmt::Write as _;

/// Steps of one scenario.
const STEPS: usize = 40;
/// After how many steps connections and addresses are compared too.
const LOOK: usize = 5;
/// Milliseconds that a scenario with fragments may last: a held fragment older than 25 seconds goes when the
/// switch's cleaner gets to it, about once a minute.
pub(super) const FRAGMENT_PATIENCE: u64 = 24_500;

/// Two ends that talk.
#[derive(Clone, Debug)]
struct Talk {
    /// As the first packet was.
    there: Draft,
    /// Where answers come in.
    back_port: PortNo,
    /// The next sequence number of each end.
    seq: [u32; 2],
}

const SWAPS: [(Field, Field); 4] = [
    (Field::DlSrc, Field::DlDst),
    (Field::NwSrc, Field::NwDst),
    (Field::Ipv6Src, Field::Ipv6Dst),
    (Field::TcpSrc, Field::TcpDst),
];

/// Generates scenarios.
struct Author<'w, 'r> {
    world: &'w World,
    rng: &'r mut Rng,
    /// Whether fragments take part.
    fragments: bool,
    /// Milliseconds that may pass while fragments are held.
    patience: u64,
    talks: Vec<Talk>,
    /// Frames of earlier, for errors about them and for repetition.
    past: Vec<Packet>,
    steps: Vec<Step>,
}

impl<'w, 'r> Author<'w, 'r> {
    fn new(world: &'w World, rng: &'r mut Rng, fragments: bool) -> Self {
        let patience = FRAGMENT_PATIENCE;
        Self { world, rng, fragments, patience, talks: Vec::new(), past: Vec::new(), steps: Vec::new() }
    }

    fn send(&mut self, mut packet: Packet) {
        packets::clear_drop_eligible(&mut packet.frame);
        if self.fragments || !is_fragment(&packet.frame) {
            self.past.push(packet.clone());
            self.steps.push(Step::Frame(packet.in_port, packet.frame));
        }
    }

    fn wait(&mut self) {
        /// On no timer's edge.
        const TIMES: [u64; 10] = [7, 700, 2_700, 7_700, 16_700, 31_700, 47_700, 63_700, 307_700, 907_700];
        let time = *self.rng.pick(&TIMES);
        if !self.fragments {
            self.steps.push(Step::Wait(time));
        } else if time <= self.patience {
            self.patience -= time;
            self.steps.push(Step::Wait(time));
        }
    }

    fn write(mut self) -> Vec<Step> {
        while self.steps.len() < STEPS {
            match self.rng.below(100) {
                0..18 => self.stranger(),
                18..32 => self.open(),
                32..74 if !self.talks.is_empty() => self.go_on(),
                74..82 if !self.past.is_empty() => self.complain(),
                82..88 if self.fragments => self.split(),
                88..92 if !self.past.is_empty() => {
                    let again = self.rng.pick(&self.past).clone();
                    self.send(again);
                }
                92..96 => self.wait(),
                96 => {
                    let zone = [None, Some(1), Some(2)];
                    self.steps.push(Step::FlushConnections(*self.rng.pick(&zone)));
                }
                97 => self.steps.push(Step::FlushAddresses),
                98 if self.rng.chance(30) => {
                    self.steps.push(Step::Flows(self.rng.below(self.world.variants.len())))
                }
                _ => self.open(),
            }
        }
        self.steps
    }

    fn stranger(&mut self) {
        let packet = packets::packet(self.world, self.rng);
        self.send(packet);
    }

    /// The first packet of a conversation.
    fn open(&mut self) {
        let mut draft = packets::draft(self.world, self.rng);
        if self.rng.chance(40) {
            packets::overlay(&mut draft, self.world, self.rng);
        }
        if draft.key.get(Field::NwProto) == u128::from(proto::TCP) && self.rng.chance(80) {
            draft.key.set(Field::TcpFlags, 2);
        }
        draft.options.seq = self.rng.next() as u32;
        draft.options.window = *self.rng.pick(&[65535, 65535, 1000, 0]);
        let peer = self.world.hosts.iter().find(|host| host.mac == draft.key.get(Field::DlDst));
        let back_port = peer.map_or(draft.in_port, |host| host.port);
        let length = draft.options.payload_len as u32 + 1;
        self.talks.push(Talk {
            back_port,
            seq: [draft.options.seq.wrapping_add(length), self.rng.next() as u32],
            there: draft.clone(),
        });
        self.send(draft.packet());
    }

    /// Another packet of a conversation, mostly as it should be.
    fn go_on(&mut self) {
        let at = self.rng.below(self.talks.len());
        let mut talk = self.talks[at].clone();
        let mut draft = talk.there.clone();
        let answer = self.rng.chance(60);
        let (own, other) = (usize::from(answer), usize::from(!answer));
        if answer {
            turn(&mut draft);
            draft.in_port = talk.back_port;
        }
        if draft.key.get(Field::NwProto) == u128::from(proto::TCP) {
            self.tcp(&mut draft, &mut talk, own, other);
        } else if answer {
            answer_kind(&mut draft);
        }
        draft.options.payload_len = *self.rng.pick(&[0, 0, 1, 10, 100, 1400]);
        if self.rng.chance(3) {
            draft.options.bad_checksum = *self.rng.pick(&[BadChecksum::IpHeader, BadChecksum::Upper]);
        }
        if self.rng.chance(5) {
            packets::disturb(&mut draft, self.world, self.rng);
        }
        self.talks[at] = talk;
        let mut packet = draft.packet();
        if self.rng.chance(3) {
            packets::damage(&mut packet.frame, self.rng);
        }
        self.send(packet);
    }

    fn tcp(&mut self, draft: &mut Draft, talk: &mut Talk, own: usize, other: usize) {
        const USUAL: [u128; 8] = [0x10, 0x10, 0x18, 0x12, 0x12, 0x11, 0x14, 0x02];
        let flags = if self.rng.chance(85) { *self.rng.pick(&USUAL) } else { self.rng.below(64) as u128 };
        draft.key.set(Field::TcpFlags, flags);
        let shift = match self.rng.below(20) {
            0 => self.rng.next() as u32,
            1 => 70_000,
            2 => 1_u32.wrapping_neg(),
            3 => 2000,
            _ => 0,
        };
        draft.options.seq = talk.seq[own].wrapping_add(shift);
        draft.options.ack = if flags & 0x10 == 0 && self.rng.chance(80) {
            0
        } else if self.rng.chance(90) {
            talk.seq[other]
        } else {
            self.rng.next() as u32
        };
        draft.options.window = *self.rng.pick(&[65535, 65535, 65535, 1000, 1, 0]);
        let consumed = draft.options.payload_len as u32 + u32::from(flags & 3 != 0);
        if shift == 0 {
            talk.seq[own] = draft.options.seq.wrapping_add(consumed);
        }
    }

    /// An ICMP error about an earlier packet.
    fn complain(&mut self) {
        const KINDS: [u8; 8] = [3, 3, 11, 12, 4, 5, 1, 2];
        let about = self.rng.pick(&self.past).clone();
        let sender = self.rng.pick(&self.world.hosts).clone();
        let v6 = wire::l3(&about.frame).is_some_and(|l3| l3.version == wire::IpVersion::V6);
        let own = if v6 { sender.ipv6.first() } else { sender.ipv4.first() };
        let mut error =
            IcmpError::new(*self.rng.pick(&KINDS), self.rng.below(4) as u8, own.copied().unwrap_or(1));
        match self.rng.below(10) {
            0 => error.dst = Some(self.rng.bits() >> if v6 { 0 } else { 96 }),
            1 => error.quote = Some(self.rng.below(60)),
            _ => {}
        }
        if let Some(frame) = icmp_error(&about.frame, &error) {
            self.send(Packet { in_port: sender.port, frame });
        }
    }

    /// An earlier packet in fragments: in order or not, complete or not, some twice.
    fn split(&mut self) {
        let mut draft = match self.talks.is_empty() {
            true => packets::draft(self.world, self.rng),
            false => self.rng.pick(&self.talks).there.clone(),
        };
        draft.options.payload_len = *self.rng.pick(&[1400, 1800, 3000]);
        draft.options.id = self.rng.below(4) as u32;
        let first = *self.rng.pick(&[1240, 1280, 1280, 1400, 600, 1232]);
        let packet = draft.packet();
        // More than two pieces now and then.
        let next_payload = self.rng.chance(30).then_some(1280);
        let options = FragmentOptions { id: draft.options.id, next_payload, ..FragmentOptions::two(first) };
        let Some(mut pieces) = fragment_with(&packet.frame, &options) else { return };
        if self.rng.chance(30) {
            pieces.reverse();
        }
        if self.rng.chance(20) {
            let again = self.rng.pick(&pieces).clone();
            pieces.push(again);
        }
        if self.rng.chance(20) {
            pieces.pop();
        }
        for frame in pieces {
            self.steps.push(Step::Frame(packet.in_port, frame));
        }
    }
}

fn is_fragment(frame: &[u8]) -> bool {
    wire::extract(frame, 0).get(Field::NwFrag) != 0
}

/// The same packet from the other end.
fn turn(draft: &mut Draft) {
    for (a, b) in SWAPS {
        let (old_a, old_b) = (draft.key.get(a), draft.key.get(b));
        let icmp = matches!(draft.key.get(Field::NwProto) as u8, proto::ICMP | proto::ICMPV6);
        if (a == Field::TcpSrc && icmp)
            || (a == Field::NwSrc && draft.key.get(Field::DlType) == u128::from(ethertype::IPV6))
        {
            continue;
        }
        draft.key.set(a, old_b);
        draft.key.set(b, old_a);
    }
}

/// The answer to a request of ARP, ICMP or ICMPv6.
fn answer_kind(draft: &mut Draft) {
    let key = &mut draft.key;
    if key.get(Field::DlType) == u128::from(ethertype::ARP) {
        key.set(Field::ArpOp, 2);
        return;
    }
    const ANSWERS: [(u8, u128, u128); 6] = [
        (proto::ICMP, 8, 0),
        (proto::ICMP, 13, 14),
        (proto::ICMP, 15, 16),
        (proto::ICMP, 17, 18),
        (proto::ICMPV6, 128, 129),
        (proto::ICMPV6, 135, 136),
    ];
    let (protocol, kind) = (key.get(Field::NwProto) as u8, key.get(Field::TcpSrc));
    if let Some((.., answer)) = ANSWERS.iter().find(|(of, request, _)| (*of, *request) == (protocol, kind)) {
        key.set(Field::TcpSrc, *answer);
    }
}

fn describe(world: &World, steps: &[Step], ours: &View, theirs: &View) -> String {
    let mut text = format!("{}\n", world.name);
    steps.iter().for_each(|step| writeln!(text, "{step:?}").unwrap());
    if let Some(Step::Frame(port, frame)) = steps.last() {
        writeln!(text, "{:?}", wire::extract(frame, *port)).unwrap();
    }
    write!(text, "ours   {}\ntheirs {}", shown(ours), shown(theirs)).unwrap();
    text
}

fn shown(view: &View) -> String {
    let mut text = String::new();
    for (port, frame) in &view.left {
        write!(text, "{port}:{} ", super::hex(frame)).unwrap();
    }
    write!(text, "{:?} {:?}", view.connections, view.addresses).unwrap();
    text
}

/// Compares about `count` packets in one world.
pub(super) fn compare<'w>(
    real: RealSwitch,
    world: &'w World,
    rng: &mut Rng,
    count: usize,
    findings: &mut Findings,
) -> RealSwitch {
    let mut pair: Pair<'w> = Pair::new(world, real);
    let end = findings.compared + count;
    while findings.compared < end {
        let fragments = rng.chance(20);
        let author = Author::new(world, rng, fragments);
        let steps = author.write();
        pair.reset();
        for (at, step) in steps.iter().enumerate() {
            match pair.step(step, at % LOOK == 0 || at + 1 == steps.len()).unwrap() {
                Verdict::Same => findings.count(usize::from(matches!(step, Step::Frame(..)))),
                Verdict::Open => break,
                Verdict::Different { ours, theirs } => {
                    report(world, &steps[..=at], &ours, &theirs, findings);
                    pair = Pair::new(world, super::start(world).unwrap());
                    break;
                }
            }
        }
        if findings.shown.len() >= Findings::SHOWN {
            break;
        }
        if fragments {
            // Some may still be held, and would grow too old.
            pair.drain();
        }
    }
    pair.real
}

/// Reports the difference with as few steps as show it.
pub(super) fn report(world: &World, steps: &[Step], ours: &View, theirs: &View, findings: &mut Findings) {
    let steps = scenario::shrunk(world, steps);
    match scenario::first_difference(world, &steps) {
        Some((_, ours, theirs)) => findings.report(|| describe(world, &steps, &ours, &theirs)),
        // It needs what earlier scenarios left behind: held fragments, the time of day.
        None => findings.report(|| format!("NOT ALONE: {}", describe(world, &steps, ours, theirs))),
    }
}

#[test]
fn packets_leave_as_they_leave_the_real_switch() {
    let budget = Budget::of("stateful", 4000);
    super::over_worlds(&budget, "packets", compare);
}

/// How many of a hundred scenarios differ when the interpreter is another switch than the real one.
#[track_caller]
fn check_noticed(change: impl Fn(&mut SwitchConfig)) {
    let genuine = world::genuine();
    let world = &genuine[0];
    let Some(mut real) = super::start(world) else { return };
    let mut rng = Rng::new(1);
    let mut config = SwitchConfig::new(world.ports.clone());
    change(&mut config);
    for _ in 0..100 {
        let steps = Author::new(world, &mut rng, false).write();
        let mut pair = Pair::with_config(world, real, config.clone());
        let differs = |step| matches!(pair.step(step, true).unwrap(), Verdict::Different { .. });
        if steps.iter().any(differs) {
            return;
        }
        real = pair.real;
    }
    panic!("nobody notices");
}

#[test]
fn another_datapath_is_noticed() {
    check_noticed(|config| config.profile = Profile::Kernel);
}

#[test]
fn a_port_in_another_vlan_is_noticed() {
    check_noticed(|config| config.ports[1].access_vlan = Some(9));
}

#[test]
fn a_port_that_is_missing_is_noticed() {
    check_noticed(|config| config.ports.truncate(2));
}
