//! Boxes and behaviours in the words that operators use: prefixes, ranges, states of connections, ports by number.

use super::{
    deeds::{Deed, Way, Written, number},
    places::Axis,
    shape::Shape,
};
use crate::{
    bdd::{Bdd, Bdds},
    set::PacketSets,
    symbolic::Emit,
};
use flowproof_packet::{Field, MacAddr, field::Format, key::low_bits, port};
use flowproof_switch::conntrack::{Profile, state};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

/// Pieces of one value set that are listed.
const PIECES: usize = 12;
/// Cubes of one value set that are looked at.
const CUBES: usize = 4096;

/// A value, and the bits of it that count.
type Piece = (u128, u128);

/// The least and the most that an axis may be said to have.
type Values = (Bdd, Bdd);

/// How an axis is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Number,
    Hex,
    Mac,
    Ipv4,
    Ipv6,
}

/// A box, item by item: `tcp`, `nw_src=10.0.0.0/8`, `tp_dst=22-25`.
#[must_use]
pub fn describe(sets: &mut Bdds, shape: &Shape) -> Vec<String> {
    let mut values = shape.values.clone();
    let mut items = Vec::new();
    if let Some(set) = values.remove(&Axis::Sent(Field::InPort)) {
        items.push(item("in_port", &listed(sets, Axis::Sent(Field::InPort), set, Style::Number)));
    }
    let kind = Kind::of(sets, &values);
    if let Some(word) = kind.word() {
        items.push(word.to_owned());
        values.remove(&Axis::Sent(Field::DlType));
        if kind.names_protocol() {
            values.remove(&Axis::Sent(Field::NwProto));
        }
    }
    let order = |axis: &Axis| match axis {
        Axis::Sent(Field::DlType) => 0,
        Axis::Sent(Field::NwProto) => 1,
        Axis::Sent(Field::VlanTci) => 2,
        Axis::Sent(Field::DlSrc) => 3,
        Axis::Sent(Field::DlDst) => 4,
        Axis::Sent(Field::NwSrc | Field::Ipv6Src) => 5,
        Axis::Sent(Field::NwDst | Field::Ipv6Dst) => 6,
        Axis::Sent(Field::TcpSrc) => 7,
        Axis::Sent(Field::TcpDst) => 8,
        Axis::Sent(_) => 9,
        Axis::Answer(depth, _) => 10 + depth,
        Axis::Shown => 100,
        Axis::Form => 101,
        Axis::Datapath => 102,
    };
    let mut rest: Vec<(Axis, Values)> = values.into_iter().collect();
    rest.sort_by_key(|(axis, _)| order(axis));
    items.extend(rest.into_iter().filter_map(|(axis, set)| said(sets, axis, set, &kind)));
    items
}

/// What kind of packets a box holds, as far as it is one kind.
struct Kind {
    dl_type: Option<u128>,
    proto: Option<u128>,
}

impl Kind {
    fn of(sets: &Bdds, values: &BTreeMap<Axis, Values>) -> Self {
        let one = |field: Field| {
            let set = values.get(&Axis::Sent(field))?;
            match pieces(sets, Axis::Sent(field), set.0)?.as_slice() {
                [(value, mask)] if *mask == low_bits(field.spec().width) => Some(*value),
                _ => None,
            }
        };
        Self { dl_type: one(Field::DlType), proto: one(Field::NwProto) }
    }

    const fn names_protocol(&self) -> bool {
        matches!(
            (self.dl_type, self.proto),
            (Some(0x0800), Some(1 | 6 | 17 | 132)) | (Some(0x86dd), Some(6 | 17 | 58 | 132))
        )
    }

    const fn word(&self) -> Option<&'static str> {
        Some(match (self.dl_type, self.proto) {
            (Some(0x0800), Some(1)) => "icmp",
            (Some(0x0800), Some(6)) => "tcp",
            (Some(0x0800), Some(17)) => "udp",
            (Some(0x0800), Some(132)) => "sctp",
            (Some(0x0800), _) => "ip",
            (Some(0x86dd), Some(6)) => "tcp6",
            (Some(0x86dd), Some(17)) => "udp6",
            (Some(0x86dd), Some(58)) => "icmp6",
            (Some(0x86dd), Some(132)) => "sctp6",
            (Some(0x86dd), _) => "ipv6",
            (Some(0x0806), _) => "arp",
            (Some(0x8035), _) => "rarp",
            _ => return None,
        })
    }

    /// What a field is called in packets of this kind.
    fn name(&self, field: Field) -> &'static str {
        let arp = matches!(self.dl_type, Some(0x0806 | 0x8035));
        let ipv6 = matches!(self.dl_type, Some(0x86dd));
        let icmp = matches!((self.dl_type, self.proto), (Some(0x0800), Some(1)) | (Some(0x86dd), Some(58)));
        let others: [(Field, bool, &'static str); 10] = [
            (Field::NwSrc, arp, "arp_spa"),
            (Field::NwDst, arp, "arp_tpa"),
            (Field::NwProto, arp, "arp_op"),
            (Field::ArpSha, ipv6, "nd_sll"),
            (Field::ArpTha, ipv6, "nd_tll"),
            (Field::TcpSrc, icmp, "icmp_type"),
            (Field::TcpDst, icmp, "icmp_code"),
            (Field::TcpSrc, true, "tp_src"),
            (Field::TcpDst, true, "tp_dst"),
            (field, true, field.spec().name),
        ];
        let found = others.into_iter().find(|(of, when, _)| *of == field && *when);
        found.map_or(field.spec().name, |(_, _, name)| name)
    }
}

fn said(sets: &mut Bdds, axis: Axis, set: Values, kind: &Kind) -> Option<String> {
    let text = match axis {
        Axis::Sent(Field::VlanTci) => vlans(sets, set),
        Axis::Sent(Field::CtState) => arriving(sets, set.0)?,
        Axis::Sent(field) => item(kind.name(field), &listed(sets, axis, set, style(field))),
        Axis::Answer(depth, Field::CtState) => states(sets, depth, set.0)?,
        Axis::Answer(depth, field) => {
            format!("{}{}", item(field.spec().name, &listed(sets, axis, set, style(field))), nth(depth))
        }
        Axis::Shown => item("next header shown", &listed(sets, axis, set, Style::Number)),
        Axis::Form => {
            let names = ["whole", "first fragment", "later fragment"];
            chosen(sets, axis, set.0, &names)?
        }
        Axis::Datapath => {
            let names = Profile::ALL.map(Profile::name);
            format!("datapath {}", chosen(sets, axis, set.0, &names)?)
        }
    };
    Some(text)
}

/// What the host says of a packet that it has tracked already; nothing of one that comes in untracked, as nearly all do.
fn arriving(sets: &mut Bdds, set: Bdd) -> Option<String> {
    let axis = Axis::Sent(Field::CtState);
    let with = |flags: u32| -> Vec<_> { axis.literals(flags.into()).into_iter().take(6).collect() };
    let mut inside = |flags: u32| {
        let cube = sets.cube(&with(flags));
        let hit = sets.and(set, cube);
        !sets.is_empty(hit)
    };
    let tracked: Vec<&str> = ANSWERS
        .iter()
        .filter(|(flags, _)| flags & state::TRK != 0 && inside(*flags))
        .map(|(_, name)| *name)
        .collect();
    if tracked.is_empty() {
        return None;
    }
    Some(format!("tracked by the host ({})", tracked.join(" or ")))
}

/// Which `ct()` answered; nothing for the first.
fn nth(depth: u16) -> String {
    match depth {
        0 => String::new(),
        1 => " (2nd ct)".to_owned(),
        2 => " (3rd ct)".to_owned(),
        depth => format!(" ({}th ct)", depth + 1),
    }
}

fn style(field: Field) -> Style {
    let spec = field.spec();
    match spec.format {
        Format::Ethernet => Style::Mac,
        Format::Ipv4 => Style::Ipv4,
        Format::Ipv6 => Style::Ipv6,
        Format::Decimal | Format::Port => Style::Number,
        Format::Hex
        | Format::Frag
        | Format::CtState
        | Format::TcpFlags
        | Format::TunFlags
        | Format::PacketType => Style::Hex,
    }
}

/// Which of a few named values are in the set; nothing where all are.
fn chosen(sets: &mut Bdds, axis: Axis, set: Bdd, names: &[&str]) -> Option<String> {
    let mut inside = Vec::new();
    for (value, name) in names.iter().enumerate() {
        let cube = sets.cube(&axis.literals(value as u128));
        let hit = sets.and(set, cube);
        if !sets.is_empty(hit) {
            inside.push(*name);
        }
    }
    (inside.len() < names.len()).then(|| inside.join(" or "))
}

/// What connection tracking may say, as the tables would ask for it.
const ANSWERS: &[(u32, &str)] = &[
    (state::TRK | state::NEW, "+new"),
    (state::TRK | state::EST, "+est-rpl"),
    (state::TRK | state::EST | state::RPL, "+est+rpl"),
    (state::TRK | state::REL, "+rel-rpl"),
    (state::TRK | state::REL | state::RPL, "+rel+rpl"),
    (state::TRK | state::INV, "+inv"),
    (state::INV, "+inv-trk"),
];
/// Two of them at once.
const PAIRS: &[(&str, &str, &str)] = &[("+est-rpl", "+est+rpl", "+est"), ("+rel-rpl", "+rel+rpl", "+rel")];

fn states(sets: &mut Bdds, depth: u16, set: Bdd) -> Option<String> {
    let axis = Axis::Answer(depth, Field::CtState);
    let looked_at = sets.support(set);
    let mut inside: Vec<&str> = Vec::new();
    for (answer, name) in ANSWERS {
        // What a set does not look at is not asked for: whether it is tracked goes without saying.
        let literals: Vec<_> =
            axis.literals(u128::from(*answer)).into_iter().filter(|bit| looked_at.contains(&bit.0)).collect();
        let cube = sets.cube(&literals);
        let hit = sets.and(set, cube);
        if !sets.is_empty(hit) {
            inside.push(name);
        }
    }
    if inside.len() == ANSWERS.len() {
        return None;
    }
    if inside.contains(&"+inv") {
        inside.retain(|name| *name != "+inv-trk");
    }
    for (one, other, both) in PAIRS {
        if inside.contains(one) && inside.contains(other) {
            inside.retain(|name| name != other);
            inside.iter_mut().filter(|name| *name == one).for_each(|name| *name = both);
        }
    }
    Some(format!("ct_state={}{}", inside.join(" or "), nth(depth)))
}

/// Disjoint pieces of the set, by value; `None` where they are too many.
fn pieces(sets: &Bdds, axis: Axis, set: Bdd) -> Option<Vec<Piece>> {
    let vars = axis.vars();
    let place: BTreeMap<_, _> = vars.iter().rev().enumerate().map(|(bit, var)| (*var, bit)).collect();
    let piece = |literals: Vec<crate::set::Literal>| {
        literals.into_iter().fold((0u128, 0u128), |(value, mask), (var, on)| {
            let bit = place.get(&var).map_or(0, |bit| 1u128 << bit);
            (value | if on { bit } else { 0 }, mask | bit)
        })
    };
    let mut pieces: Vec<Piece> = sets.cubes(set, CUBES)?.into_iter().map(piece).collect();
    pieces.sort_unstable();
    Some(pieces)
}

/// The values of an axis: those inside, or those outside where that is shorter.
struct Listed {
    texts: Vec<String>,
    not: bool,
}

fn item(name: &str, listed: &Listed) -> String {
    let mut texts: Vec<&str> = listed.texts.iter().take(PIECES).map(String::as_str).collect();
    let more = listed.texts.len().saturating_sub(PIECES);
    let rest = format!("{more} more");
    if more > 0 {
        texts.push(&rest);
    }
    if listed.texts.is_empty() {
        return format!("{name} of many values");
    }
    let separator = if listed.not { " nor " } else { " or " };
    format!("{name}{}{}", if listed.not { "≠" } else { "=" }, texts.join(separator))
}

/// The shortest of what may be said.
fn listed(sets: &mut Bdds, axis: Axis, (least, most): Values, style: Style) -> Listed {
    let (missing, surely) = (sets.not(most), sets.not(least));
    let width = axis.vars().len() as u16;
    let ways = [(least, false), (most, false), (missing, true), (surely, true)];
    let listed = ways.into_iter().filter_map(|(set, not)| {
        let pieces = pieces(sets, axis, set).filter(|pieces| !pieces.is_empty())?;
        Some(Listed { texts: texts(&pieces, width, style), not })
    });
    listed.min_by_key(|listed| listed.texts.len()).unwrap_or(Listed { texts: Vec::new(), not: false })
}

fn texts(pieces: &[Piece], width: u16, style: Style) -> Vec<String> {
    let all = low_bits(width);
    let prefix = |mask: u128| (all ^ mask).count_ones() == (all ^ mask).trailing_ones();
    if style == Style::Number {
        let few: Option<Vec<Piece>> =
            pieces.iter().map(|piece| prefixes(*piece, all)).try_fold(Vec::new(), |mut sum, more| {
                sum.extend(more);
                (sum.len() <= FEW).then_some(sum)
            });
        let plain = pieces.iter().all(|(_, mask)| prefix(*mask)).then(|| pieces.to_vec());
        if let Some(mut pieces) = plain.or(few) {
            pieces.sort_unstable();
            return ranges(&pieces, all);
        }
    }
    pieces.iter().map(|piece| text(*piece, width, style)).collect()
}

/// Numbers that a mask may be said as.
const FEW: usize = 32;

/// A value under any mask as values under prefixes; more than a few where it takes more than a few.
fn prefixes((value, mask): Piece, all: u128) -> Vec<Piece> {
    let low = (all ^ mask).trailing_ones();
    let mut found = vec![(value, all & !low_bits(low as u16))];
    for bit in (low..128).map(|bit| 1u128 << bit).filter(|bit| bit & all & !mask != 0) {
        if found.len() <= FEW {
            found.extend(found.clone().into_iter().map(|(value, mask)| (value | bit, mask)));
        }
    }
    found
}

/// Neighbouring prefixes as ranges.
fn ranges(pieces: &[Piece], all: u128) -> Vec<String> {
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for (value, mask) in pieces {
        let end = value | all ^ mask;
        match ranges.last_mut() {
            Some(last) if last.1.wrapping_add(1) == *value => last.1 = end,
            _ => ranges.push((*value, end)),
        }
    }
    let range = |(start, end): (u128, u128)| match (start, end) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    };
    ranges.into_iter().map(range).collect()
}

fn text((value, mask): Piece, width: u16, style: Style) -> String {
    let all = low_bits(width);
    let exact = mask == all;
    let prefix = ((all ^ mask).count_ones() == (all ^ mask).trailing_ones()).then(|| mask.count_ones());
    let plain = |value: u128| match style {
        Style::Number => value.to_string(),
        Style::Hex => format!("{value:#x}"),
        Style::Mac => MacAddr::from_bits(value as u64).to_string(),
        Style::Ipv4 => Ipv4Addr::from(value as u32).to_string(),
        Style::Ipv6 => Ipv6Addr::from(value).to_string(),
    };
    match prefix {
        _ if exact => plain(value),
        Some(length) if matches!(style, Style::Ipv4 | Style::Ipv6) => format!("{}/{length}", plain(value)),
        _ => format!("{}/{}", plain(value), plain(mask)),
    }
}

const PRESENT: u128 = 0x1000;
const VID: u128 = 0x0fff;
const PCP: u128 = 0xe000;

/// VLAN tags: whether there is one, its id, its priority.
fn vlans(sets: &mut Bdds, (least, most): Values) -> String {
    let axis = Axis::Sent(Field::VlanTci);
    let present: Vec<_> = axis.literals(PRESENT).into_iter().filter(|bit| bit.1).collect();
    let tagged = sets.cube(&present);
    let bare = sets.minus(least, tagged);
    let [least, most] = [least, most].map(|set| sets.and(set, tagged));
    let missing = sets.minus(tagged, most);
    let inside = [least, most].into_iter().filter_map(|set| pieces(sets, axis, set));
    let inside = inside.min_by_key(Vec::len).unwrap_or_default();
    let outside = pieces(sets, axis, missing).filter(|outside| outside.len() < inside.len());
    let shown = |pieces: &[Piece], separator: &str| {
        let mut words: Vec<String> = pieces.iter().take(PIECES).map(|piece| vlan(*piece)).collect();
        if pieces.len() > PIECES {
            words.push(format!("{} more", pieces.len() - PIECES));
        }
        words.join(separator)
    };
    let has_bare = !sets.is_empty(bare);
    match (outside, inside.is_empty()) {
        (Some(outside), _) if has_bare => format!("not {}", shown(&outside, " nor ")),
        (Some(outside), _) => format!("tagged, not {}", shown(&outside, " nor ")),
        (None, true) => "untagged".to_owned(),
        (None, false) if has_bare => format!("untagged or {}", shown(&inside, " or ")),
        (None, false) => shown(&inside, " or "),
    }
}

fn vlan((value, mask): Piece) -> String {
    let vid = match mask & VID {
        0 => None,
        VID => Some(format!("dl_vlan={}", value & VID)),
        part => Some(format!("dl_vlan={:#x}/{part:#x}", value & VID)),
    };
    let pcp = match mask & PCP {
        0 => None,
        PCP => Some(format!("dl_vlan_pcp={}", (value & PCP) >> 13)),
        part => Some(format!("vlan_tci={:#x}/{part:#x}", value & PCP)),
    };
    let said: Vec<String> = vid.into_iter().chain(pcp).collect();
    if said.is_empty() && mask & PRESENT != 0 { "tagged".to_owned() } else { said.join(" ") }
}

/// What is done to packets, deed by deed; a drop where nothing is.
#[must_use]
pub fn behaviour(deeds: &BTreeSet<Deed>) -> Vec<String> {
    let leaves = deeds.iter().filter(|deed| !matches!(deed.way, Way::Tracked(_)));
    let mut words: Vec<String> = Vec::new();
    for deed in leaves {
        words.push(format!("{}{}", way(&deed.way), changed(deed)));
    }
    if words.is_empty() {
        words.push("drop".to_owned());
    }
    for deed in deeds {
        if let Way::Tracked(_) = deed.way {
            words.push(way(&deed.way));
        }
    }
    words.dedup();
    words
}

fn way(way: &Way) -> String {
    match way {
        Way::Leaves(emit) => emitted(emit),
        Way::LeavesBy(bits) if *bits == in_port() => "IN_PORT".to_owned(),
        Way::LeavesBy(_) => "output to a port that the packet names".to_owned(),
        Way::Controller(action) => action.clone(),
        Way::Tracked(tracking) => {
            let zone = number(&tracking.zone).map_or("from the packet".to_owned(), |zone| zone.to_string());
            let mut words = Vec::new();
            if let Some((force, kept)) = &tracking.commit {
                words.push(if *force { "commit,force".to_owned() } else { "commit".to_owned() });
                words.extend(kept_text(kept));
            }
            words.push(format!("zone={zone}"));
            words.extend(tracking.other.iter().cloned());
            format!("ct({}){}", words.join(","), nth(tracking.depth))
        }
    }
}

/// The bits that are the number of the port by which the packet came in.
fn in_port() -> Vec<Written> {
    crate::vars::sent(Field::InPort).map(Written::From).collect()
}

fn emitted(emit: &Emit) -> String {
    match emit {
        Emit::Port(port::LOCAL) => "output:LOCAL".to_owned(),
        Emit::Port(port) => format!("output:{port}"),
        Emit::UnknownPort => "output to a port that the packet names".to_owned(),
        Emit::InPort => "IN_PORT".to_owned(),
        Emit::Normal => "NORMAL".to_owned(),
        Emit::Flood => "FLOOD".to_owned(),
        Emit::Controller => "CONTROLLER".to_owned(),
        Emit::Opaque(text) => format!("{text} (not modelled)"),
        Emit::Limit => "drop".to_owned(),
    }
}

/// Mark and label that are set.
fn kept_text(kept: &[(u16, Written)]) -> Vec<String> {
    [Field::CtMark, Field::CtLabel].into_iter().filter_map(|field| field_text(field, kept)).collect()
}

/// A field of which bits are set, as `name:=value`.
fn field_text(field: Field, bits: &[(u16, Written)]) -> Option<String> {
    let spec = field.spec();
    let own: Vec<&(u16, Written)> =
        bits.iter().filter(|(at, _)| (spec.offset..spec.offset + spec.width).contains(at)).collect();
    let (mut value, mut mask, mut moved) = (0u128, 0u128, false);
    for (at, written) in &own {
        let bit = 1u128 << (spec.offset + spec.width - 1 - at);
        mask |= bit;
        match written {
            Written::Known(true) => value |= bit,
            Written::Known(false) => {}
            Written::From(_) => moved = true,
        }
    }
    let all = low_bits(spec.width);
    let name = if field == Field::InnerVlanTci { "inner vlan_tci" } else { spec.name };
    match own.len() {
        0 => None,
        // One bit tells the two apart.
        _ if matches!(field, Field::VlanTpid | Field::InnerVlanTpid) => {
            let inner = if field == Field::InnerVlanTpid { "inner " } else { "" };
            let tpid = if value == 0 { "0x8100" } else { "0x88a8" };
            Some(if moved { format!("{inner}TPID of another tag") } else { format!("{inner}TPID {tpid}") })
        }
        _ if moved => Some(format!("{name} from other bits of the packet")),
        _ => Some(format!(
            "{name}:={}",
            text((value, if mask == all { all } else { mask }), spec.width, style(field))
        )),
    }
}

/// What became of the packet on its way.
fn changed(deed: &Deed) -> String {
    let mut words = Vec::new();
    if deed.reassembled {
        words.push("put together".to_owned());
    }
    let tci = Field::VlanTci.spec();
    let tag: Vec<&(u16, Written)> =
        deed.change.iter().filter(|(at, _)| (tci.offset..tci.offset + tci.width).contains(at)).collect();
    if !tag.is_empty() {
        let bit = |wanted: u16| tag.iter().find(|(at, _)| *at == wanted).map(|(_, written)| *written);
        let vid: Option<Vec<Written>> = (tci.offset + 4..tci.offset + 16).map(bit).collect();
        words.push(match (bit(tci.offset + 3), vid.and_then(|vid| number(&vid))) {
            (Some(Written::Known(false)), _) => "untagged".to_owned(),
            (Some(Written::Known(true)), Some(vid)) => format!("with VLAN {vid}"),
            _ => "with another tag".to_owned(),
        });
    }
    let tpid = Field::VlanTpid.spec();
    let is_service = |(at, bit): &(u16, Written)| {
        (tpid.offset..tpid.offset + tpid.width).contains(at) && *bit == Written::Known(true)
    };
    // One bit stands for a service tag; others have 0x8100.
    words.extend(deed.change.iter().any(is_service).then(|| "TPID 0x88a8".to_owned()));
    let below = Field::InnerVlanTci.spec();
    let changes = |at: &u16| (below.offset..below.offset + below.width).contains(at);
    words.extend(deed.change.iter().any(|(at, _)| changes(at)).then(|| "above its own tag".to_owned()));
    let own = [Field::VlanTci, Field::InnerVlanTci, Field::VlanTpid, Field::InnerVlanTpid];
    let others = Field::all().filter(|field| field.spec().is_slot_owner() && !own.contains(field));
    words.extend(others.filter_map(|field| field_text(field, &deed.change)));
    if words.is_empty() { String::new() } else { format!(" {}", words.join(", ")) }
}
