//! Groups: what `ovs-ofctl dump-groups` prints and `add-groups` reads.
//!
//! A flow names a group by its number. [`Groups::resolve`] puts the group's buckets into the flows that name it, so that
//! whoever follows actions sees what is done. Invariant: where a group is not known, or leads to itself, the flow keeps its
//! number alone, and nobody takes it for a group without buckets. Deliberately absent: how a bucket is selected.
//!
//! Source: ovs-ofctl(8), "Group Syntax"; experiments with Open vSwitch 3.1.

use super::Action;
use super::ast::Flow;
use super::parse::{PortNames, bucket_actions};
use flowproof_packet::PortNo;
use std::{collections::BTreeMap, fmt, sync::Arc};
use thiserror::Error;

/// How a group chooses among its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// All of them.
    All,
    /// One of them, by a hash.
    Select,
    /// The only one.
    Indirect,
    /// The first that is alive.
    FastFailover,
}

impl GroupKind {
    const NAMES: [(&'static str, Self); 5] = [
        ("all", Self::All),
        ("select", Self::Select),
        ("indirect", Self::Indirect),
        ("ff", Self::FastFailover),
        ("fast_failover", Self::FastFailover),
    ];
}

/// One bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// Its share, where one is selected.
    pub weight: u16,
    /// It is alive as long as this port is up.
    pub watch_port: Option<PortNo>,
    /// It is alive as long as a bucket of this group is.
    pub watch_group: Option<u32>,
    /// What is done with a copy of the packet, an action set.
    pub actions: Vec<Action>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// How it chooses.
    pub kind: GroupKind,
    /// Its buckets.
    pub buckets: Vec<Bucket>,
}

/// A group as a flow names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupRef {
    /// Its number.
    pub id: u32,
    /// The group, where it is known.
    pub group: Option<Arc<Group>>,
}

impl GroupRef {
    /// A number alone.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        Self { id, group: None }
    }
}

impl fmt::Display for GroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group:{}", self.id)
    }
}

/// As `add-group` takes it, behind the number.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = GroupKind::NAMES.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| *name);
        write!(f, "type={name}")?;
        for bucket in &self.buckets {
            f.write_str(",bucket=")?;
            if self.kind == GroupKind::Select {
                write!(f, "weight:{},", bucket.weight)?;
            }
            if let Some(port) = bucket.watch_port {
                write!(f, "watch_port:{port},")?;
            }
            if let Some(group) = bucket.watch_group {
                write!(f, "watch_group:{group},")?;
            }
            let actions: Vec<String> = bucket.actions.iter().map(ToString::to_string).collect();
            write!(f, "actions={}", if actions.is_empty() { "drop".to_owned() } else { actions.join(",") })?;
        }
        Ok(())
    }
}

/// What is wrong with the text of a group.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {message}: `{text}`")]
pub struct GroupError {
    /// Line of the group, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub text: String,
}

/// The groups of a switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(BTreeMap<u32, Group>);

impl Groups {
    /// Reads what `ovs-ofctl dump-groups` printed or `add-groups` takes; `ports` are the names of ports.
    ///
    /// # Errors
    /// The first line that is no group.
    pub fn parse(text: &str, ports: &BTreeMap<String, PortNo>) -> Result<Self, GroupError> {
        let mut groups = BTreeMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.split('#').next().unwrap_or("").trim();
            let header = text.contains(" reply ") || text.starts_with("OFPST_");
            if text.is_empty() || header {
                continue;
            }
            let refused = |(message, at): (String, String)| GroupError { line, message, text: at };
            let (id, group) = group(text, PortNames { known: ports, unknown: None }).map_err(refused)?;
            groups.insert(id, group);
        }
        Ok(Self(groups))
    }

    /// One group.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&Group> {
        self.0.get(&id)
    }

    /// The groups by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        self.0.iter().map(|(id, group)| (*id, group))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the groups into the flows that name them.
    pub fn resolve(&self, flows: &mut [Flow]) {
        if self.0.is_empty() {
            return;
        }
        let mut found = BTreeMap::new();
        for action in flows.iter_mut().flat_map(|flow| &mut flow.actions) {
            self.put(action, &mut Vec::new(), &mut found);
        }
    }

    /// `above` are the groups that lead here.
    fn put(&self, action: &mut Action, above: &mut Vec<u32>, found: &mut BTreeMap<u32, Arc<Group>>) {
        if let Action::Clone(inner) | Action::WriteActions(inner) = action {
            inner.iter_mut().for_each(|action| self.put(action, above, found));
        }
        let Action::Group(named) = action else { return };
        if let Some(known) = found.get(&named.id) {
            named.group = Some(Arc::clone(known));
            return;
        }
        let Some(group) = self.get(named.id).filter(|_| !above.contains(&named.id)) else { return };
        let mut group = group.clone();
        above.push(named.id);
        for action in group.buckets.iter_mut().flat_map(|bucket| &mut bucket.actions) {
            self.put(action, above, found);
        }
        above.pop();
        let group = Arc::new(group);
        if above.is_empty() {
            found.insert(named.id, Arc::clone(&group));
        }
        named.group = Some(group);
    }
}

type Refused<T> = Result<T, (String, String)>;

fn refuse<T>(message: &str, text: &str) -> Refused<T> {
    Err((message.to_owned(), text.to_owned()))
}

fn group(text: &str, ports: PortNames<'_>) -> Refused<(u32, Group)> {
    const BUCKET: &str = "bucket=";
    let mut parts = text.split(BUCKET);
    let (mut id, mut kind) = (None, None);
    for item in super::parse::items(parts.next().unwrap_or("")) {
        match item {
            ("group_id", number) => match super::parse::number(number).and_then(|n| u32::try_from(n).ok()) {
                Some(number) => id = Some(number),
                None => return refuse("invalid group number", number),
            },
            ("type", name) => match GroupKind::NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, known)) => kind = Some(*known),
                None => return refuse("unknown type of group", name),
            },
            // How a bucket is selected, and statistics.
            ("selection_method" | "selection_method_param" | "fields" | "command_bucket_id", _) => {}
            ("duration" | "ref_count" | "packet_count" | "byte_count", _) => {}
            (other, _) => return refuse("unknown keyword of a group", other),
        }
    }
    let Some(id) = id else { return refuse("a group must have a `group_id`", text) };
    let Some(kind) = kind else { return refuse("a group must have a `type`", text) };
    let buckets = parts.map(|text| bucket(text, ports)).collect::<Refused<_>>()?;
    Ok((id, Group { kind, buckets }))
}

fn bucket(text: &str, ports: PortNames<'_>) -> Refused<Bucket> {
    let text = text.trim().trim_end_matches(',');
    let split = ["actions=", "action="].iter().find_map(|word| text.split_once(word));
    let mut found = Bucket { weight: 1, watch_port: None, watch_group: None, actions: Vec::new() };
    let mut rest: Vec<&str> = Vec::new();
    for (key, value, whole) in super::parse::whole_items(split.map_or(text, |(head, _)| head)) {
        let number = || super::parse::number(value);
        match key {
            "weight" => match number().and_then(|n| u16::try_from(n).ok()) {
                Some(weight) => found.weight = weight,
                None => return refuse("invalid weight", value),
            },
            "watch_port" => match super::parse::port_number(value, ports) {
                Some(port) => found.watch_port = Some(port),
                None => return refuse("unknown port", value),
            },
            "watch_group" => found.watch_group = number().and_then(|n| u32::try_from(n).ok()),
            "bucket_id" => {}
            _ => rest.push(whole),
        }
    }
    let written = rest.join(",");
    let actions = split.map_or(written.as_str(), |(_, actions)| actions);
    found.actions = bucket_actions(actions, ports)?;
    Ok(found)
}
