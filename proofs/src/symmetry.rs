//! Ports that may be exchanged: what is found out about one of them is found out about the other.
//!
//! An exchange swaps two ports and their addresses, wherever a packet or a flow has them. If that maps the flows of a
//! host onto themselves, its ports onto each other and its intent onto itself, then it maps every way of a packet through
//! the tables onto a way of the exchanged packet, so each theorem about the one port is the same theorem about the
//! other. Nothing is guessed: every flow that names either port is exchanged and looked up.
//!
//! Invariant: exchanges of `a` with `b` and of `a` with `c` make one of `b` with `c`, so ports fall into classes.
//! Deliberately absent: networks that may be exchanged, conjunctions that differ in their id only, and tables that
//! move addresses or port numbers about in parts; ports of such hosts are each a class of their own.

mod census;
mod exchange;
mod turns;

pub(crate) use exchange::Exchange;

use crate::{diagram::Host, hygiene, intent::site::Site, ports::Port, predicate::Predicate};
use census::Census;
use flowproof_packet::{Field, PortNo};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};

/// The classes of a host's filtered ports.
#[derive(Clone, Debug, Default)]
pub struct Symmetry {
    class: BTreeMap<PortNo, PortNo>,
}

impl Symmetry {
    /// Which ports of `host` may be exchanged; with an intent, without changing that either.
    #[must_use]
    pub fn new(host: &Host, site: Option<&Site>) -> Self {
        Census::new(host, site).map_or_else(|| Self::trivial(host), |census| Self::by(host, &census))
    }

    /// The same as far as the `wanted` frames go, which must be the same frames whatever ports are exchanged: flows that none of
    /// them hits may be what they like.
    #[must_use]
    pub fn among(host: &Host, site: Option<&Site>, wanted: &Predicate) -> Self {
        let Some(mut census) = Census::new(host, site) else { return Self::trivial(host) };
        let known = Self::by(host, &census);
        let kinds: FxHashSet<_> = host.ports.iter().map(|port| census.kind(port)).collect();
        let classes: BTreeSet<PortNo> = known.class.values().copied().collect();
        if classes.len() <= kinds.len() {
            return known;
        }
        let Some(hit) = hygiene::hit_by(&host.tables, wanted) else { return known };
        census.look_at(hit);
        Self::by(host, &census)
    }

    fn by(host: &Host, census: &Census<'_>) -> Self {
        let mut alike: FxHashMap<_, Vec<&Port>> = FxHashMap::default();
        for port in &host.ports {
            alike.entry(census.kind(port)).or_default().push(port);
        }
        let groups: Vec<Vec<&Port>> = alike.into_values().collect();
        let class = groups.par_iter().flat_map_iter(|ports| classes(census, ports)).collect();
        Self { class }
    }

    /// Each port in a class of its own: what those are compared with who make use of symmetry.
    #[must_use]
    pub fn trivial(host: &Host) -> Self {
        Self { class: host.ports.iter().map(|port| (port.ofport, port.ofport)).collect() }
    }

    /// The class of a port, named by its first port.
    #[must_use]
    pub fn class(&self, ofport: PortNo) -> PortNo {
        self.class.get(&ofport).copied().unwrap_or(ofport)
    }

    /// For each of `ports` the place of the first one among them that it may be exchanged with.
    #[must_use]
    pub fn firsts(&self, ports: &[&Port]) -> Vec<usize> {
        let mut first = BTreeMap::new();
        let place = |(at, port): (usize, &&Port)| *first.entry(self.class(port.ofport)).or_insert(at);
        ports.iter().enumerate().map(place).collect()
    }

    /// The first ports of each class, as many as `count` says of it, those of `ports` before others.
    #[must_use]
    pub fn samples<'a>(
        &self,
        host: &'a Host,
        ports: &[&'a Port],
        count: impl Fn(PortNo) -> usize,
    ) -> Vec<&'a Port> {
        let mut samples: BTreeMap<PortNo, Vec<&Port>> = BTreeMap::new();
        for port in ports.iter().copied().chain(&host.ports) {
            let name = self.class(port.ofport);
            let class = samples.entry(name).or_default();
            if class.len() < count(name) && class.iter().all(|other| other.ofport != port.ofport) {
                class.push(port);
            }
        }
        samples.into_values().flatten().collect()
    }

    /// Frames that nobody needs to look into who asks about `ports`: those for ports that stand behind so many others of their
    /// class as have a part of their own, and so can be exchanged with one that has none.
    #[must_use]
    pub fn spared(&self, host: &Host, ports: &[&Port], parts: impl Fn(PortNo) -> usize) -> Predicate {
        let samples = self.samples(host, ports, |class| parts(class) + 1);
        let macs = |port: &Port| port.macs.iter().map(|mac| mac.to_bits()).collect::<Vec<_>>();
        let looked_into: BTreeSet<u64> = samples.iter().flat_map(|port| macs(port)).collect();
        let all: BTreeSet<u64> = host.ports.iter().flat_map(macs).collect();
        Predicate::one_of(Field::DlDst, all.difference(&looked_into).copied())
    }
}

/// The classes of ports that look alike.
fn classes(census: &Census<'_>, ports: &[&Port]) -> Vec<(PortNo, PortNo)> {
    let mut firsts: Vec<&Port> = Vec::new();
    let mut class = Vec::new();
    for port in ports {
        let same =
            |first: &&&Port| Exchange::of(first, port).is_some_and(|of| census.allows(&of, first, port));
        let first = firsts.iter().find(same).copied();
        if first.is_none() {
            firsts.push(port);
        }
        class.push((port.ofport, first.unwrap_or(port).ofport));
    }
    class
}
