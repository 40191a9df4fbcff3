//! SCTP as Linux's `nf_conntrack` tracks it: by the chunks that open and close associations.
//!
//! Invariant: an association begins with INIT, HEARTBEAT or a stray SHUTDOWN-ACK and the like, never with DATA.
//!
//! Source: RFC 9260; the transition table of Linux's `nf_conntrack_proto_sctp`; experiments with Linux 6.18.

use State::{
    Closed, CookieEchoed, CookieWait, Established, HeartbeatSent, ShutdownAckSent, ShutdownReceived,
    ShutdownSent,
};

/// The state of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Nothing,
    Closed,
    CookieWait,
    CookieEchoed,
    Established,
    ShutdownSent,
    ShutdownReceived,
    ShutdownAckSent,
    HeartbeatSent,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "NONE",
            Self::Closed => "CLOSED",
            Self::CookieWait => "COOKIE_WAIT",
            Self::CookieEchoed => "COOKIE_ECHOED",
            Self::Established => "ESTABLISHED",
            Self::ShutdownSent => "SHUTDOWN_SENT",
            Self::ShutdownReceived => "SHUTDOWN_RECD",
            Self::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            Self::HeartbeatSent => "HEARTBEAT_SENT",
        }
    }

    const fn seconds(self) -> u64 {
        match self {
            Self::Closed => 10,
            Self::Established => 210,
            Self::HeartbeatSent => 30,
            Self::Nothing
            | Self::CookieWait
            | Self::CookieEchoed
            | Self::ShutdownSent
            | Self::ShutdownReceived
            | Self::ShutdownAckSent => 3,
        }
    }
}

/// Chunk types (RFC 9260 section 3.2).
mod chunk {
    pub(super) const DATA: u8 = 0;
    pub(super) const INIT: u8 = 1;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const HEARTBEAT_ACK: u8 = 5;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
    pub(super) const ERROR: u8 = 9;
    pub(super) const COOKIE_ECHO: u8 = 10;
    pub(super) const COOKIE_ACK: u8 = 11;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
}

const CL: Option<State> = Some(Closed);
const CW: Option<State> = Some(CookieWait);
const CE: Option<State> = Some(CookieEchoed);
const ES: Option<State> = Some(Established);
const SS: Option<State> = Some(ShutdownSent);
const SR: Option<State> = Some(ShutdownReceived);
const SA: Option<State> = Some(ShutdownAckSent);
const HS: Option<State> = Some(HeartbeatSent);
const IV: Option<State> = None;

/// Chunks whose packet need not carry the tag of its direction, or has a rule of its own (RFC 9260 section 8.5).
const UNTAGGED: [u8; 7] = [
    chunk::INIT,
    chunk::SHUTDOWN_COMPLETE,
    chunk::COOKIE_ECHO,
    chunk::ABORT,
    chunk::SHUTDOWN_ACK,
    chunk::HEARTBEAT,
    chunk::HEARTBEAT_ACK,
];

type Row = [Option<State>; 9];

/// Where each chunk leads from each state, in the order of [`State`], in each direction; none is invalid.
const TRANSITIONS: [(u8, Row, Row); 11] = [
    (chunk::INIT, [CL, CL, CW, CE, ES, CL, CL, SA, CW], [IV, CL, CW, CE, ES, SS, SR, SA, IV]),
    (chunk::INIT_ACK, [CL, CL, CW, CE, ES, SS, SR, SA, CL], [IV, CW, CW, CE, ES, SS, SR, SA, IV]),
    (chunk::ABORT, [CL, CL, CL, CL, CL, CL, CL, CL, CL], [IV, CL, CL, CL, CL, CL, CL, CL, IV]),
    (chunk::SHUTDOWN, [CL, CL, CW, CE, SS, SS, SR, SA, CL], [IV, CL, CW, CE, SR, SS, SR, SA, IV]),
    (chunk::SHUTDOWN_ACK, [SA, CL, CW, CE, ES, SA, SA, SA, SA], [IV, CL, CW, CE, ES, SA, SA, SA, IV]),
    (chunk::ERROR, [CL, CL, CW, CE, ES, SS, SR, SA, CL], [IV, CL, CW, CL, ES, SS, SR, SA, IV]),
    (chunk::COOKIE_ECHO, [CL, CL, CE, CE, ES, SS, SR, SA, CL], [IV, CL, CE, CE, ES, SS, SR, SA, IV]),
    (chunk::COOKIE_ACK, [CL, CL, CW, ES, ES, SS, SR, SA, CL], [IV, CL, CW, ES, ES, SS, SR, SA, IV]),
    (chunk::SHUTDOWN_COMPLETE, [CL, CL, CW, CE, ES, SS, SR, CL, CL], [IV, CL, CW, CE, ES, SS, SR, CL, IV]),
    (chunk::HEARTBEAT, [HS, CL, CW, CE, ES, SS, SR, SA, HS], [IV, CL, CW, CE, ES, SS, SR, SA, HS]),
    (chunk::HEARTBEAT_ACK, [CL, CL, CW, CE, ES, SS, SR, SA, HS], [IV, CL, CW, CE, ES, SS, SR, SA, ES]),
];

fn transition(kind: u8, reply: bool, state: State) -> Option<State> {
    let Some((_, original, answer)) = TRANSITIONS.iter().find(|(row, _, _)| *row == kind) else {
        // DATA, SACK and the rest change nothing.
        return Some(state);
    };
    let row = if reply { answer } else { original };
    row.get(state as usize).copied().flatten()
}

/// One association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sctp {
    state: State,
    /// The verification tag that each direction must carry, the originator's first; 0 is not known.
    tags: [u32; 2],
    /// Which direction has sent INIT since the other did.
    asked: [bool; 2],
    /// Whether the last heartbeat with a wrong tag, which may be a peer that has moved, was a reply.
    failed: Option<bool>,
}

/// One chunk: type, flags, and what follows its header.
type Chunk<'a> = (u8, u8, &'a [u8]);

/// The verification tag and the chunks, if they may stand together: INIT, INIT-ACK and SHUTDOWN-COMPLETE alone,
/// COOKIE-ECHO and COOKIE-ACK first.
fn parse(packet: &[u8]) -> Option<(u32, Vec<Chunk<'_>>)> {
    let tag = u32::from_be_bytes(*packet.get(4..)?.first_chunk()?);
    let mut rest = packet.get(12..)?;
    let mut chunks = Vec::new();
    let mut alone = false;
    while let Some(([kind, flags, high, low], body)) = rest.split_first_chunk::<4>() {
        alone |= matches!(*kind, chunk::INIT | chunk::INIT_ACK | chunk::SHUTDOWN_COMPLETE);
        let first = matches!(*kind, chunk::COOKIE_ACK | chunk::COOKIE_ECHO) || alone;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if first && !chunks.is_empty() || length == 0 {
            return None;
        }
        chunks.push((*kind, *flags, body));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    (!chunks.is_empty()).then_some((tag, chunks))
}

/// The tag that an INIT or INIT-ACK asks the other direction to carry.
fn initiate_tag(body: &[u8]) -> Option<u32> {
    // The fixed part of the chunk must be whole.
    body.get(..16)?;
    body.first_chunk().map(|tag| u32::from_be_bytes(*tag))
}

impl Sctp {
    /// The association that a packet begins, if it may begin one.
    pub(super) fn open(packet: &[u8]) -> Option<(Self, u64)> {
        let (tag, chunks) = parse(packet)?;
        let stray = [chunk::ABORT, chunk::SHUTDOWN_COMPLETE, chunk::COOKIE_ACK];
        if chunks.iter().any(|(kind, _, _)| stray.contains(kind)) {
            return None;
        }
        let mut tags = [0, 0];
        for (kind, _, body) in &chunks {
            if transition(*kind, false, State::Nothing)? == State::Nothing {
                return None;
            }
            match *kind {
                chunk::INIT if tag != 0 => return None,
                chunk::INIT => tags = [0, initiate_tag(body)?],
                chunk::HEARTBEAT | chunk::HEARTBEAT_ACK => tags = [tag, 0],
                _ => tags = [0, tag],
            }
        }
        let mut sctp = Self { state: State::Nothing, tags, asked: [false; 2], failed: None };
        let lifetime = sctp.update(packet, false)?;
        Some((sctp, lifetime.unwrap_or(1000 * sctp.state.seconds())))
    }

    /// The state that a dump shows.
    pub(super) const fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// Milliseconds until the entry goes after an accepted packet, if its timer restarts; none for an invalid one.
    pub(super) fn update(&mut self, packet: &[u8], reply: bool) -> Option<Option<u64>> {
        let (tag, chunks) = parse(packet)?;
        let [mine, theirs] = if reply { [1, 0] } else { [0, 1] };
        if !chunks.iter().any(|(kind, _, _)| UNTAGGED.contains(kind)) && tag != self.tag(mine) {
            return None;
        }
        let mut after = *self;
        let mut led = false;
        for (kind, flags, body) in &chunks {
            let wanted = after.tags.get(if flags & 1 == 0 { mine } else { theirs }).copied()?;
            match *kind {
                chunk::INIT if tag != 0 => return None,
                chunk::ABORT | chunk::SHUTDOWN_COMPLETE if tag != wanted => return None,
                chunk::COOKIE_ECHO if tag != after.tag(mine) => return None,
                chunk::HEARTBEAT | chunk::HEARTBEAT_ACK => {
                    let data = chunks.iter().any(|(kind, _, _)| *kind == chunk::DATA);
                    match after.heartbeat(*kind, tag, reply, data || led)? {
                        Beat::Known => {}
                        Beat::Moved => {
                            led = true;
                            continue;
                        }
                    }
                }
                _ => {}
            }
            after.state = transition(*kind, reply, after.state)?;
            after.initiate(*kind, body, mine, theirs)?;
        }
        let lingers = self.state == Closed && after.state == Closed;
        *self = after;
        Some(if led || lingers { None } else { Some(1000 * self.state.seconds()) })
    }

    fn tag(&self, side: usize) -> u32 {
        self.tags.get(side).copied().unwrap_or(0)
    }

    /// A heartbeat with a tag that is not known may come from a peer that has moved; its answer confirms that.
    fn heartbeat(&mut self, kind: u8, tag: u32, reply: bool, alone: bool) -> Option<Beat> {
        let [mine, theirs] = if reply { [1, 0] } else { [0, 1] };
        if self.tag(mine) == 0 {
            *self.tags.get_mut(mine)? = tag;
        } else if self.tag(mine) == tag {
            self.failed = None;
        } else if alone {
            return None;
        } else if kind == chunk::HEARTBEAT {
            self.failed = Some(reply);
            return Some(Beat::Moved);
        } else {
            self.failed.filter(|failed| *failed != reply)?;
            self.failed = None;
            *self.tags.get_mut(mine)? = tag;
            *self.tags.get_mut(theirs)? = 0;
        }
        Some(Beat::Known)
    }

    /// Notes the tag that an INIT or INIT-ACK asks for; none if it is not the one that was asked for before.
    fn initiate(&mut self, kind: u8, body: &[u8], mine: usize, theirs: usize) -> Option<()> {
        if kind == chunk::COOKIE_ACK {
            self.asked = [false; 2];
        }
        if !matches!(kind, chunk::INIT | chunk::INIT_ACK) {
            return Some(());
        }
        let asked = initiate_tag(body)?;
        let [own, other] = [mine, theirs].map(|side| self.asked.get(side).copied().unwrap_or(false));
        if kind == chunk::INIT {
            if own && other {
                *self.asked.get_mut(theirs)? = false;
            }
            *self.asked.get_mut(mine)? = true;
        } else {
            let known = self.tag(theirs);
            let stray = !other && known != 0 && known != asked;
            let collides = own && other && known != asked;
            if stray || collides {
                return None;
            }
        }
        *self.tags.get_mut(theirs)? = asked;
        Some(())
    }
}

/// What a heartbeat says.
enum Beat {
    Known,
    /// Nothing yet: its tag is not the one that is known.
    Moved,
}
