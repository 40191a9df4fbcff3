//! The entries, found by zone and key, in either direction.
//!
//! Where several answer to one key, which takes translation, the newest does, as in Open vSwitch 3.1.
//!
//! Invariant: an entry stands under the canonical forms of its key and of what answers it; an expired entry is never
//! found, and `counts` is the number of entries of each zone that are kept.

use super::{
    Profile, icmp::Icmp, other::Other, sctp_kernel::Sctp, tcp_kernel, tcp_userspace, timeouts::Timer,
    tuple::Key,
};
use crate::flow::NatEnd;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// The protocol's part of an entry.
#[derive(Clone, Debug)]
pub(super) enum Tracker {
    Tcp(tcp_userspace::Tcp),
    Icmp(Icmp),
    Other(Other),
    KernelTcp(Box<tcp_kernel::Tcp>),
    KernelSctp(Sctp),
    /// A protocol that the kernel only watches for replies.
    KernelPlain,
}

/// One tracked connection.
#[derive(Clone, Debug)]
pub(super) struct Conn {
    /// As the first packet had it.
    pub(super) key: Key,
    /// What packets of the other direction have; the key reversed, unless there is translation.
    pub(super) reverse: Key,
    /// Which end of packets that have the key is translated, if any is.
    pub(super) nat: Option<NatEnd>,
    pub(super) zone: u16,
    pub(super) expires: u64,
    /// When it was made; only the kernel asks.
    pub(super) born: u64,
    pub(super) mark: u32,
    pub(super) label: u128,
    /// Whether a packet of the other direction was accepted; only the kernel asks.
    pub(super) replied: bool,
    /// The limit it was admitted under.
    admitted: Option<Option<u16>>,
    pub(super) tracker: Tracker,
}

impl Conn {
    pub(super) const fn new(key: Key, zone: u16, tracker: Tracker) -> Self {
        Self {
            key,
            reverse: key.reversed(),
            nat: None,
            zone,
            expires: 0,
            born: 0,
            mark: 0,
            label: 0,
            replied: false,
            admitted: None,
            tracker,
        }
    }

    pub(super) const fn restart(&mut self, timer: Timer, now: u64) {
        self.expires = now.saturating_add(timer.userspace());
    }

    /// The places in the table where it is looked for.
    fn places(&self) -> impl Iterator<Item = (u16, Key)> {
        let (there, back) = (self.key.canonical(), self.reverse.canonical());
        [Some(there), (there != back).then_some(back)].into_iter().flatten().map(|key| (self.zone, key))
    }
}

/// An entry's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(usize);

/// A limit and the entries that were admitted under it since it was set.
#[derive(Clone, Copy, Debug, Default)]
struct Limit {
    most: usize,
    admitted: usize,
}

/// How long the userspace datapath takes at most to tidy up, with room.
const TIDY_MS: u64 = 20_000;

/// All entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    conns: Vec<Option<Conn>>,
    free: Vec<Id>,
    /// The newest comes last.
    places: FxHashMap<(u16, Key), SmallVec<[Id; 1]>>,
    counts: FxHashMap<u16, usize>,
    /// What answered translated entries that are no more, and until when it may still be taken.
    ghosts: Vec<(u16, Key, u64)>,
    limits: FxHashMap<Option<u16>, Limit>,
}

impl Table {
    /// The live entry of a packet, and whether the packet travels against the entry's first one.
    pub(super) fn find(&self, zone: u16, key: &Key, now: u64) -> Option<(Id, bool)> {
        let ids = self.places.get(&(zone, key.canonical()))?;
        ids.iter().rev().find_map(|id| {
            let conn = self.conn(*id).filter(|conn| conn.expires > now)?;
            (conn.key == *key || conn.reverse == *key).then_some((*id, conn.key != *key))
        })
    }

    pub(super) fn conn(&self, id: Id) -> Option<&Conn> {
        self.conns.get(id.0)?.as_ref()
    }

    pub(super) fn conn_mut(&mut self, id: Id) -> Option<&mut Conn> {
        self.conns.get_mut(id.0)?.as_mut()
    }

    pub(super) fn insert(&mut self, mut conn: Conn) -> Id {
        conn.admitted = self.limit_of(conn.zone);
        if let Some(limit) = conn.admitted.and_then(|scope| self.limits.get_mut(&scope)) {
            limit.admitted += 1;
        }
        *self.counts.entry(conn.zone).or_default() += 1;
        let id = self.free.pop().unwrap_or(Id(self.conns.len()));
        conn.places().for_each(|place| self.places.entry(place).or_default().push(id));
        match self.conns.get_mut(id.0) {
            Some(room) => *room = Some(conn),
            None => self.conns.push(Some(conn)),
        }
        id
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Conn> {
        let gone = self.conns.get_mut(id.0)?.take()?;
        self.free.push(id);
        for place in gone.places() {
            if let Some(ids) = self.places.get_mut(&place) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.places.remove(&place);
                }
            }
        }
        if let Some(count) = self.counts.get_mut(&gone.zone) {
            *count -= 1;
        }
        if let Some(limit) = gone.admitted.and_then(|scope| self.limits.get_mut(&scope)) {
            limit.admitted = limit.admitted.saturating_sub(1);
        }
        Some(gone)
    }

    /// The userspace datapath lets go of an entry at once, and of what answered it when it tidies up.
    pub(super) fn haunt(&mut self, gone: &Conn, now: u64) {
        self.ghosts.retain(|(_, _, until)| *until > now);
        if gone.reverse != gone.key.reversed() {
            self.ghosts.push((gone.zone, gone.reverse, now.saturating_add(TIDY_MS)));
        }
    }

    /// Whether a key may still be taken by an entry that is no more.
    pub(super) fn is_haunted(&self, zone: u16, key: &Key, now: u64) -> bool {
        self.ghosts.iter().any(|(of, ghost, until)| *of == zone && ghost == key && *until > now)
    }

    /// Lays the ghosts of a zone, or all.
    pub(super) fn exorcise(&mut self, zone: Option<u16>) {
        self.ghosts.retain(|(of, ..)| zone.is_some_and(|zone| *of != zone));
    }

    /// Removes what `dead` says, and hands it back.
    pub(super) fn extract(&mut self, mut dead: impl FnMut(&Conn) -> bool) -> Vec<Conn> {
        let entries = self.conns.iter().enumerate();
        let gone =
            |(at, conn): (usize, &Option<Conn>)| conn.as_ref().is_some_and(&mut dead).then_some(Id(at));
        let ids: Vec<_> = entries.filter_map(gone).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.conns.iter().flatten()
    }

    /// Sets the limit of a zone, or of all zones that have none of their own.
    pub(super) fn set_limit(&mut self, scope: Option<u16>, most: usize) {
        self.limits.entry(scope).or_default().most = most;
    }

    pub(super) fn remove_limit(&mut self, scope: Option<u16>) {
        self.limits.remove(&scope);
    }

    /// Which limit counts for a zone.
    fn limit_of(&self, zone: u16) -> Option<Option<u16>> {
        [Some(zone), None].into_iter().find(|scope| self.limits.contains_key(scope))
    }

    /// Whether another entry may be made.
    pub(super) fn has_room(&self, profile: Profile, zone: u16, most: usize) -> bool {
        let limit = self.limit_of(zone).and_then(|scope| self.limits.get(&scope));
        let within = limit.is_none_or(|limit| match profile {
            Profile::Userspace31 => limit.admitted < limit.most,
            // The kernel counts what the zone has; 0 is no limit.
            Profile::Kernel | Profile::Kernel2016 => {
                limit.most == 0 || self.counts.get(&zone).is_none_or(|count| *count < limit.most)
            }
        });
        within && self.conns.len() - self.free.len() < most
    }
}
