//! One `ct()` in the Linux kernel datapath.
//!
//! Source: Linux's `nf_conntrack` and `openvswitch` modules; for `kernel`, experiments with Linux 6.18.

use super::{
    Answer, Before, CtInfo, CtRequest, Options, Profile, Unknown,
    nat::{Choice, choose, translation},
    sctp_kernel::Sctp,
    segment::{Body, Segment, asks},
    state,
    table::{Conn, Id, Table, Tracker},
    tcp_kernel::{Tcp, Verdict},
    timeouts::kernel_plain,
    tuple::Key,
    userspace::{INVALID, NATTED, apply_marks},
};
use crate::flow::{Nat, NatEnd};

/// Everything one packet meets.
pub(super) struct Visit<'a> {
    pub(super) profile: Profile,
    pub(super) table: &'a mut Table,
    pub(super) options: &'a Options,
    pub(super) now: u64,
    pub(super) request: &'a CtRequest,
}

/// What an entry makes of a packet.
enum Outcome {
    /// Bits of [`state`].
    State(u32),
    /// Accepted, but the entry is dead.
    Last(u32),
    /// The entry is dead; the packet may begin another connection.
    Again,
}

impl Visit<'_> {
    /// None if the packet is dropped: committing beyond a zone's limit.
    pub(super) fn run(mut self, segment: &Segment<'_>, before: Option<&Before>) -> Option<Answer> {
        if matches!(segment.body, Body::Untracked) {
            let bits = if self.profile.nd_is_new() { state::NEW } else { state::INV };
            return Some(Answer::from(CtInfo { state: state::TRK | bits, ..CtInfo::default() }));
        }
        let before = before.filter(|before| before.zone == self.request.zone);
        let Some((id, reply)) = self.find(segment, before) else {
            return self.not_found(segment).map(|answer| outlived(answer, before));
        };
        if reply && self.request.force && self.profile == Profile::Kernel {
            self.table.remove(id);
            return self.not_found(segment);
        }
        if let Some(before) = before {
            let mut answer = Answer::from(before.info);
            if before.info.state & state::INV == 0 {
                self.finish(id, segment, reply, &mut answer);
            }
            return Some(answer);
        }
        let Some(conn) = self.table.conn_mut(id) else { return self.not_found(segment) };
        let orig = Some(conn.key.tuple());
        let (bits, last) = match judge(self.profile, conn, segment, reply, self.now, self.options) {
            Outcome::Again => {
                self.table.remove(id);
                return self.not_found(segment);
            }
            Outcome::State(bits) if bits & state::INV != 0 => return Some(Answer::from(INVALID)),
            Outcome::State(bits) => (bits, false),
            Outcome::Last(bits) => (bits, true),
        };
        let mut answer = Answer::from(CtInfo { state: state::TRK | bits, orig, ..CtInfo::default() });
        self.finish(id, segment, reply, &mut answer);
        if last {
            self.table.remove(id);
        }
        Some(answer)
    }

    /// A packet that was translated carries its connection with it.
    fn find(&self, segment: &Segment<'_>, before: Option<&Before>) -> Option<(Id, bool)> {
        let (zone, now) = (self.request.zone, self.now);
        if before.is_some_and(|before| before.info.state & NATTED != 0) {
            return self.table.find(zone, &segment.key.reversed(), now).map(|(id, reply)| (id, !reply));
        }
        self.table.find(zone, &segment.key, now)
    }

    /// Translates the packet and writes the marks.
    fn finish(&mut self, id: Id, segment: &Segment<'_>, reply: bool, answer: &mut Answer) {
        self.translate(id, segment, reply, answer);
        if let Some(conn) = self.table.conn_mut(id) {
            apply_marks(conn, &mut answer.info, self.request);
        }
    }

    /// A first packet that comes again, and an error that goes its way, are translated only by who could begin it. The
    /// state says that the packet went through translation even if its connection has none.
    fn translate(&self, id: Id, segment: &Segment<'_>, reply: bool, answer: &mut Answer) {
        let (Some(nat), Some(conn)) = (self.request.nat, self.table.conn(id)) else { return };
        let bits = answer.info.state;
        if bits & NATTED != 0 {
            return;
        }
        let asked = match nat {
            Nat::New(range) => Some(range.end),
            Nat::Existing => None,
        };
        let first = bits & state::NEW != 0;
        let errs_along = segment.related && !reply && !self.request.commit;
        let translated = translation(conn, segment, reply)
            .filter(|_| if first || errs_along { asked == conn.nat } else { true });
        answer.info.state |= match (&translated, asked) {
            (Some((_, bit)), _) => *bit,
            (None, Some(NatEnd::Src)) => state::SNAT,
            (None, Some(NatEnd::Dst)) => state::DNAT,
            (None, None) => 0,
        };
        answer.change = translated.map(|(change, _)| change);
    }

    fn not_found(&mut self, segment: &Segment<'_>) -> Option<Answer> {
        let zone = self.request.zone;
        let opened = if segment.related { None } else { open(self.profile, segment, zone, self.now) };
        let Some(mut conn) = opened else { return Some(Answer::from(INVALID)) };
        let orig = Some(segment.key.tuple());
        let mut info = CtInfo { state: state::TRK | state::NEW, orig, ..CtInfo::default() };
        apply_marks(&mut conn, &mut info, self.request);
        let mut answer = Answer::from(info);
        if !self.request.commit {
            return Some(answer);
        }
        if !self.table.has_room(self.profile, zone, self.options.max_connections) {
            return None;
        }
        let taken = |key: &Key| self.table.find(zone, key, self.now).is_some();
        // What answers it may answer another that is translated: whether there is an entry then is open.
        let choice = match self.request.nat {
            Some(nat) => choose(self.profile, nat, &conn.key, taken),
            None if taken(&conn.reverse) => Choice::Open,
            None => Choice::Given(conn.reverse, None),
        };
        let Choice::Given(reverse, end) = choice else {
            answer.info.unknown = Some(Unknown::Choice);
            return Some(answer);
        };
        (conn.reverse, conn.nat) = (reverse, end);
        let id = self.table.insert(conn);
        self.translate(id, segment, false, &mut answer);
        Some(answer)
    }
}

/// A packet that killed its own connection, as a RST without an answer does, still belongs to it.
fn outlived(answer: Answer, before: Option<&Before>) -> Answer {
    match before {
        Some(before) if answer.info.state & state::INV != 0 => Answer::from(before.info),
        _ => answer,
    }
}

/// The entry that a packet begins, if it may begin one.
fn open(profile: Profile, segment: &Segment<'_>, zone: u16, now: u64) -> Option<Conn> {
    let proto = segment.key.proto;
    let (tracker, lifetime) = match segment.body {
        Body::Tcp(tcp) => {
            let (tcp, lifetime) = Tcp::open(profile, &tcp)?;
            (Tracker::KernelTcp(Box::new(tcp)), lifetime)
        }
        Body::Sctp(packet) => {
            let (sctp, lifetime) = Sctp::open(packet)?;
            (Tracker::KernelSctp(sctp), lifetime)
        }
        Body::Icmp(kind) if !asks(profile, proto, kind) => {
            return None;
        }
        Body::Icmp(_) | Body::Untracked | Body::Other => {
            (Tracker::KernelPlain, kernel_plain(profile, proto, None))
        }
    };
    let mut conn = Conn::new(segment.key, zone, tracker);
    conn.born = now;
    conn.expires = now.saturating_add(lifetime);
    Some(conn)
}

/// What an entry makes of a packet.
fn judge(
    profile: Profile,
    conn: &mut Conn,
    segment: &Segment<'_>,
    reply: bool,
    now: u64,
    options: &Options,
) -> Outcome {
    let direction = if reply { state::RPL } else { 0 };
    if segment.related {
        return Outcome::State(state::REL | direction);
    }
    let replied = conn.replied;
    let bits = if reply || replied { state::EST | direction } else { state::NEW };
    let lifetime = match (&mut conn.tracker, &segment.body) {
        (Tracker::KernelTcp(tcp), Body::Tcp(packet)) => {
            match tcp.update(profile, packet, reply, replied, options.check_sequence) {
                Verdict::Invalid => return Outcome::State(state::INV),
                Verdict::Shorten(most) => {
                    conn.expires = conn.expires.min(now.saturating_add(most));
                    return Outcome::State(state::INV);
                }
                Verdict::Reopen => return Outcome::Again,
                Verdict::Kill => return Outcome::Last(bits),
                Verdict::Accept(lifetime) => lifetime,
            }
        }
        (Tracker::KernelSctp(sctp), Body::Sctp(packet)) => match sctp.update(packet, reply) {
            None => return Outcome::State(state::INV),
            Some(lifetime) => lifetime,
        },
        _ => Some(kernel_plain(profile, segment.key.proto, replied.then(|| now - conn.born))),
    };
    if let Some(lifetime) = lifetime {
        conn.expires = now.saturating_add(lifetime);
    }
    conn.replied |= reply;
    Outcome::State(bits)
}
