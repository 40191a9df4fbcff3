//! The entries, found by zone and key, in either direction.
//!
//! Invariant: at most one entry has a canonical key in a zone; an expired entry is never found, and `counts` is
//! the number of entries of each zone that are in the map.

use super::{
    Profile, icmp::Icmp, other::Other, sctp_kernel::Sctp, tcp_kernel, tcp_userspace, timeouts::Timer,
    tuple::Key,
};
use rustc_hash::FxHashMap;

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
        Self { key, zone, expires: 0, born: 0, mark: 0, label: 0, replied: false, admitted: None, tracker }
    }

    pub(super) const fn restart(&mut self, timer: Timer, now: u64) {
        self.expires = now.saturating_add(timer.userspace());
    }

    /// Whether a packet with `key` travels against the first packet.
    pub(super) fn is_reply(&self, key: &Key) -> bool {
        self.key != *key
    }
}

/// A limit and the entries that were admitted under it since it was set.
#[derive(Clone, Copy, Debug, Default)]
struct Limit {
    most: usize,
    admitted: usize,
}

/// All entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    conns: FxHashMap<(u16, Key), Conn>,
    counts: FxHashMap<u16, usize>,
    limits: FxHashMap<Option<u16>, Limit>,
}

impl Table {
    /// The live entry of a packet.
    pub(super) fn find(&mut self, zone: u16, key: &Key, now: u64) -> Option<&mut Conn> {
        self.conns.get_mut(&(zone, key.canonical())).filter(|conn| conn.expires > now)
    }

    pub(super) fn insert(&mut self, mut conn: Conn) -> &mut Conn {
        let place = (conn.zone, conn.key.canonical());
        self.remove(place.0, &place.1);
        conn.admitted = self.limit_of(conn.zone);
        if let Some(limit) = conn.admitted.and_then(|scope| self.limits.get_mut(&scope)) {
            limit.admitted += 1;
        }
        *self.counts.entry(place.0).or_default() += 1;
        self.conns.entry(place).insert_entry(conn).into_mut()
    }

    pub(super) fn remove(&mut self, zone: u16, key: &Key) -> Option<Conn> {
        let gone = self.conns.remove(&(zone, key.canonical()))?;
        if let Some(count) = self.counts.get_mut(&zone) {
            *count -= 1;
        }
        if let Some(limit) = gone.admitted.and_then(|scope| self.limits.get_mut(&scope)) {
            limit.admitted = limit.admitted.saturating_sub(1);
        }
        Some(gone)
    }

    /// Removes what `dead` says, and hands it back.
    pub(super) fn extract(&mut self, mut dead: impl FnMut(&Conn) -> bool) -> Vec<Conn> {
        let keys: Vec<_> = self.conns.iter().filter(|(_, conn)| dead(conn)).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|(zone, key)| self.remove(*zone, key)).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.conns.values()
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
        within && self.conns.len() < most
    }
}
