//! An entry as people see it.

use super::{
    table::{Conn, Tracker},
    tuple::{Endpoint, Key},
};
use crate::flow::print::address_text;
use flowproof_packet::wire::proto;
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// One line of `dpctl/dump-conntrack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    key: Key,
    reverse: Key,
    zone: u16,
    mark: u32,
    label: u128,
    state: Option<&'static str>,
    expires: u64,
}

impl Entry {
    pub(super) fn of(conn: &Conn) -> Self {
        let state = match &conn.tracker {
            Tracker::Tcp(tcp) => Some(tcp.state_name()),
            Tracker::KernelTcp(tcp) => Some(tcp.state_name()),
            Tracker::KernelSctp(sctp) => Some(sctp.state_name()),
            Tracker::Icmp(_) | Tracker::Other(_) | Tracker::KernelPlain => None,
        };
        Self {
            key: conn.key,
            reverse: conn.reverse,
            zone: conn.zone,
            mark: conn.mark,
            label: conn.label,
            state,
            expires: conn.expires,
        }
    }

    /// The original direction.
    #[must_use]
    pub fn orig(&self) -> super::Tuple {
        self.key.tuple()
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> u16 {
        self.zone
    }

    /// `ct_mark`
    #[must_use]
    pub const fn mark(&self) -> u32 {
        self.mark
    }

    /// `ct_label`
    #[must_use]
    pub const fn label(&self) -> u128 {
        self.label
    }

    /// The protocol's state, such as `ESTABLISHED`, where there is a state machine.
    #[must_use]
    pub const fn state(&self) -> Option<&'static str> {
        self.state
    }

    /// When it goes if nothing comes, in milliseconds of the virtual clock.
    #[must_use]
    pub const fn expires(&self) -> u64 {
        self.expires
    }
}

/// Names of protocols as the dump prints them; the others are numbers.
const NAMES: &[(u8, &str)] = &[
    (proto::ICMP, "icmp"),
    (proto::ICMPV6, "icmpv6"),
    (proto::TCP, "tcp"),
    (proto::UDP, "udp"),
    (proto::SCTP, "sctp"),
    (136, "udplite"),
    (33, "dccp"),
    (proto::IGMP, "igmp"),
];

struct Side<'a> {
    key: &'a Key,
    from: &'a Endpoint,
    to: &'a Endpoint,
}

impl fmt::Display for Side<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, from, to } = self;
        if key.ipv6 {
            let v6 = |addr: u128| address_text(Ipv6Addr::from(addr));
            write!(f, "src={},dst={}", v6(from.addr), v6(to.addr))?;
        } else {
            let v4 = |addr: u128| Ipv4Addr::from(addr as u32);
            write!(f, "src={},dst={}", v4(from.addr), v4(to.addr))?;
        }
        if key.proto == proto::ICMP || key.proto == proto::ICMPV6 {
            write!(f, ",id={},type={},code={}", from.port, from.icmp.0, from.icmp.1)
        } else {
            write!(f, ",sport={},dport={}", from.port, to.port)
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match NAMES.iter().find(|(number, _)| *number == key.proto) {
            Some((_, name)) => f.write_str(name)?,
            None => write!(f, "{}", key.proto)?,
        }
        let orig = Side { key, from: &key.src, to: &key.dst };
        let reply = Side { key, from: &self.reverse.src, to: &self.reverse.dst };
        write!(f, ",orig=({orig}),reply=({reply})")?;
        if self.zone != 0 {
            write!(f, ",zone={}", self.zone)?;
        }
        if self.mark != 0 {
            write!(f, ",mark={}", self.mark)?;
        }
        if self.label != 0 {
            write!(f, ",labels={:#x}", self.label)?;
        }
        match self.state {
            Some(state) => write!(f, ",protoinfo=(state={state})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::conntrack::{Conntrack, CtRequest, Profile};
    use flowproof_packet::{
        Field, FlowKey,
        build::{ComposeOptions, compose},
    };

    #[test]
    fn addresses_behind_96_zero_bits_are_dotted_as_the_switch_prints_them() {
        let mut key = FlowKey::default();
        let fields = [
            (Field::DlType, 0x86dd),
            (Field::Ipv6Src, 0xfe80 << 112 | 5),
            (Field::Ipv6Dst, 0x1390_46b8),
            (Field::NwProto, 17),
            (Field::UdpSrc, 443),
            (Field::UdpDst, 53),
        ];
        fields.into_iter().for_each(|(field, value)| key.set(field, value));
        let mut tracker = Conntrack::new(Profile::Userspace31);
        let commit = CtRequest { commit: true, zone: 1, ..CtRequest::default() };
        tracker.execute(&compose(&key, &ComposeOptions::default()), &commit);
        let lines: Vec<String> = tracker.entries().map(|entry| entry.to_string()).collect();
        let expected = "udp,orig=(src=fe80::5,dst=::19.144.70.184,sport=443,dport=53),\
                        reply=(src=::19.144.70.184,dst=fe80::5,sport=53,dport=443),zone=1";
        assert_eq!(lines, [expected]);
    }
}
