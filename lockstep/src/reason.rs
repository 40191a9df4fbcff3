//! Names of the model's reasons, as scenarios and reports spell them.

use flowproof_model::verdict::{Infrastructure, Reason, Refusal, Verdict};

/// Every reason's name.
pub const NAMES: &[&str] = &[
    "rule",
    "reply",
    "related",
    "unfiltered",
    "flooded",
    "arp",
    "arp-probe",
    "rarp",
    "permitted-ethertype",
    "dhcp-client",
    "dhcp-answer",
    "neighbour-discovery",
    "duplicate-address-detection",
    "listener-report",
    "spoofed-source",
    "spoofed-neighbour",
    "dhcp-server",
    "router-advertisement",
    "no-rule",
    "invalid",
    "revoked",
    "other-network",
    "hairpin",
    "tagged",
    "unknown-ethertype",
];

/// Whether a reason has this name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    NAMES.contains(&text)
}

/// The name of a verdict's reason.
#[must_use]
pub const fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Admit(Reason::Rule(_)) => "rule",
        Verdict::Admit(Reason::Reply) => "reply",
        Verdict::Admit(Reason::Related) => "related",
        Verdict::Admit(Reason::Unfiltered) => "unfiltered",
        Verdict::Admit(Reason::Flooded) => "flooded",
        Verdict::Admit(Reason::Infrastructure(kind)) => infrastructure(*kind),
        Verdict::Drop(refusal) => refused(*refusal),
    }
}

const fn infrastructure(kind: Infrastructure) -> &'static str {
    match kind {
        Infrastructure::Arp => "arp",
        Infrastructure::ArpProbe => "arp-probe",
        Infrastructure::Rarp => "rarp",
        Infrastructure::PermittedEthertype => "permitted-ethertype",
        Infrastructure::DhcpClient => "dhcp-client",
        Infrastructure::DhcpServer => "dhcp-answer",
        Infrastructure::NeighbourDiscovery => "neighbour-discovery",
        Infrastructure::DuplicateAddressDetection => "duplicate-address-detection",
        Infrastructure::ListenerReport => "listener-report",
    }
}

const fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::SpoofedSource => "spoofed-source",
        Refusal::SpoofedNeighbour => "spoofed-neighbour",
        Refusal::DhcpServer => "dhcp-server",
        Refusal::RouterAdvertisement => "router-advertisement",
        Refusal::NoRule => "no-rule",
        Refusal::Invalid => "invalid",
        Refusal::Revoked => "revoked",
        Refusal::OtherNetwork => "other-network",
        Refusal::Hairpin => "hairpin",
        Refusal::Tagged => "tagged",
        Refusal::UnknownEthertype => "unknown-ethertype",
    }
}
