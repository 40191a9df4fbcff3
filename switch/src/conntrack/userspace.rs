//! One `ct()` in the userspace datapath of Open vSwitch 3.1.

use super::{
    Answer, Before, CtInfo, CtRequest, Options, Profile, Unknown,
    icmp::Icmp,
    nat::{Choice, choose, translation},
    other::Other,
    segment::{Body, Segment, asks},
    state,
    table::{Conn, Id, Table, Tracker},
    tcp_userspace::{self, Tcp, Update},
    tuple::Key,
};
use flowproof_packet::wire::proto;

/// What a packet that cannot be tracked becomes.
pub(super) const INVALID: CtInfo =
    CtInfo { state: state::TRK | state::INV, mark: 0, label: 0, orig: None, unknown: None };

/// Bits of [`state`] of a packet that was translated.
pub(super) const NATTED: u32 = state::SNAT | state::DNAT;

/// Ports of the protocols that Open vSwitch watches for helpers, whether or not a helper is asked for.
const FTP: u16 = 21;
const TFTP: u16 = 69;

/// Everything one packet meets.
pub(super) struct Visit<'a> {
    pub(super) table: &'a mut Table,
    pub(super) options: &'a Options,
    pub(super) now: u64,
    pub(super) request: &'a CtRequest,
}

/// Writes what `exec()` asks for into the entry and into what the packet shows.
pub(super) fn apply_marks(conn: &mut Conn, info: &mut CtInfo, request: &CtRequest) {
    let (mark, mask) = request.mark;
    if mask != 0 {
        conn.mark = mark & mask | conn.mark & !mask;
    }
    let (label, mask) = request.label;
    if mask != 0 {
        conn.label = label & mask | conn.label & !mask;
    }
    info.mark = conn.mark;
    info.label = conn.label;
}

/// Whether the packet may be the control connection of FTP or TFTP: such packets are looked up every time.
fn watched(segment: &Segment<'_>) -> bool {
    let (src, dst) = (segment.key.src.port, segment.key.dst.port);
    match segment.key.proto {
        proto::TCP => src == FTP || dst == FTP,
        proto::UDP => dst == TFTP,
        _ => false,
    }
}

/// What became of an entry.
enum Verdict {
    /// Bits of [`state`].
    State(u32),
    /// The entry is dead, and the packet may begin another connection.
    Reopened,
}

impl Visit<'_> {
    pub(super) fn run(mut self, segment: &Segment<'_>, before: Option<&Before>) -> Answer {
        let zone = self.request.zone;
        let same_zone = before.filter(|before| before.zone == zone);
        if let Some(before) = same_zone
            && !before.rewritten
            && !self.request.force
            && !watched(segment)
            && let Some((id, reply)) = self.table.find(zone, &segment.key, self.now)
        {
            let mut answer = Answer::from(before.info);
            self.translate(id, segment, reply, &mut answer);
            self.mark(id, &mut answer.info);
            return answer;
        }
        self.process(segment, same_zone)
    }

    /// The entry that a packet belongs to, and whether it travels against its first one. A packet that was translated
    /// in this zone is looked for by what answers it; failing that, and without `nat`, by what it was.
    fn find(&self, segment: &Segment<'_>, before: Option<&Before>) -> Option<(Id, bool)> {
        let (zone, now) = (self.request.zone, self.now);
        let info = before.map(|before| before.info).filter(|info| info.state & NATTED != 0);
        let Some(info) = info else { return self.table.find(zone, &segment.key, now) };
        if let Some((id, reply)) = self.table.find(zone, &segment.key.reversed(), now) {
            return Some((id, !reply));
        }
        let original = info.orig.filter(|_| self.request.nat.is_none())?;
        self.table.find(zone, &segment.key.with_tuple(&original), now).map(|(id, _)| (id, false))
    }

    fn process(&mut self, segment: &Segment<'_>, before: Option<&Before>) -> Answer {
        let carried = before.map_or(0, |before| before.info.state);
        let Some((id, reply)) = self.find(segment, before) else { return self.not_found(segment) };
        let Some(conn) = self.table.conn_mut(id) else { return self.not_found(segment) };
        let to_itself = conn.nat.is_some() && conn.reverse == conn.key.reversed();
        let faulty = Answer::from(CtInfo { unknown: Some(Unknown::Faulty), ..INVALID });
        // The switch asks for the direction before it knows that what it found stands for a translated connection.
        if self.request.force && reply && (conn.nat.is_none() || to_itself) {
            if to_itself {
                return faulty;
            }
            self.table.remove(id);
            return self.not_found(segment);
        }
        match judge(conn, segment, reply, carried, self.now, self.options) {
            Verdict::State(bits) => {
                let orig = Some(conn.key.tuple());
                let mut answer = Answer::from(CtInfo { state: bits | state::TRK, orig, ..CtInfo::default() });
                self.translate(id, segment, reply, &mut answer);
                self.mark(id, &mut answer.info);
                answer
            }
            Verdict::Reopened if to_itself || reply && conn.reverse != conn.key.reversed() => faulty,
            Verdict::Reopened => {
                if let Some(gone) = self.table.remove(id) {
                    self.table.haunt(&gone, self.now);
                }
                self.not_found(segment)
            }
        }
    }

    /// Translates a packet, if `nat` asks for it and it is not translated yet.
    fn translate(&self, id: Id, segment: &Segment<'_>, reply: bool, answer: &mut Answer) {
        if self.request.nat.is_some()
            && answer.info.state & NATTED == 0
            && let Some(conn) = self.table.conn(id)
            && let Some((change, bit)) = translation(conn, segment, reply)
        {
            answer.info.state |= bit;
            answer.change = Some(change);
            answer.info.unknown = (segment.related && segment.key.ipv6).then_some(Unknown::Faulty);
        }
    }

    fn mark(&mut self, id: Id, info: &mut CtInfo) {
        if let Some(conn) = self.table.conn_mut(id) {
            apply_marks(conn, info, self.request);
        }
    }

    fn not_found(&mut self, segment: &Segment<'_>) -> Answer {
        let orig = Some(segment.key.tuple());
        if segment.related || !may_open(segment) {
            return Answer::from(CtInfo { orig, ..INVALID });
        }
        let mut answer = Answer::from(CtInfo { state: state::TRK | state::NEW, orig, ..CtInfo::default() });
        let zone = self.request.zone;
        if self.table.is_haunted(zone, &segment.key, self.now) {
            return Answer::from(CtInfo { unknown: Some(Unknown::Faulty), ..INVALID });
        }
        if !self.request.commit
            || !self.table.has_room(Profile::Userspace31, zone, self.options.max_connections)
        {
            return answer;
        }
        let mut conn = open(segment, zone, self.now);
        if let Some(nat) = self.request.nat {
            let taken = |key: &Key| self.table.find(zone, key, self.now).is_some();
            match choose(Profile::Userspace31, nat, &conn.key, taken) {
                Choice::Given(reverse, _) if self.table.is_haunted(zone, &reverse, self.now) => {
                    answer.info.unknown = Some(Unknown::Choice);
                    return answer;
                }
                Choice::Given(reverse, end) => (conn.reverse, conn.nat) = (reverse, end),
                Choice::Exhausted => return answer,
                Choice::Open => {
                    answer.info.unknown = Some(Unknown::Choice);
                    return answer;
                }
            }
        }
        let id = self.table.insert(conn);
        self.translate(id, segment, false, &mut answer);
        self.mark(id, &mut answer.info);
        answer
    }
}

/// Whether a packet without an entry may begin a connection.
fn may_open(segment: &Segment<'_>) -> bool {
    match segment.body {
        Body::Tcp(tcp) => tcp_userspace::may_open(&tcp),
        Body::Icmp(kind) => asks(Profile::Userspace31, segment.key.proto, kind),
        Body::Sctp(_) | Body::Untracked | Body::Other => true,
    }
}

/// The entry that a packet begins.
fn open(segment: &Segment<'_>, zone: u16, now: u64) -> Conn {
    let (tracker, timer) = match segment.body {
        Body::Tcp(tcp) => (Tracker::Tcp(Tcp::new(&tcp)), super::timeouts::Timer::TcpFirst),
        Body::Icmp(_) => {
            let (icmp, timer) = Icmp::new();
            (Tracker::Icmp(icmp), timer)
        }
        Body::Sctp(_) | Body::Untracked | Body::Other => {
            let (other, timer) = Other::new();
            (Tracker::Other(other), timer)
        }
    };
    let mut conn = Conn::new(segment.key, zone, tracker);
    conn.restart(timer, now);
    conn
}

/// What an entry says of a packet.
fn judge(
    conn: &mut Conn,
    segment: &Segment<'_>,
    reply: bool,
    carried: u32,
    now: u64,
    options: &Options,
) -> Verdict {
    let direction = if reply { state::RPL } else { 0 };
    if segment.related {
        return Verdict::State(carried | state::REL | direction);
    }
    let (first, timer) = match (&mut conn.tracker, &segment.body) {
        (Tracker::Tcp(tcp), Body::Tcp(packet)) => match tcp.update(packet, reply, options.check_sequence) {
            Update::Invalid => return Verdict::State(state::INV),
            Update::New => return Verdict::Reopened,
            Update::ValidNew => (true, Some(super::timeouts::Timer::TcpFirst)),
            Update::Valid(timer) => (false, timer),
        },
        (Tracker::Icmp(icmp), _) => {
            let (first, timer) = icmp.update(reply);
            (first, Some(timer))
        }
        (Tracker::Other(other), _) => {
            let (first, timer) = other.update(reply);
            (first, Some(timer))
        }
        // One key never has two protocols.
        _ => return Verdict::State(state::INV),
    };
    if let Some(timer) = timer {
        conn.restart(timer, now);
    }
    Verdict::State(if first { carried | state::NEW } else { carried & !state::NEW | state::EST | direction })
}
