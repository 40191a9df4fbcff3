//! Verdicts, with their reasons.

use crate::policy::RuleId;
use std::fmt;

/// How firmly something passes without a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Letting it pass is over-permission.
    MustNot,
    /// Either is fine.
    May,
    /// Blocking it is over-blocking.
    Must,
}

/// Traffic that passes without a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Infrastructure {
    /// ARP: from a port under its own addresses; to a port from anybody.
    Arp,
    /// An ARP probe for duplicates, from 0.0.0.0.
    ArpProbe,
    /// Reverse ARP from a port under its own MAC.
    Rarp,
    /// An ethertype that the agent's options permit.
    PermittedEthertype,
    /// A DHCP request from a port.
    DhcpClient,
    /// A DHCP answer to a port.
    DhcpServer,
    /// Neighbour, router and listener discovery that a host needs.
    NeighbourDiscovery,
    /// A neighbour solicitation for duplicates, from `::`.
    DuplicateAddressDetection,
    /// A multicast listener's report or farewell.
    ListenerReport,
}

impl Infrastructure {
    /// Whether a switch has to let it pass, or may.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Arp => Level::Must,
            Self::ArpProbe => Level::May,
            Self::Rarp => Level::May,
            Self::PermittedEthertype => Level::Must,
            Self::DhcpClient => Level::Must,
            Self::DhcpServer => Level::Must,
            Self::NeighbourDiscovery => Level::Must,
            Self::DuplicateAddressDetection => Level::May,
            Self::ListenerReport => Level::May,
        }
    }
}

/// Why something passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// This rule admits it.
    Rule(RuleId),
    /// It answers a connection that was admitted.
    Reply,
    /// It reports an error about a connection that was admitted.
    Related,
    /// It passes without a rule.
    Infrastructure(Infrastructure),
    /// Nobody filters this end: the port is trusted, has no port security, or is on another host.
    Unfiltered,
    /// It is for everybody, and the switches say that nobody judges that.
    Flooded,
}

/// Why something does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The sender may not use this source MAC or address.
    SpoofedSource,
    /// The sender announces an address or a MAC that is not its own.
    SpoofedNeighbour,
    /// Only a DHCP server sends this.
    DhcpServer,
    /// Only a router sends this: an advertisement or a redirect.
    RouterAdvertisement,
    /// No rule admits it.
    NoRule,
    /// Connection tracking calls it invalid.
    Invalid,
    /// Its connection was admitted once, and no longer is.
    Revoked,
    /// Sender and receiver are not in one network.
    OtherNetwork,
    /// The receiver is the sender.
    Hairpin,
    /// A local port sends it with a VLAN tag.
    Tagged,
    /// Neither IP nor ARP, and not permitted.
    UnknownEthertype,
}

/// What one end says about a frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes.
    Admit(Reason),
    /// It does not.
    Drop(Refusal),
}

impl Verdict {
    /// How firmly it passes.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Admit(Reason::Infrastructure(kind)) => kind.level(),
            Self::Admit(
                Reason::Rule(_) | Reason::Reply | Reason::Related | Reason::Unfiltered | Reason::Flooded,
            ) => Level::Must,
            Self::Drop(_) => Level::MustNot,
        }
    }

    /// Whether it passes because of a rule.
    #[must_use]
    pub const fn is_by_rule(&self) -> bool {
        matches!(self, Self::Admit(Reason::Rule(_)))
    }
}

/// What both ends say: a frame is delivered if both let it pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// The sender's egress.
    pub egress: Verdict,
    /// The receiver's ingress.
    pub ingress: Verdict,
}

impl Outcome {
    /// A refusal that neither end's rules have a part in.
    #[must_use]
    pub const fn refused(refusal: Refusal) -> Self {
        Self { egress: Verdict::Drop(refusal), ingress: Verdict::Drop(refusal) }
    }

    /// Whether the frame is delivered; what MAY pass counts as passing.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.level() != Level::MustNot
    }

    /// How firmly it is delivered.
    #[must_use]
    pub fn level(&self) -> Level {
        self.egress.level().min(self.ingress.level())
    }

    /// Whether it is delivered as the opening, or in the original direction, of a connection: a rule of at least one
    /// end admits it, and neither end takes it for an answer to something else.
    #[must_use]
    pub fn opens(&self) -> bool {
        let answers = |verdict: &Verdict| matches!(verdict, Verdict::Admit(Reason::Reply | Reason::Related));
        let by_rule = self.egress.is_by_rule() || self.ingress.is_by_rule();
        self.is_delivered() && by_rule && !answers(&self.egress) && !answers(&self.ingress)
    }

    /// Whether it is refused because its connection is no longer admitted.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        *self.decisive() == Verdict::Drop(Refusal::Revoked)
    }

    /// The verdict that decides: a refusal, the sender's first; else the receiver's word, unless nobody filters there.
    #[must_use]
    pub const fn decisive(&self) -> &Verdict {
        match (&self.egress, &self.ingress) {
            (Verdict::Drop(_), _)
            | (Verdict::Admit(_), Verdict::Admit(Reason::Unfiltered | Reason::Flooded)) => &self.egress,
            (
                Verdict::Admit(_),
                Verdict::Drop(_)
                | Verdict::Admit(Reason::Rule(_) | Reason::Reply | Reason::Related | Reason::Infrastructure(_)),
            ) => &self.ingress,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admit(Reason::Rule(id)) => write!(f, "admit: rule {id}"),
            Self::Admit(reason) => write!(f, "admit: {reason:?}"),
            Self::Drop(refusal) => write!(f, "drop: {refusal:?}"),
        }
    }
}
