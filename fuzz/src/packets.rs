//! Packets from choices, from the values that a host's flows speak of, and what connection tracking may say of them.

use crate::Choices;
use flowproof_packet::{
    Field, FlowKey, PortNo,
    build::{ComposeOptions, FragmentExtension, FragmentOptions, compose, fragment_with},
    key::low_bits,
    wire,
};
use flowproof_proofs::{symkey::Form, tables::Tables, vars};
use flowproof_switch::conntrack::{CtInfo, Profile, Tuple, state};
use std::collections::BTreeMap;

/// A frame, and the datagram it belongs to.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it is of the datagram.
    pub form: Form,
    /// The datagram, whole.
    pub whole: Vec<u8>,
    /// What is sent of it.
    pub bytes: Vec<u8>,
    /// The datagram's key.
    pub sent: FlowKey,
    /// The next header that table lookup sees.
    pub shown_proto: u8,
}

/// The values that flows match on, by field.
pub struct Pool {
    values: BTreeMap<&'static str, Vec<u128>>,
}

impl Pool {
    /// The values of these tables, and those just beyond their masks.
    #[must_use]
    pub fn of(tables: &Tables) -> Self {
        let mut values: BTreeMap<&'static str, Vec<u128>> = BTreeMap::new();
        for flow in tables.flows() {
            for field in Field::all().filter(|field| flow.matching.looks_at(*field)) {
                let (value, mask) = flow.matching.get(field);
                let all = low_bits(field.spec().width);
                values.entry(field.spec().name).or_default().extend([value, value | !mask & all]);
            }
        }
        values.values_mut().for_each(|values| {
            values.sort_unstable();
            values.dedup();
        });
        Self { values }
    }

    fn pick(&self, choices: &mut Choices<'_>, field: Field, usual: &[u128]) -> u128 {
        match self.values.get(field.spec().name) {
            Some(known) if choices.chance(75) => *choices.pick(known),
            _ if usual.is_empty() => choices.bits() & low_bits(field.spec().width),
            _ => *choices.pick(usual),
        }
    }
}

const MACS: [u128; 4] = [0x0200_0000_0001, 0x0200_0000_0002, 0xfa16_3e00_0003, 0xffff_ffff_ffff];
const V4: [u128; 3] = [0x0a00_0001, 0x0a00_0002, 0x0808_0808];
const V6: [u128; 3] = [0xfd00 << 112 | 1, 0xfd00 << 112 | 2, 0xfe80 << 112 | 1];
const PORTS: [u128; 6] = [80, 81, 67, 68, 546, 547];

/// Draws fields into a key.
struct Draft<'d, 'c> {
    choices: &'d mut Choices<'c>,
    pool: &'d Pool,
    key: FlowKey,
}

impl Draft<'_, '_> {
    fn put(&mut self, field: Field, usual: &[u128]) -> u128 {
        let value = self.pool.pick(self.choices, field, usual);
        self.key.set(field, value);
        value
    }

    fn ip(&mut self, ip: bool) {
        let (src, dst, usual) = if ip {
            (Field::NwSrc, Field::NwDst, &V4[..])
        } else {
            (Field::Ipv6Src, Field::Ipv6Dst, &V6[..])
        };
        self.put(src, usual);
        self.put(dst, usual);
        let protocols: &[u128] = if ip { &[6, 6, 17, 17, 1, 132, 47] } else { &[6, 6, 17, 17, 58, 58, 132] };
        let proto = *self.choices.pick(protocols);
        let icmp = proto == 1 || proto == 58;
        let (from, to): (&[u128], &[u128]) =
            if icmp { (&[0, 8, 128, 129, 134, 135, 136, 143], &[0, 1]) } else { (&PORTS, &PORTS) };
        let (src, dst) = (self.put(Field::TcpSrc, from), self.put(Field::TcpDst, to));
        if icmp {
            self.key.set(Field::TcpSrc, src & 0xff);
            self.key.set(Field::TcpDst, dst & 0xff);
        } else if proto == 47 {
            self.key.set(Field::TcpSrc, 0);
            self.key.set(Field::TcpDst, 0);
        }
        if proto == 58 && matches!(src & 0xff, 135 | 136) && dst & 0xff == 0 {
            self.put(Field::NdTarget, &V6);
            self.put(if src & 0xff == 135 { Field::NdSll } else { Field::NdTll }, &MACS);
        }
        if proto == 6 {
            self.key.set(Field::TcpFlags, *self.choices.pick(&[2, 0x12, 0x10, 1]));
        }
        self.key.set(Field::NwProto, proto);
        self.key.set(Field::NwTtl, 64);
    }

    fn arp(&mut self) {
        self.key.set(Field::ArpOp, 1 + self.choices.below(2) as u128);
        let fields =
            [(Field::ArpSpa, &V4[..]), (Field::ArpTpa, &V4), (Field::ArpSha, &MACS), (Field::ArpTha, &MACS)];
        for (field, usual) in fields {
            self.put(field, usual);
        }
    }
}

/// A key that some frame may have.
fn key(choices: &mut Choices<'_>, pool: &Pool, form: Form) -> FlowKey {
    let mut draft = Draft { choices, pool, key: FlowKey::default() };
    draft.put(Field::DlSrc, &MACS);
    draft.put(Field::DlDst, &MACS);
    let types: &[u128] = match form {
        Form::Whole => &[0x800, 0x86dd, 0x800, 0x86dd, 0x806, 0x8035, 0x88b5],
        Form::First | Form::Later => &[0x800, 0x86dd],
    };
    let dl_type = *draft.choices.pick(types);
    match dl_type {
        0x800 | 0x86dd => draft.ip(dl_type == 0x800),
        0x88b5 => {}
        _ => draft.arp(),
    }
    let Draft { choices, mut key, .. } = draft;
    key.set(Field::DlType, dl_type);
    if choices.chance(40) {
        key.set(
            Field::VlanTci,
            0x1000 | *choices.pick(&[0, 1, 2, 3, 5, 1053]) | *choices.pick(&[0, 3 << 13]),
        );
    }
    key
}

/// A frame of this form; none where what was drawn has no fragments. What it holds is read back from it.
pub fn frame(choices: &mut Choices<'_>, pool: &Pool, form: Form, in_port: PortNo) -> Option<Frame> {
    let key = key(choices, pool, form);
    let extension = match choices.below(4) {
        0 => Some(FragmentExtension::DestinationOptions),
        1 => Some(FragmentExtension::Routing),
        _ => None,
    };
    made(&key, form, extension, in_port)
}

/// The frame of this form with the datagram's key, as far as there is one.
pub fn made(
    key: &FlowKey,
    form: Form,
    extension: Option<FragmentExtension>,
    in_port: PortNo,
) -> Option<Frame> {
    let payload_len = if form == Form::Whole { 0 } else { 1600 };
    let whole = compose(key, &ComposeOptions { payload_len, ..ComposeOptions::default() });
    // Neighbour discovery and SCTP are short.
    let two = |first| fragment_with(&whole, &FragmentOptions { extension, ..FragmentOptions::two(first) });
    let fragments = || [1400, 24, 8].into_iter().find_map(two);
    let bytes = match form {
        Form::Whole => whole.clone(),
        Form::First => fragments()?.swap_remove(0),
        Form::Later => fragments()?.swap_remove(1),
    };
    let sent = wire::extract(&whole, in_port);
    let shown_proto = wire::extract(&bytes, in_port).get(Field::NwProto) as u8;
    Some(Frame { form, whole, bytes, sent, shown_proto })
}

const INVALID: u32 = state::INV;

/// What a connection is for a packet, new ones first.
const KINDS: [u32; 6] =
    [state::NEW, state::EST, state::EST | state::RPL, state::REL, state::REL | state::RPL, INVALID];

fn icmpv6_type(sent: &FlowKey) -> Option<u128> {
    let icmpv6 = sent.get(Field::DlType) == 0x86dd && sent.get(Field::NwProto) == 58;
    icmpv6.then(|| sent.get(Field::Icmpv6Type))
}

/// Everything that connection tracking may say of a datagram, with these marks and no label or tuple.
pub fn answers(sent: &FlowKey, profile: Profile, marks: &[u32]) -> Vec<CtInfo> {
    let plain = |kind: u32| CtInfo { state: state::TRK | kind, ..CtInfo::default() };
    match icmpv6_type(sent) {
        Some(130..=136 | 143) if profile == Profile::Kernel2016 => return vec![plain(state::NEW)],
        Some(130..=137 | 143) => return vec![plain(INVALID)],
        _ => {}
    }
    let marked = |kind: &u32| {
        let marks = if *kind == INVALID { &[0][..] } else { marks };
        marks.iter().map(|mark| CtInfo { mark: *mark, ..plain(*kind) }).collect::<Vec<_>>()
    };
    KINDS.iter().flat_map(marked).collect()
}

/// What connection tracking may say of a datagram: the rules of the properties' words, once more.
pub fn answer(choices: &mut Choices<'_>, sent: &FlowKey, profile: Profile) -> CtInfo {
    let [new, est, ..] = KINDS;
    let kinds = KINDS.into_iter().chain([new, est]).collect::<Vec<_>>();
    let icmpv6 = icmpv6_type(sent);
    let mut kind = *choices.pick(&kinds);
    let mark = if choices.chance(50) { 0 } else { choices.below(4) as u32 };
    match icmpv6 {
        Some(137) => kind = INVALID,
        Some(130..=136 | 143) if profile == Profile::Kernel2016 => {
            return CtInfo { state: state::TRK | state::NEW, ..CtInfo::default() };
        }
        Some(130..=136 | 143) => kind = INVALID,
        _ => {}
    }
    if kind == INVALID {
        return CtInfo { state: state::TRK | INVALID, ..CtInfo::default() };
    }
    let label = choices.below(4) as u128;
    let tuple = Tuple { src: V4[0], dst: V4[1], ipv6: false, proto: 6, tp_src: 80, tp_dst: 81 };
    CtInfo { state: state::TRK | kind, mark, label, orig: choices.chance(30).then_some(tuple), unknown: None }
}

/// The packet as the proofs know it: one truth value for each variable.
#[derive(Clone)]
pub struct Assignment(Vec<bool>);

impl Assignment {
    /// A frame, and what connection tracking says of it at each depth.
    #[must_use]
    pub fn new(frame: &Frame, answers: &[CtInfo]) -> Self {
        let mut all = Self(vec![false; usize::from(vars::COUNT)]);
        for field in Field::all().filter(|field| field.spec().is_slot_owner()) {
            all.put(vars::sent(field), frame.sent.get(field));
        }
        all.put(vars::fragment_proto(), frame.shown_proto.into());
        for (depth, answer) in (0..vars::CT_LEVELS).zip(answers) {
            let mut put = |field, value| all.put(vars::tracked(depth, field), value);
            put(Field::CtState, answer.state.into());
            put(Field::CtMark, answer.mark.into());
            put(Field::CtLabel, answer.label);
            let Some(tuple) = answer.orig else { continue };
            put(if tuple.ipv6 { Field::CtIpv6Src } else { Field::CtNwSrc }, tuple.src);
            put(if tuple.ipv6 { Field::CtIpv6Dst } else { Field::CtNwDst }, tuple.dst);
            put(Field::CtNwProto, tuple.proto.into());
            put(Field::CtTpSrc, tuple.tp_src.into());
            put(Field::CtTpDst, tuple.tp_dst.into());
        }
        all
    }

    fn put(&mut self, run: impl DoubleEndedIterator<Item = vars::Var>, value: u128) {
        for (bit, var) in run.rev().enumerate() {
            if let Some(place) = self.0.get_mut(usize::from(var.0)) {
                *place = value >> bit & 1 == 1;
            }
        }
    }

    /// The value of a variable.
    #[must_use]
    pub fn bit(&self, var: vars::Var) -> bool {
        self.0.get(usize::from(var.0)).copied().unwrap_or_default()
    }
}
