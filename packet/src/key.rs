//! The flow key: every header field of one packet in one fixed-size bit string, as table lookup sees it.
//!
//! Invariant: bit 0 is the most significant bit of word 0; a field is a run of bits that lies inside one word,
//! or fills whole words. Fields that Open vSwitch stores in one place (`nw_src` and `arp_spa`, `tp_src` and
//! `icmp_type`, `arp_sha` and `nd_sll`) share their bits here too, so that a match means the same thing.

use crate::{
    field::{Field, FieldSpec},
    port,
};
use std::fmt;

/// 64-bit words in a key.
pub const WORDS: usize = 48;
/// Bits in a key.
pub const BITS: usize = WORDS * 64;

/// The header fields and metadata of one packet.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FlowKey {
    words: [u64; WORDS],
}

/// Nothing of a frame, and what only flows write has its initial value: zero, but for an action set without an output.
impl Default for FlowKey {
    fn default() -> Self {
        let mut key = Self::zero();
        key.set(Field::ActsetOutput, u128::from(port::UNSET));
        key
    }
}

/// Where a field's bits lie: words `word ..`, and inside a word how far they are shifted left.
const fn place(spec: &FieldSpec) -> (usize, u32) {
    let word = (spec.offset / 64) as usize;
    let end = spec.offset % 64 + spec.width;
    (word, if end >= 64 { 0 } else { 64 - end as u32 })
}

/// The `width` low bits set.
#[must_use]
pub const fn low_bits(width: u16) -> u128 {
    if width >= 128 { u128::MAX } else { (1 << width) - 1 }
}

impl FlowKey {
    /// No bit set, for masks.
    #[must_use]
    pub const fn zero() -> Self {
        Self { words: [0; WORDS] }
    }

    /// The 64-bit words, most significant bit first.
    #[must_use]
    pub const fn words(&self) -> &[u64; WORDS] {
        &self.words
    }

    /// One 64-bit word; words beyond the key are zero.
    #[inline]
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// Replaces the bits of one word that `mask` selects.
    #[inline]
    pub fn set_word(&mut self, index: usize, value: u64, mask: u64) {
        if let Some(word) = self.words.get_mut(index) {
            *word = *word & !mask | value & mask;
        }
    }

    /// The value of `field`.
    #[inline]
    #[must_use]
    pub fn get(&self, field: Field) -> u128 {
        let spec = field.spec();
        let (word, shift) = place(spec);
        if spec.width > 64 {
            u128::from(self.word(word)) << 64 | u128::from(self.word(word + 1))
        } else {
            u128::from(self.word(word) >> shift) & low_bits(spec.width)
        }
    }

    /// Sets the whole of `field`; bits of `value` beyond the field's width are ignored.
    #[inline]
    pub fn set(&mut self, field: Field, value: u128) {
        self.set_masked(field, value, u128::MAX);
    }

    /// Sets those bits of `field` that `mask` selects.
    #[inline]
    pub fn set_masked(&mut self, field: Field, value: u128, mask: u128) {
        for part in masked_words(field, value, mask) {
            self.set_word(usize::from(part.word), part.value, part.mask);
        }
    }

    /// One bit, by its offset in the key.
    #[must_use]
    pub fn bit(&self, offset: u16) -> bool {
        self.word(usize::from(offset / 64)) >> (63 - offset % 64) & 1 == 1
    }

    /// Sets one bit, by its offset in the key.
    pub fn set_bit(&mut self, offset: u16, on: bool) {
        let mask = 1 << (63 - offset % 64);
        self.set_word(usize::from(offset / 64), if on { mask } else { 0 }, mask);
    }
}

/// A value and mask for one word of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaskedWord {
    /// Index of the word.
    pub word: u8,
    /// The bits wanted; zero outside `mask`.
    pub value: u64,
    /// The bits that matter.
    pub mask: u64,
}

/// `value/mask` of a field as masked words of the key (two for a 128-bit field); words without mask are left out.
#[inline]
pub fn masked_words(field: Field, value: u128, mask: u128) -> impl Iterator<Item = MaskedWord> {
    let spec = field.spec();
    let (word, shift) = place(spec);
    let mask = mask & low_bits(spec.width);
    let value = value & mask;
    let wide = spec.width > 64;
    let low = |v: u128| (v & u128::from(u64::MAX)) as u64;
    let first =
        if wide { (low(value >> 64), low(mask >> 64)) } else { (low(value) << shift, low(mask) << shift) };
    let second = if wide { (low(value), low(mask)) } else { (0, 0) };
    [(word, first), (word + 1, second)]
        .into_iter()
        .filter(|(_, (_, mask))| *mask != 0)
        .map(|(word, (value, mask))| MaskedWord { word: word as u8, value, mask })
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for field in Field::all().filter(|field| field.spec().is_slot_owner() && self.get(*field) != 0) {
            map.entry(&field.spec().name, &format_args!("{:#x}", self.get(field)));
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_keeps_its_value_and_no_field_leaves_the_key() {
        for field in Field::all() {
            let width = field.spec().width;
            assert!(usize::from(field.spec().offset + width) <= BITS, "{field:?}");
            let mut key = FlowKey::zero();
            key.set(field, u128::MAX);
            assert_eq!(key.get(field), low_bits(width), "{field:?}");
            let ones: u32 = key.words().iter().map(|w| w.count_ones()).sum();
            assert_eq!(ones, u32::from(width), "{field:?}");
        }
    }

    #[test]
    fn wide_registers_are_their_narrow_halves() {
        let mut key = FlowKey::default();
        key.set(Field::Reg0, 0x1111_1111);
        key.set(Field::Reg1, 0x2222_2222);
        assert_eq!(key.get(Field::Xreg0), 0x1111_1111_2222_2222);
        assert_eq!(key.get(Field::Xxreg0) >> 64, 0x1111_1111_2222_2222);
    }

    #[test]
    fn bits_are_numbered_from_the_most_significant() {
        let mut key = FlowKey::default();
        key.set(Field::DlType, 0x8000);
        assert!(key.bit(Field::DlType.spec().offset));
    }
}
