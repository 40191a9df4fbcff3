//! Chance that can be repeated.

/// A stream of numbers that its seed determines.
pub(super) type Rng = flowproof_fuzz::Choices<'static>;
