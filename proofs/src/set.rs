//! Sets of packets: the little that symbolic execution asks of an engine.
//!
//! A packet here is an assignment to the variables of [`crate::vars`]. The trait has one production engine, the
//! decision diagrams of [`crate::bdd`]; tests drive the same symbolic pass with explicit enumeration.

use crate::vars::Var;

/// One bit of a packet and the value it has.
pub type Literal = (Var, bool);

/// An engine for sets of packets.
pub trait PacketSets {
    /// A set. Cheap to copy; only meaningful to the engine that made it.
    type Set: Copy + Eq + std::hash::Hash + std::fmt::Debug;

    /// No packet.
    fn none(&self) -> Self::Set;
    /// Every packet.
    fn all(&self) -> Self::Set;
    /// The packets that have all these bits; none if two literals contradict each other.
    fn cube(&mut self, literals: &[Literal]) -> Self::Set;
    /// The packets in both.
    fn and(&mut self, a: Self::Set, b: Self::Set) -> Self::Set;
    /// The packets in either.
    fn or(&mut self, a: Self::Set, b: Self::Set) -> Self::Set;
    /// The packets in `a` but not in `b`.
    fn minus(&mut self, a: Self::Set, b: Self::Set) -> Self::Set;
    /// The packets that are in `set` for some value of the variables that `drop` selects.
    fn exists(&mut self, set: Self::Set, drop: &dyn Fn(Var) -> bool) -> Self::Set;
    /// Some member's bits; variables left out may have any value. `None` for the empty set.
    fn member(&self, set: Self::Set) -> Option<Vec<Literal>>;

    /// The packets in which these variables, the most significant first, have one of the values.
    fn one_of(&mut self, vars: &[Var], values: &[u128]) -> Self::Set {
        let start = self.none();
        values.iter().fold(start, |sum, value| {
            let bits = vars.iter().rev().enumerate();
            let literals: Vec<Literal> = bits.map(|(at, var)| (*var, value >> at & 1 == 1)).collect();
            let one = self.cube(&literals);
            self.or(sum, one)
        })
    }

    /// Whether some packet is in both. An engine that need not make the set of those packets should not.
    fn meet(&mut self, a: Self::Set, b: Self::Set) -> bool {
        let both = self.and(a, b);
        !self.is_empty(both)
    }

    /// Where all packets of `set` agree in these variables: the value they have, and a set of which they are those with that
    /// value. An engine may always answer `None`; who can do it cheaply spares others to carry those bits along.
    fn agreed(&self, _set: Self::Set, _vars: &[Var]) -> Option<(Vec<Literal>, Self::Set)> {
        None
    }

    /// Whether there is no such packet.
    fn is_empty(&self, set: Self::Set) -> bool {
        set == self.none()
    }

    /// The packets not in `set`.
    fn not(&mut self, set: Self::Set) -> Self::Set {
        self.minus(self.all(), set)
    }
}
