//! Flow templates: a layout is a table of rows, and a row is instantiated for whatever it is repeated over.
//!
//! Invariant: a row never fails; what it needs and does not have makes it repeat zero times. Direction and address
//! family are values that rows and bindings carry.

use crate::AnnotatedFlow;
use crate::host::Subject;
use flowproof_model::policy::{AddressPair, Direction, Ethertype, IpNet};
use flowproof_packet::{Field, MacAddr, PortNo, key::low_bits, port};
use flowproof_switch::flow::ast::SetForm;
use flowproof_switch::flow::normalise::normalise;
use flowproof_switch::flow::{Action, Conjunction, Ct, Flow, Match, Subfield, Zone};

/// Ethertypes of what the layouts speak of.
pub(crate) mod ethertype {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const RARP: u16 = 0x8035;
    pub(crate) const IPV6: u16 = 0x86dd;
}

/// IP protocol numbers of what the layouts speak of.
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const SCTP: u8 = 132;
}

/// Bits of `ct_state` (ovs-fields(7)), as value and mask.
pub(crate) mod ct_state {
    const NEW: u128 = 1;
    const EST: u128 = 2;
    const REL: u128 = 4;
    const RPL: u128 = 8;
    const INV: u128 = 16;
    const TRK: u128 = 32;
    /// Wanted bits, and all that are looked at.
    pub(crate) type Bits = (u128, u128);
    pub(crate) const TRACKED: Bits = (TRK, TRK);
    pub(crate) const UNTRACKED: Bits = (0, TRK);
    pub(crate) const INVALID: Bits = (TRK | INV, TRK | INV);
    pub(crate) const NEW_CONNECTION: Bits = (NEW, NEW | EST);
    pub(crate) const ORIGINAL: Bits = (EST, EST | REL | RPL);
    pub(crate) const REPLY: Bits = (EST | RPL, EST | REL | RPL);
    pub(crate) const RELATED: Bits = (REL, NEW | EST | REL | INV);
    pub(crate) const ESTABLISHED: Bits = (EST, EST);
    pub(crate) const NOT_ESTABLISHED: Bits = (0, EST);
    /// The first of a connection.
    pub(crate) const FIRST: Bits = (TRK | NEW, TRK | NEW | REL | INV);
    /// Of the original direction, the first one included.
    pub(crate) const FORTH: Bits = (TRK, TRK | REL | RPL | INV);
    /// An error that goes in the original direction.
    pub(crate) const RELATED_FORTH: Bits = (TRK | REL, TRK | REL | RPL | INV);
    /// A reply.
    pub(crate) const BACK: Bits = (TRK | RPL, TRK | REL | RPL | INV);
    /// An error that goes back.
    pub(crate) const RELATED_BACK: Bits = (TRK | REL | RPL, TRK | REL | RPL | INV);
}

/// The bit of `vlan_tci` that says that there is a tag.
const TAGGED: u16 = 0x1000;

/// What a row is repeated over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Each {
    /// Every MAC of the port.
    Mac,
    /// Every MAC of the port, and the MAC that means that there is none.
    MacOrNone,
    /// The port's own MAC.
    OwnMac,
    /// Every source pair of one family.
    Pair(Ethertype),
    /// Every MAC that has a pair of the family.
    PairMac(Ethertype),
    /// What a DHCPv4 client may send from: the pairs, and the port's own MAC without an address.
    DhcpSource,
    /// Both families.
    Family,
    /// The numbers.
    Number(&'static [u16]),
    /// The permitted ethertypes.
    Ethertype,
    /// The provider's VLAN, if the network has one.
    Segment,
    /// Once if the network is flat.
    Flat,
    /// The uplink of the network, if it is known and egress is explicit.
    Uplink,
    /// Once if egress is explicit.
    Direct,
}

/// A number that the port or the repetition has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Const(u128),
    Ofport,
    /// The local VLAN, which is also the network and the zone.
    Vlan,
    Number,
    Mac,
    /// The conjunction.
    Conj,
}

/// A part of a match.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    Is(Field, Value),
    Bits(Field, u128, u128),
    Ct(ct_state::Bits),
    /// A VLAN tag with this id.
    Vlan(Value),
    Untagged,
    /// IP of the family at hand.
    Ip,
    /// The address at hand, in a field.
    Address(Field),
    /// The address at hand as IP source of its family, ethertype included.
    Source,
    /// UDP with source and destination port.
    Udp(Ethertype, u16, u16),
    /// UDP from a port.
    UdpFrom(Ethertype, u16),
    /// UDP to a port.
    UdpTo(Ethertype, u16),
    /// ICMPv6 of the type at hand.
    Icmpv6Type,
}

/// An action.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Do {
    Load(Field, Value),
    To(u8),
    Goto(u8),
    StripVlan,
    /// Sets the local VLAN, in a tag that is pushed if there is none.
    ModVlan,
    /// Pushes a tag with the local VLAN.
    PushVlan,
    /// To the port.
    Output,
    /// To the port number at hand.
    OutputNumber,
    Normal,
    /// Looks the connection up and goes on in this table.
    Track(u8),
    Commit,
    /// Marks the connection as no longer admitted.
    Revoke,
    CtClear,
    /// One clause of the conjunctions at hand.
    Conjunctions(u8),
}

/// One template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What it is for.
    pub(crate) why: &'static str,
    pub(crate) table: u8,
    pub(crate) priority: u16,
    pub(crate) each: &'static [Each],
    pub(crate) wants: &'static [Want],
    pub(crate) does: &'static [Do],
}

/// Twin templates for each direction: for packets of established connections, and for new ones.
pub(crate) struct ByDirection {
    pub(crate) egress: [Row; 2],
    pub(crate) ingress: [Row; 2],
}

impl ByDirection {
    pub(crate) const fn of(&self, direction: Direction) -> &[Row; 2] {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }
}

/// What the repetitions have bound so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bound<'a> {
    pub(crate) family: Option<Ethertype>,
    pub(crate) mac: MacAddr,
    /// Value and mask.
    pub(crate) address: (u128, u128),
    pub(crate) number: u16,
    pub(crate) conj: u32,
    /// The conjunctions a clause counts for, each with what is added to it.
    pub(crate) ids: &'a [u32],
    /// Added to the row's priority.
    pub(crate) offset: u16,
}

/// The ethertype of IP of a family.
pub(crate) const fn ip(family: Ethertype) -> u16 {
    match family {
        Ethertype::Ipv4 => ethertype::IPV4,
        Ethertype::Ipv6 => ethertype::IPV6,
    }
}

/// The field with the source address of IP of a family.
pub(crate) const fn source(family: Ethertype) -> Field {
    match family {
        Ethertype::Ipv4 => Field::NwSrc,
        Ethertype::Ipv6 => Field::Ipv6Src,
    }
}

/// The field with the destination address of IP of a family.
pub(crate) const fn destination(family: Ethertype) -> Field {
    match family {
        Ethertype::Ipv4 => Field::NwDst,
        Ethertype::Ipv6 => Field::Ipv6Dst,
    }
}

/// A prefix as value and mask in the bits of its family's address.
pub(crate) fn bits(prefix: &IpNet) -> (u128, u128) {
    match prefix {
        IpNet::V4(net) => (net.network().to_bits().into(), net.netmask().to_bits().into()),
        IpNet::V6(net) => (net.network().to_bits(), net.netmask().to_bits()),
    }
}

impl<'a> Bound<'a> {
    fn pair(self, pair: &AddressPair) -> Self {
        let family = Some(Ethertype::of_prefix(&pair.prefix));
        Self { mac: pair.mac, address: bits(&pair.prefix), family, ..self }
    }

    fn number(self, number: u16) -> Self {
        Self { number, ..self }
    }

    /// What `each` binds, in order.
    fn bindings(self, each: Each, subject: &Subject) -> Vec<Self> {
        let with_mac = |mac| Self { mac, ..self };
        match each {
            Each::Mac => subject.macs.iter().copied().map(with_mac).collect(),
            Each::MacOrNone => {
                let none = std::iter::once(MacAddr::default());
                subject.macs.iter().copied().chain(none).map(with_mac).collect()
            }
            Each::OwnMac => vec![with_mac(subject.mac)],
            Each::Pair(family) => subject.pairs(family).map(|pair| self.pair(pair)).collect(),
            Each::PairMac(family) => {
                let mut macs: Vec<_> = subject.pairs(family).map(|pair| pair.mac).collect();
                macs.sort_unstable();
                macs.dedup();
                macs.into_iter().map(with_mac).collect()
            }
            Each::DhcpSource => {
                let unaddressed = Self {
                    mac: subject.mac,
                    address: (0, low_bits(32)),
                    family: Some(Ethertype::Ipv4),
                    ..self
                };
                subject.pairs(Ethertype::Ipv4).map(|pair| self.pair(pair)).chain([unaddressed]).collect()
            }
            Each::Family => Ethertype::ALL.map(|family| Self { family: Some(family), ..self }).to_vec(),
            Each::Number(numbers) => numbers.iter().map(|number| self.number(*number)).collect(),
            Each::Ethertype => subject.ethertypes.iter().map(|number| self.number(*number)).collect(),
            Each::Segment => subject.segment.iter().map(|vlan| self.number(*vlan)).collect(),
            Each::Flat => subject.flat.then_some(self).into_iter().collect(),
            Each::Uplink => subject.uplink.iter().map(|port| self.number(*port)).collect(),
            Each::Direct => subject.direct.then_some(self).into_iter().collect(),
        }
    }

    fn value(self, value: Value, subject: &Subject) -> u128 {
        match value {
            Value::Const(value) => value,
            Value::Ofport => subject.ofport.into(),
            Value::Vlan => subject.vlan.into(),
            Value::Number => self.number.into(),
            Value::Mac => self.mac.to_bits().into(),
            Value::Conj => self.conj.into(),
        }
    }

    fn want(self, matching: &mut Match, want: Want, subject: &Subject) {
        let (address, mask) = self.address;
        let family = self.family.unwrap_or(Ethertype::Ipv4);
        match want {
            Want::Is(field, value) => matching.set(field, self.value(value, subject), u128::MAX),
            Want::Bits(field, value, mask) => matching.set(field, value, mask),
            Want::Ct((value, mask)) => matching.set(Field::CtState, value, mask),
            Want::Vlan(value) => {
                let tag = self.value(value, subject) | u128::from(TAGGED);
                matching.set(Field::VlanVidOxm, tag, u128::MAX);
            }
            Want::Untagged => matching.set(Field::VlanVidOxm, 0, u128::MAX),
            Want::Ip => matching.set(Field::DlType, ip(family).into(), u128::MAX),
            Want::Address(field) => matching.set(field, address, mask),
            Want::Source => {
                self.want(matching, Want::Ip, subject);
                matching.set(source(family), address, mask);
            }
            Want::Udp(family, from, to) => udp(matching, family, Some(from), Some(to)),
            Want::UdpFrom(family, from) => udp(matching, family, Some(from), None),
            Want::UdpTo(family, to) => udp(matching, family, None, Some(to)),
            Want::Icmpv6Type => {
                matching.set(Field::DlType, ethertype::IPV6.into(), u128::MAX);
                matching.set(Field::NwProto, protocol::ICMPV6.into(), u128::MAX);
                matching.set(Field::Icmpv6Type, self.number.into(), u128::MAX);
            }
        }
    }

    fn does(self, does: &[Do], subject: &Subject) -> Vec<Action> {
        let mut actions = Vec::with_capacity(does.len());
        for one in does {
            match *one {
                Do::Conjunctions(clause) => actions.extend(
                    self.ids
                        .iter()
                        .map(|id| Action::Conjunction(Conjunction { id: *id, clause, clauses: 2 })),
                ),
                Do::Load(field, value) => actions.push(set(field, self.value(value, subject))),
                Do::To(table) => {
                    actions.push(Action::Resubmit { port: None, table: Some(table), ct: false });
                }
                Do::Goto(table) => actions.push(Action::GotoTable(table)),
                Do::StripVlan => actions.push(Action::StripVlan),
                Do::ModVlan => actions.push(Action::ModVlanVid(subject.vlan)),
                Do::PushVlan => {
                    let tag = TAGGED | subject.vlan;
                    actions.extend([Action::PushVlan(0x8100), set(Field::VlanVidOxm, tag.into())]);
                }
                Do::Output => actions.push(Action::Output(subject.ofport)),
                Do::OutputNumber => actions.push(Action::Output(self.number)),
                Do::Normal => actions.push(Action::Output(port::NORMAL)),
                Do::Track(table) => actions.push(ct(Ct { table: Some(table), ..network_zone() })),
                Do::Commit => actions.push(ct(Ct { commit: true, ..network_zone() })),
                Do::Revoke => {
                    let exec = vec![set(Field::CtMark, 1)];
                    actions.push(ct(Ct { commit: true, exec, ..network_zone() }));
                }
                Do::CtClear => actions.push(Action::CtClear),
            }
        }
        actions
    }
}

fn udp(matching: &mut Match, family: Ethertype, from: Option<u16>, to: Option<u16>) {
    matching.set(Field::DlType, ip(family).into(), u128::MAX);
    matching.set(Field::NwProto, protocol::UDP.into(), u128::MAX);
    for (field, port) in [(Field::UdpSrc, from), (Field::UdpDst, to)] {
        if let Some(port) = port {
            matching.set(field, port.into(), u128::MAX);
        }
    }
}

/// Writes the whole of a field.
pub(crate) fn set(field: Field, value: u128) -> Action {
    Action::Set { field, value, mask: low_bits(field.spec().width), form: SetForm::SetField }
}

fn ct(ct: Ct) -> Action {
    Action::Ct(Box::new(ct))
}

/// A `ct()` without arguments in the zone of the packet's network.
const fn network_zone() -> Ct {
    let zone = Zone::Field(Subfield { field: Field::Reg6, start: 0, width: 16 });
    Ct { commit: false, force: false, table: None, zone, exec: Vec::new(), nat: None, alg: None }
}

/// Appends what `row` makes for `subject`, on top of the match `base`.
pub(crate) fn instantiate(
    flows: &mut Vec<AnnotatedFlow>,
    row: &Row,
    subject: &Subject,
    bound: Bound<'_>,
    base: &Match,
    why: &str,
) {
    let mut all = vec![bound];
    for each in row.each {
        all = all.into_iter().flat_map(|bound| bound.bindings(*each, subject)).collect();
    }
    for bound in all {
        let mut matching = base.clone();
        row.wants.iter().for_each(|want| bound.want(&mut matching, *want, subject));
        normalise(&mut matching);
        let flow = Flow {
            table: row.table,
            priority: row.priority + bound.offset,
            matching,
            actions: bound.does(row.does, subject),
            ..Flow::default()
        };
        let why = if row.why.is_empty() { why.to_owned() } else { format!("{why}: {}", row.why) };
        flows.push(AnnotatedFlow { flow, why });
    }
}

/// A flow that belongs to no port.
pub(crate) fn infrastructure(
    table: u8,
    priority: u16,
    matching: Match,
    does: &[Do],
    why: &str,
) -> AnnotatedFlow {
    let actions = Bound::default().does(does, &Subject::default());
    AnnotatedFlow {
        flow: Flow { table, priority, matching, actions, ..Flow::default() },
        why: why.to_owned(),
    }
}

/// The port that a packet came from, as the match of an uplink's flow.
pub(crate) fn from_port(ofport: PortNo) -> Match {
    let mut matching = Match::default();
    matching.set(Field::InPort, ofport.into(), u128::MAX);
    matching
}
