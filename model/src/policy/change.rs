//! Changes to a policy: what a user or the agent does between packets.

use super::error::Fault;
use super::{
    AddressGroupId, Binding, GroupId, Host, IpNet, Policy, Port, PortId, Rule, RuleId, SecurityGroup,
};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new group, or new contents for a group.
    PutGroup(SecurityGroup),
    /// A group is deleted.
    RemoveGroup(GroupId),
    /// A group gets a rule.
    AddRule(GroupId, Rule),
    /// A rule is deleted.
    RemoveRule(RuleId),
    /// A port joins and leaves groups: these are its groups now.
    SetGroups(PortId, Vec<GroupId>),
    /// An address group has these addresses now.
    SetAddresses(AddressGroupId, Vec<IpNet>),
    /// A new port, or new contents for a port.
    PutPort(Port),
    /// A port is deleted, here or elsewhere.
    RemovePort(PortId),
    /// A port appears on this host.
    Bind(PortId, Binding),
    /// A port leaves this host.
    Unbind(PortId),
}

impl Policy {
    /// Carries out a change.
    ///
    /// # Errors
    /// If the policy would not be well-formed any more; it is then as it was. What is not there to be changed or
    /// removed is no error.
    pub fn apply(&mut self, change: Change) -> Result<(), Vec<Fault>> {
        let mut changed = self.clone();
        changed.carry_out(change);
        let faults = changed.faults();
        if faults.is_empty() {
            *self = changed;
            Ok(())
        } else {
            Err(faults)
        }
    }

    fn carry_out(&mut self, change: Change) {
        match change {
            Change::PutGroup(group) => {
                self.groups.insert(group.id.clone(), group);
            }
            Change::RemoveGroup(id) => {
                self.groups.shift_remove(&id);
            }
            Change::AddRule(id, rule) => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.rules.push(rule);
                }
            }
            Change::RemoveRule(id) => {
                for group in self.groups.values_mut() {
                    group.rules.retain(|rule| rule.id != id);
                }
            }
            Change::SetGroups(id, groups) => {
                if let Some(port) = self.ports.get_mut(&id) {
                    port.groups = groups;
                }
            }
            Change::SetAddresses(id, addresses) => {
                if let Some(group) = self.address_groups.get_mut(&id) {
                    group.addresses = addresses;
                }
            }
            Change::PutPort(port) => {
                self.ports.insert(port.id.clone(), port);
            }
            Change::RemovePort(id) => {
                self.ports.shift_remove(&id);
                if let Some(host) = &mut self.host {
                    host.bindings.shift_remove(&id);
                }
            }
            Change::Bind(id, binding) => {
                self.host.get_or_insert_with(Host::default).bindings.insert(id, binding);
            }
            Change::Unbind(id) => {
                if let Some(host) = &mut self.host {
                    host.bindings.shift_remove(&id);
                }
            }
        }
    }
}
