//! A private real Open vSwitch: started without privileges, fed with frames, asked what came out.
//!
//! What it means: `ovs-vswitchd` with its userspace datapath and dummy ports, in a directory of its own, with its
//! clock stopped. Invariant: no process and no file outlives a [`RealSwitch`], not even when this process is killed;
//! what goes wrong with the machine is an [`EnvError`], never a disagreement about a packet. Deliberately absent:
//! the kernel datapath, and any opinion about what should come out: a [`Judge`] is told what is claimed.
//!
//! Source: ovs-vswitchd(8), ovs-appctl(8), ovs-ofctl(8); experiments with Open vSwitch 3.1.

mod entries;
mod error;
mod flows;
mod furnish;
mod guard;
mod judge;
mod pcap;
mod said;
mod switch;
mod trace;
mod unixctl;

pub use error::{EnvError, LoadError};
pub use flows::{refused_by_the_tool, split_untyped_ct};
pub use judge::{Answer, Difference, Event, Framed, Judge, OTHER_DATAPATH, Story};
pub use switch::{Learned, RealSwitch};
pub use trace::{DatapathAction, RealPass, RealRule, RealStep, RealTrace, TraceRequest};
