//! History: which connections were admitted and delivered, where to, and whether they were revoked since.
//!
//! Invariant: a connection is in history only because a packet of it was admitted by a rule *and* delivered; nothing
//! else enters it. It leaves when somebody who knows (a clock, a conntrack table under test) says that it is over.
//! Deliberately absent: states of TCP, timeouts, sequence numbers: what is invalid or over is told, not computed.

use crate::crossing::Standing;
use crate::frame::{Datagram, Frame, Icmp, Upper, is_error};
use crate::policy::{NetworkId, PortId};
use crate::switches::{Readmission, Replies, Switches};
use crate::verdict::Outcome;
use indexmap::IndexMap;
use std::net::IpAddr;

/// Where a frame comes from or goes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A port of this host.
    Port(PortId),
    /// Beyond the uplinks.
    Elsewhere,
}

/// What the packets of a connection have in common, in its original direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The network.
    pub network: NetworkId,
    /// The protocol.
    pub protocol: u8,
    /// Who opened it.
    pub src: IpAddr,
    /// Whom it was opened to.
    pub dst: IpAddr,
    /// What tells connections of one protocol between two addresses apart.
    pub ends: Ends,
}

/// What tells connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ends {
    /// Source and destination port.
    Ports(u16, u16),
    /// Of an ICMP query and its answers.
    Query {
        /// Type of the query.
        kind: u8,
        /// Code of both. RFC 792 and RFC 4443 know only 0; a query with another code is another query.
        code: u8,
        /// Identifier of both.
        ident: u16,
    },
    /// Nothing.
    Nothing,
}

/// A connection that was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The network it is in.
    pub network: NetworkId,
    /// The packet that opened it.
    pub opening: Frame,
    /// What the sender and the receiver said to that packet.
    pub admission: Outcome,
    /// Who opened it.
    pub sender: Place,
    /// To whom it was delivered.
    pub receivers: Vec<Place>,
    /// Whether a packet of its original direction was refused since.
    pub revoked: bool,
}

/// What connection tracking says about a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tracking {
    /// Nothing against it.
    #[default]
    Plausible,
    /// That it is invalid: odd flags, a bad checksum, outside every window.
    Invalid,
}

/// What becomes of a frame at one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The receiver.
    pub to: Place,
    /// What both ends say.
    pub outcome: Outcome,
}

/// Where a frame travels, and between whom.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// In which network.
    pub network: &'a NetworkId,
    /// From where.
    pub sender: &'a Place,
    /// To where.
    pub receiver: &'a Place,
}

/// Whether a packet can be of either direction of a connection, or only of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Either,
    Opens,
    Answers,
}

/// ICMP queries with their answers (RFC 792, RFC 950).
const QUERIES_V4: [(u8, u8); 4] = [(8, 0), (13, 14), (15, 16), (17, 18)];
/// ICMPv6 queries with their answers (RFC 4443).
const QUERIES_V6: [(u8, u8); 1] = [(128, 129)];

/// The tuple of a packet as it goes, and its role; nothing if it is no part of a connection.
fn tuple(network: &NetworkId, datagram: &Datagram) -> Option<(Tuple, Role)> {
    let queries: &[(u8, u8)] = match datagram.src {
        IpAddr::V4(_) => &QUERIES_V4,
        IpAddr::V6(_) => &QUERIES_V6,
    };
    let has_ends = matches!(datagram.protocol, 1 | 6 | 17 | 58 | 132);
    let (ends, role) = match &datagram.upper {
        Upper::Ports { src, dst } => (Ends::Ports(*src, *dst), Role::Either),
        Upper::Icmp(Icmp { kind, code, ident, .. }) => {
            let (query, answer) = queries.iter().find(|(query, answer)| kind == query || kind == answer)?;
            let ends = Ends::Query { kind: *query, code: *code, ident: *ident };
            (ends, if kind == answer { Role::Answers } else { Role::Opens })
        }
        Upper::Unseen if has_ends => return None,
        Upper::Unseen => (Ends::Nothing, Role::Either),
    };
    let Datagram { src, dst, protocol, .. } = *datagram;
    Some((Tuple { network: network.clone(), protocol, src, dst, ends }, role))
}

impl Tuple {
    /// The tuple of the connection that a packet would open.
    #[must_use]
    pub fn of(network: &NetworkId, frame: &Frame) -> Option<Self> {
        let (tuple, role) = tuple(network, frame.datagram()?)?;
        (role != Role::Answers).then_some(tuple)
    }

    /// The same, seen from the other side.
    #[must_use]
    pub fn reversed(self) -> Self {
        let ends = match self.ends {
            Ends::Ports(src, dst) => Ends::Ports(dst, src),
            ends @ (Ends::Query { .. } | Ends::Nothing) => ends,
        };
        Self { src: self.dst, dst: self.src, ends, ..self }
    }
}

/// All connections that are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    connections: IndexMap<Tuple, Vec<Connection>>,
}

impl History {
    /// The connections, each under its tuple.
    pub fn connections(&self) -> impl Iterator<Item = (&Tuple, &Connection)> {
        self.connections.iter().flat_map(|(tuple, list)| list.iter().map(move |one| (tuple, one)))
    }

    fn find(&self, tuple: &Tuple, is_it: impl Fn(&Connection) -> bool) -> Option<&Connection> {
        self.connections.get(tuple)?.iter().find(|connection| is_it(connection))
    }

    /// What is known about a frame.
    #[must_use]
    pub fn standing(
        &self,
        switches: &Switches,
        frame: &Frame,
        route: Route<'_>,
        tracking: Tracking,
    ) -> Standing<'_> {
        let Some(datagram) = frame.datagram() else { return Standing::New };
        if tracking == Tracking::Invalid {
            return Standing::Invalid;
        }
        if let Some(quoted) = complaint(datagram) {
            return self.related(switches, quoted, route).map_or(Standing::New, Standing::Related);
        }
        let Some((tuple, role)) = tuple(route.network, datagram) else { return Standing::New };
        let original = || self.find(&tuple, |connection| opened(switches, connection, route));
        let reply = || self.find(&tuple.clone().reversed(), |one| answered(switches, one, route));
        match role {
            Role::Opens => original().map_or(Standing::New, Standing::Original),
            Role::Answers => reply().map_or(Standing::New, Standing::Reply),
            Role::Either => match (original(), reply()) {
                (Some(connection), _) => Standing::Original(connection),
                (None, Some(connection)) => Standing::Reply(connection),
                (None, None) => Standing::New,
            },
        }
    }

    /// The connection whose packet an error message quotes. The message goes to whoever sent that packet, and comes
    /// from any router on the way.
    fn related(&self, switches: &Switches, quoted: &Datagram, route: Route<'_>) -> Option<&Connection> {
        let (tuple, role) = tuple(route.network, quoted)?;
        let complains_to = |place: &Place| match switches.replies {
            Replies::FromParticipants => place == route.receiver,
            Replies::FromAnyone => true,
        };
        let of_original = || self.find(&tuple, |one| complains_to(&one.sender));
        let of_reply = || self.find(&tuple.clone().reversed(), |one| one.receivers.iter().any(complains_to));
        match role {
            Role::Opens => of_original(),
            Role::Answers => of_reply(),
            Role::Either => of_original().or_else(of_reply),
        }
    }

    /// Takes note of what became of a frame at its receivers. A connection is revoked if a packet of its original
    /// direction is refused wherever it would go.
    pub fn observe(
        &mut self,
        switches: &Switches,
        frame: &Frame,
        (network, sender): (&NetworkId, &Place),
        deliveries: &[Delivery],
    ) {
        let Some(tuple) = Tuple::of(network, frame) else { return };
        let opening = deliveries.iter().find(|one| one.outcome.opens());
        let receivers: Vec<_> =
            deliveries.iter().filter(|one| one.outcome.opens()).map(|one| one.to.clone()).collect();
        let list = self.connections.entry(tuple.clone()).or_default();
        match (list.iter_mut().find(|one| opened_by(switches, one, sender)), opening) {
            (Some(known), Some(_)) => {
                known.revoked &= switches.readmission == Readmission::AfterExpiry;
                let fresh = receivers.into_iter().filter(|place| !known.receivers.contains(place));
                known.receivers.extend(fresh.collect::<Vec<_>>());
            }
            (Some(known), None) => known.revoked |= deliveries.iter().any(|one| one.outcome.is_revoked()),
            (None, Some(Delivery { outcome, .. })) => list.push(Connection {
                network: network.clone(),
                opening: frame.clone(),
                admission: outcome.clone(),
                sender: sender.clone(),
                receivers,
                revoked: false,
            }),
            (None, None) => {}
        }
        if list.is_empty() {
            self.connections.shift_remove(&tuple);
        }
    }

    /// The connections of this tuple are over.
    pub fn expire(&mut self, tuple: &Tuple) {
        self.connections.shift_remove(tuple);
    }

    /// All connections are over.
    pub fn clear(&mut self) {
        self.connections.clear();
    }

    /// Forgets the revoked connections to and from these addresses in a network, as an agent does that updates a port.
    pub fn forget_revoked(&mut self, network: &NetworkId, concerns: impl Fn(&IpAddr) -> bool) {
        for (tuple, list) in &mut self.connections {
            if tuple.network == *network && (concerns(&tuple.src) || concerns(&tuple.dst)) {
                list.retain(|connection| !connection.revoked);
            }
        }
        self.connections.retain(|_, list| !list.is_empty());
    }
}

/// The datagram that an error message complains about, if its sender is whom the message goes to.
fn complaint(datagram: &Datagram) -> Option<&Datagram> {
    match &datagram.upper {
        Upper::Icmp(Icmp { kind, quoted: Some(quoted), .. }) => {
            (is_error(&datagram.src, *kind) && quoted.src == datagram.dst).then_some(&**quoted)
        }
        Upper::Icmp(Icmp { quoted: None, .. }) | Upper::Ports { .. } | Upper::Unseen => None,
    }
}

fn opened_by(switches: &Switches, connection: &Connection, sender: &Place) -> bool {
    match switches.replies {
        Replies::FromParticipants => connection.sender == *sender,
        Replies::FromAnyone => true,
    }
}

fn opened(switches: &Switches, connection: &Connection, route: Route<'_>) -> bool {
    opened_by(switches, connection, route.sender)
        && match switches.replies {
            Replies::FromParticipants => connection.receivers.contains(route.receiver),
            Replies::FromAnyone => true,
        }
}

fn answered(switches: &Switches, connection: &Connection, route: Route<'_>) -> bool {
    match switches.replies {
        Replies::FromParticipants => {
            connection.sender == *route.receiver && connection.receivers.contains(route.sender)
        }
        Replies::FromAnyone => true,
    }
}
