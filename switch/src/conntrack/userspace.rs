//! One `ct()` in the userspace datapath of Open vSwitch 3.1.

use super::{
    Before, CtInfo, CtRequest, Options, Profile,
    icmp::Icmp,
    other::Other,
    segment::{Body, Segment, asks},
    state,
    table::{Conn, Table, Tracker},
    tcp_userspace::{self, Tcp, Update},
};
use flowproof_packet::wire::proto;

/// What a packet that cannot be tracked becomes.
pub(super) const INVALID: CtInfo = CtInfo { state: state::TRK | state::INV, mark: 0, label: 0, orig: None };

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
    pub(super) fn run(mut self, segment: &Segment<'_>, before: Option<&Before>) -> CtInfo {
        let zone = self.request.zone;
        let same_zone = before.filter(|before| before.zone == zone);
        if let Some(before) = same_zone
            && !before.rewritten
            && !self.request.force
            && !watched(segment)
            && let Some(conn) = self.table.find(zone, &segment.key, self.now)
        {
            let mut info = before.info;
            apply_marks(conn, &mut info, self.request);
            return info;
        }
        let carried = same_zone.map_or(0, |before| before.info.state);
        self.process(segment, carried)
    }

    fn process(&mut self, segment: &Segment<'_>, carried: u32) -> CtInfo {
        let (zone, now) = (self.request.zone, self.now);
        let Some(conn) = self.table.find(zone, &segment.key, now) else { return self.not_found(segment) };
        let reply = conn.is_reply(&segment.key);
        if reply && self.request.force {
            self.table.remove(zone, &segment.key);
            return self.not_found(segment);
        }
        match judge(conn, segment, reply, carried, now, self.options) {
            Verdict::State(bits) => {
                let mut info =
                    CtInfo { state: bits | state::TRK, orig: Some(conn.key.tuple()), ..CtInfo::default() };
                apply_marks(conn, &mut info, self.request);
                info
            }
            Verdict::Reopened => {
                self.table.remove(zone, &segment.key);
                self.not_found(segment)
            }
        }
    }

    fn not_found(&mut self, segment: &Segment<'_>) -> CtInfo {
        let orig = Some(segment.key.tuple());
        if segment.related || !may_open(segment) {
            return CtInfo { orig, ..INVALID };
        }
        let mut info = CtInfo { state: state::TRK | state::NEW, orig, ..CtInfo::default() };
        let zone = self.request.zone;
        if self.request.commit
            && self.table.has_room(Profile::Userspace31, zone, self.options.max_connections)
        {
            let conn = self.table.insert(open(segment, zone, self.now));
            apply_marks(conn, &mut info, self.request);
        }
        info
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
