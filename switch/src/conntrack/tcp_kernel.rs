//! TCP as Linux's `nf_conntrack` tracks it, with `tcp_loose=1` and `tcp_be_liberal=0`.
//!
//! Invariant: one state for the connection and one window for each end; an invalid segment changes nothing but
//! the window of an end that speaks for the first time.
//! Deliberately absent: NAT offsets, and the leniency of Linux 6.1 and later towards delayed segments.
//!
//! Source: the transition table and defaults of Linux's `nf_conntrack_proto_tcp`, read, not executed here.

use super::{Profile, segment::TcpSegment};
use State::{Close, CloseWait, Established, FinWait, LastAck, SynRecv, SynSent, SynSent2, TimeWait};
use flowproof_packet::wire::TcpView;

const SYN: u16 = TcpView::SYN;
const ACK: u16 = TcpView::ACK;
const FIN: u16 = TcpView::FIN;
const RST: u16 = TcpView::RST;
const URG: u16 = TcpView::URG;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Nothing,
    SynSent,
    SynRecv,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
}

impl State {
    /// The name that `dpctl/dump-conntrack` prints for it.
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "CLOSED",
            Self::SynSent | Self::SynSent2 => "SYN_SENT",
            Self::SynRecv | Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT_1",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSING",
        }
    }

    /// Seconds without traffic until the entry goes.
    const fn seconds(self) -> u64 {
        match self {
            Self::Established => 5 * 24 * 60 * 60,
            Self::Nothing | Self::SynSent | Self::SynSent2 | Self::FinWait | Self::TimeWait => 120,
            Self::SynRecv | Self::CloseWait => 60,
            Self::LastAck => 30,
            Self::Close => 10,
        }
    }
}

/// Seconds while data is not acknowledged, after many retransmissions, and while there has been no reply.
const UNACKNOWLEDGED: u64 = 300;
const MAX_RETRANSMISSIONS: u8 = 3;

/// Which flag decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    None,
}

/// Where a segment leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    To(State),
    /// Let it pass without believing it: the peers know better.
    Ignore,
    Invalid,
}

const fn to(state: State) -> Next {
    Next::To(state)
}

const IG: Next = Next::Ignore;
const IV: Next = Next::Invalid;
const SS: Next = to(SynSent);
const SR: Next = to(SynRecv);
const ES: Next = to(Established);
const FW: Next = to(FinWait);
const CW: Next = to(CloseWait);
const LA: Next = to(LastAck);
const TW: Next = to(TimeWait);
const CL: Next = to(Close);
const S2: Next = to(SynSent2);

/// Where each flag leads from each state, in the order of [`State`], in each direction.
const TRANSITIONS: [(Flag, [Next; 10], [Next; 10]); 6] = [
    (Flag::Syn, [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2], [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2]),
    (Flag::SynAck, [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR], [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR]),
    (Flag::Fin, [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV], [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV]),
    (Flag::Ack, [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV], [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG]),
    (Flag::Rst, [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL], [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL]),
    (Flag::None, [IV; 10], [IV; 10]),
];

/// What older kernels did otherwise: a SYN+ACK of the originator was ignored, and a server could not reopen.
const OLD_SYN_ACK: [Next; 10] = [IV, IV, IG, IG, IG, IG, IG, IG, IG, SR];

fn transition(profile: Profile, flag: Flag, reply: bool, state: State) -> Next {
    let old = profile == Profile::Kernel2016;
    let found = TRANSITIONS.iter().find(|(row, _, _)| *row == flag);
    let next = found.and_then(|(_, original, answer)| {
        let row = match (old, flag, reply) {
            (true, Flag::SynAck, false) => &OLD_SYN_ACK,
            (_, _, false) => original,
            (_, _, true) => answer,
        };
        row.get(state as usize).copied()
    });
    match next {
        Some(Next::To(SynSent)) if old && reply => Next::Invalid,
        next => next.unwrap_or(Next::Invalid),
    }
}

fn deciding_flag(segment: &TcpSegment<'_>) -> Flag {
    match () {
        () if segment.has(RST) => Flag::Rst,
        () if segment.has(SYN) && segment.has(ACK) => Flag::SynAck,
        () if segment.has(SYN) => Flag::Syn,
        () if segment.has(FIN) => Flag::Fin,
        () if segment.has(ACK) => Flag::Ack,
        () => Flag::None,
    }
}

/// The flags that may stand together; PSH, ECE and CWR may join any of them.
const SANE_FLAGS: [u16; 9] =
    [SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG];

/// What a connection has announced in its options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Announced {
    /// The window scale, and whether there was one.
    scale: u8,
    scaling: bool,
    sack: bool,
}

impl Announced {
    fn read(options: &[u8]) -> Self {
        let mut found = Self::default();
        each_option(options, |kind, body| match (kind, body) {
            (3, [shift]) => (found.scale, found.scaling) = ((*shift).min(14), true),
            (4, []) => found.sack = true,
            _ => {}
        });
        found
    }
}

/// Calls `visit` with the kind and the body of each whole option.
fn each_option(mut options: &[u8], mut visit: impl FnMut(u8, &[u8])) {
    loop {
        match options {
            [] | [0, ..] => return,
            [1, rest @ ..] => options = rest,
            [kind, length, rest @ ..] => {
                let Some((body, behind)) =
                    usize::from(*length).checked_sub(2).and_then(|length| rest.split_at_checked(length))
                else {
                    return;
                };
                visit(*kind, body);
                options = behind;
            }
            [_] => return,
        }
    }
}

/// The right edge of the highest block of a SACK option, or `ack`.
fn selective_ack(options: &[u8], ack: u32) -> u32 {
    let mut highest = ack;
    each_option(options, |kind, body| {
        if kind == 5 {
            for [_, _, _, _, a, b, c, d] in body.as_chunks::<8>().0 {
                let edge = u32::from_be_bytes([*a, *b, *c, *d]);
                if after(edge, highest) {
                    highest = edge;
                }
            }
        }
    });
    highest
}

/// One end's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Side {
    end: u32,
    max_end: u32,
    max_window: u32,
    max_ack: Option<u32>,
    announced: Announced,
    /// The connection was picked up midway: windows are unknown, so all are believed.
    liberal: bool,
    /// It sent the first FIN.
    closed_first: bool,
    unacknowledged: bool,
}

/// The last segment that was accepted or ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    flag: Flag,
    reply: bool,
    seq: u32,
    ack: u32,
    end: u32,
    window: u32,
    announced: Announced,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tcp {
    state: State,
    /// The originator first.
    sides: [Side; 2],
    last: Last,
    retransmissions: u8,
    assured: bool,
}

/// What a segment does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Invalid,
    /// Accepted; milliseconds until the entry goes, if the timer restarts.
    Accept(Option<u64>),
    /// Accepted, and the entry is dead.
    Kill,
    /// The entry is dead; look again.
    Reopen,
}

const fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

const fn before(a: u32, b: u32) -> bool {
    after(b, a)
}

impl Tcp {
    /// The connection that a segment begins, if it may begin one.
    pub(super) fn open(profile: Profile, segment: &TcpSegment<'_>) -> Option<(Self, u64)> {
        let syn = match transition(profile, deciding_flag(segment), false, State::Nothing) {
            Next::To(state) => state == SynSent,
            Next::Ignore | Next::Invalid => return None,
        };
        let window = u32::from(segment.header.window).max(1);
        let end = segment.header.seq.wrapping_add(segment.span());
        let mut first = Side { end, max_end: end, max_window: window, ..Side::default() };
        let mut second = Side::default();
        if syn {
            first.announced = Announced::read(segment.options);
        } else {
            first.max_end = end.wrapping_add(window);
            for side in [&mut first, &mut second] {
                side.announced.sack = true;
                side.liberal = true;
            }
        }
        let last = Last {
            flag: Flag::None,
            reply: false,
            seq: 0,
            ack: 0,
            end: 0,
            window: 0,
            announced: Announced::default(),
        };
        let mut tcp =
            Self { state: State::Nothing, sides: [first, second], last, retransmissions: 0, assured: false };
        match tcp.update(profile, segment, false, false, true) {
            Verdict::Accept(lifetime) => Some((tcp, lifetime.unwrap_or(0))),
            Verdict::Invalid | Verdict::Kill | Verdict::Reopen => None,
        }
    }

    /// The state that a dump shows.
    pub(super) const fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// Judges a segment. `replied` is whether the other end had answered before it, `check` whether sequence
    /// numbers matter.
    pub(super) fn update(
        &mut self,
        profile: Profile,
        segment: &TcpSegment<'_>,
        reply: bool,
        replied: bool,
        check: bool,
    ) -> Verdict {
        if !SANE_FLAGS.contains(&(segment.header.flags & (FIN | SYN | RST | ACK | URG))) {
            return Verdict::Invalid;
        }
        let flag = deciding_flag(segment);
        let old = self.state;
        let state = match transition(profile, flag, reply, old) {
            Next::Invalid => return Verdict::Invalid,
            Next::To(SynSent) if old >= TimeWait && self.may_reopen(reply) => return Verdict::Reopen,
            Next::To(state) if state != SynSent || old < TimeWait => state,
            Next::To(_) | Next::Ignore => {
                if !self.resynchronise(segment, flag, reply) {
                    self.annotate(segment, flag, reply);
                    return Verdict::Accept(None);
                }
                SynRecv
            }
        };
        if state == Close && flag == Flag::Rst && self.stale_reset(segment, reply) {
            return Verdict::Invalid;
        }
        let answered = state == Close && flag == Flag::Rst && self.answers_ignored(segment, replied);
        if !answered && !self.in_window(segment, flag, reply) && check {
            return Verdict::Invalid;
        }
        self.accept(profile, segment, state, flag, reply, replied)
    }

    /// A SYN on a closed connection opens a new one if the old one was closed by FIN, or reset by this end.
    fn may_reopen(&self, reply: bool) -> bool {
        self.sides.iter().any(|side| side.closed_first)
            || self.last.reply == reply && self.last.flag == Flag::Rst
    }

    /// A SYN+ACK that answers a SYN which was ignored: the peers agree, so follow them.
    fn resynchronise(&mut self, segment: &TcpSegment<'_>, flag: Flag, reply: bool) -> bool {
        let last = self.last;
        let answers = flag == Flag::SynAck
            && last.flag == Flag::Syn
            && last.reply != reply
            && segment.header.ack == last.end;
        if answers {
            let (sender, receiver) = split(&mut self.sides, reply);
            receiver.end = last.end;
            receiver.max_end = last.end;
            receiver.max_window = last.window.max(1);
            receiver.announced = last.announced;
            *sender = Side::default();
            self.state = SynSent;
        }
        answers
    }

    /// Remembers an ignored segment.
    fn annotate(&mut self, segment: &TcpSegment<'_>, flag: Flag, reply: bool) {
        self.last.flag = flag;
        self.last.reply = reply;
        self.last.seq = segment.header.seq;
        self.last.end = segment.header.seq.wrapping_add(segment.span());
        self.last.window = u32::from(segment.header.window);
        if flag == Flag::Syn && !reply {
            self.last.announced = Announced::read(segment.options);
        }
    }

    /// A RST below what the other end has acknowledged already.
    fn stale_reset(&mut self, segment: &TcpSegment<'_>, reply: bool) -> bool {
        let (_, receiver) = split(&mut self.sides, reply);
        receiver.max_ack.is_some_and(|acked| before(segment.header.seq, acked))
    }

    /// A RST that answers a SYN or an ACK which was ignored.
    fn answers_ignored(&self, segment: &TcpSegment<'_>, replied: bool) -> bool {
        let ignored = replied && self.last.flag == Flag::Syn || !self.assured && self.last.flag == Flag::Ack;
        ignored && segment.header.ack == self.last.end
    }

    fn accept(
        &mut self,
        profile: Profile,
        segment: &TcpSegment<'_>,
        state: State,
        flag: Flag,
        reply: bool,
        replied: bool,
    ) -> Verdict {
        let old = self.state;
        (self.last.flag, self.last.reply, self.state) = (flag, reply, state);
        let (sender, _) = split(&mut self.sides, reply);
        sender.closed_first |= old != state && state == FinWait;
        if !replied && segment.has(RST) {
            return Verdict::Kill;
        }
        if replied && matches!(old, SynRecv | Established) && state == Established {
            self.assured = true;
        }
        let picked_up = !replied && state == Established && profile == Profile::Kernel;
        let short = self.retransmissions >= MAX_RETRANSMISSIONS
            || self.sides.iter().any(|side| side.unacknowledged)
            || picked_up;
        let seconds = if short { state.seconds().min(UNACKNOWLEDGED) } else { state.seconds() };
        Verdict::Accept(Some(1000 * seconds))
    }

    /// Whether a segment meets its window; learns from it if so.
    fn in_window(&mut self, segment: &TcpSegment<'_>, flag: Flag, reply: bool) -> bool {
        let state = self.state;
        let (sender, receiver) = split(&mut self.sides, reply);
        let mut claim = Claim::new(segment, receiver);
        if sender.max_window == 0 {
            if segment.has(SYN) {
                first_syn(sender, receiver, segment, &claim);
                if !segment.has(ACK) {
                    return true;
                }
            } else {
                first_seen(sender, receiver, &claim);
            }
        } else if state == if reply { SynRecv } else { SynSent } && after(claim.end, sender.end) {
            // RFC 793: a connection begun anew uses larger numbers.
            sender.end = claim.end;
            sender.max_end = claim.end;
            sender.max_window = claim.window.max(1);
            sender.announced = Announced::read(segment.options);
        }
        claim.settle(segment, sender, receiver, state);
        if !claim.fits(sender, receiver) {
            return sender.liberal;
        }
        claim.learn(segment, sender, receiver);
        if flag == Flag::Ack {
            self.count_retransmissions(&claim, reply);
        }
        true
    }

    fn count_retransmissions(&mut self, claim: &Claim, reply: bool) {
        let last =
            Last { reply, seq: claim.seq, ack: claim.ack, end: claim.end, window: claim.window, ..self.last };
        self.retransmissions = if last == self.last { self.retransmissions.saturating_add(1) } else { 0 };
        self.last = last;
    }
}

/// Sender and receiver.
const fn split(sides: &mut [Side; 2], reply: bool) -> (&mut Side, &mut Side) {
    let [first, second] = sides;
    if reply { (second, first) } else { (first, second) }
}

/// A segment's numbers while it is being judged.
struct Claim {
    seq: u32,
    end: u32,
    ack: u32,
    sack: u32,
    window: u32,
}

impl Claim {
    fn new(segment: &TcpSegment<'_>, receiver: &Side) -> Self {
        let ack = segment.header.ack;
        Self {
            seq: segment.header.seq,
            end: segment.header.seq.wrapping_add(segment.span()),
            ack,
            sack: if receiver.announced.sack { selective_ack(segment.options, ack) } else { ack },
            window: u32::from(segment.header.window),
        }
    }

    /// Replaces what the segment does not really say.
    fn settle(&mut self, segment: &TcpSegment<'_>, sender: &Side, receiver: &Side, state: State) {
        if !segment.has(ACK) || segment.has(RST) && self.ack == 0 {
            self.ack = receiver.end;
            self.sack = receiver.end;
        }
        let answers_syn = self.seq == 0 && state == SynSent;
        if self.seq == self.end && (!segment.has(RST) || answers_syn) {
            self.seq = sender.end;
            self.end = sender.end;
        }
    }

    fn fits(&self, sender: &Side, receiver: &Side) -> bool {
        let slack = sender.max_window.max(66000);
        before(self.seq, sender.max_end.wrapping_add(1))
            && after(self.end, sender.end.wrapping_sub(receiver.max_window).wrapping_sub(1))
            && before(self.sack, receiver.end.wrapping_add(1))
            && after(self.sack, receiver.end.wrapping_sub(slack).wrapping_sub(1))
    }

    fn learn(&mut self, segment: &TcpSegment<'_>, sender: &mut Side, receiver: &mut Side) {
        if !segment.has(SYN) {
            self.window <<= sender.announced.scale;
        }
        let offered = self.window.wrapping_add(self.sack.wrapping_sub(self.ack));
        sender.max_window = sender.max_window.max(offered);
        if after(self.end, sender.end) {
            sender.end = self.end;
            sender.unacknowledged = true;
        }
        if segment.has(ACK) && sender.max_ack.is_none_or(|acked| after(self.ack, acked)) {
            sender.max_ack = Some(self.ack);
        }
        if receiver.max_window != 0 && after(self.end, sender.max_end) {
            let beyond = self.end.wrapping_sub(sender.max_end);
            receiver.max_window = receiver.max_window.wrapping_add(beyond);
        }
        let reach = self.sack.wrapping_add(self.window);
        if after(reach, receiver.max_end.wrapping_sub(1)) {
            receiver.max_end = reach.wrapping_add(u32::from(self.window == 0));
        }
        if self.ack == receiver.end {
            receiver.unacknowledged = false;
        }
    }
}

/// The first SYN of an end: scaling is in force only if both ends announce it.
fn first_syn(sender: &mut Side, receiver: &mut Side, segment: &TcpSegment<'_>, claim: &Claim) {
    sender.end = claim.end;
    sender.max_end = claim.end;
    sender.max_window = claim.window.max(1);
    sender.announced = Announced::read(segment.options);
    if !(sender.announced.scaling && receiver.announced.scaling) {
        sender.announced.scale = 0;
        receiver.announced.scale = 0;
    }
}

/// The first segment that is seen of an end which has been speaking for a while.
fn first_seen(sender: &mut Side, receiver: &mut Side, claim: &Claim) {
    sender.end = claim.end;
    sender.max_window = (claim.window << sender.announced.scale).max(1);
    sender.max_end = claim.end.wrapping_add(sender.max_window);
    if receiver.max_window == 0 {
        receiver.end = claim.sack;
        receiver.max_end = claim.sack;
    }
}
