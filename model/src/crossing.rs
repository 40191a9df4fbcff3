//! A frame on its way between two ends, and what is known about it: what the semantics is asked about.

use crate::frame::Frame;
use crate::history::Connection;
use crate::policy::{NetworkId, Policy, Port};
use crate::switches::Switches;

/// What is in force.
#[derive(Clone, Copy, Debug)]
pub struct Law<'a> {
    /// What was asked for.
    pub policy: &'a Policy,
    /// How its words are meant.
    pub switches: &'a Switches,
}

/// One end of a frame's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// A port of this host.
    Port(&'a Port),
    /// Beyond the uplinks.
    Elsewhere,
}

/// A frame on its way.
#[derive(Clone, Copy, Debug)]
pub struct Crossing<'a> {
    /// The frame.
    pub frame: &'a Frame,
    /// The network it travels in; `None` if it came in under a VLAN that is no network here.
    pub network: Option<&'a NetworkId>,
    /// Where it comes from.
    pub sender: End<'a>,
    /// Where it would go.
    pub receiver: End<'a>,
    /// What its connection has been through.
    pub standing: Standing<'a>,
}

/// What history says about a frame.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    /// It opens a connection, or belongs to none.
    New,
    /// It goes the way of the first packet of this connection.
    Original(&'a Connection),
    /// It goes the other way.
    Reply(&'a Connection),
    /// It reports an error about a packet of this connection, to whoever sent that packet.
    Related(&'a Connection),
    /// Connection tracking calls it invalid; the model takes its word.
    Invalid,
}
