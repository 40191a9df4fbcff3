//! One `ct()` in the Linux kernel datapath.
//!
//! Source: Linux's `nf_conntrack` and `openvswitch` modules; for `kernel`, experiments with Linux 6.18.

use super::{
    Before, CtInfo, CtRequest, Options, Profile,
    sctp_kernel::Sctp,
    segment::{Body, Segment, asks},
    state,
    table::{Conn, Table, Tracker},
    tcp_kernel::{Tcp, Verdict},
    timeouts::kernel_plain,
    userspace::{INVALID, apply_marks},
};

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
    pub(super) fn run(mut self, segment: &Segment<'_>, before: Option<&Before>) -> Option<CtInfo> {
        let (zone, now) = (self.request.zone, self.now);
        if matches!(segment.body, Body::Untracked) {
            let bits = if self.profile.nd_is_new() { state::NEW } else { state::INV };
            return Some(CtInfo { state: state::TRK | bits, ..CtInfo::default() });
        }
        let before = before.filter(|before| before.zone == zone);
        let Some(conn) = self.table.find(zone, &segment.key, now) else {
            return self.not_found(segment).map(|info| outlived(info, before));
        };
        let reply = conn.is_reply(&segment.key);
        if reply && self.request.force && self.profile == Profile::Kernel {
            self.table.remove(zone, &segment.key);
            return self.not_found(segment);
        }
        if let Some(before) = before {
            let mut info = before.info;
            if info.state & state::INV == 0 {
                apply_marks(conn, &mut info, self.request);
            }
            return Some(info);
        }
        let orig = Some(conn.key.tuple());
        let mut info = CtInfo { orig, ..CtInfo::default() };
        match judge(self.profile, conn, segment, reply, now, self.options) {
            Outcome::Again => {
                self.table.remove(zone, &segment.key);
                return self.not_found(segment);
            }
            Outcome::State(bits) if bits & state::INV != 0 => return Some(INVALID),
            Outcome::State(bits) => {
                info.state = state::TRK | bits;
                apply_marks(conn, &mut info, self.request);
            }
            Outcome::Last(bits) => {
                info.state = state::TRK | bits;
                apply_marks(conn, &mut info, self.request);
                self.table.remove(zone, &segment.key);
            }
        }
        Some(info)
    }

    fn not_found(&mut self, segment: &Segment<'_>) -> Option<CtInfo> {
        let zone = self.request.zone;
        let opened = if segment.related { None } else { open(self.profile, segment, zone, self.now) };
        let Some(mut conn) = opened else { return Some(INVALID) };
        let orig = Some(segment.key.tuple());
        let mut info = CtInfo { state: state::TRK | state::NEW, orig, ..CtInfo::default() };
        apply_marks(&mut conn, &mut info, self.request);
        if self.request.commit {
            if !self.table.has_room(self.profile, zone, self.options.max_connections) {
                return None;
            }
            self.table.insert(conn);
        }
        Some(info)
    }
}

/// A packet that killed its own connection, as a RST without an answer does, still belongs to it.
fn outlived(info: CtInfo, before: Option<&Before>) -> CtInfo {
    match before {
        Some(before) if info.state & state::INV != 0 => before.info,
        _ => info,
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
