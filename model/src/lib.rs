//! What Neutron's security groups mean.
//!
//! [`policy`] is the syntax: Neutron's own objects as its API returns them. Invariant: nothing here knows flows, tables
//! or connection tracking; connections are history. Deliberately absent: how any of it is done by a switch.
//!
//! Source: the Neutron API reference (networking v2), the security-group and port-security documentation.

pub mod policy;
