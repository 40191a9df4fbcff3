//! Flows to text.
use super::Match;

/// placeholder
pub(crate) fn match_text(_matching: &Match) -> String {
    String::new()
}
