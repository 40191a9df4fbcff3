//! From a scenario to text.

use super::events::UNITS;
use super::words::quoted;
use crate::frames::flow_text;
use crate::scenario::{
    Contents, Event, Expectation, Extras, Packet, Scenario, Sender, Step, Tables, Target, Written,
};
use flowproof_compiler::Layout;
use flowproof_model::policy::{
    Binding, Host, IcmpMatch, Network, Policy, Port, Protocol, Rule, RulePeer, Segment, Statefulness,
    TunnelKind, Uplink,
};
use flowproof_switch::conntrack::Profile;
use flowproof_switch::table::TieBreak;
use std::fmt;

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{}", format!("# {note}").trim_end())?;
        }
        match &self.tables {
            Tables::Compiled(layouts) => writeln!(f, "layout{}", names(layouts))?,
            Tables::File(name, _) => writeln!(f, "flows {}", quoted(name))?,
            Tables::Inline(flows) => {
                writeln!(f, "flows")?;
                flows.iter().try_for_each(|flow| writeln!(f, "  {flow}"))?;
            }
        }
        if self.datapath != Profile::Userspace31 {
            writeln!(f, "datapath {}", self.datapath.name())?;
        }
        if self.tie != TieBreak::First {
            writeln!(f, "tie {}", self.tie.name())?;
        }
        for (name, setting) in &self.switches {
            writeln!(f, "switch {name}={setting}")?;
        }
        match &self.intent {
            Some(name) => writeln!(f, "intent {}", quoted(name))?,
            None => policy(f, &self.policy)?,
        }
        if !self.steps.is_empty() {
            writeln!(f)?;
        }
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn names(layouts: &[Layout]) -> String {
    layouts.iter().map(|layout| format!(" {}", layout.name())).collect()
}

fn policy(f: &mut fmt::Formatter<'_>, policy: &Policy) -> fmt::Result {
    for network in policy.networks.values() {
        writeln!(f, "network {}", network_words(network))?;
    }
    for uplink in policy.host.iter().flat_map(|host| &host.uplinks) {
        writeln!(f, "uplink {}", uplink_words(uplink))?;
    }
    if let Some(Host { options, .. }) = &policy.host {
        if options.explicitly_egress_direct {
            writeln!(f, "option explicitly-egress-direct")?;
        }
        for ethertype in &options.permitted_ethertypes {
            writeln!(f, "option permitted-ethertype {ethertype:#06x}")?;
        }
    }
    for group in policy.address_groups.values() {
        write!(f, "addresses {}", quoted(group.id.as_str()))?;
        group.addresses.iter().try_for_each(|prefix| write!(f, " {prefix}"))?;
        writeln!(f)?;
    }
    for group in policy.groups.values() {
        let stateless = if group.statefulness == Statefulness::Stateless { " stateless" } else { "" };
        writeln!(f, "group {}{stateless}", quoted(group.id.as_str()))?;
        for rule in &group.rules {
            writeln!(f, "  rule {}", rule_words(rule))?;
        }
    }
    for port in policy.ports.values() {
        let binding = policy.host.as_ref().and_then(|host| host.bindings.get(&port.id));
        writeln!(f, "port {}", port_words(port, binding))?;
    }
    Ok(())
}

fn network_words(network: &Network) -> String {
    let id = quoted(network.id.as_str());
    let physical = |physical: &Option<String>| {
        physical.as_ref().map_or_else(String::new, |name| format!(" {}", quoted(name)))
    };
    let tunnel = |kind: &TunnelKind| match kind {
        TunnelKind::Vxlan => "vxlan",
        TunnelKind::Gre => "gre",
        TunnelKind::Geneve => "geneve",
    };
    match &network.segment {
        Segment::Unspecified => id,
        Segment::Local => format!("{id} local"),
        Segment::Flat { physical_network } => format!("{id} flat{}", physical(physical_network)),
        Segment::Vlan { vid, physical_network } => format!("{id} vlan {vid}{}", physical(physical_network)),
        Segment::Tunnel { kind, key: None } => format!("{id} {}", tunnel(kind)),
        Segment::Tunnel { kind, key: Some(key) } => format!("{id} {} {key}", tunnel(kind)),
    }
}

fn uplink_words(uplink: &Uplink) -> String {
    let physical = uplink.physical_network.as_ref();
    let physical = physical.map_or_else(String::new, |name| format!(" {}", quoted(name)));
    format!("{} {}{physical}", uplink.ofport, uplink.kind.name())
}

fn rule_words(rule: &Rule) -> String {
    let protocol = rule.protocol_spelling.as_deref().unwrap_or("any");
    let range = match rule.protocol {
        Protocol::Any
        | Protocol::Other(_)
        | Protocol::Transport(_, None)
        | Protocol::Icmp(IcmpMatch::Any) => String::new(),
        Protocol::Transport(_, Some(range)) if range.min() == range.max() => format!(" {}", range.min()),
        Protocol::Transport(_, Some(range)) => format!(" {}-{}", range.min(), range.max()),
        Protocol::Icmp(IcmpMatch::Type(kind)) => format!(" {kind}"),
        Protocol::Icmp(IcmpMatch::TypeCode(kind, code)) => format!(" {kind}/{code}"),
    };
    let peer = match &rule.peer {
        RulePeer::Any => String::new(),
        RulePeer::Prefix(prefix) => format!(" with {prefix}"),
        RulePeer::Group(id) => format!(" with group {}", quoted(id.as_str())),
        RulePeer::AddressGroup(id) => format!(" with addresses {}", quoted(id.as_str())),
    };
    let (id, direction, family) = (quoted(rule.id.as_str()), rule.direction.name(), rule.ethertype.name());
    format!("{id} {direction} {family} {}{range}{peer}", quoted(protocol))
}

fn port_words(port: &Port, binding: Option<&Binding>) -> String {
    let mut words =
        vec![quoted(port.id.as_str()), quoted(port.network.as_str()), format!("mac {}", port.mac)];
    words.extend(binding.map(|at| format!("ofport {} vlan {}", at.ofport, at.vlan)));
    words.extend(port.fixed_ips.iter().map(|ip| format!("ip {ip}")));
    words.extend(port.address_pairs.iter().map(|pair| format!("pair {} {}", pair.mac, pair.prefix)));
    words.extend(port.groups.iter().map(|group| format!("group {}", quoted(group.as_str()))));
    if !port.device_owner.is_empty() {
        words.push(format!("owner {}", quoted(&port.device_owner)));
    }
    if !port.port_security_enabled {
        words.push("unfiltered".to_owned());
    }
    words.join(" ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for comment in &self.comments {
            writeln!(f, "{}", format!("# {comment}").trim_end())?;
        }
        writeln!(f, "{}", self.event)?;
        for expectation in &self.expectations {
            writeln!(f, "  expect {expectation}")?;
        }
        for Written { name, layouts, why } in &self.divergences {
            let on = if layouts.is_empty() { String::new() } else { format!(" on{}", names(layouts)) };
            writeln!(f, "  divergence {}{on}: {why}", quoted(name))?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(packet) => packet.fmt(f),
            Self::AddRule(group, rule) => {
                write!(f, "add-rule {} {}", quoted(group.as_str()), rule_words(rule))
            }
            Self::RemoveRule(id) => write!(f, "remove-rule {}", quoted(id.as_str())),
            Self::AddGroup(id) => write!(f, "add-group {}", quoted(id.as_str())),
            Self::RemoveGroup(id) => write!(f, "remove-group {}", quoted(id.as_str())),
            Self::AddMember(group, port) => {
                write!(f, "add-member {} {}", quoted(group.as_str()), quoted(port.as_str()))
            }
            Self::RemoveMember(group, port) => {
                write!(f, "remove-member {} {}", quoted(group.as_str()), quoted(port.as_str()))
            }
            Self::SetAddresses(id, prefixes) => {
                write!(f, "set-addresses {}", quoted(id.as_str()))?;
                prefixes.iter().try_for_each(|prefix| write!(f, " {prefix}"))
            }
            Self::PutPort(port, binding) => write!(f, "put-port {}", port_words(port, binding.as_ref())),
            Self::RemovePort(id) => write!(f, "remove-port {}", quoted(id.as_str())),
            Self::UpdatePort(id) => write!(f, "update-port {}", quoted(id.as_str())),
            Self::Advance(ms) => write!(f, "advance {}", duration(*ms)),
            Self::Flush => f.write_str("flush"),
        }
    }
}

/// A time in the largest unit that it is a multiple of.
fn duration(ms: u64) -> String {
    let whole = UNITS.iter().filter(|(_, length)| ms.is_multiple_of(*length));
    let (unit, length) = whole.max_by_key(|(_, length)| *length).unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / length)
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.contents {
            Contents::Flow(_) => "packet",
            Contents::Raw(_) => "hex",
            Contents::Error(..) => "error",
        };
        match &self.from {
            Sender::Port(id) => write!(f, "{word} {}", quoted(id.as_str()))?,
            Sender::Uplink(number) => write!(f, "{word} uplink:{number}")?,
        }
        if let Some(to) = &self.to {
            write!(f, " > {}", quoted(to.as_str()))?;
        }
        match &self.contents {
            Contents::Flow(items) => write!(f, " {}", flow_text(items))?,
            Contents::Raw(bytes) => {
                write!(f, " ")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            }
            Contents::Error(kind, code) => write!(f, " {kind}/{code}")?,
        }
        self.extras.fmt(f)
    }
}

impl fmt::Display for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            ("payload", self.payload.map(u32::from)),
            ("seq", self.seq),
            ("ack", self.ack),
            ("icmp-id", self.icmp_id.map(u32::from)),
            ("ip-id", self.ip_id.map(u32::from)),
            ("fragment", self.fragment.map(u32::from)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(f, " {name}={number}")?;
            }
        }
        if self.bad_checksum { f.write_str(" bad-checksum") } else { Ok(()) }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(name) => write!(f, "reason {name}"),
            Self::Delivered(targets) if targets.is_empty() => f.write_str("dropped"),
            Self::Delivered(targets) => {
                f.write_str("delivered")?;
                targets.iter().try_for_each(|target| write!(f, " {target}"))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(id) => f.write_str(&quoted(id.as_str())),
            Self::Elsewhere => f.write_str("elsewhere"),
        }
    }
}
