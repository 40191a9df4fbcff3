//! TCP as Open vSwitch 3.1's userspace datapath tracks it: one state and one window for each end.
//!
//! Invariant: an update that is [`Update::Invalid`] because of its flags changes nothing. A segment outside the
//! window may still have taught the window of the end that speaks for the first time.
//! Deliberately absent: timeouts, which [`super::timeouts`] holds.
//!
//! Source: experiments with Open vSwitch 3.1; Guido van Rooij, "Real stateful TCP packet filtering in IP Filter".

use super::{segment::TcpSegment, timeouts::Timer};
use flowproof_packet::wire::TcpView;

const SYN: u16 = TcpView::SYN;
const ACK: u16 = TcpView::ACK;
const FIN: u16 = TcpView::FIN;
const RST: u16 = TcpView::RST;
const PSH: u16 = TcpView::PSH;
const URG: u16 = TcpView::URG;

/// The largest shift of RFC 7323.
const MAX_SCALE: u8 = 14;
/// How far an acknowledgement may be off: one window and a segment.
const MAX_ACK_WINDOW: i32 = 0xffff + 1500;

/// The state of one end. The order counts: a later state has seen more of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Closed,
    SynSent,
    Established,
    Closing,
    FinWait2,
    TimeWait,
}

impl State {
    /// As `dpctl/dump-conntrack` prints it.
    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::SynSent => "SYN_SENT",
            Self::Established => "ESTABLISHED",
            Self::Closing => "CLOSING",
            Self::FinWait2 | Self::TimeWait => "TIME_WAIT",
        }
    }
}

/// What is known of an end's window scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    None,
    /// The connection was picked up midway.
    Unknown,
    By(u8),
}

impl Scale {
    const fn shift(self) -> u8 {
        match self {
            Self::By(shift) => shift,
            Self::None | Self::Unknown => 0,
        }
    }

    /// Reads the option from a SYN. The last of several counts, whatever length it claims.
    fn read(mut options: &[u8]) -> Self {
        let mut scale = Self::None;
        while let [kind, length, third, ..] = *options {
            let step = match kind {
                0 => return scale,
                1 => 1,
                _ => usize::from(length).max(2),
            };
            if kind == 3 {
                scale = Self::By(third.min(MAX_SCALE));
            }
            options = options.get(step..).unwrap_or_default();
        }
        scale
    }
}

/// One end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    state: State,
    /// The highest sequence number sent.
    low: u32,
    /// The highest sequence number that the other end lets it send.
    high: u32,
    /// The largest window it offered, unscaled.
    window: u16,
    scale: Scale,
}

/// Both ends: the originator first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tcp {
    peers: [Peer; 2],
}

/// What a segment means to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// Outside the connection; the entry lives on as it is.
    Invalid,
    /// Part of the connection; the timer to restart, if any.
    Valid(Option<Timer>),
    /// A repeated first segment.
    ValidNew,
    /// Opens a closed connection again: the entry is dead.
    New,
}

/// A segment's numbers while it is being judged.
struct Claim {
    seq: u32,
    end: u32,
    ack: u32,
    window: u16,
    scale_src: u8,
    scale_dst: u8,
    check_ack: bool,
}

const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

const fn at_least(a: u32, b: u32) -> bool {
    !before(a, b)
}

/// Whether no sane TCP sends these flags together.
const fn absurd(flags: u16) -> bool {
    let syn = flags & SYN != 0;
    let open = syn && flags & (RST | FIN) != 0 || !syn && flags & (ACK | RST) == 0;
    open || flags & ACK == 0 && flags & (FIN | PSH | URG) != 0
}

/// Whether a segment without a connection may begin one: everything sane but SYN+ACK.
pub(super) const fn may_open(segment: &TcpSegment<'_>) -> bool {
    !(absurd(segment.header.flags) || segment.has(SYN) && segment.has(ACK))
}

impl Peer {
    /// Offers `window` to the other end, having sent up to `end`.
    fn offer(&mut self, claim: &Claim) {
        self.window = self.window.max(claim.window);
        if before(self.low, claim.end) {
            self.low = claim.end;
        }
    }

    /// The other end acknowledged and offered.
    fn allow(&mut self, claim: &Claim) {
        let offered = u32::from(claim.window) << claim.scale_src;
        if at_least(claim.ack.wrapping_add(offered), self.high) {
            self.high = claim.ack.wrapping_add(offered.max(1));
        }
    }
}

impl Tcp {
    /// The connection that `segment` begins.
    pub(super) fn new(segment: &TcpSegment<'_>) -> Self {
        let header = &segment.header;
        let syn = segment.has(SYN);
        let scale = if syn { Scale::read(segment.options) } else { Scale::Unknown };
        let window = u32::from(header.window.max(1)).div_ceil(1 << scale.shift());
        let src = Peer {
            state: State::SynSent,
            low: header.seq,
            high: header.seq.wrapping_add(segment.span()).wrapping_add(1),
            window: window as u16,
            scale,
        };
        let dst_scale = if syn { Scale::None } else { Scale::Unknown };
        let dst = Peer { state: State::Closed, low: 0, high: 1, window: 1, scale: dst_scale };
        Self { peers: [src, dst] }
    }

    /// The state that a dump shows: the later of both ends'.
    pub(super) fn state_name(&self) -> &'static str {
        let [a, b] = &self.peers;
        a.state.max(b.state).name()
    }

    /// Judges a segment and learns from it. `check` is whether sequence numbers matter.
    pub(super) fn update(&mut self, segment: &TcpSegment<'_>, reply: bool, check: bool) -> Update {
        if absurd(segment.header.flags) {
            return Update::Invalid;
        }
        let [a, b] = &mut self.peers;
        let (src, dst) = if reply { (b, a) } else { (a, b) };
        if segment.has(SYN) && !segment.has(ACK) {
            if src.state >= State::FinWait2 && dst.state >= State::FinWait2 {
                return Update::New;
            }
            if src.state <= State::SynSent {
                src.state = State::SynSent;
                return Update::ValidNew;
            }
        }
        let original_seq = segment.header.seq;
        let claim = claim(src, dst, segment);
        if !check || in_window(src, dst, &claim, segment.has(RST), original_seq) {
            src.offer(&claim);
            dst.allow(&claim);
            Update::Valid(Some(follow(src, dst, segment)))
        } else if tolerable(src, dst, &claim) {
            src.offer(&claim);
            dst.allow(&claim);
            close(src, dst, segment);
            Update::Valid(None)
        } else {
            Update::Invalid
        }
    }
}

/// Scales in force for a segment: that of its sender and that of its receiver.
fn scales(src: &Peer, dst: &Peer, segment: &TcpSegment<'_>) -> (u8, u8) {
    match (src.scale, dst.scale) {
        (Scale::By(src), Scale::By(dst)) if !segment.has(SYN) => (src, dst),
        (Scale::Unknown, Scale::Unknown) if !segment.has(SYN) => (MAX_SCALE, MAX_SCALE),
        _ => (0, 0),
    }
}

/// The numbers a segment claims. The first segment of an end sets up its window.
fn claim(src: &mut Peer, dst: &mut Peer, segment: &TcpSegment<'_>) -> Claim {
    let header = &segment.header;
    let (scale_src, scale_dst) = scales(src, dst, segment);
    let mut claim = Claim {
        seq: header.seq,
        end: header.seq.wrapping_add(segment.span()),
        ack: header.ack,
        window: header.window,
        scale_src,
        scale_dst,
        check_ack: true,
    };
    if src.state < State::SynSent {
        first_words(src, dst, segment, &mut claim);
    }
    // Some stacks acknowledge nothing in a RST+ACK.
    if !segment.has(ACK) || header.ack == 0 && segment.has(RST) {
        claim.ack = dst.low;
    }
    if claim.seq == claim.end {
        claim.seq = src.low;
        claim.end = src.low;
    }
    claim
}

/// Settles the window scale and where the window of an end lies that speaks for the first time.
fn first_words(src: &mut Peer, dst: &mut Peer, segment: &TcpSegment<'_>, claim: &mut Claim) {
    if let (true, Scale::By(theirs)) = (segment.has(SYN), dst.scale) {
        src.scale = Scale::read(segment.options);
        if let Scale::By(ours) = src.scale {
            (claim.scale_src, claim.scale_dst) = (ours, theirs);
            claim.window = u32::from(claim.window).div_ceil(1 << ours) as u16;
        } else {
            // Neither end may scale unless both do.
            dst.window <<= theirs;
            dst.scale = Scale::None;
        }
    }
    src.low = claim.seq;
    src.state = State::SynSent;
    let reach = claim.end.wrapping_add((u32::from(dst.window) << claim.scale_dst).max(1));
    if src.high == 1 || at_least(reach, src.high) {
        src.high = reach;
        claim.check_ack = false;
    }
    src.window = src.window.max(claim.window);
}

/// Whether data and acknowledgement lie where the ends allowed; a RST must hit the next number or a neighbour.
fn in_window(src: &Peer, dst: &Peer, claim: &Claim, rst: bool, original_seq: u32) -> bool {
    let skew = if claim.check_ack { dst.low.wrapping_sub(claim.ack) as i32 } else { 0 };
    let behind = src.low.wrapping_sub(u32::from(dst.window) << claim.scale_dst);
    let near = original_seq.wrapping_sub(src.low).wrapping_add(1) <= 2;
    at_least(src.high, claim.end)
        && at_least(claim.seq, behind)
        && skew >= -MAX_ACK_WINDOW
        && skew <= MAX_ACK_WINDOW << claim.scale_src
        && (!rst || near)
}

/// Near enough while the connection is opening or closed.
fn tolerable(src: &Peer, dst: &Peer, claim: &Claim) -> bool {
    let slack = MAX_ACK_WINDOW as u32;
    let loose = dst.state < State::SynSent || dst.state >= State::FinWait2 || src.state >= State::FinWait2;
    loose
        && at_least(src.high.wrapping_add(slack), claim.end)
        && at_least(claim.seq, src.low.wrapping_sub(slack))
}

fn close(src: &mut Peer, dst: &mut Peer, segment: &TcpSegment<'_>) {
    if segment.has(FIN) && src.state < State::Closing {
        src.state = State::Closing;
    }
    if segment.has(RST) {
        src.state = State::TimeWait;
        dst.state = State::TimeWait;
    }
}

/// Moves the states on after a segment in the window, and says which timer runs now.
fn follow(src: &mut Peer, dst: &mut Peer, segment: &TcpSegment<'_>) -> Timer {
    if segment.has(ACK) {
        dst.state = match dst.state {
            State::SynSent => State::Established,
            State::Closing => State::FinWait2,
            state => state,
        };
    }
    close(src, dst, segment);
    let (earlier, later) = (src.state.min(dst.state), src.state.max(dst.state));
    match () {
        () if earlier >= State::FinWait2 => Timer::TcpClosed,
        () if earlier >= State::Closing => Timer::TcpFinWait,
        () if earlier < State::Established => Timer::TcpOpening,
        () if later >= State::Closing => Timer::TcpClosing,
        () => Timer::TcpEstablished,
    }
}
