//! What a flow matches: a cube over the bits of the flow key.
//!
//! Invariant: one entry a word, in ascending order, no entry with an empty mask, values zero outside their masks.
//! Two matches are therefore equal exactly when they select the same packets bit by bit.

use flowproof_packet::{
    Field, FlowKey,
    key::{MaskedWord, WORDS, low_bits, masked_words},
};
use smallvec::SmallVec;

/// All bits of some fields, by word of the key: whether a match looks at any of them is one pass over its words.
#[derive(Clone, Debug)]
pub(crate) struct Bits([u64; WORDS]);

impl Bits {
    /// The bits of these fields.
    pub(crate) fn of(fields: &[Field]) -> Self {
        let mut words = [0; WORDS];
        for part in fields.iter().flat_map(|field| masked_words(*field, 0, u128::MAX)) {
            if let Some(word) = words.get_mut(usize::from(part.word)) {
                *word |= part.mask;
            }
        }
        Self(words)
    }
}

/// The bits a flow wants, sparse by word.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    words: SmallVec<[MaskedWord; 6]>,
}

impl Match {
    /// The masked words, ascending.
    #[must_use]
    pub fn words(&self) -> &[MaskedWord] {
        &self.words
    }

    /// Whether any of these bits is matched.
    pub(crate) fn looks_at_any(&self, bits: &Bits) -> bool {
        self.words
            .iter()
            .any(|part| part.mask & bits.0.get(usize::from(part.word)).copied().unwrap_or(0) != 0)
    }

    /// Whether the key has all the wanted bits.
    #[must_use]
    pub fn matches(&self, key: &FlowKey) -> bool {
        self.words.iter().all(|part| key.word(usize::from(part.word)) & part.mask == part.value)
    }

    /// Value and mask of `field`; both zero where the match does not look at it.
    #[must_use]
    pub fn get(&self, field: Field) -> (u128, u128) {
        let (mut value, mut mask) = (0, 0);
        for full in masked_words(field, 0, u128::MAX) {
            let part = self.words.iter().find(|part| part.word == full.word);
            let (part_value, part_mask) = part.map_or((0, 0), |part| (part.value, part.mask));
            let shift = full.mask.trailing_zeros();
            value = value << 64 | u128::from((part_value & full.mask) >> shift);
            mask = mask << 64 | u128::from((part_mask & full.mask) >> shift);
        }
        (value, mask)
    }

    /// The value of `field` where all its bits are matched.
    #[must_use]
    pub fn exact(&self, field: Field) -> Option<u128> {
        let (value, mask) = self.get(field);
        (mask == low_bits(field.spec().width)).then_some(value)
    }

    /// Whether some key matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let differs = |a: &MaskedWord| {
            let same = |b: &&MaskedWord| b.word == a.word;
            other.words().iter().find(same).is_some_and(|b| (a.value ^ b.value) & a.mask & b.mask != 0)
        };
        !self.words().iter().any(differs)
    }

    /// Whether any bit of `field` is matched.
    #[must_use]
    pub fn looks_at(&self, field: Field) -> bool {
        let mut wanted = masked_words(field, 0, u128::MAX);
        wanted.any(|full| self.words.iter().any(|part| part.word == full.word && part.mask & full.mask != 0))
    }

    /// Replaces the bits of `field` by `value/mask`; an empty mask removes it from the match.
    pub fn set(&mut self, field: Field, value: u128, mask: u128) {
        let mut wanted = masked_words(field, value, mask).peekable();
        for full in masked_words(field, 0, u128::MAX) {
            let new = wanted.next_if(|part| part.word == full.word);
            let at = self.words.iter().position(|part| part.word >= full.word).unwrap_or(self.words.len());
            match (self.words.get_mut(at).filter(|part| part.word == full.word), new) {
                (Some(part), new) => {
                    let (value, mask) = new.map_or((0, 0), |new| (new.value, new.mask));
                    part.mask = part.mask & !full.mask | mask;
                    part.value = part.value & !full.mask | value;
                    if part.mask == 0 {
                        self.words.remove(at);
                    }
                }
                (None, Some(new)) => self.words.insert(at, new),
                (None, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_field_twice_keeps_the_last_and_unsetting_leaves_nothing() {
        let mut wanted = Match::default();
        wanted.set(Field::NwSrc, 0x0a00_0001, u128::MAX);
        wanted.set(Field::NwSrc, 0x0a00_0005, 0xffff_ff00);
        assert_eq!(wanted.get(Field::NwSrc), (0x0a00_0000, 0xffff_ff00));
        wanted.set(Field::NwSrc, 0, 0);
        assert_eq!(wanted, Match::default());
    }

    #[test]
    fn wide_fields_match_all_their_bits() {
        let mut wanted = Match::default();
        wanted.set(Field::Ipv6Src, 0xfe80 << 112 | 1, u128::MAX);
        let mut key = FlowKey::default();
        assert!(!wanted.matches(&key));
        key.set(Field::Ipv6Src, 0xfe80 << 112 | 1);
        assert!(wanted.matches(&key));
        assert_eq!(wanted.exact(Field::Ipv6Src), Some(0xfe80 << 112 | 1));
    }

    #[test]
    fn matches_overlap_unless_they_want_a_bit_to_differ() {
        let wanted = |parts: &[(Field, u128, u128)]| {
            let mut all = Match::default();
            parts.iter().for_each(|(field, value, mask)| all.set(*field, *value, *mask));
            all
        };
        let net = wanted(&[(Field::NwSrc, 0x0a00_0000, 0xff00_0000), (Field::Reg5, 1, u128::MAX)]);
        assert!(net.overlaps(&wanted(&[(Field::NwSrc, 0x0a01_0000, 0xffff_0000)])));
        assert!(net.overlaps(&wanted(&[(Field::TcpDst, 22, u128::MAX)])));
        assert!(!net.overlaps(&wanted(&[(Field::NwSrc, 0x0b00_0000, 0xff00_0000)])));
        assert!(!net.overlaps(&wanted(&[(Field::Reg5, 2, u128::MAX)])));
    }
}
