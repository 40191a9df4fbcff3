//! What sort of port a port is: what its frames may bring with them.
//!
//! What it means: the `type` of an interface as `ovs-vsctl` prints it. Invariant: a type that is not known is
//! [`PortKind::Other`], never taken for an ordinary device. Deliberately absent: the interface's options.
//!
//! Source: ovs-vswitchd.conf.db(5), Interface table, `type`.

/// The sort of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortKind {
    /// An ordinary network device, a physical one or a tap.
    System,
    /// A device of the host's own stack; what it sends may have been tracked before.
    Internal,
    /// One end of a cable to another bridge of this switch.
    Patch,
    /// Its frames come out of a tunnel, and bring `tun_id`, `tun_src` and the like.
    Tunnel,
    /// A userspace device of a VM or of a network card: `dpdk`, `dpdkvhostuser`, `afxdp`, `dummy`…
    Device,
    /// A type that is not known here.
    Other,
}

/// Types of interfaces, with what they are.
const TYPES: &[(&str, PortKind)] = &[
    ("", PortKind::System),
    ("system", PortKind::System),
    ("tap", PortKind::System),
    ("internal", PortKind::Internal),
    ("dummy-internal", PortKind::Internal),
    ("patch", PortKind::Patch),
    ("geneve", PortKind::Tunnel),
    ("gre", PortKind::Tunnel),
    ("gre64", PortKind::Tunnel),
    ("ip6gre", PortKind::Tunnel),
    ("ipsec_gre", PortKind::Tunnel),
    ("vxlan", PortKind::Tunnel),
    ("lisp", PortKind::Tunnel),
    ("stt", PortKind::Tunnel),
    ("erspan", PortKind::Tunnel),
    ("ip6erspan", PortKind::Tunnel),
    ("gtpu", PortKind::Tunnel),
    ("srv6", PortKind::Tunnel),
    ("bareudp", PortKind::Tunnel),
    ("dummy", PortKind::Device),
    ("dummy-pmd", PortKind::Device),
    ("dpdk", PortKind::Device),
    ("dpdkr", PortKind::Device),
    ("dpdkvhostuser", PortKind::Device),
    ("dpdkvhostuserclient", PortKind::Device),
    ("afxdp", PortKind::Device),
    ("afxdp-nonpmd", PortKind::Device),
    ("netmap", PortKind::Device),
];

impl PortKind {
    /// The sort of a port with this `type`.
    #[must_use]
    pub fn of_type(name: &str) -> Self {
        TYPES.iter().find(|(known, _)| *known == name).map_or(Self::Other, |(_, kind)| *kind)
    }

    /// Whether its frames may bring tunnel metadata with them: a tunnel's do, and what is not known might.
    #[must_use]
    pub const fn may_bring_tunnel_fields(self) -> bool {
        matches!(self, Self::Tunnel | Self::Other)
    }

    /// Whether its frames come from the host's own stack.
    #[must_use]
    pub const fn is_internal(self) -> bool {
        matches!(self, Self::Internal)
    }
}
