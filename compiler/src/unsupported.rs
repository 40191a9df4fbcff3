//! What a layout cannot express.

use std::fmt;

/// What a layout does with something it cannot express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consequence {
    /// More is admitted than was asked for.
    Widened,
    /// Less is admitted than was asked for.
    Narrowed,
    /// The port has no flows at all.
    Unfiltered,
}

impl Consequence {
    /// The word for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Widened => "widened",
            Self::Narrowed => "narrowed",
            Self::Unfiltered => "unfiltered",
        }
    }
}

/// Something that a layout cannot express.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unsupported {
    /// What kind of object: `rule`, `security group` or `port`.
    pub object: &'static str,
    /// Its id.
    pub id: String,
    /// What comes of it.
    pub consequence: Consequence,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` is {}: {}", self.object, self.id, self.consequence.name(), self.reason)
    }
}
