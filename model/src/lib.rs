//! What Neutron's security groups mean.
//!
//! [`policy`] is the syntax: Neutron's own objects as its API returns them. [`semantics`] says what they mean for one
//! frame, by the policy and by history; it is the file to sign off. [`world`] plays a host: frames, changes, time.
//! Invariant: nothing here knows flows, tables or connection tracking; connections are [`history`]. Deliberately
//! absent: how any of it is done by a switch.
//!
//! Source: the Neutron API reference (networking v2), the security-group and port-security documentation.

#![deny(clippy::wildcard_enum_match_arm)]

pub mod crossing;
pub mod frame;
pub mod history;
mod members;
pub mod policy;
pub mod rules;
pub mod semantics;
pub mod service;
pub mod switches;
pub mod verdict;
pub mod world;
