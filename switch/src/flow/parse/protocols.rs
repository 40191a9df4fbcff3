//! Over which versions of OpenFlow a flow can be sent.
//!
//! Source: `usable protocols` of `ovs-ofctl parse-flows` 3.1.

use flowproof_packet::Field;

/// A set of OpenFlow versions; 1.0 with and without Nicira extended matches count apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocols(u8);

impl Protocols {
    /// Plain OpenFlow 1.0.
    const OF10: u8 = 1;
    /// OpenFlow 1.0 with extended matches.
    const NXM: u8 = 2;
    const OF11: u8 = 4;
    const OF12: u8 = 8;
    const OF13: u8 = 16;
    const OF14: u8 = 32;
    const OF15: u8 = 64;

    /// All of them.
    pub(crate) const ANY: Self = Self(0x7f);
    /// Both kinds of OpenFlow 1.0.
    pub(crate) const OPENFLOW10: Self = Self(Self::OF10 | Self::NXM);
    /// 1.1 and later.
    pub(crate) const OF11_UP: Self = Self(Self::OF11 | Self::OF12 | Self::OF13 | Self::OF14 | Self::OF15);
    /// 1.2 and later.
    pub(crate) const OF12_UP: Self = Self(Self::OF12 | Self::OF13 | Self::OF14 | Self::OF15);
    /// 1.3 and later.
    pub(crate) const OF13_UP: Self = Self(Self::OF13 | Self::OF14 | Self::OF15);
    /// 1.5 and later.
    pub(crate) const OF15_UP: Self = Self(Self::OF15);
    /// Extended matches: 1.0 with NXM, and OXM.
    pub(crate) const NXM_OXM: Self = Self(Self::NXM | Self::OF12 | Self::OF13 | Self::OF14 | Self::OF15);
    /// Extended matches, and 1.1.
    pub(crate) const NXM_OF11_UP: Self = Self(Self::NXM_OXM.0 | Self::OF11);
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// The protocols in both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Over which protocols an exact match on `field`, or `set_field` of it, can be sent.
    pub(crate) const fn of_field(field: Field) -> Self {
        use Field as F;
        match field {
            F::SkbPriority | F::TunTtl | F::TunTos => Self::NONE,
            F::InPort | F::InPortOxm | F::DlSrc | F::DlDst | F::DlType | F::VlanTci | F::VlanVid => Self::ANY,
            F::VlanVidOxm | F::VlanPcp | F::NwSrc | F::NwDst | F::NwProto | F::NwTos | F::IpDscp => Self::ANY,
            F::ArpOp | F::ArpSpa | F::ArpTpa | F::TcpSrc | F::TcpDst | F::UdpSrc | F::UdpDst => Self::ANY,
            F::Icmpv4Type | F::Icmpv4Code => Self::ANY,
            F::Metadata | F::NwEcn | F::MplsLabel | F::MplsTc | F::SctpSrc | F::SctpDst => Self::NXM_OF11_UP,
            _ => Self::NXM_OXM,
        }
    }
}
