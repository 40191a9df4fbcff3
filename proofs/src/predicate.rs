//! Predicates over a packet as it was sent: first-order data with several folds.
//!
//! [`Predicate::holds`] evaluates one on a concrete key, [`Predicate::to_set`] folds it into a packet set, and
//! the Z3 engine folds it into a formula. Agreement of the folds is a property test.

use crate::{
    set::{Literal, PacketSets},
    vars::{self, Var},
};
use flowproof_packet::{Field, FlowKey, key::low_bits};

/// A predicate. Fields mean the datagram as it was sent, whatever a fragment shows of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Predicate {
    /// All of these; true if there are none.
    All(Vec<Predicate>),
    /// Any of these; false if there are none.
    Any(Vec<Predicate>),
    /// Not this.
    Not(Box<Predicate>),
    /// The field has this value in the bits of the mask.
    Is(Field, u128, u128),
    /// Two fields of one width are equal.
    Same(Field, Field),
}

impl Predicate {
    /// Always.
    #[must_use]
    pub const fn always() -> Self {
        Self::All(Vec::new())
    }

    /// Never.
    #[must_use]
    pub const fn never() -> Self {
        Self::Any(Vec::new())
    }

    /// `field` has exactly this value.
    pub fn is(field: Field, value: impl Into<u128>) -> Self {
        Self::Is(field, value.into(), low_bits(field.spec().width))
    }

    /// `field` has one of these values.
    pub fn one_of<T: Into<u128>>(field: Field, values: impl IntoIterator<Item = T>) -> Self {
        Self::Any(values.into_iter().map(|value| Self::is(field, value)).collect())
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::All(vec![self, other])
    }

    /// Either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Any(vec![self, other])
    }

    /// The opposite.
    #[must_use]
    pub fn negate(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Whether it holds of a packet.
    #[must_use]
    pub fn holds(&self, sent: &FlowKey) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(sent)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(sent)),
            Self::Not(part) => !part.holds(sent),
            Self::Is(field, value, mask) => (sent.get(*field) ^ value) & mask == 0,
            Self::Same(a, b) => sent.get(*a) == sent.get(*b),
        }
    }

    /// The packets it holds of.
    pub fn to_set<S: PacketSets>(&self, sets: &mut S) -> S::Set {
        match self {
            Self::All(parts) => {
                let start = sets.all();
                parts.iter().fold(start, |sum, part| {
                    let part = part.to_set(sets);
                    sets.and(sum, part)
                })
            }
            Self::Any(parts) if let Some((field, values)) = values(parts) => {
                sets.one_of(&vars::sent(field).collect::<Vec<_>>(), &values)
            }
            Self::Any(parts) => {
                let start = sets.none();
                parts.iter().fold(start, |sum, part| {
                    let part = part.to_set(sets);
                    sets.or(sum, part)
                })
            }
            Self::Not(part) => {
                let part = part.to_set(sets);
                sets.not(part)
            }
            Self::Is(field, value, mask) => sets.cube(&literals(*field, *value, *mask)),
            Self::Same(a, b) => same(sets, *a, *b),
        }
    }
}

/// The values of which a field has one, if that is what these say.
fn values(parts: &[Predicate]) -> Option<(Field, Vec<u128>)> {
    let Predicate::Is(field, ..) = parts.first()? else { return None };
    let value = |part: &Predicate| {
        let Predicate::Is(of, value, mask) = part else { return None };
        (of == field && *mask == low_bits(field.spec().width)).then_some(*value)
    };
    Some((*field, parts.iter().map(value).collect::<Option<_>>()?))
}

/// `value/mask` of a field of the packet as sent, bit by bit.
#[must_use]
pub fn literals(field: Field, value: u128, mask: u128) -> Vec<Literal> {
    let bits = vars::sent(field).rev().enumerate();
    bits.filter(|(i, _)| mask >> i & 1 == 1).map(|(i, var)| (var, value >> i & 1 == 1)).collect()
}

fn same<S: PacketSets>(sets: &mut S, a: Field, b: Field) -> S::Set {
    let pairs: Vec<(Var, Var)> = vars::sent(a).zip(vars::sent(b)).collect();
    let all = sets.all();
    pairs.into_iter().rev().fold(all, |equal, (x, y)| {
        let (ones, zeros) = (sets.cube(&[(x, true), (y, true)]), sets.cube(&[(x, false), (y, false)]));
        let bit = sets.or(ones, zeros);
        sets.and(equal, bit)
    })
}
