//! What can be wrong with an intent: every fault names the object, the field and the value.

use std::fmt;

/// An intent could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A document is not JSON.
    #[error("`{document}` is not JSON: {source}")]
    Json {
        /// What the document is called.
        document: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A document is JSON but has none of the sections of an intent.
    #[error("`{document}` has none of `networks`, `security_groups`, `address_groups`, `ports`, `host`")]
    NoIntent {
        /// What the document is called.
        document: String,
    },
    /// The objects are faulty; all faults, in the order found.
    #[error("{}", Lines(.0))]
    Faults(Vec<Fault>),
}

struct Lines<'a>(&'a [Fault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

struct InField<'a>(&'a str);

impl fmt::Display for InField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "`{}`: ", self.0) }
    }
}

/// One thing that is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object} `{id}`: {}{problem}", InField(field))]
pub struct Fault {
    /// What kind of object, such as `port`.
    pub object: &'static str,
    /// Its id, or its place in the list if it has none.
    pub id: String,
    /// The field, as the API spells it; empty if the object itself is none.
    pub field: &'static str,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The key is not there, and leaving it out would change what is meant.
    #[error("missing (where nothing is meant, write `null` or an empty list)")]
    Missing,
    /// The value has another type or form than it should.
    #[error("`{value}` is not {expected}")]
    Not {
        /// The value as it stands.
        value: String,
        /// What it should be, with its article.
        expected: &'static str,
    },
    /// Another object of the kind has the same id.
    #[error("`{0}` is used twice")]
    Duplicate(String),
    /// There is no such object.
    #[error("there is no {kind} `{id}`")]
    Unknown {
        /// The kind of object.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// A prefix of one family in a rule of the other.
    #[error("`{value}` is not of family {family}")]
    Family {
        /// The value.
        value: String,
        /// The family of the rule.
        family: &'static str,
    },
    /// The ends of a range are out of order.
    #[error("range `{min}` to `{max}` ends before it begins")]
    Order {
        /// The first end.
        min: u64,
        /// The other end.
        max: u64,
    },
    /// One end of a port range without the other.
    #[error("protocol `{protocol}` needs both ends of a port range, or neither")]
    HalfRange {
        /// The protocol as spelled.
        protocol: String,
    },
    /// A port range, or an ICMP type, where the protocol has none.
    #[error("`{value}` given for protocol `{protocol}`, which has no ports")]
    PortsWithoutProtocol {
        /// The value.
        value: String,
        /// The protocol as spelled; `null` for any.
        protocol: String,
    },
    /// An ICMP code without a type.
    #[error("icmp code `{0}` needs a type in `port_range_min`")]
    CodeWithoutType(u64),
    /// A protocol of IPv6 in a rule for IPv4.
    #[error("protocol `{0}` exists over IPv6 only")]
    Ipv6Protocol(String),
    /// A rule with more than one of prefix, group and address group.
    #[error("`{value}` cannot stand beside `{other}`")]
    SecondPeer {
        /// The value of this field.
        value: String,
        /// The field it collides with.
        other: &'static str,
    },
    /// A port whose groups are partly stateful, partly stateless.
    #[error("stateful group `{stateful}` and stateless group `{stateless}` on one port")]
    MixedStatefulness {
        /// One of the stateful groups.
        stateful: String,
        /// One of the stateless groups.
        stateless: String,
    },
    /// Two ports of one network have one MAC, two things one OpenFlow port number, two networks one local VLAN.
    #[error("`{value}` already belongs to {owner}")]
    Taken {
        /// The value.
        value: String,
        /// Who has it.
        owner: String,
    },
    /// A key that the API does not let anybody set.
    #[error("`{0}` cannot be set through the API and is not modelled")]
    Unsettable(String),
}
