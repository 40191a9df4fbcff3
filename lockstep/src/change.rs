//! What events mean for a policy.

use crate::scenario::Event;
use flowproof_model::policy::{Change, GroupId, Policy, PortId, SecurityGroup, Statefulness};

impl Event {
    /// The changes of policy that an event is; none for most.
    #[must_use]
    pub fn changes(&self, policy: &Policy) -> Vec<Change> {
        match self {
            Self::AddRule(group, rule) => vec![Change::AddRule(group.clone(), rule.clone())],
            Self::RemoveRule(id) => vec![Change::RemoveRule(id.clone())],
            Self::AddGroup(id) => vec![Change::PutGroup(SecurityGroup {
                id: id.clone(),
                statefulness: Statefulness::Stateful,
                rules: Vec::new(),
            })],
            Self::RemoveGroup(id) => vec![Change::RemoveGroup(id.clone())],
            Self::AddMember(group, port) => {
                with_groups(policy, port, |groups| groups.iter().chain([group]).cloned().collect())
            }
            Self::RemoveMember(group, port) => with_groups(policy, port, |groups| {
                groups.iter().filter(|other| *other != group).cloned().collect()
            }),
            Self::SetAddresses(id, addresses) => {
                vec![Change::SetAddresses(id.clone(), addresses.clone())]
            }
            Self::PutPort(port, binding) => {
                let bind = binding.map(|binding| Change::Bind(port.id.clone(), binding));
                [Change::PutPort(port.clone())].into_iter().chain(bind).collect()
            }
            Self::RemovePort(id) => vec![Change::RemovePort(id.clone())],
            Self::Packet(_) | Self::UpdatePort(_) | Self::Advance(_) | Self::Flush => Vec::new(),
        }
    }
}

fn with_groups(policy: &Policy, id: &PortId, groups: impl Fn(&[GroupId]) -> Vec<GroupId>) -> Vec<Change> {
    let port = policy.ports.get(id);
    port.map(|port| Change::SetGroups(id.clone(), groups(&port.groups))).into_iter().collect()
}
