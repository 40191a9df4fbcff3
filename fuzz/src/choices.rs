//! Choices: made by bytes, as fuzzers want them, or by a seed, as tests want them.
//!
//! Invariant: the same bytes, or the same seed, give the same choices; bytes that are missing count as zero, and zero
//! is the first of a pool and never an exception to a rule. Source: SplitMix64 (Steele, Lea, Flood 2014).

use arbitrary::Unstructured;

/// A stream of choices.
#[derive(Debug)]
pub struct Choices<'b>(Source<'b>);

#[derive(Debug)]
enum Source<'b> {
    Bytes(Unstructured<'b>),
    Seed(u64),
}

impl Choices<'static> {
    /// Endless choices that a seed determines.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(Source::Seed(seed))
    }
}

const fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Bytes of a seed: whoever has the seed and the length has them again.
#[must_use]
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    (0..length.div_ceil(8)).flat_map(|_| splitmix(&mut state).to_le_bytes()).take(length).collect()
}

impl<'b> Choices<'b> {
    /// Choices made by these bytes.
    #[must_use]
    pub fn of(bytes: &'b [u8]) -> Self {
        Self(Source::Bytes(Unstructured::new(bytes)))
    }

    /// Whether all bytes are used up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Source::Bytes(bytes) => bytes.is_empty(),
            Source::Seed(_) => false,
        }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        match &mut self.0 {
            Source::Bytes(bytes) => bytes.arbitrary().unwrap_or_default(),
            Source::Seed(state) => splitmix(state),
        }
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        match &mut self.0 {
            Source::Bytes(bytes) => bytes.arbitrary().unwrap_or_default(),
            Source::Seed(state) => (splitmix(state) >> 56) as u8,
        }
    }

    /// A number below `bound`; 0 below 0. Small bounds cost one byte.
    pub fn below(&mut self, bound: usize) -> usize {
        match &self.0 {
            Source::Bytes(_) if bound <= 256 => usize::from(self.byte()) * bound / 256,
            Source::Bytes(_) => (self.number() % bound as u64) as usize,
            Source::Seed(_) => ((self.number() >> 11) % bound.max(1) as u64) as usize,
        }
    }

    /// True in so many percent of cases; never, if there are no bytes left.
    pub fn chance(&mut self, percent: usize) -> bool {
        match &self.0 {
            Source::Bytes(_) => usize::from(self.byte()) * 100 > 100usize.saturating_sub(percent) * 256,
            Source::Seed(_) => self.below(100) < percent,
        }
    }

    /// One of a pool, which is not empty.
    pub fn pick<'p, T>(&mut self, pool: &'p [T]) -> &'p T {
        let at = self.below(pool.len());
        #[expect(clippy::indexing_slicing, reason = "no pool is empty, and `below` is below its length")]
        &pool[at]
    }

    /// 128 bits.
    pub fn bits(&mut self) -> u128 {
        u128::from(self.number()) << 64 | u128::from(self.number())
    }

    /// As many bytes as there are, at most `longest`.
    pub fn blob(&mut self, longest: usize) -> Vec<u8> {
        let length = self.below(longest + 1);
        (0..length).map(|_| self.byte()).collect()
    }
}
