//! What a place in the tables leads packets to, as formulas: to leave in a way that counts; and, if somebody asks, to do that
//! twice.
//!
//! Invariant: of what happens in sequence all of it happens, of flows that may be hit one does.

use z3::ast::Bool;

/// All of these.
pub(crate) fn all(parts: &[Bool]) -> Bool {
    match parts {
        [] => Bool::from_bool(true),
        [one] => one.clone(),
        many => Bool::and(many),
    }
}

/// Any of these.
pub(crate) fn any(parts: &[Bool]) -> Bool {
    match parts {
        [] => Bool::from_bool(false),
        [one] => one.clone(),
        many => Bool::or(many),
    }
}

/// Exactly one of them, in the core theory: cardinality constraints are a word of Z3's own.
pub(crate) fn exactly_one(parts: &[&Bool]) -> Bool {
    let alone = |place: usize| {
        let others = parts.iter().enumerate().filter(|(other, _)| *other != place);
        let mut alone: Vec<Bool> = others.map(|(_, part)| part.not()).collect();
        alone.extend(parts.get(place).map(|part| (*part).clone()));
        all(&alone)
    };
    any(&(0..parts.len()).map(alone).collect::<Vec<_>>())
}

/// The packets that are led to leave.
#[derive(Clone, Debug)]
pub(crate) struct Leads {
    /// In a way that counts.
    pub(crate) once: Bool,
    /// In two such ways; nothing if nobody asks.
    pub(crate) twice: Option<Bool>,
}

impl Leads {
    /// Those that leave here; `pairs` if somebody asks who leaves twice.
    pub(crate) fn here(once: Bool, pairs: bool) -> Self {
        Self { once, twice: pairs.then(|| Bool::from_bool(false)) }
    }

    /// Nobody.
    pub(crate) fn nobody(pairs: bool) -> Self {
        Self::here(Bool::from_bool(false), pairs)
    }

    /// Those of them for which this holds.
    pub(crate) fn when(&self, condition: &Bool) -> Self {
        let both = |part: &Bool| all(&[condition.clone(), part.clone()]);
        Self { once: both(&self.once), twice: self.twice.as_ref().map(both) }
    }

    /// One of these happens.
    pub(crate) fn either(parts: &[Self], pairs: bool) -> Self {
        let once: Vec<Bool> = parts.iter().map(|part| part.once.clone()).collect();
        Self { once: any(&once), twice: pairs.then(|| Self::twice(parts)) }
    }

    /// All of these happen.
    pub(crate) fn sequence(parts: &[Self], pairs: bool) -> Self {
        let mut lead = Self::either(parts, pairs);
        if let Some(twice) = &mut lead.twice {
            let mut ways = vec![twice.clone()];
            for (place, one) in parts.iter().enumerate() {
                let later = parts.iter().skip(place + 1);
                ways.extend(later.map(|other| all(&[one.once.clone(), other.once.clone()])));
            }
            *twice = any(&ways);
        }
        lead
    }

    fn twice(parts: &[Self]) -> Bool {
        any(&parts.iter().filter_map(|part| part.twice.clone()).collect::<Vec<_>>())
    }
}
