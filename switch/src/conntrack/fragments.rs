//! Fragments on their way through `ct()`.
//!
//! Invariant: a fragment that is held comes out once: with its train, with a later packet when it has waited too
//! long (userspace), or never.
//! Deliberately absent: the order in which the kernel drops queues when it is short of memory.
//!
//! Source: experiments with Open vSwitch 3.1; RFC 791, RFC 8200, RFC 5722.

use super::{CtInfo, CtOutput, Options, Profile, state, userspace::INVALID};
use flowproof_packet::wire::{self, IpVersion, L3, proto};

/// How long the userspace datapath holds an incomplete train, and when it forgets one instead of sending it on.
const HELD_MS: u64 = 15_000;
const FORGOTTEN_MS: u64 = 25_000;
/// How long the kernel holds one before dropping it.
const KERNEL_HELD_MS: u64 = 30_000;
const KERNEL_HELD_V6_MS: u64 = 60_000;
/// Fragments in all that the userspace datapath holds.
const MAX_HELD: usize = 1000;
/// The largest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// What tells one datagram's fragments from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TrainKey {
    zone: u16,
    /// The pass through the tables: each gathers its own trains.
    pass: u64,
    version: IpVersion,
    src: u128,
    dst: u128,
    id: u32,
    /// IPv4 only.
    proto: u8,
}

impl TrainKey {
    fn of(gate: &Gate<'_>, l3: &L3<'_>, id: u32) -> Self {
        Self {
            zone: gate.zone,
            pass: gate.pass,
            version: l3.version,
            src: l3.src,
            dst: l3.dst,
            id,
            proto: if is_v6(l3) { 0 } else { l3.protocol },
        }
    }
}

#[derive(Clone, Debug)]
struct Piece {
    frame: Vec<u8>,
    /// First and last byte, as the datapath counts them.
    start: u16,
    end: u16,
    /// Bytes of the datagram in this piece.
    payload: Vec<u8>,
}

/// The fragments of one datagram that have come so far.
#[derive(Clone, Debug)]
struct Train {
    key: TrainKey,
    born: u64,
    pieces: Vec<Piece>,
    first: bool,
    last: bool,
    /// Complete but larger than a datagram may be; nothing joins it any more.
    failed: bool,
}

/// What becomes of a frame that is about to be tracked.
pub(super) enum Arrival {
    /// Not a fragment.
    Whole,
    /// A fragment that cannot be accepted.
    Invalid,
    /// Kept until the rest comes.
    Held,
    /// The rest has come: the frames to send on and the whole datagram to track in their stead.
    Complete { frames: Vec<Vec<u8>>, whole: Vec<u8> },
}

/// The `ct()` that a frame comes to.
pub(super) struct Gate<'a> {
    pub(super) profile: Profile,
    pub(super) options: &'a Options,
    pub(super) zone: u16,
    pub(super) pass: u64,
    pub(super) now: u64,
}

/// All trains, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Fragments {
    trains: Vec<Train>,
    /// Trains that frames under way together have completed: what else of them comes with these frames is invalid.
    completed: Vec<TrainKey>,
    /// What these trains send on, behind the frames that complete none.
    released: CtOutput,
    /// Whether a fragment that had waited too long has come to a further `ct()`.
    pub(super) strayed: bool,
}

impl Fragments {
    pub(super) fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    pub(super) fn are_open(&self) -> bool {
        self.strayed || self.trains.iter().any(|train| train.key.pass != 0)
    }

    /// Keeps what a complete train sends on until the frames that are under way together are through.
    pub(super) fn complete(&mut self, frames: impl Iterator<Item = (Vec<u8>, CtInfo)>) {
        self.released.extend(frames);
    }

    /// What the trains send on that were completed together.
    pub(super) fn together(&mut self) -> CtOutput {
        self.completed.clear();
        std::mem::take(&mut self.released)
    }

    /// Takes a frame in.
    pub(super) fn arrive(&mut self, gate: &Gate<'_>, frame: &[u8], l3: &L3<'_>) -> Arrival {
        let Gate { profile, options, now, .. } = *gate;
        let userspace = profile == Profile::Userspace31;
        let Some(fragment) = l3.fragment.filter(wire::Fragment::is_partial) else {
            let odd = userspace && l3.fragment.is_some_and(|fragment| has_reserved_bits(l3, &fragment));
            return if odd { Arrival::Invalid } else { Arrival::Whole };
        };
        let faulty = l3.faults.stops_l3() || l3.faults.bad_extension;
        if faulty || userspace && (!wire::ipv4_header_checksum_ok(l3) || too_small(options, l3, &fragment)) {
            return Arrival::Invalid;
        }
        let key = TrainKey::of(gate, l3, fragment.id);
        if self.completed.contains(&key) {
            return Arrival::Invalid;
        }
        if !userspace {
            self.trains.retain(|train| now < train.born + train.kernel_patience());
        } else if self.trains.iter().map(|train| train.pieces.len()).sum::<usize>() >= MAX_HELD {
            return Arrival::Invalid;
        }
        let index = self.train(key, now);
        let outcome = match self.trains.get_mut(index) {
            Some(train) if userspace => train.join_userspace(options, frame, l3, &fragment),
            Some(train) => train.join_kernel(frame, l3, &fragment),
            None => Joined::Refused,
        };
        match outcome {
            Joined::Refused => Arrival::Invalid,
            Joined::Held => Arrival::Held,
            Joined::Discard | Joined::Broken => {
                self.trains.remove(index);
                if matches!(outcome, Joined::Broken) { Arrival::Invalid } else { Arrival::Held }
            }
            Joined::Complete(whole) => {
                let train = self.trains.remove(index);
                self.completed.extend(userspace.then_some(train.key));
                Arrival::Complete {
                    frames: train.pieces.into_iter().map(|piece| piece.frame).collect(),
                    whole,
                }
            }
        }
    }

    fn train(&mut self, key: TrainKey, now: u64) -> usize {
        self.trains.iter().position(|train| train.key == key).unwrap_or_else(|| {
            let train =
                Train { key, born: now, pieces: Vec::new(), first: false, last: false, failed: false };
            self.trains.push(train);
            self.trains.len() - 1
        })
    }

    /// After any other packet the userspace datapath sends on one train that has waited too long, as invalid and
    /// untracked; one that has waited far too long is dropped in silence.
    pub(super) fn overdue(&mut self, now: u64, output: &mut CtOutput) {
        if self.trains.first().is_none_or(|train| now <= train.born + HELD_MS) {
            return;
        }
        let train = self.trains.remove(0);
        if now < train.born + FORGOTTEN_MS {
            let info = CtInfo { state: state::INV, ..CtInfo::default() };
            output.extend(train.pieces.into_iter().map(|piece| (piece.frame, info)));
        }
    }
}

/// What became of a piece.
enum Joined {
    Refused,
    Held,
    /// The whole train is dropped.
    Discard,
    /// The whole train is dropped, and the piece goes on by itself.
    Broken,
    Complete(Vec<u8>),
}

impl Train {
    const fn kernel_patience(&self) -> u64 {
        match self.key.version {
            IpVersion::V4 => KERNEL_HELD_MS,
            IpVersion::V6 => KERNEL_HELD_V6_MS,
        }
    }

    fn join_userspace(
        &mut self,
        options: &Options,
        frame: &[u8],
        l3: &L3<'_>,
        fragment: &wire::Fragment,
    ) -> Joined {
        let (start, end) = extent(l3, fragment);
        let inside = |byte: u16, piece: &Piece| piece.start <= byte && byte <= piece.end;
        let overlaps = self.pieces.iter().any(|piece| inside(start, piece) || inside(end, piece));
        let full = !is_v6(l3) && self.pieces.len() >= max_pieces(options);
        if self.failed || full || overlaps {
            return Joined::Refused;
        }
        self.push(frame, l3, fragment, start, end);
        self.complete()
    }

    /// RFC 5722: an overlap drops everything; what is there already is only ignored.
    fn join_kernel(&mut self, frame: &[u8], l3: &L3<'_>, fragment: &wire::Fragment) -> Joined {
        // What contradicts itself ends an IPv4 datagram; of an IPv6 datagram it is only left out.
        let contradiction = if is_v6(l3) { Joined::Held } else { Joined::Discard };
        let length = match l3.payload.len() {
            length if !fragment.more || length % 8 == 0 => length,
            _ if is_v6(l3) => return Joined::Broken,
            length => length & !7,
        };
        let start = fragment.offset as u16;
        let end = start.wrapping_add(length as u16).wrapping_sub(1);
        let furthest = self.pieces.iter().map(|piece| piece.end).max();
        let wrong_end = |furthest| {
            if fragment.more {
                self.last && end > furthest
            } else {
                end < furthest || self.last && end != furthest
            }
        };
        if end < start || furthest.is_some_and(wrong_end) {
            return contradiction;
        }
        if self.pieces.iter().any(|piece| piece.start <= start && end <= piece.end) {
            return Joined::Held;
        }
        if self.pieces.iter().any(|piece| start <= piece.end && piece.start <= end) {
            return Joined::Discard;
        }
        self.push(frame, l3, fragment, start, end);
        if let Some(piece) = self.pieces.last_mut() {
            piece.payload.truncate(length);
        }
        match self.complete() {
            Joined::Held if self.failed => Joined::Discard,
            joined => joined,
        }
    }

    fn push(&mut self, frame: &[u8], l3: &L3<'_>, fragment: &wire::Fragment, start: u16, end: u16) {
        self.pieces.push(Piece { frame: frame.to_vec(), start, end, payload: l3.payload.to_vec() });
        self.first |= !fragment.is_later();
        self.last |= fragment.is_later() && !fragment.more;
    }

    fn complete(&mut self) -> Joined {
        let follows = |pair: &[Piece]| match pair {
            [a, b] => a.end.wrapping_add(1) == b.start,
            _ => true,
        };
        if !(self.first && self.last) {
            return Joined::Held;
        }
        self.pieces.sort_by_key(|piece| piece.start);
        if !self.pieces.windows(2).all(follows) {
            return Joined::Held;
        }
        let whole = self.pieces.first().and_then(|first| {
            let payload: Vec<u8> =
                self.pieces.iter().flat_map(|piece| piece.payload.iter().copied()).collect();
            reassembled(&first.frame, &payload)
        });
        match whole {
            Some(whole) => Joined::Complete(whole),
            None => {
                self.failed = true;
                Joined::Held
            }
        }
    }
}

fn is_v6(l3: &L3<'_>) -> bool {
    l3.version == IpVersion::V6
}

/// First and last byte. In IPv6 both are counted from behind what the fragment has of headers.
fn extent(l3: &L3<'_>, fragment: &wire::Fragment) -> (u16, u16) {
    let start = fragment.offset as u16;
    (start, start.wrapping_add(l3.payload.len() as u16).wrapping_sub(1))
}

/// A whole IPv6 datagram whose fragment header has a reserved bit set is no fragment and no whole datagram either.
fn has_reserved_bits(l3: &L3<'_>, fragment: &wire::Fragment) -> bool {
    let word = l3.header.get(fragment.header_offset + 2..).and_then(<[u8]>::first_chunk::<2>);
    is_v6(l3) && word.is_some_and(|word| *word != [0, 0])
}

fn too_small(options: &Options, l3: &L3<'_>, fragment: &wire::Fragment) -> bool {
    let least = if is_v6(l3) { options.min_fragment_v6 } else { options.min_fragment_v4 };
    let last = fragment.is_later() && !fragment.more;
    !last && l3.total_len() < least
}

/// How many IPv4 fragments of the least size make the largest datagram.
fn max_pieces(options: &Options) -> usize {
    (MAX_DATAGRAM - 60).div_ceil(options.min_fragment_v4.saturating_sub(60).max(1))
}

/// The first fragment's frame with the whole payload, and headers that say so.
fn reassembled(first: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let l3 = wire::l3(first)?;
    let fragment = l3.fragment?;
    let mut frame = first.get(..l3.offset)?.to_vec();
    let mut header = l3.header.to_vec();
    match l3.version {
        IpVersion::V4 => {
            let total = u16::try_from(header.len() + payload.len()).ok()?;
            header.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
            header.get_mut(6..8)?.copy_from_slice(&[0, 0]);
            header.get_mut(10..12)?.copy_from_slice(&[0, 0]);
            let sum = wire::checksum(&header);
            header.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
        }
        IpVersion::V6 => {
            unlink_fragment_header(&mut header, fragment.header_offset)?;
            let length = u16::try_from(header.len() - 40 + payload.len()).ok()?;
            header.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    Some(frame)
}

/// Takes the fragment header out of an IPv6 header chain.
fn unlink_fragment_header(header: &mut Vec<u8>, offset: usize) -> Option<()> {
    let next = *header.get(offset)?;
    let mut place = 6;
    let mut at = 40;
    while at < offset {
        let kind = *header.get(place)?;
        let extra = usize::from(*header.get(at + 1)?);
        place = at;
        at += if kind == proto::AH { (extra + 2) * 4 } else { (extra + 1) * 8 };
    }
    *header.get_mut(place)? = next;
    header.drain(offset..offset.checked_add(8).filter(|end| *end <= header.len())?);
    Some(())
}

/// What a refused fragment becomes.
pub(super) fn refused(frame: &[u8]) -> CtOutput {
    vec![(frame.to_vec(), INVALID)]
}

#[cfg(test)]
mod tests {
    use super::super::{Conntrack, CtOutput, CtRequest, Place, Profile, state};
    use flowproof_packet::{
        Field, FlowKey,
        build::{ComposeOptions, FragmentOptions, compose, fragment_with},
    };

    fn pieces() -> Vec<Vec<u8>> {
        let mut key = FlowKey::default();
        let fields = [
            (Field::DlType, 0x0800),
            (Field::NwSrc, 1),
            (Field::NwDst, 2),
            (Field::NwProto, 17),
            (Field::UdpSrc, 5),
            (Field::UdpDst, 6),
        ];
        fields.into_iter().for_each(|(field, value)| key.set(field, value));
        let whole = compose(&key, &ComposeOptions { payload_len: 2600, ..ComposeOptions::default() });
        fragment_with(&whole, &FragmentOptions::two(1400)).unwrap()
    }

    fn states(output: &CtOutput) -> Vec<u32> {
        output.iter().map(|(_, info)| info.state).collect()
    }

    const INVALID: u32 = state::TRK | state::INV;
    const NEW: u32 = state::TRK | state::NEW;

    /// As the real switch was seen to do with trains that overlap, through several `ct()`.
    #[test]
    fn each_pass_gathers_trains_of_its_own_and_each_list_shares_them() {
        let frames = pieces();
        let mut tracker = Conntrack::new(Profile::Userspace31);
        let mut at = |frame: usize, pass: u64| {
            let place = Place { pass, ..Place::default() };
            states(&tracker.execute_at(&frames[frame], &CtRequest::default(), None, &place))
        };
        assert_eq!(at(0, 0), []);
        assert_eq!(at(0, 0), [INVALID], "it is there already");
        assert_eq!(at(0, 7), [], "not in this pass");
        assert_eq!(at(1, 8), [], "nor in that one");
        assert_eq!(at(1, 7), [NEW, NEW]);
        assert_eq!(at(1, 0), [NEW, NEW]);
    }

    #[test]
    fn what_comes_with_the_fragments_that_complete_a_datagram_is_invalid_and_before_them() {
        let frames = pieces();
        let mut tracker = Conntrack::new(Profile::Userspace31);
        let mut at = |frame: usize, more: bool| {
            let place = Place { more, ..Place::default() };
            tracker.execute_at(&frames[frame], &CtRequest::default(), None, &place)
        };
        let mut out = at(0, true);
        out.extend(at(1, true));
        assert_eq!(out, [], "not before all are through");
        let out = at(1, false);
        assert_eq!(states(&out), [INVALID, NEW, NEW]);
        assert_eq!(out[0].0, frames[1]);
        assert!(!tracker.holds_fragments());
    }
}
