//! The header fields, as one table.
//!
//! Every field of ovs-fields(7) that a security-group table, or a flow that stands beside one on br-int, can name.
//! A row says what a field is called, where it lies in a [`FlowKey`](crate::FlowKey), what it requires and how it
//! is written. `tun_metadata0` to `tun_metadata63` are absent: no flow key here has room for their 124 bytes, so
//! flows that name them are opaque to whoever reads them.

/// What must hold of a packet for a field to exist in it (ovs-fields(7), "Prerequisites").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prerequisite {
    /// Always there.
    None,
    /// An Ethernet frame.
    Ethernet,
    /// An ARP or RARP packet.
    Arp,
    /// A VLAN tag.
    Vlan,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// IPv4 or IPv6.
    Ip,
    /// MPLS.
    Mpls,
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// SCTP over IPv4 or IPv6.
    Sctp,
    /// ICMP over IPv4.
    Icmpv4,
    /// ICMPv6.
    Icmpv6,
    /// ICMPv6 type 135 or 136, code 0.
    Nd,
    /// ICMPv6 type 135, code 0.
    NdSolicit,
    /// ICMPv6 type 136, code 0.
    NdAdvert,
    /// A network service header.
    Nsh,
    /// A tracked packet of the right address family.
    CtValid,
}

/// How a field may be masked in a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Maskable {
    /// Exact match or none.
    No,
    /// Any bits.
    Bitwise,
}

/// How ovs-ofctl writes a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Decimal number.
    Decimal,
    /// Hexadecimal number with `0x`.
    Hex,
    /// `aa:bb:cc:dd:ee:ff`.
    Ethernet,
    /// Dotted quad, mask as prefix length or dotted quad.
    Ipv4,
    /// RFC 5952 text, mask as prefix length or address.
    Ipv6,
    /// Port number or reserved name.
    Port,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Frag,
    /// `+new-est…`.
    CtState,
    /// `+syn-ack…`.
    TcpFlags,
    /// `+oam`.
    TunFlags,
    /// `(namespace,type)`.
    PacketType,
}

/// Who decides what a field holds when a packet enters the tables.
///
/// Every row of the table names one, so that nobody who follows packets symbolically can take a field for zero by
/// forgetting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The frame: whoever sends it chooses.
    Frame,
    /// The port that it comes in by.
    Port,
    /// The tunnel that it comes out of, or another bridge that it comes from by a patch port; zero on other ports.
    Tunnel,
    /// The host's network stack, on ports that hand over its packets (internal ports): its mark, and what it has tracked.
    /// Zero on other ports.
    Host,
    /// The datapath computes it: it may be anything.
    Datapath,
    /// Flows only: it has its initial value.
    Flows,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Which field this is.
    pub field: Field,
    /// The name ovs-ofctl prints in a match.
    pub name: &'static str,
    /// Other names it accepts.
    pub aliases: &'static [&'static str],
    /// Names in `load`, `move` and `zone=`, the printed one first.
    pub nxm: &'static [&'static str],
    /// First bit in the flow key, counted from the most significant.
    pub offset: u16,
    /// Number of bits.
    pub width: u16,
    /// What a packet needs to have it.
    pub prerequisite: Prerequisite,
    /// Whether a match may be partial.
    pub maskable: Maskable,
    /// How values are written.
    pub format: Format,
    /// Whether actions may write it.
    pub writable: bool,
    /// Who decides what it holds at first.
    pub origin: Origin,
    owner: bool,
}

impl FieldSpec {
    /// Whether the field names its bits first; false for aliases of another field's bits, such as `arp_spa`.
    #[must_use]
    pub const fn is_slot_owner(&self) -> bool {
        self.owner
    }

    /// Whether a flow may name it at all.
    #[must_use]
    pub const fn is_matchable(&self) -> bool {
        !self.name.is_empty()
    }
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])* $field:ident $name:literal $aliases:tt $nxm:tt $offset:literal + $width:literal
        $prereq:ident $mask:ident $format:ident $origin:ident $writable:literal $owner:literal;)*) => {
        /// A header field or a piece of metadata; [`FIELDS`] says what each one is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Field { $($(#[doc = $doc])* $field,)* }

        /// The table: one row a field, in the order of the enumeration.
        pub const FIELDS: &[FieldSpec] = &[$(FieldSpec {
            field: Field::$field, name: $name, aliases: &$aliases, nxm: &$nxm, offset: $offset, width: $width,
            prerequisite: Prerequisite::$prereq, maskable: Maskable::$mask, format: Format::$format,
            writable: $writable, origin: Origin::$origin, owner: $owner,
        },)*];
    };
}

impl Field {
    /// The field's row.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the macro makes one row for each field, in order")]
    pub const fn spec(self) -> &'static FieldSpec {
        &FIELDS[self as usize]
    }

    /// Whether two fields share bits of the key.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        let (a, b) = (self.spec(), other.spec());
        a.offset < b.offset + b.width && b.offset < a.offset + a.width
    }

    /// All fields, in table order.
    pub fn all() -> impl Iterator<Item = Self> {
        FIELDS.iter().map(|spec| spec.field)
    }

    /// The field that ovs-ofctl knows by this name in a match or in `set_field`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let known =
            |spec: &&FieldSpec| spec.is_matchable() && (spec.name == name || spec.aliases.contains(&name));
        FIELDS.iter().find(known).map(|spec| spec.field)
    }

    /// The field with this NXM or OXM name, as in `load:1->NXM_NX_REG5[]`.
    #[must_use]
    pub fn by_nxm(name: &str) -> Option<Self> {
        FIELDS.iter().find(|spec| spec.nxm.contains(&name)).map(|spec| spec.field)
    }
}

fields! {
    /// Hash the datapath computed.
    DpHash "dp_hash" [] ["NXM_NX_DP_HASH"] 2688 + 32 None Bitwise Hex Datapath false true;
    /// Datapath recirculation identifier.
    RecircId "recirc_id" [] ["NXM_NX_RECIRC_ID"] 2720 + 32 None No Decimal Flows false true;
    /// Namespace and type of the outermost header.
    PacketType "packet_type" [] ["OXM_OF_PACKET_TYPE"] 2624 + 32 None No PacketType Tunnel false true;
    /// The conjunction that was satisfied.
    ConjId "conj_id" [] ["NXM_NX_CONJ_ID"] 1440 + 32 None No Decimal Flows false true;
    /// Tunnel key.
    TunId "tun_id" ["tunnel_id"] ["NXM_NX_TUN_ID", "OXM_OF_TUNNEL_ID"] 2048 + 64 None Bitwise Hex Tunnel true true;
    /// Outer IPv4 source.
    TunSrc "tun_src" [] ["NXM_NX_TUN_IPV4_SRC"] 2112 + 32 None Bitwise Ipv4 Tunnel true true;
    /// Outer IPv4 destination.
    TunDst "tun_dst" [] ["NXM_NX_TUN_IPV4_DST"] 2144 + 32 None Bitwise Ipv4 Tunnel true true;
    /// Outer IPv6 source.
    TunIpv6Src "tun_ipv6_src" [] ["NXM_NX_TUN_IPV6_SRC"] 2176 + 128 None Bitwise Ipv6 Tunnel true true;
    /// Outer IPv6 destination.
    TunIpv6Dst "tun_ipv6_dst" [] ["NXM_NX_TUN_IPV6_DST"] 2304 + 128 None Bitwise Ipv6 Tunnel true true;
    /// Tunnel flags (oam).
    TunFlags "tun_flags" [] ["NXM_NX_TUN_FLAGS"] 2447 + 1 None Bitwise TunFlags Tunnel true true;
    /// Outer TTL.
    TunTtl "tun_ttl" [] [] 2448 + 8 None No Decimal Tunnel false true;
    /// Outer TOS.
    TunTos "tun_tos" [] [] 2456 + 8 None No Decimal Tunnel false true;
    /// VXLAN group policy id.
    TunGbpId "tun_gbp_id" [] ["NXM_NX_TUN_GBP_ID"] 2464 + 16 None Bitwise Decimal Tunnel true true;
    /// VXLAN group policy flags.
    TunGbpFlags "tun_gbp_flags" [] ["NXM_NX_TUN_GBP_FLAGS"] 2480 + 8 None Bitwise Hex Tunnel true true;
    /// ERSPAN index.
    TunErspanIdx "tun_erspan_idx" [] ["NXOXM_ET_ERSPAN_IDX"] 2816 + 20 None Bitwise Hex Tunnel true true;
    /// ERSPAN version.
    TunErspanVer "tun_erspan_ver" [] ["NXOXM_ET_ERSPAN_VER"] 2836 + 4 None Bitwise Decimal Tunnel true true;
    /// ERSPAN direction.
    TunErspanDir "tun_erspan_dir" [] ["NXOXM_ET_ERSPAN_DIR"] 2840 + 1 None Bitwise Decimal Tunnel true true;
    /// ERSPAN hardware id.
    TunErspanHwid "tun_erspan_hwid" [] ["NXOXM_ET_ERSPAN_HWID"] 2841 + 6 None Bitwise Hex Tunnel true true;
    /// GTP-U flags.
    TunGtpuFlags "tun_gtpu_flags" [] ["NXOXM_ET_GTPU_FLAGS"] 2848 + 8 None Bitwise Hex Tunnel false true;
    /// GTP-U message type.
    TunGtpuMsgtype "tun_gtpu_msgtype" [] ["NXOXM_ET_GTPU_MSGTYPE"] 2856 + 8 None Bitwise Decimal Tunnel false true;
    /// The OpenFlow metadata register.
    Metadata "metadata" [] ["OXM_OF_METADATA"] 1472 + 64 None Bitwise Hex Flows true true;
    /// Ingress port, 16 bits.
    InPort "in_port" [] ["NXM_OF_IN_PORT"] 0 + 16 None No Port Port true true;
    /// Ingress port as OpenFlow 1.1+ numbers it, folded into 16 bits.
    InPortOxm "in_port_oxm" [] ["OXM_OF_IN_PORT"] 0 + 16 None No Port Port true false;
    /// Output port of the action set.
    ActsetOutput "actset_output" [] ["ONFOXM_ET_ACTSET_OUTPUT", "OXM_OF_ACTSET_OUTPUT"] 2656 + 32 None No Port Flows false true;
    /// QoS queue.
    SkbPriority "skb_priority" [] [] 2528 + 32 None No Hex Host false true;
    /// Packet metadata mark.
    PktMark "pkt_mark" [] ["NXM_NX_PKT_MARK"] 2496 + 32 None Bitwise Hex Host true true;
    /// Connection-tracking state bits.
    CtState "ct_state" [] ["NXM_NX_CT_STATE"] 832 + 32 None Bitwise CtState Host false true;
    /// Zone of the last ct().
    CtZone "ct_zone" [] ["NXM_NX_CT_ZONE"] 864 + 16 None No Hex Host false true;
    /// Mark of the packet's connection.
    CtMark "ct_mark" [] ["NXM_NX_CT_MARK"] 896 + 32 None Bitwise Hex Host true true;
    /// Label of the packet's connection.
    CtLabel "ct_label" [] ["NXM_NX_CT_LABEL"] 960 + 128 None Bitwise Hex Host true true;
    /// Protocol of the original direction.
    CtNwProto "ct_nw_proto" [] ["NXM_NX_CT_NW_PROTO"] 928 + 8 CtValid No Decimal Host false true;
    /// IPv4 source of the original direction.
    CtNwSrc "ct_nw_src" [] ["NXM_NX_CT_NW_SRC"] 1088 + 32 CtValid Bitwise Ipv4 Host false true;
    /// IPv4 destination of the original direction.
    CtNwDst "ct_nw_dst" [] ["NXM_NX_CT_NW_DST"] 1120 + 32 CtValid Bitwise Ipv4 Host false true;
    /// IPv6 source of the original direction.
    CtIpv6Src "ct_ipv6_src" [] ["NXM_NX_CT_IPV6_SRC"] 1152 + 128 CtValid Bitwise Ipv6 Host false true;
    /// IPv6 destination of the original direction.
    CtIpv6Dst "ct_ipv6_dst" [] ["NXM_NX_CT_IPV6_DST"] 1280 + 128 CtValid Bitwise Ipv6 Host false true;
    /// L4 source of the original direction.
    CtTpSrc "ct_tp_src" [] ["NXM_NX_CT_TP_SRC"] 1408 + 16 CtValid Bitwise Decimal Host false true;
    /// L4 destination of the original direction.
    CtTpDst "ct_tp_dst" [] ["NXM_NX_CT_TP_DST"] 1424 + 16 CtValid Bitwise Decimal Host false true;
    /// Register 0.
    Reg0 "reg0" [] ["NXM_NX_REG0"] 1536 + 32 None Bitwise Hex Flows true true;
    /// Register 1.
    Reg1 "reg1" [] ["NXM_NX_REG1"] 1568 + 32 None Bitwise Hex Flows true true;
    /// Register 2.
    Reg2 "reg2" [] ["NXM_NX_REG2"] 1600 + 32 None Bitwise Hex Flows true true;
    /// Register 3.
    Reg3 "reg3" [] ["NXM_NX_REG3"] 1632 + 32 None Bitwise Hex Flows true true;
    /// Register 4.
    Reg4 "reg4" [] ["NXM_NX_REG4"] 1664 + 32 None Bitwise Hex Flows true true;
    /// Register 5.
    Reg5 "reg5" [] ["NXM_NX_REG5"] 1696 + 32 None Bitwise Hex Flows true true;
    /// Register 6.
    Reg6 "reg6" [] ["NXM_NX_REG6"] 1728 + 32 None Bitwise Hex Flows true true;
    /// Register 7.
    Reg7 "reg7" [] ["NXM_NX_REG7"] 1760 + 32 None Bitwise Hex Flows true true;
    /// Register 8.
    Reg8 "reg8" [] ["NXM_NX_REG8"] 1792 + 32 None Bitwise Hex Flows true true;
    /// Register 9.
    Reg9 "reg9" [] ["NXM_NX_REG9"] 1824 + 32 None Bitwise Hex Flows true true;
    /// Register 10.
    Reg10 "reg10" [] ["NXM_NX_REG10"] 1856 + 32 None Bitwise Hex Flows true true;
    /// Register 11.
    Reg11 "reg11" [] ["NXM_NX_REG11"] 1888 + 32 None Bitwise Hex Flows true true;
    /// Register 12.
    Reg12 "reg12" [] ["NXM_NX_REG12"] 1920 + 32 None Bitwise Hex Flows true true;
    /// Register 13.
    Reg13 "reg13" [] ["NXM_NX_REG13"] 1952 + 32 None Bitwise Hex Flows true true;
    /// Register 14.
    Reg14 "reg14" [] ["NXM_NX_REG14"] 1984 + 32 None Bitwise Hex Flows true true;
    /// Register 15.
    Reg15 "reg15" [] ["NXM_NX_REG15"] 2016 + 32 None Bitwise Hex Flows true true;
    /// Registers 0 and 1.
    Xreg0 "xreg0" [] ["OXM_OF_PKT_REG0"] 1536 + 64 None Bitwise Hex Flows true false;
    /// Registers 2 and 3.
    Xreg1 "xreg1" [] ["OXM_OF_PKT_REG1"] 1600 + 64 None Bitwise Hex Flows true false;
    /// Registers 4 and 5.
    Xreg2 "xreg2" [] ["OXM_OF_PKT_REG2"] 1664 + 64 None Bitwise Hex Flows true false;
    /// Registers 6 and 7.
    Xreg3 "xreg3" [] ["OXM_OF_PKT_REG3"] 1728 + 64 None Bitwise Hex Flows true false;
    /// Registers 8 and 9.
    Xreg4 "xreg4" [] ["OXM_OF_PKT_REG4"] 1792 + 64 None Bitwise Hex Flows true false;
    /// Registers 10 and 11.
    Xreg5 "xreg5" [] ["OXM_OF_PKT_REG5"] 1856 + 64 None Bitwise Hex Flows true false;
    /// Registers 12 and 13.
    Xreg6 "xreg6" [] ["OXM_OF_PKT_REG6"] 1920 + 64 None Bitwise Hex Flows true false;
    /// Registers 14 and 15.
    Xreg7 "xreg7" [] ["OXM_OF_PKT_REG7"] 1984 + 64 None Bitwise Hex Flows true false;
    /// Registers 0 to 3.
    Xxreg0 "xxreg0" [] ["NXM_NX_XXREG0"] 1536 + 128 None Bitwise Hex Flows true false;
    /// Registers 4 to 7.
    Xxreg1 "xxreg1" [] ["NXM_NX_XXREG1"] 1664 + 128 None Bitwise Hex Flows true false;
    /// Registers 8 to 11.
    Xxreg2 "xxreg2" [] ["NXM_NX_XXREG2"] 1792 + 128 None Bitwise Hex Flows true false;
    /// Registers 12 to 15.
    Xxreg3 "xxreg3" [] ["NXM_NX_XXREG3"] 1920 + 128 None Bitwise Hex Flows true false;
    /// Ethernet source.
    DlSrc "dl_src" ["eth_src"] ["NXM_OF_ETH_SRC", "OXM_OF_ETH_SRC"] 64 + 48 Ethernet Bitwise Ethernet Frame true true;
    /// Ethernet destination.
    DlDst "dl_dst" ["eth_dst"] ["NXM_OF_ETH_DST", "OXM_OF_ETH_DST"] 128 + 48 Ethernet Bitwise Ethernet Frame true true;
    /// Ethertype after at most one VLAN tag; 0x05ff without one.
    DlType "dl_type" ["eth_type"] ["NXM_OF_ETH_TYPE", "OXM_OF_ETH_TYPE"] 16 + 16 None No Hex Frame false true;
    /// 802.1Q tag control information; bit 12 says that there is a tag.
    VlanTci "vlan_tci" [] ["NXM_OF_VLAN_TCI"] 32 + 16 Ethernet Bitwise Hex Frame true true;
    /// VLAN id; matching it requires a tag, 0xffff none.
    VlanVid "dl_vlan" [] [] 36 + 12 Ethernet No Decimal Frame true false;
    /// VLAN id and the presence bit.
    VlanVidOxm "vlan_vid" [] ["OXM_OF_VLAN_VID"] 35 + 13 Ethernet Bitwise Hex Frame true false;
    /// VLAN priority.
    VlanPcp "dl_vlan_pcp" ["vlan_pcp"] ["OXM_OF_VLAN_PCP"] 32 + 3 Vlan No Decimal Frame true false;
    /// Outermost MPLS label.
    MplsLabel "mpls_label" [] ["OXM_OF_MPLS_LABEL"] 2560 + 20 Mpls No Decimal Frame true true;
    /// MPLS traffic class.
    MplsTc "mpls_tc" [] ["OXM_OF_MPLS_TC"] 2580 + 3 Mpls No Decimal Frame true true;
    /// Bottom of the MPLS stack.
    MplsBos "mpls_bos" [] ["OXM_OF_MPLS_BOS"] 2583 + 1 Mpls No Decimal Frame false true;
    /// MPLS time to live.
    MplsTtl "mpls_ttl" [] ["NXM_NX_MPLS_TTL"] 2584 + 8 Mpls No Decimal Frame true true;
    /// IPv4 source.
    NwSrc "nw_src" ["ip_src"] ["NXM_OF_IP_SRC", "OXM_OF_IPV4_SRC"] 192 + 32 Ipv4 Bitwise Ipv4 Frame true true;
    /// IPv4 destination.
    NwDst "nw_dst" ["ip_dst"] ["NXM_OF_IP_DST", "OXM_OF_IPV4_DST"] 224 + 32 Ipv4 Bitwise Ipv4 Frame true true;
    /// IPv6 source.
    Ipv6Src "ipv6_src" [] ["NXM_NX_IPV6_SRC", "OXM_OF_IPV6_SRC"] 256 + 128 Ipv6 Bitwise Ipv6 Frame true true;
    /// IPv6 destination.
    Ipv6Dst "ipv6_dst" [] ["NXM_NX_IPV6_DST", "OXM_OF_IPV6_DST"] 384 + 128 Ipv6 Bitwise Ipv6 Frame true true;
    /// IPv6 flow label.
    Ipv6Label "ipv6_label" [] ["NXM_NX_IPV6_LABEL", "OXM_OF_IPV6_FLABEL"] 556 + 20 Ipv6 Bitwise Hex Frame true true;
    /// IP protocol, after the extension headers.
    NwProto "nw_proto" ["ip_proto"] ["NXM_OF_IP_PROTO", "OXM_OF_IP_PROTO"] 48 + 8 Ip No Decimal Frame false true;
    /// DSCP in the upper six bits; the lower two are not matched.
    NwTos "nw_tos" [] ["NXM_OF_IP_TOS"] 112 + 8 Ip No Decimal Frame true true;
    /// Differentiated services code point.
    IpDscp "ip_dscp" [] ["OXM_OF_IP_DSCP"] 112 + 6 Ip No Decimal Frame true false;
    /// Explicit congestion notification.
    NwEcn "nw_ecn" ["ip_ecn"] ["NXM_NX_IP_ECN", "OXM_OF_IP_ECN"] 118 + 2 Ip No Decimal Frame true false;
    /// Time to live or hop limit.
    NwTtl "nw_ttl" [] ["NXM_NX_IP_TTL"] 120 + 8 Ip No Decimal Frame true true;
    /// 1: a fragment, 2: not the first one.
    NwFrag "ip_frag" ["nw_frag"] ["NXM_NX_IP_FRAG"] 62 + 2 Ip Bitwise Frag Frame false true;
    /// ARP opcode; 0 if it does not fit eight bits.
    ArpOp "arp_op" [] ["NXM_OF_ARP_OP", "OXM_OF_ARP_OP"] 48 + 8 Arp No Decimal Frame true false;
    /// ARP sender protocol address.
    ArpSpa "arp_spa" [] ["NXM_OF_ARP_SPA", "OXM_OF_ARP_SPA"] 192 + 32 Arp Bitwise Ipv4 Frame true false;
    /// ARP target protocol address.
    ArpTpa "arp_tpa" [] ["NXM_OF_ARP_TPA", "OXM_OF_ARP_TPA"] 224 + 32 Arp Bitwise Ipv4 Frame true false;
    /// ARP sender hardware address.
    ArpSha "arp_sha" [] ["NXM_NX_ARP_SHA", "OXM_OF_ARP_SHA"] 576 + 48 Arp Bitwise Ethernet Frame true true;
    /// ARP target hardware address.
    ArpTha "arp_tha" [] ["NXM_NX_ARP_THA", "OXM_OF_ARP_THA"] 640 + 48 Arp Bitwise Ethernet Frame true true;
    /// TCP source port; the slot of every L4 source.
    TcpSrc "tcp_src" ["tp_src"] ["NXM_OF_TCP_SRC", "OXM_OF_TCP_SRC"] 512 + 16 Tcp Bitwise Decimal Frame true true;
    /// TCP destination port; the slot of every L4 destination.
    TcpDst "tcp_dst" ["tp_dst"] ["NXM_OF_TCP_DST", "OXM_OF_TCP_DST"] 528 + 16 Tcp Bitwise Decimal Frame true true;
    /// TCP flags.
    TcpFlags "tcp_flags" [] ["NXM_NX_TCP_FLAGS", "ONFOXM_ET_TCP_FLAGS"] 180 + 12 Tcp Bitwise TcpFlags Frame false true;
    /// UDP source port.
    UdpSrc "udp_src" [] ["NXM_OF_UDP_SRC", "OXM_OF_UDP_SRC"] 512 + 16 Udp Bitwise Decimal Frame true false;
    /// UDP destination port.
    UdpDst "udp_dst" [] ["NXM_OF_UDP_DST", "OXM_OF_UDP_DST"] 528 + 16 Udp Bitwise Decimal Frame true false;
    /// SCTP source port.
    SctpSrc "sctp_src" [] ["OXM_OF_SCTP_SRC"] 512 + 16 Sctp Bitwise Decimal Frame true false;
    /// SCTP destination port.
    SctpDst "sctp_dst" [] ["OXM_OF_SCTP_DST"] 528 + 16 Sctp Bitwise Decimal Frame true false;
    /// ICMP type.
    Icmpv4Type "icmp_type" [] ["NXM_OF_ICMP_TYPE", "OXM_OF_ICMPV4_TYPE"] 520 + 8 Icmpv4 No Decimal Frame true false;
    /// ICMP code.
    Icmpv4Code "icmp_code" [] ["NXM_OF_ICMP_CODE", "OXM_OF_ICMPV4_CODE"] 536 + 8 Icmpv4 No Decimal Frame true false;
    /// ICMPv6 type.
    Icmpv6Type "icmpv6_type" [] ["NXM_NX_ICMPV6_TYPE", "OXM_OF_ICMPV6_TYPE"] 520 + 8 Icmpv6 No Decimal Frame true false;
    /// ICMPv6 code.
    Icmpv6Code "icmpv6_code" [] ["NXM_NX_ICMPV6_CODE", "OXM_OF_ICMPV6_CODE"] 536 + 8 Icmpv6 No Decimal Frame true false;
    /// Neighbour discovery target.
    NdTarget "nd_target" [] ["NXM_NX_ND_TARGET", "OXM_OF_IPV6_ND_TARGET"] 704 + 128 Nd Bitwise Ipv6 Frame true true;
    /// Source link-layer option of a solicitation; 0 without one.
    NdSll "nd_sll" [] ["NXM_NX_ND_SLL", "OXM_OF_IPV6_ND_SLL"] 576 + 48 NdSolicit Bitwise Ethernet Frame true false;
    /// Target link-layer option of an advertisement; 0 without one.
    NdTll "nd_tll" [] ["NXM_NX_ND_TLL", "OXM_OF_IPV6_ND_TLL"] 640 + 48 NdAdvert Bitwise Ethernet Frame true false;
    /// Reserved word of neighbour discovery.
    NdReserved "nd_reserved" [] ["ERICOXM_OF_ICMPV6_ND_RESERVED"] 2592 + 32 Nd No Decimal Frame true true;
    /// Type of the first neighbour-discovery option.
    NdOptionsType "nd_options_type" [] ["ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE"] 880 + 8 Nd No Decimal Frame true true;
    /// NSH flags.
    NshFlags "nsh_flags" [] ["NXOXM_NSH_FLAGS"] 2880 + 8 Nsh Bitwise Decimal Frame true true;
    /// NSH TTL.
    NshTtl "nsh_ttl" [] ["NXOXM_NSH_TTL"] 2888 + 8 Nsh No Decimal Frame true true;
    /// NSH metadata type.
    NshMdtype "nsh_mdtype" [] ["NXOXM_NSH_MDTYPE"] 2896 + 8 Nsh No Decimal Frame false true;
    /// NSH next protocol.
    NshNp "nsh_np" [] ["NXOXM_NSH_NP"] 2904 + 8 Nsh No Decimal Frame false true;
    /// NSH service path.
    NshSpi "nsh_spi" ["nsp"] ["NXOXM_NSH_SPI"] 2912 + 24 Nsh No Hex Frame true true;
    /// NSH service index.
    NshSi "nsh_si" ["nsi"] ["NXOXM_NSH_SI"] 2936 + 8 Nsh No Decimal Frame true true;
    /// NSH context 1.
    NshC1 "nsh_c1" [] ["NXOXM_NSH_C1"] 2944 + 32 Nsh Bitwise Hex Frame true true;
    /// NSH context 2.
    NshC2 "nsh_c2" [] ["NXOXM_NSH_C2"] 2976 + 32 Nsh Bitwise Hex Frame true true;
    /// NSH context 3.
    NshC3 "nsh_c3" [] ["NXOXM_NSH_C3"] 3008 + 32 Nsh Bitwise Hex Frame true true;
    /// NSH context 4.
    NshC4 "nsh_c4" [] ["NXOXM_NSH_C4"] 3040 + 32 Nsh Bitwise Hex Frame true true;
    /// TPID of the outer VLAN tag; not matchable.
    VlanTpid "" [] [] 2752 + 16 None No Hex Frame false true;
    /// TCI of a second VLAN tag that an action pushed; not matchable.
    InnerVlanTci "" [] [] 2768 + 16 None No Hex Flows false true;
    /// TPID of a second VLAN tag; not matchable.
    InnerVlanTpid "" [] [] 2784 + 16 None No Hex Flows false true;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for spec in FIELDS.iter().filter(|spec| spec.is_matchable()) {
            for name in [spec.name].iter().chain(spec.aliases).chain(spec.nxm) {
                assert!(seen.insert(*name), "{name} names two fields");
            }
        }
    }

    #[test]
    fn slot_owners_do_not_overlap_and_every_alias_lies_in_slots() {
        let mut owner = HashMap::new();
        for spec in FIELDS.iter().filter(|spec| spec.is_slot_owner()) {
            for bit in spec.offset..spec.offset + spec.width {
                assert_eq!(owner.insert(bit, spec.name), None, "{} bit {bit}", spec.name);
            }
        }
        for spec in FIELDS.iter().filter(|spec| !spec.is_slot_owner()) {
            assert!(
                (spec.offset..spec.offset + spec.width).all(|bit| owner.contains_key(&bit)),
                "{}",
                spec.name
            );
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_the_enumeration() {
        for field in Field::all() {
            assert_eq!(field.spec().field, field);
        }
    }
}
