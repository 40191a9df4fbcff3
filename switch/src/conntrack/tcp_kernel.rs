//! TCP as Linux's `nf_conntrack` tracks it, with `tcp_loose=1` and `tcp_be_liberal=0`.
//!
//! Invariant: one state for the connection and one window for each end; an invalid segment changes nothing but
//! the window of an end that speaks for the first time.
//! Deliberately absent: NAT offsets.
//!
//! Source: the transition table and defaults of Linux's `nf_conntrack_proto_tcp`; for `kernel`, experiments with
//! Linux 6.18 (`tests/conntrack_judge.rs`).

use super::{
    Profile,
    segment::TcpSegment,
    tcp_window::{Announced, Fit, Side, before, first_side, picked_up_side, split},
};
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
pub(super) enum Flag {
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

/// The last segment that was accepted or ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) flag: Flag,
    pub(super) reply: bool,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) end: u32,
    pub(super) window: u16,
    pub(super) announced: Announced,
    /// An ignored SYN may be answered by an ACK of something else (RFC 5961).
    pub(super) challenged: bool,
    pub(super) simultaneous: bool,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tcp {
    pub(super) state: State,
    /// The originator first.
    pub(super) sides: [Side; 2],
    pub(super) last: Last,
    pub(super) retransmissions: u8,
    assured: bool,
}

/// What a segment does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Invalid,
    /// Invalid, and the entry goes after so many milliseconds if it would last longer.
    Shorten(u64),
    /// Accepted; milliseconds until the entry goes, if the timer restarts.
    Accept(Option<u64>),
    /// Accepted, and the entry is dead.
    Kill,
    /// The entry is dead; look again.
    Reopen,
}

impl Tcp {
    /// The connection that a segment begins, if it may begin one.
    pub(super) fn open(profile: Profile, segment: &TcpSegment<'_>) -> Option<(Self, u64)> {
        let sides = match transition(profile, deciding_flag(segment), false, State::Nothing) {
            Next::To(SynSent) => [first_side(segment), Side::default()],
            Next::To(_) => picked_up_side(segment),
            Next::Ignore | Next::Invalid => return None,
        };
        let last = Last {
            flag: Flag::None,
            reply: false,
            seq: 0,
            ack: 0,
            end: 0,
            window: 0,
            announced: Announced::default(),
            challenged: false,
            simultaneous: false,
        };
        let mut tcp = Self { state: State::Nothing, sides, last, retransmissions: 0, assured: false };
        match tcp.update(profile, segment, false, false, true) {
            Verdict::Accept(lifetime) => Some((tcp, lifetime.unwrap_or(0))),
            Verdict::Invalid | Verdict::Shorten(_) | Verdict::Kill | Verdict::Reopen => None,
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
        let mut arrival = Arrival { segment, flag, reply, replied, old: self.state };
        let state = match transition(profile, flag, reply, arrival.old) {
            Next::Invalid => return Verdict::Invalid,
            Next::To(SynSent) if arrival.old >= TimeWait && self.may_reopen(reply) => return Verdict::Reopen,
            Next::To(state) if state != SynSent || arrival.old < TimeWait => state,
            Next::To(_) | Next::Ignore => {
                if !self.resynchronise(&arrival) {
                    self.annotate(&arrival);
                    return Verdict::Accept(None);
                }
                arrival.old = SynSent;
                SynRecv
            }
        };
        let Some(state) = self.corrected(state, &arrival) else { return Verdict::Accept(None) };
        let state = match self.reset(profile, state, &arrival) {
            Reset::Stale => return Verdict::Invalid,
            Reset::Answers(state) => return self.accept(profile, state, &arrival),
            Reset::Checked(state) => state,
        };
        match self.in_window(profile, segment, flag, reply) {
            Fit::Inside => self.accept(profile, state, &arrival),
            _ if !check => self.accept(profile, state, &arrival),
            Fit::Ignored => Verdict::Accept(None),
            Fit::Outside => self.outside(profile, &arrival),
        }
    }

    /// A SYN on a closed connection opens a new one if the old one was closed by FIN, or reset by this end.
    fn may_reopen(&self, reply: bool) -> bool {
        self.sides.iter().any(|side| side.closed_first)
            || self.last.reply == reply && self.last.flag == Flag::Rst
    }

    /// A SYN+ACK that answers a SYN which was ignored: the peers agree, so follow them.
    fn resynchronise(&mut self, arrival: &Arrival<'_, '_>) -> bool {
        let last = self.last;
        let answers = arrival.flag == Flag::SynAck
            && last.flag == Flag::Syn
            && last.reply != arrival.reply
            && arrival.segment.header.ack == last.end;
        if answers {
            let (sender, receiver) = split(&mut self.sides, arrival.reply);
            receiver.resume(last.end, last.window, last.announced);
            *sender = sender.forgotten();
            self.last.challenged = false;
        }
        answers
    }

    /// Remembers an ignored segment.
    fn annotate(&mut self, arrival: &Arrival<'_, '_>) {
        let Arrival { segment, flag, reply, old, .. } = *arrival;
        self.last.flag = flag;
        self.last.reply = reply;
        self.last.seq = segment.header.seq;
        self.last.end = segment.header.seq.wrapping_add(segment.span());
        self.last.window = segment.header.window;
        if flag == Flag::Ack && reply && old == SynSent {
            self.last.ack = segment.header.ack;
        }
        if flag == Flag::Syn && !reply {
            self.last.announced = Announced::read(segment.options).unwrap_or_default();
            self.last.simultaneous = false;
            self.last.challenged = old == LastAck;
        }
    }

    /// What the table of transitions does not know; none for an ACK that challenges a SYN.
    fn corrected(&mut self, state: State, arrival: &Arrival<'_, '_>) -> Option<State> {
        let Arrival { flag, reply, old, .. } = *arrival;
        match state {
            TimeWait if old == LastAck && flag == Flag::Ack => {
                let last = self.last;
                let challenge = last.challenged && last.flag == Flag::Syn && last.reply != reply;
                self.last.challenged &= !challenge;
                (!challenge).then_some(state)
            }
            SynSent2 => {
                self.last.simultaneous = true;
                Some(state)
            }
            SynRecv if reply && flag == Flag::Ack && self.last.simultaneous => Some(Established),
            _ => Some(state),
        }
    }

    /// What a RST may do: nothing below what the other end has acknowledged.
    fn reset(&mut self, profile: Profile, state: State, arrival: &Arrival<'_, '_>) -> Reset {
        let Arrival { segment, flag, reply, replied, .. } = *arrival;
        if state != Close || flag != Flag::Rst {
            return Reset::Checked(state);
        }
        let newer = profile == Profile::Kernel;
        if newer && self.is_over_or_challenged(arrival) {
            return Reset::Answers(state);
        }
        // What was acknowledged before a SYN was let through may be out of date.
        let after_syn = self.last.flag == Flag::Syn;
        let (_, receiver) = split(&mut self.sides, reply);
        let next = match receiver.max_ack {
            Some(acked) if newer && !after_syn => match self.exact(acked, arrival) {
                Reset::Checked(Close) => return Reset::Checked(Close),
                Reset::Checked(next) => next,
                other => return other,
            },
            Some(acked) if !newer && before(segment.header.seq, acked) => return Reset::Stale,
            _ => state,
        };
        let answers_syn = after_syn && (!newer || self.last.reply != reply);
        let ignored = replied && answers_syn || !self.assured && self.last.flag == Flag::Ack;
        let answers = ignored && segment.header.ack == self.last.end;
        if answers { Reset::Answers(next) } else { Reset::Checked(next) }
    }

    /// A connection that is closing may be another one by now. A SYN may be answered by an ACK of something else, and
    /// that by a RST exactly where the ACK said (RFC 5961).
    fn is_over_or_challenged(&self, arrival: &Arrival<'_, '_>) -> bool {
        let last = self.last;
        let answers = last.flag == Flag::Ack && last.reply != arrival.reply;
        let challenged = self.state == SynSent && answers && arrival.segment.header.seq == last.ack;
        challenged || matches!(self.state, FinWait | CloseWait | LastAck | TimeWait | Close)
    }

    /// In newer kernels a RST closes an established connection only if it is exactly in its place; otherwise the end
    /// may answer it by a challenge, and the connection stays as it is.
    fn exact(&self, acked: u32, arrival: &Arrival<'_, '_>) -> Reset {
        let seq = arrival.segment.header.seq;
        let established = self.state == Established && self.assured;
        let last = self.last;
        let follows = last.flag == Flag::Ack && last.reply == arrival.reply && seq == last.end;
        match established {
            false if seq == 0 => Reset::Checked(Close),
            _ if before(seq, acked) => Reset::Stale,
            true if seq != acked && !follows => Reset::Checked(arrival.old),
            _ => Reset::Checked(Close),
        }
    }

    /// A FIN or RST outside the window that answers another one: the connection is over, whatever its state.
    fn outside(&mut self, profile: Profile, arrival: &Arrival<'_, '_>) -> Verdict {
        let closing = [Flag::Rst, Flag::Fin];
        if profile != Profile::Kernel || !self.assured || !closing.contains(&arrival.flag) {
            return Verdict::Invalid;
        }
        if self.last.reply != arrival.reply && closing.contains(&self.last.flag) {
            return Verdict::Shorten(1000 * UNACKNOWLEDGED);
        }
        (self.last.flag, self.last.reply) = (arrival.flag, arrival.reply);
        Verdict::Invalid
    }

    fn accept(&mut self, profile: Profile, state: State, arrival: &Arrival<'_, '_>) -> Verdict {
        let Arrival { segment, flag, reply, replied, old } = *arrival;
        (self.last.flag, self.last.reply, self.state) = (flag, reply, state);
        let (sender, _) = split(&mut self.sides, reply);
        sender.closed_first |= old != state && state == FinWait;
        if !replied && segment.has(RST) {
            return Verdict::Kill;
        }
        let newer = profile == Profile::Kernel;
        if newer && !replied && flag == Flag::Syn && old == SynSent {
            return Verdict::Accept(None);
        }
        if replied && matches!(old, SynRecv | Established) && state == Established {
            self.assured = true;
        }
        let picked_up = !replied && state == Established && newer;
        let repeated = self.retransmissions >= MAX_RETRANSMISSIONS;
        let doubtful = repeated
            || self.sides.iter().any(|side| side.unacknowledged)
            || newer && self.last.window == 0
            || picked_up;
        let most = if doubtful { UNACKNOWLEDGED } else { u64::MAX };
        let seconds = if newer && flag == Flag::Rst && !(repeated && state.seconds() > most) {
            Close.seconds()
        } else {
            state.seconds().min(most)
        };
        Verdict::Accept(Some(1000 * seconds))
    }
}

/// A segment that arrives at its connection.
#[derive(Clone, Copy)]
struct Arrival<'s, 'a> {
    segment: &'s TcpSegment<'a>,
    flag: Flag,
    reply: bool,
    replied: bool,
    /// The state it finds.
    old: State,
}

/// What a RST is taken for.
enum Reset {
    Stale,
    /// It leads there: it answers a segment that was ignored, or the connection is over.
    Answers(State),
    /// It leads there if it is in the window; so does every other segment.
    Checked(State),
}
