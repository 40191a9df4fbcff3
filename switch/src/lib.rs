//! What Open vSwitch does: flow syntax, tables, actions, connection tracking, and an interpreter that runs them.
//!
//! Invariant: a flow that parses means here what it means to Open vSwitch 3.1; what is accepted but not modelled
//! stays visible as an opaque action or match. Deliberately absent: security groups, ports' policies, proofs.
//!
//! Source: ovs-fields(7), ovs-actions(7), ovs-ofctl(8), and experiments with Open vSwitch 3.1.

pub mod conntrack;
pub mod flow;
pub mod pipeline;
pub mod table;
pub mod trace;
