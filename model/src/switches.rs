//! Policy switches: where drivers knowingly do something else than the API's words say, under a name.
//!
//! Invariant: the first setting of each switch is the default: what the words of the API mean, and where they say
//! nothing, what the named property asks without `-strict`. A layout is proved against settings that it names, and
//! reports print them.

use std::fmt;

/// A name that is no switch, or a word that is none of its settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSwitch {
    /// No such switch.
    #[error("there is no policy switch `{0}`")]
    Name(String),
    /// No such setting.
    #[error("`{setting}` is no setting of the policy switch `{name}`")]
    Setting {
        /// The switch.
        name: &'static str,
        /// What was asked for.
        setting: String,
    },
}

macro_rules! switches {
    ($($(#[doc = $doc:literal])* $field:ident $name:literal: $kind:ident {
        $(#[doc = $first_doc:literal])* $first:ident $first_name:literal,
        $($(#[doc = $variant_doc:literal])* $variant:ident $variant_name:literal,)*
    })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub enum $kind {
                $(#[doc = $first_doc])*
                #[default]
                $first,
                $($(#[doc = $variant_doc])* $variant,)*
            }
        )*

        /// One setting for each switch.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct Switches {
            $($(#[doc = $doc])* pub $field: $kind,)*
        }

        impl Switches {
            /// The names of the switches, in order.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Every switch with its setting, as reports print them.
            #[must_use]
            pub fn settings(&self) -> Vec<(&'static str, &'static str)> {
                vec![$(($name, match self.$field {
                    $kind::$first => $first_name,
                    $($kind::$variant => $variant_name,)*
                })),*]
            }

            /// Sets one switch by name.
            ///
            /// # Errors
            /// If there is no such switch, or no such setting of it.
            pub fn set(&mut self, name: &str, setting: &str) -> Result<(), BadSwitch> {
                match name {
                    $($name => self.$field = match setting {
                        $first_name => $kind::$first,
                        $($variant_name => $kind::$variant,)*
                        other => {
                            return Err(BadSwitch::Setting { name: $name, setting: other.to_owned() });
                        }
                    },)*
                    other => return Err(BadSwitch::Name(other.to_owned())),
                }
                Ok(())
            }
        }
    };
}

switches! {
    /// What a port may not send because it is a DHCP server's.
    dhcp_server "dhcp_server": DhcpServer {
        /// What goes from a server's port to a client's (UDP 67 to 68; over IPv6 547 to 546).
        Exact "exact",
        /// Anything from a server's port, and anything to a client's: relays and odd ports included.
        Strict "strict",
    }
    /// Who judges a broadcast or multicast frame.
    group_addressed "group_addressed": GroupAddressed {
        /// Each receiver's ingress.
        Filtered "filtered",
        /// Nobody: it floods to every port of the network.
        Flooded "flooded",
    }
    /// When replies end after the rules no longer admit a connection.
    revocation "revocation": Revocation {
        /// Once a packet of its original direction was refused: until then there is a grace window.
        Grace "grace",
        /// With the change of the rules.
        AtOnce "at-once",
    }
    /// When a revoked connection that the rules admit again has its replies back.
    readmission "readmission": Readmission {
        /// With the change of the rules.
        Immediate "immediate",
        /// When the revoked connection has been forgotten.
        AfterExpiry "after-expiry",
    }
    /// Whose packets count as replies.
    replies "replies": Replies {
        /// Those of whoever the connection was delivered to, on the way to whoever opened it.
        FromParticipants "from-participants",
        /// Those of any port of the network that has the right addresses.
        FromAnyone "from-anyone",
    }
    /// What `stateful: false` means.
    stateless "stateless": StatelessGroups {
        /// What it says: replies need a rule.
        Stateless "stateless",
        /// Nothing: the driver ignores it.
        TreatedAsStateful "treated-as-stateful",
    }
    /// What becomes of a frame that a local port sends with a VLAN tag.
    tagged_frames "tagged_frames": TaggedFrames {
        /// It is dropped: the port is an access port.
        Dropped "dropped",
        /// It is judged by what is behind the tag.
        Transparent "transparent",
    }
    /// What a rule with ports for DCCP or UDP-Lite admits.
    unsupported_ports "unsupported_ports": UnsupportedPorts {
        /// Those ports. Where they cannot be seen, nothing.
        Exact "exact",
        /// The whole protocol: the driver ignores the ports.
        WholeProtocol "whole-protocol",
    }
    /// What the range 1 to 65535 means.
    full_range "full_range": FullRange {
        /// The whole protocol, port 0 included: today's API stores no range for it.
        WholeProtocol "whole-protocol",
        /// Those ports.
        Literal "literal",
    }
    /// Whom a remote group means by a member whose address pair is 0.0.0.0/0 or ::/0.
    any_address_members "any_address_members": AnyAddressMembers {
        /// That member, under whatever address, known by the pair's MAC.
        ByMember "by-member",
        /// The same for ingress; for egress whoever *sends* with that MAC, which nobody does.
        BySender "by-sender",
    }
    /// Whether a port in its own remote group may be at the other end too.
    own_addresses "own_addresses": OwnAddresses {
        /// Its addresses count as every member's.
        Included "included",
        /// Its fixed addresses do not count.
        Excluded "excluded",
    }
}

impl Switches {
    /// What the driver of Mitaka knowingly does otherwise.
    #[must_use]
    pub fn mitaka() -> Self {
        Self { own_addresses: OwnAddresses::Excluded, ..Self::neutron() }
    }

    /// What today's driver knowingly does otherwise.
    #[must_use]
    pub fn neutron() -> Self {
        Self {
            group_addressed: GroupAddressed::Flooded,
            readmission: Readmission::AfterExpiry,
            replies: Replies::FromAnyone,
            stateless: StatelessGroups::TreatedAsStateful,
            unsupported_ports: UnsupportedPorts::WholeProtocol,
            full_range: FullRange::Literal,
            any_address_members: AnyAddressMembers::BySender,
            ..Self::default()
        }
    }

    /// What the layout `strict` does otherwise than the words of the API say, for the better where it can.
    #[must_use]
    pub fn strict() -> Self {
        Self {
            dhcp_server: DhcpServer::Strict,
            revocation: Revocation::AtOnce,
            stateless: StatelessGroups::TreatedAsStateful,
            ..Self::default()
        }
    }
}

impl fmt::Display for Switches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, setting)) in self.settings().into_iter().enumerate() {
            write!(f, "{}{name}={setting}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}
