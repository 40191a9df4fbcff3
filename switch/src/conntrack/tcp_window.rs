//! The windows of TCP as Linux's `nf_conntrack` keeps them.
//!
//! What it means: which segments the other end would take, by what both have said so far. Invariant: a segment that does
//! not fit changes nothing but the window of an end that speaks for the first time, or that sent more than it may.
//! Deliberately absent: NAT offsets.
//!
//! Source: RFC 793, RFC 2018, RFC 7323; experiments with Linux 6.18 for `kernel`, Linux's source for `kernel-2016`.

use super::{
    Profile,
    segment::TcpSegment,
    tcp_kernel::{Flag, Last, State, Tcp},
};
use flowproof_packet::wire::TcpView;

const SYN: u16 = TcpView::SYN;
const ACK: u16 = TcpView::ACK;
const RST: u16 = TcpView::RST;
/// How far an acknowledgement may lag at least.
const MAX_LAG: u32 = 66000;

/// What a connection has announced in its options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Announced {
    /// The window scale, and whether there was one.
    scale: u8,
    scaling: bool,
    sack: bool,
}

impl Announced {
    /// What options announce; none without any.
    pub(super) fn read(options: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        each_option(options, |kind, body| match (kind, body) {
            (3, [shift]) => (found.scale, found.scaling) = ((*shift).min(14), true),
            (4, []) => found.sack = true,
            _ => {}
        });
        (!options.is_empty()).then_some(found)
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
pub(super) struct Side {
    end: u32,
    max_end: u32,
    max_window: u32,
    /// The highest acknowledgement it sent.
    pub(super) max_ack: Option<u32>,
    announced: Announced,
    /// The connection was picked up midway: windows are unknown, so all are believed.
    liberal: bool,
    /// It sent the first FIN.
    pub(super) closed_first: bool,
    /// It sent what the other end has not acknowledged.
    pub(super) unacknowledged: bool,
}

impl Side {
    /// Takes over what an ignored SYN said.
    pub(super) fn resume(&mut self, end: u32, window: u16, announced: Announced) {
        *self =
            Self { end, max_end: end, max_window: u32::from(window).max(1), announced, ..Self::default() };
    }

    /// Nothing is known any more but that all is to be believed, where it is.
    pub(super) fn forgotten(&self) -> Self {
        Self { liberal: self.liberal, ..Self::default() }
    }

    /// Reads a SYN's options. In the kernel they share a word with all else that is known of the end.
    fn announce(&mut self, options: &[u8]) {
        if let Some(announced) = Announced::read(options) {
            self.announced = announced;
            (self.max_ack, self.closed_first, self.unacknowledged) = (None, false, false);
        }
    }
}

/// The side of a first SYN.
pub(super) fn first_side(segment: &TcpSegment<'_>) -> Side {
    let end = segment.header.seq.wrapping_add(segment.span());
    let mut side =
        Side { end, max_end: end, max_window: u32::from(segment.header.window).max(1), ..Side::default() };
    side.announce(segment.options);
    side
}

/// Both sides of a connection that is met midway.
pub(super) fn picked_up_side(segment: &TcpSegment<'_>) -> [Side; 2] {
    let first = first_side(&TcpSegment { options: &[], ..*segment });
    let sack = Announced { sack: true, ..Announced::default() };
    let max_end = first.end.wrapping_add(first.max_window);
    [
        Side { max_end, announced: sack, liberal: true, ..first },
        Side { announced: sack, liberal: true, ..Side::default() },
    ]
}

/// Whether a segment fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Inside,
    /// Late or a little too much: it may pass, and means nothing.
    Ignored,
    Outside,
}

pub(super) const fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

pub(super) const fn before(a: u32, b: u32) -> bool {
    after(b, a)
}

/// Sender and receiver.
pub(super) const fn split(sides: &mut [Side; 2], reply: bool) -> (&mut Side, &mut Side) {
    let [first, second] = sides;
    if reply { (second, first) } else { (first, second) }
}

impl Tcp {
    /// Whether a segment fits its window; learns from it if so.
    pub(super) fn in_window(
        &mut self,
        profile: Profile,
        segment: &TcpSegment<'_>,
        flag: Flag,
        reply: bool,
    ) -> Fit {
        let state = self.state;
        let newer = profile == Profile::Kernel;
        let (sender, receiver) = split(&mut self.sides, reply);
        let mut claim = Claim::new(segment, receiver);
        if sender.max_window == 0 {
            if segment.has(SYN) {
                claim.introduce(segment, sender, receiver, !newer || reply);
                if !segment.has(ACK) {
                    return Fit::Inside;
                }
            } else {
                claim.first_seen(sender, receiver, newer);
            }
        } else if begins_anew(newer, segment, state, reply) && after(claim.end, sender.end) {
            claim.introduce(segment, sender, receiver, newer && reply);
            if newer && reply && !segment.has(ACK) {
                return Fit::Inside;
            }
        }
        claim.settle(newer, segment, sender, receiver, state);
        let fit = if newer { claim.fit(sender, receiver) } else { claim.fitted(sender, receiver) };
        if fit != Fit::Inside {
            return if sender.liberal { Fit::Inside } else { fit };
        }
        claim.learn(segment, sender, receiver);
        if flag == Flag::Ack {
            self.count_retransmissions(&claim, segment.header.window, reply);
        }
        Fit::Inside
    }

    fn count_retransmissions(&mut self, claim: &Claim, window: u16, reply: bool) {
        let last = Last { reply, seq: claim.seq, ack: claim.ack, end: claim.end, window, ..self.last };
        self.retransmissions = if last == self.last { self.retransmissions.saturating_add(1) } else { 0 };
        self.last = last;
    }
}

/// RFC 793: a connection begun anew uses larger numbers.
fn begins_anew(newer: bool, segment: &TcpSegment<'_>, state: State, reply: bool) -> bool {
    if newer {
        segment.has(SYN) && matches!(state, State::SynSent | State::SynRecv)
    } else {
        state == if reply { State::SynRecv } else { State::SynSent }
    }
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

    /// A SYN of an end: scaling is in force only if both ends announce it, which is known at the second.
    fn introduce(&self, segment: &TcpSegment<'_>, sender: &mut Side, receiver: &mut Side, second: bool) {
        (sender.end, sender.max_end) = (self.end, self.end);
        sender.max_window = self.window.max(1);
        sender.announce(segment.options);
        if second && !(sender.announced.scaling && receiver.announced.scaling) {
            sender.announced.scale = 0;
            receiver.announced.scale = 0;
        }
    }

    /// The first segment that is seen of an end which has been speaking for a while.
    fn first_seen(&self, sender: &mut Side, receiver: &mut Side, newer: bool) {
        sender.end = self.end;
        sender.max_window = (self.window << sender.announced.scale).max(1);
        sender.max_end = self.end.wrapping_add(sender.max_window);
        if receiver.max_window == 0 {
            receiver.end = self.sack;
            receiver.max_end = self.sack;
        } else if newer && self.sack == receiver.end.wrapping_add(1) {
            // It answers what keeps the connection alive.
            receiver.end = self.sack;
        }
    }

    /// Replaces what the segment does not really say.
    fn settle(
        &mut self,
        newer: bool,
        segment: &TcpSegment<'_>,
        sender: &Side,
        receiver: &Side,
        state: State,
    ) {
        if !segment.has(ACK) || segment.has(RST) && self.ack == 0 {
            self.ack = receiver.end;
            self.sack = receiver.end;
        }
        let answers_syn = segment.has(RST) && self.seq == 0 && state == State::SynSent;
        if answers_syn || !newer && self.seq == self.end && !segment.has(RST) {
            self.seq = sender.end;
            self.end = sender.end;
        }
    }

    /// The end is not below what the receiver could still take; unknown before the receiver has spoken.
    fn above(&self, sender: &Side, receiver: &Side) -> bool {
        receiver.max_window == 0
            || after(self.end, sender.end.wrapping_sub(receiver.max_window).wrapping_sub(1))
    }

    /// The acknowledgement is not too old.
    fn timely(&self, sender: &Side, receiver: &Side) -> bool {
        let lag = sender.max_window.max(MAX_LAG);
        after(self.sack, receiver.end.wrapping_sub(lag).wrapping_sub(1))
    }

    /// Linux 6.1 and later: what is late is ignored, and so is what a receiver may have taken though it is too much.
    fn fit(&self, sender: &mut Side, receiver: &Side) -> Fit {
        let sent = before(self.sack, receiver.end.wrapping_add(1));
        if !before(self.seq, sender.max_end.wrapping_add(1)) {
            let excess = self.end.wrapping_sub(sender.max_end).wrapping_add(1);
            let believable = receiver.max_window != 0
                && self.above(sender, receiver)
                && self.timely(sender, receiver)
                && excess <= receiver.max_window
                && sent;
            if believable {
                sender.end = self.end;
                sender.unacknowledged = true;
                return Fit::Ignored;
            }
            return Fit::Outside;
        }
        match (sent, self.above(sender, receiver) && self.timely(sender, receiver)) {
            (false, _) => Fit::Outside,
            (true, false) => Fit::Ignored,
            (true, true) => Fit::Inside,
        }
    }

    /// Earlier: anything else is outside.
    fn fitted(&self, sender: &Side, receiver: &Side) -> Fit {
        let fits = before(self.seq, sender.max_end.wrapping_add(1))
            && self.above(sender, receiver)
            && before(self.sack, receiver.end.wrapping_add(1))
            && self.timely(sender, receiver);
        if fits { Fit::Inside } else { Fit::Outside }
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
