//! Tracked connections by their lines in `dpctl/dump-conntrack`, to remove some of them.
//!
//! Source: ovs-dpctl(8), "CONNECTION TRACKING TABLE COMMANDS"; the output of Open vSwitch 3.1.

use std::fmt::Write;

/// Protocols as the dump names them, and their numbers.
const PROTOCOLS: [(&str, &str); 5] =
    [("tcp", "6"), ("udp", "17"), ("icmp", "1"), ("icmpv6", "58"), ("sctp", "132")];

/// What the dump calls the parts of a tuple behind its addresses, and what `dpctl/flush-conntrack` calls them.
const PARTS: [(&str, &str); 5] = [
    ("sport", "ct_tp_src"),
    ("dport", "ct_tp_dst"),
    ("id", "icmp_id"),
    ("type", "icmp_type"),
    ("code", "icmp_code"),
];

/// The value of a key in a line, in its original direction.
fn value<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once("orig=(")?;
    let (original, _) = rest.split_once(')')?;
    original.split(',').find_map(|item| item.split_once('=').filter(|(name, _)| *name == key)).map(|(_, v)| v)
}

/// What names the connection of this line to `dpctl/flush-conntrack`, if it is of the zone and has the mark.
pub(crate) fn tuple_if_marked(line: &str, zone: u16, mark: u32) -> Option<String> {
    let has = |item: String| line.split(',').any(|other| other == item);
    let (src, dst) = (value(line, "src")?, value(line, "dst")?);
    // Zone 0 is not printed.
    let in_zone = if zone == 0 { !line.contains(",zone=") } else { has(format!("zone={zone}")) };
    if !in_zone || !has(format!("mark={mark}")) {
        return None;
    }
    let name = line.split(',').next().unwrap_or_default();
    let number = PROTOCOLS.iter().find(|(known, _)| *known == name).map_or(name, |(_, number)| *number);
    let (a, b) = if src.contains(':') { ("ct_ipv6_src", "ct_ipv6_dst") } else { ("ct_nw_src", "ct_nw_dst") };
    let mut tuple = format!("{a}={src},{b}={dst},ct_nw_proto={number}");
    for (part, name) in PARTS {
        if let Some(value) = value(line, part) {
            let _infallible = write!(tuple, ",{name}={value}");
        }
    }
    Some(tuple)
}

#[cfg(test)]
mod tests {
    use super::tuple_if_marked;

    #[track_caller]
    fn check(line: &str, zone: u16, expected: Option<&str>) {
        assert_eq!(tuple_if_marked(line, zone, 1).as_deref(), expected, "{line}");
    }

    #[test]
    fn only_marked_connections_of_the_zone_are_named() {
        let udp = "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=5,dport=6),reply=(src=10.0.0.2,dst=10.0.0.1,sport=6,dport=5)";
        let named = "ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=5,ct_tp_dst=6";
        check(&format!("{udp},zone=4,mark=1"), 4, Some(named));
        check(&format!("{udp},zone=4,mark=1"), 5, None);
        check(&format!("{udp},zone=4,mark=11"), 4, None);
        check(&format!("{udp},zone=4"), 4, None);
        check(&format!("{udp},mark=1"), 0, Some(named));
        check(&format!("{udp},zone=4,mark=1"), 0, None);
        let icmp = "icmpv6,orig=(src=fe80::1,dst=fe80::2,id=7,type=128,code=0),reply=(src=fe80::2,dst=fe80::1,id=7,type=129,code=0),zone=1,mark=1";
        let named =
            "ct_ipv6_src=fe80::1,ct_ipv6_dst=fe80::2,ct_nw_proto=58,icmp_id=7,icmp_type=128,icmp_code=0";
        check(icmp, 1, Some(named));
        check(
            "47,orig=(src=1.1.1.1,dst=2.2.2.2),zone=1,mark=1",
            1,
            Some("ct_nw_src=1.1.1.1,ct_nw_dst=2.2.2.2,ct_nw_proto=47"),
        );
    }
}
