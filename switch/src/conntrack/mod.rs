//! Connection tracking, parameterised by datapath profile.
//!
//! Each protocol is a state machine over segments; `userspace` and `kernel` say what a datapath makes of
//! them. Time is virtual: nothing happens between two calls unless [`Conntrack::advance`] says so.
//!
//! Invariant: only a packet with `commit` adds an entry, and `+est` is never reported without one.
//! What is translated, and what a helper may have opened, that is not known is said to be so ([`Unknown`]), then and
//! later. Deliberately absent: helpers and their expectations, timeout policies.
//!
//! Source: ovs-actions(7), `ct`; experiments with Open vSwitch 3.1 and with Linux 6.18; for `kernel-2016`, the kernel's
//! source, read but not executed.

mod entry;
mod fragments;
mod icmp;
mod kernel;
mod nat;
mod other;
mod sctp_kernel;
mod segment;
mod shadow;
mod table;
mod tcp_kernel;
mod tcp_userspace;
mod tcp_window;
mod timeouts;
mod tuple;
mod userspace;

use crate::flow::{Helper, Nat};
use flowproof_packet::wire::{self, IpVersion};
use fragments::{Arrival, Fragments, Gate};
use nat::Change;
use segment::Segment;
use shadow::Shadows;
use table::Table;

pub use entry::Entry;
pub use shadow::Unknown;

/// Which implementation of connection tracking, and which of its habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Open vSwitch 3.1's userspace datapath; judged by experiment.
    Userspace31,
    /// The Linux kernel datapath, 4.12 and later. Where kernels differ it is Linux 6.18, whose connection tracking has
    /// judged it by experiment: before 6.1, late TCP segments were invalid.
    Kernel,
    /// The Linux kernel datapath before 4.12, which calls neighbour discovery `+new`.
    Kernel2016,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 3] = [Self::Userspace31, Self::Kernel, Self::Kernel2016];

    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Userspace31 => "userspace-3.1",
            Self::Kernel => "kernel",
            Self::Kernel2016 => "kernel-2016",
        }
    }

    /// Whether an experiment has judged this profile.
    #[must_use]
    pub const fn is_validated(self) -> bool {
        matches!(self, Self::Userspace31 | Self::Kernel)
    }

    /// How often one packet may be recirculated by `ct(table=…)`: 6 in userspace, by experiment; the kernel queues ten
    /// deferred actions, which no experiment has judged.
    #[must_use]
    pub const fn recirculations(self) -> u8 {
        match self {
            Self::Userspace31 => 6,
            Self::Kernel | Self::Kernel2016 => 10,
        }
    }

    /// Whether `ct()` turns the fragments of a datagram into one whole packet.
    #[must_use]
    pub const fn reassembles(self) -> bool {
        !matches!(self, Self::Userspace31)
    }

    /// Whether ND and MLD come out of `ct()` as `+new` instead of `+inv`.
    #[must_use]
    pub const fn nd_is_new(self) -> bool {
        matches!(self, Self::Kernel2016)
    }
}

/// Bits of `ct_state` (ovs-fields(7)).
pub mod state {
    /// Beginning of a new connection.
    pub const NEW: u32 = 0x01;
    /// Part of an existing connection.
    pub const EST: u32 = 0x02;
    /// Related to an existing connection.
    pub const REL: u32 = 0x04;
    /// In the reply direction.
    pub const RPL: u32 = 0x08;
    /// Not identifiable.
    pub const INV: u32 = 0x10;
    /// Connection tracking has been applied.
    pub const TRK: u32 = 0x20;
    /// Source address translated.
    pub const SNAT: u32 = 0x40;
    /// Destination address translated.
    pub const DNAT: u32 = 0x80;
}

/// The five-tuple of a connection's original direction, as `ct_nw_src`, `ct_tp_src`, … show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address; IPv4 in the low 32 bits.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Whether the addresses are IPv6.
    pub ipv6: bool,
    /// IP protocol.
    pub proto: u8,
    /// Source port, or ICMP type.
    pub tp_src: u16,
    /// Destination port, or ICMP code.
    pub tp_dst: u16,
}

/// What `ct()` says of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtInfo {
    /// Bits of [`state`].
    pub state: u32,
    /// `ct_mark`
    pub mark: u32,
    /// `ct_label`
    pub label: u128,
    /// The connection's original tuple, where there is one.
    pub orig: Option<Tuple>,
    /// Why nothing of this is known, if so: what becomes of the packet is open.
    pub unknown: Option<Unknown>,
}

/// What a `ct()` action asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtRequest {
    /// The zone.
    pub zone: u16,
    /// Create the connection.
    pub commit: bool,
    /// Replace a connection of the other direction.
    pub force: bool,
    /// `exec(…->ct_mark)`: value and mask.
    pub mark: (u32, u32),
    /// `exec(…->ct_label)`: value and mask.
    pub label: (u128, u128),
    /// `nat…`
    pub nat: Option<Nat>,
    /// `alg=…`
    pub alg: Option<Helper>,
}

/// What comes out of `ct()`: frames (more than one when a train of fragments is complete, none when a fragment is
/// held), each with its connection's information.
pub type CtOutput = Vec<(Vec<u8>, CtInfo)>;

/// What a packet still knows of the last `ct()` it went through.
///
/// A second `ct()` in the same zone does not look the connection up again, so that one packet is counted once:
/// `ct(table=1)` and then `ct(commit)` see one and the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The zone of that `ct()`.
    pub zone: u16,
    /// What it said.
    pub info: CtInfo,
    /// Whether addresses or ports were written since, or that `ct()` had `nat`. The userspace datapath then looks the
    /// packet up again, though it still knows the state.
    pub rewritten: bool,
}

/// Settings of a datapath's connection tracking; the defaults are Open vSwitch's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether TCP sequence numbers matter (`dpctl/ct-disable-tcp-seq-chk`).
    pub check_sequence: bool,
    /// Bytes of IP packet that every IPv4 fragment but the last must have (`dpctl/ipf-set-min-frag v4`).
    pub min_fragment_v4: usize,
    /// The same for IPv6.
    pub min_fragment_v6: usize,
    /// Most entries in all (`dpctl/ct-set-maxconns`).
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            check_sequence: true,
            min_fragment_v4: 1200,
            min_fragment_v6: 1280,
            max_connections: 3_000_000,
        }
    }
}

/// Where a `ct()` stands on a packet's way. Only fragments in the userspace datapath care.
///
/// Source: experiments with Open vSwitch 3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// A number for the pass through the tables, 0 for the first: what waits in one pass does not meet what comes to
    /// the same `ct()` in another.
    pub pass: u64,
    /// Which version of IP the pass is carried out for, if that is known. Fragments of the other one that have
    /// waited too long may come along; they are invalid.
    pub version: Option<IpVersion>,
    /// Whether other frames come through together with this one, and behind it.
    pub more: bool,
}

/// The connection tracking of one datapath.
#[derive(Clone, Debug)]
pub struct Conntrack {
    profile: Profile,
    now: u64,
    table: Table,
    fragments: Fragments,
    shadows: Shadows,
    /// Settings; they may change at any time.
    pub options: Options,
}

impl Conntrack {
    /// Without entries, at time 0, with default settings.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            now: 0,
            table: Table::default(),
            fragments: Fragments::default(),
            shadows: Shadows::default(),
            options: Options::default(),
        }
    }

    /// Whose habits these are.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Milliseconds of virtual time since the beginning.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Runs `ct()` on a frame that has not been through `ct()` yet, or not since `ct_clear`.
    ///
    /// One frame comes out as a rule; none while a fragment is held, or when the kernel drops a packet beyond a
    /// zone's limit. The last fragment of a train releases all of it: in the userspace datapath each fragment with
    /// the same information, otherwise one reassembled frame. In the userspace datapath a frame may also bring
    /// out *other* datagrams' fragments that have waited for more than 15 seconds: they follow, with `INV` and
    /// without `TRK`, and take the path of this packet.
    pub fn execute(&mut self, frame: &[u8], request: &CtRequest) -> CtOutput {
        self.execute_at(frame, request, None, &Place::default())
    }

    /// Runs `ct()` on a frame that remembers an earlier `ct()`.
    pub fn execute_again(&mut self, frame: &[u8], request: &CtRequest, before: &Before) -> CtOutput {
        self.execute_at(frame, request, Some(before), &Place::default())
    }

    /// The same, for any frame, and anywhere on its way.
    pub fn execute_at(
        &mut self,
        frame: &[u8],
        request: &CtRequest,
        before: Option<&Before>,
        place: &Place,
    ) -> CtOutput {
        let mut output = self.dispatch(frame, request, before, place);
        if !place.more {
            output.append(&mut self.fragments.together());
        }
        if self.profile == Profile::Userspace31 && !place.more && !self.fragments.is_empty() {
            self.fragments.overdue(self.now, &mut output);
        }
        output
    }

    fn dispatch(
        &mut self,
        frame: &[u8],
        request: &CtRequest,
        before: Option<&Before>,
        place: &Place,
    ) -> CtOutput {
        let Some(l3) = wire::l3(frame) else { return fragments::refused(frame) };
        let userspace = self.profile == Profile::Userspace31;
        let partial = l3.fragment.is_some_and(|fragment| fragment.is_partial());
        if userspace && partial && place.version.is_some_and(|version| version != l3.version) {
            return fragments::refused(frame);
        }
        self.fragments.strayed |=
            userspace && partial && before.is_some_and(|before| before.info.state == state::INV);
        let gate = Gate {
            profile: self.profile,
            options: &self.options,
            zone: request.zone,
            pass: if userspace { place.pass } else { 0 },
            now: self.now,
        };
        match self.fragments.arrive(&gate, frame, &l3) {
            Arrival::Whole => {
                let answer = self.track(&l3, request, before);
                answer.map(|answer| (answer.frame(frame), answer.info)).into_iter().collect()
            }
            Arrival::Invalid => fragments::refused(frame),
            Arrival::Held => Vec::new(),
            Arrival::Complete { frames, whole } => {
                // The datagram is new to connection tracking even if its fragments are not.
                let answer = wire::l3(&whole).and_then(|l3| self.track(&l3, request, None));
                let Some(answer) = answer else { return Vec::new() };
                if self.profile.reassembles() {
                    return vec![seen_on(answer.frame(&whole), answer.info)];
                }
                let pieces = frames.iter().map(|frame| seen_on(answer.piece(frame), answer.info));
                self.fragments.complete(pieces);
                Vec::new()
            }
        }
    }

    /// Tracks a whole datagram.
    fn track(&mut self, l3: &wire::L3<'_>, request: &CtRequest, before: Option<&Before>) -> Option<Answer> {
        let Some(segment) = segment::segment(self.profile, l3) else {
            return Some(Answer::from(userspace::INVALID));
        };
        if self.shadows.cover(request.zone, &segment.key) {
            return Some(self.unknown(&segment, Unknown::Before));
        }
        let (table, options, now) = (&mut self.table, &self.options, self.now);
        let answer = match self.profile {
            Profile::Userspace31 => {
                Some(userspace::Visit { table, options, now, request }.run(&segment, before))
            }
            profile @ (Profile::Kernel | Profile::Kernel2016) => {
                kernel::Visit { profile, table, options, now, request }.run(&segment, before)
            }
        }?;
        if let Some(why) = answer.info.unknown.filter(|_| !segment.related) {
            if let Some(nat) = request.nat {
                self.shadows.translated(&segment.key, nat);
            }
            return Some(self.unknown(&segment, why));
        }
        Some(self.helped(&segment, request, answer))
    }

    /// Nothing is known of the packet, nor of others between its hosts from now on, wherever it may get to.
    fn unknown(&mut self, segment: &Segment<'_>, why: Unknown) -> Answer {
        self.shadows.between(None, &segment.key);
        Answer::from(CtInfo { state: state::TRK, unknown: Some(why), ..CtInfo::default() })
    }

    /// What a helper that was asked for leaves to be known.
    fn helped(&mut self, segment: &Segment<'_>, request: &CtRequest, answer: Answer) -> Answer {
        if request.alg.is_none() || answer.info.state & state::INV != 0 {
            return answer;
        }
        let zone = request.zone;
        self.shadows.between(Some(zone), &segment.key);
        if let Some((id, _)) = self.table.find(zone, &segment.key, self.now)
            && let Some(conn) = self.table.conn(id)
        {
            self.shadows.between(Some(zone), &conn.key);
            self.shadows.between(Some(zone), &conn.reverse);
        }
        if segment.is_bare() { answer } else { self.unknown(segment, Unknown::Helper) }
    }

    /// Lets time pass, and says which entries ended by it.
    ///
    /// Held fragments do not come out here: the userspace datapath has no packet to send them with until the next
    /// [`execute`](Self::execute), and the kernel drops them.
    pub fn advance(&mut self, milliseconds: u64) -> Vec<Entry> {
        self.now = self.now.saturating_add(milliseconds);
        let now = self.now;
        let gone = self.table.extract(|conn| conn.expires <= now);
        if self.profile == Profile::Userspace31 {
            gone.iter().for_each(|conn| self.table.haunt(conn, now));
        }
        gone.iter().map(Entry::of).collect()
    }

    /// Removes all entries, or those of one zone (`dpctl/flush-conntrack`). Held fragments stay.
    pub fn flush(&mut self, zone: Option<u16>) {
        self.table.extract(|conn| zone.is_none_or(|zone| conn.zone == zone));
        self.table.exorcise(zone);
        self.shadows.flush(zone);
        self.fragments.strayed &= zone.is_some();
    }

    /// Sets the most entries of a zone, or with none of the zones without a limit of their own
    /// (`dpctl/ct-set-limits`).
    ///
    /// The userspace datapath counts the entries made since the limit was set, those of all zones under the
    /// default limit together. The kernel counts the zone's entries, and takes 0 for no limit.
    pub fn set_limit(&mut self, zone: Option<u16>, most: usize) {
        self.table.set_limit(zone, most);
    }

    /// Takes a limit away (`dpctl/ct-del-limits`).
    pub fn remove_limit(&mut self, zone: Option<u16>) {
        self.table.remove_limit(zone);
    }

    /// Removes the entries of a zone that have a mark, as `conntrack -D -w ZONE -m MARK` does; how many there were.
    pub fn delete_marked(&mut self, zone: u16, mark: u32) -> usize {
        self.table.extract(|conn| conn.zone == zone && conn.mark == mark).len()
    }

    /// Whether fragments wait for others.
    #[must_use]
    pub fn holds_fragments(&self) -> bool {
        !self.fragments.is_empty()
    }

    /// Whether fragments wait, or have come, where a real switch's answer depends on what it has cached: they wait in
    /// a pass other than the first, which it numbers by that, or have waited too long and come to a further `ct()`.
    #[must_use]
    pub fn fragments_are_open(&self) -> bool {
        self.fragments.are_open()
    }

    /// The entries, in no order; each prints as a line of `dpctl/dump-conntrack`.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.table.iter().map(Entry::of)
    }
}

/// What `ct()` says of a packet, and what it makes of it.
#[derive(Clone, Copy, Debug)]
struct Answer {
    info: CtInfo,
    change: Option<Change>,
}

impl From<CtInfo> for Answer {
    fn from(info: CtInfo) -> Self {
        Self { info, change: None }
    }
}

impl Answer {
    fn frame(&self, frame: &[u8]) -> Vec<u8> {
        self.change.map_or_else(|| frame.to_vec(), |change| change.apply(frame))
    }

    fn piece(&self, frame: &[u8]) -> Vec<u8> {
        self.change.map_or_else(|| frame.to_vec(), |change| change.apply_to_fragment(frame))
    }
}

/// A frame with what its flow key shows of the connection: a later fragment has no ports, not even the
/// connection's.
fn seen_on(frame: Vec<u8>, mut info: CtInfo) -> (Vec<u8>, CtInfo) {
    if wire::l3(&frame).is_some_and(|l3| l3.is_later_fragment()) {
        info.orig = info.orig.map(|orig| Tuple { tp_src: 0, tp_dst: 0, ..orig });
    }
    (frame, info)
}
