//! Scenarios as text: line by line, readable in a bug report.
//!
//! ```text
//! # An even port opens the next one, too (LP 1611991).
//! layout mitaka neutron
//! network net1 vlan 1053 physnet1
//! uplink 1 provider physnet1
//! group web
//!   rule ssh ingress IPv4 tcp 22
//! port vm net1 mac fa:16:3e:00:00:0d ofport 13 vlan 1 ip 10.0.1.8 group web
//! port far net1 mac fa:16:3e:00:00:63 ip 10.0.1.99
//!
//! packet far > vm tcp,tp_src=4000,tp_dst=23
//!   expect dropped
//!   divergence even-port on mitaka: `0x16/0xfffe` is 22 and 23
//! ```
//!
//! Invariant: what is printed parses to the same scenario; every complaint has its line, its column and the text in
//! question. Deliberately absent: anything that a file does not say about itself (the files it names are read by
//! whoever parses).

mod error;
mod events;
mod objects;
mod packets;
mod parse;
mod print;
mod words;

pub use error::{ParseError, RunError};
pub use parse::{ReadFile, parse, parse_with};
