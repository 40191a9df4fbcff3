//! `nat(…)` and `alg=…`: what a `ct()` asks for beside tracking.
//!
//! Invariant: printing gives what ovs-ofctl prints, and what means nothing is not kept: `0.0.0.0` is no address, ports
//! and flags without one are none.
//!
//! Source: ovs-actions(7), "The ct action"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::print::address_text;
use std::{fmt, net::IpAddr};

/// `nat…` inside `ct(…)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nat {
    /// `nat`: what belongs to a translated connection is translated; no connection begins to be.
    Existing,
    /// `nat(src…)`, `nat(dst…)`: and a connection that is committed begins to be translated like this.
    New(NatRange),
}

/// Which address of a connection's first packet is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NatEnd {
    /// Its source.
    Src,
    /// Its destination.
    Dst,
}

impl NatEnd {
    /// The end that packets of the other direction have translated.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Src => Self::Dst,
            Self::Dst => Self::Src,
        }
    }
}

/// What the datapath may choose from, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NatRange {
    /// Which address it is about.
    pub end: NatEnd,
    /// First and last address, of one version of IP; none: the packet's own.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// First and last port; none: the packet's own if it is free. Only with addresses.
    pub ports: Option<(u16, u16)>,
    /// `persistent`
    pub persistent: bool,
    /// `hash`
    pub hash: bool,
    /// `random`
    pub random: bool,
}

fn bracketed(address: IpAddr, ports: bool) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) if ports => format!("[{}]", address_text(v6)),
        IpAddr::V6(v6) => address_text(v6),
    }
}

impl fmt::Display for NatRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.end {
            NatEnd::Src => "src",
            NatEnd::Dst => "dst",
        })?;
        let Some((first, last)) = self.addresses else { return Ok(()) };
        write!(f, "={}", bracketed(first, self.ports.is_some()))?;
        if first != last {
            write!(f, "-{}", bracketed(last, self.ports.is_some()))?;
        }
        match self.ports {
            Some((first, last)) if first != last => write!(f, ":{first}-{last}")?,
            Some((first, _)) => write!(f, ":{first}")?,
            None => {}
        }
        let flags = [(self.persistent, ",persistent"), (self.hash, ",hash"), (self.random, ",random")];
        flags.into_iter().filter(|(on, _)| *on).try_for_each(|(_, name)| f.write_str(name))
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Existing => f.write_str("nat"),
            Self::New(range) => write!(f, "nat({range})"),
        }
    }
}

/// `alg=…`: an application's helper, by the port that is its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Helper(pub u16);

impl Helper {
    /// Reads the control connection of FTP.
    pub const FTP: Self = Self(21);
    /// Reads the requests of TFTP.
    pub const TFTP: Self = Self(69);

    /// The helpers that have a name.
    pub(crate) const NAMED: [(&'static str, Self); 2] = [("ftp", Self::FTP), ("tftp", Self::TFTP)];
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, helper)| helper == self) {
            Some((name, _)) => write!(f, "alg={name}"),
            None => write!(f, "alg={}", self.0),
        }
    }
}
