//! What a flow file says that its author may not have meant.
//!
//! Invariant: a lint never changes a flow; it says what Open vSwitch makes of the text.

use std::fmt;

/// A remark about one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Line of the flow, from 1.
    pub line: u32,
    /// What is remarkable.
    pub kind: LintKind,
}

/// Kinds of remarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LintKind {
    /// The match names fields whose prerequisites it lacks; Open vSwitch drops them, so the flow matches more.
    Widened {
        /// The fields that are dropped.
        fields: Vec<&'static str>,
        /// The match as written.
        before: String,
        /// The match as Open vSwitch keeps it.
        after: String,
    },
    /// A value does not fit its field; Open vSwitch keeps the low bits.
    Truncated {
        /// The item as written.
        text: String,
    },
    /// `ct()` in a flow that does not match IP: accepted by Open vSwitch 2.5, refused since 2.6.
    CtWithoutIp,
    /// `strip_vlan`, or another action on a header that the match does not require: only OpenFlow 1.0 takes it.
    OpenFlow10Only {
        /// The action.
        action: String,
    },
}

impl fmt::Display for LintKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Widened { fields, before, after } => {
                let after = if after.is_empty() { "every packet" } else { after };
                let fields = fields.join("`, `");
                write!(f, "`{fields}` lack their prerequisites and are dropped: `{before}` matches `{after}`")
            }
            Self::Truncated { text } => write!(f, "`{text}` does not fit its field and loses its high bits"),
            Self::CtWithoutIp => {
                f.write_str("`ct()` without `ip` or `ipv6` is refused since Open vSwitch 2.6")
            }
            Self::OpenFlow10Only { action } => {
                write!(f, "`{action}` without a match on its header is accepted over OpenFlow 1.0 only")
            }
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.kind)
    }
}
