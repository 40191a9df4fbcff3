//! Frames as the model speaks of them: whole datagrams with their addresses, ports and ICMP types.
//!
//! Invariant: a [`Frame`] says what a packet *is*. A fragment is judged as the datagram it belongs to, so whoever asks
//! about one passes that datagram; a fragment on its own has an [`Upper::Unseen`] upper layer.
//! Deliberately absent: matching. Source: RFC 826, 791, 8200, 792, 4443, 4861.

use flowproof_packet::wire::{self, IpVersion, ethertype, proto};
use flowproof_packet::{Field, FlowKey, MacAddr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Who sent it, says it.
    pub src: MacAddr,
    /// Whom it is for.
    pub dst: MacAddr,
    /// The VLAN id of its tag, `None` without a tag or with a priority tag (id 0).
    pub vlan: Option<u16>,
    /// What it carries.
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// IPv4 or IPv6.
    Ip(Datagram),
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// Reverse ARP.
    Rarp,
    /// Anything else, by ethertype.
    Other(u16),
}

/// An ARP packet's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arp {
    /// `arp_sha`: the MAC that the packet announces.
    pub sender_mac: MacAddr,
    /// `arp_spa`: the address that it announces; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
}

/// An IP datagram.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// Source address; the family is the datagram's.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// The protocol behind all extension headers.
    pub protocol: u8,
    /// What that protocol says.
    pub upper: Upper,
}

/// The upper layer of a datagram.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upper {
    /// A protocol with ports.
    Ports {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// ICMP over IPv4 or ICMPv6 over IPv6.
    Icmp(Icmp),
    /// A protocol without either, or a header that nobody can see.
    Unseen,
}

/// An ICMP or ICMPv6 message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier of a query or its answer; 0 where it has none or nobody looked.
    pub ident: u16,
    /// What neighbour discovery announces, in types 135 and 136.
    pub neighbour: Option<Neighbour>,
    /// The datagram an error message complains about, if it could be read.
    pub quoted: Option<Box<Datagram>>,
}

/// What a neighbour solicitation or advertisement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// The address in question.
    pub target: Ipv6Addr,
    /// The link-layer option: the source's in a solicitation, the target's in an advertisement.
    pub link_layer: Option<MacAddr>,
}

impl Frame {
    /// The frame that a flow key describes. A key has no ICMP identifier and no quoted datagram: see
    /// [`from_wire`](Self::from_wire). The ports of a fragment's key are not looked at.
    #[must_use]
    pub fn from_key(key: &FlowKey) -> Self {
        let mac = |field| MacAddr::from_bits(key.get(field) as u64);
        let payload = match key.get(Field::DlType) as u16 {
            ethertype::IPV4 => Payload::Ip(datagram(key, IpVersion::V4)),
            ethertype::IPV6 => Payload::Ip(datagram(key, IpVersion::V6)),
            ethertype::ARP => Payload::Arp(Arp {
                sender_mac: mac(Field::ArpSha),
                sender_ip: Ipv4Addr::from_bits(key.get(Field::ArpSpa) as u32),
            }),
            ethertype::RARP => Payload::Rarp,
            other => Payload::Other(other),
        };
        let vid = key.get(Field::VlanVid) as u16;
        Self { src: mac(Field::DlSrc), dst: mac(Field::DlDst), vlan: (vid != 0).then_some(vid), payload }
    }

    /// The frame in these bytes, with the ICMP identifier and the quoted datagram that a key cannot hold, and with
    /// the ports of DCCP and UDP-Lite.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Self {
        let mut frame = Self::from_key(&wire::extract(bytes, 0));
        let (Payload::Ip(datagram), Some(l3)) = (&mut frame.payload, wire::l3(bytes)) else { return frame };
        if l3.is_partial() || l3.faults.stops_l3() {
            return frame;
        }
        match &mut datagram.upper {
            Upper::Icmp(icmp) => {
                if let Some(view) = wire::icmp(l3.payload) {
                    icmp.ident = view.id;
                    let error = is_error(&datagram.src, icmp.kind);
                    icmp.quoted = error.then(|| quoted(l3.version, view.body)).flatten().map(Box::new);
                }
            }
            Upper::Unseen => datagram.upper = hidden_ports(datagram.protocol, l3.payload),
            Upper::Ports { .. } => {}
        }
        frame
    }

    /// The datagram, if it carries one.
    #[must_use]
    pub const fn datagram(&self) -> Option<&Datagram> {
        match &self.payload {
            Payload::Ip(datagram) => Some(datagram),
            Payload::Arp(_) | Payload::Rarp | Payload::Other(_) => None,
        }
    }
}

fn datagram(key: &FlowKey, version: IpVersion) -> Datagram {
    let v4 = |field| IpAddr::V4(Ipv4Addr::from_bits(key.get(field) as u32));
    let v6 = |field| IpAddr::V6(Ipv6Addr::from_bits(key.get(field)));
    let (src, dst) = match version {
        IpVersion::V4 => (v4(Field::NwSrc), v4(Field::NwDst)),
        IpVersion::V6 => (v6(Field::Ipv6Src), v6(Field::Ipv6Dst)),
    };
    let fragment = key.get(Field::NwFrag) as u8 & wire::FRAG_ANY != 0;
    let protocol = key.get(Field::NwProto) as u8;
    let upper = match (fragment, version, protocol) {
        (true, ..) => Upper::Unseen,
        (false, IpVersion::V4, proto::ICMP) | (false, IpVersion::V6, proto::ICMPV6) => Upper::Icmp(icmp(key)),
        (false, _, proto::TCP | proto::UDP | proto::SCTP) => {
            Upper::Ports { src: key.get(Field::TcpSrc) as u16, dst: key.get(Field::TcpDst) as u16 }
        }
        (false, ..) => Upper::Unseen,
    };
    Datagram { src, dst, protocol, upper }
}

fn icmp(key: &FlowKey) -> Icmp {
    let [kind, code] = [Field::Icmpv6Type, Field::Icmpv6Code].map(|field| key.get(field) as u8);
    let ipv6 = key.get(Field::DlType) as u16 == ethertype::IPV6;
    let option = match (ipv6, kind) {
        (true, 135) => Some(Field::NdSll),
        (true, 136) => Some(Field::NdTll),
        (true | false, _) => None,
    };
    let neighbour = option.map(|field| {
        let mac = MacAddr::from_bits(key.get(field) as u64);
        Neighbour {
            target: Ipv6Addr::from_bits(key.get(Field::NdTarget)),
            link_layer: (mac != MacAddr::default()).then_some(mac),
        }
    });
    Icmp { kind, code, ident: 0, neighbour, quoted: None }
}

/// Whether a message type of this family is an error about another datagram (RFC 792, RFC 4443).
#[must_use]
pub const fn is_error(family: &IpAddr, kind: u8) -> bool {
    match family {
        IpAddr::V4(_) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        IpAddr::V6(_) => kind < 128,
    }
}

/// DCCP (RFC 4340) and UDP-Lite (RFC 3828) begin with their ports too, though no flow key shows them.
fn hidden_ports(protocol: u8, payload: &[u8]) -> Upper {
    match (protocol, payload.first_chunk()) {
        (33 | 136, Some([a, b, c, d])) => {
            Upper::Ports { src: u16::from_be_bytes([*a, *b]), dst: u16::from_be_bytes([*c, *d]) }
        }
        (_, _) => Upper::Unseen,
    }
}

/// The datagram in an error message; nothing if less than 8 bytes of its upper layer are there.
fn quoted(version: IpVersion, body: &[u8]) -> Option<Datagram> {
    let l3 = wire::inner_l3(version, body);
    if !l3.faults.is_none() && l3.faults.stops_l3() || l3.is_later_fragment() {
        return None;
    }
    let [a, b, c, d, e, f, _, _] = *l3.payload.first_chunk()?;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    let upper = match (version, l3.protocol) {
        (IpVersion::V4, proto::ICMP) | (IpVersion::V6, proto::ICMPV6) => {
            Upper::Icmp(Icmp { kind: a, code: b, ident: pair(e, f), neighbour: None, quoted: None })
        }
        (_, proto::TCP | proto::UDP | proto::SCTP | 33 | 136) => {
            Upper::Ports { src: pair(a, b), dst: pair(c, d) }
        }
        (_, _) => Upper::Unseen,
    };
    let address = |bits: u128| match version {
        IpVersion::V4 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        IpVersion::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    Some(Datagram { src: address(l3.src), dst: address(l3.dst), protocol: l3.protocol, upper })
}
