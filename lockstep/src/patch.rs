//! Defects on purpose: compiled tables with something changed, to see whether anybody notices.
//!
//! Deliberately absent: which defects there are; those are for whoever tests the tests.

use flowproof_switch::flow::Flow;
use std::fmt;
use std::sync::Arc;

/// What is done to tables after they are compiled.
#[derive(Clone, Default)]
pub struct Patch(Option<Arc<Change>>);

type Change = dyn Fn(Vec<Flow>) -> Vec<Flow> + Send + Sync;

impl Patch {
    /// Tables are changed by this each time they are compiled.
    pub fn new(change: impl Fn(Vec<Flow>) -> Vec<Flow> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(change)))
    }

    /// The tables after it.
    #[must_use]
    pub fn apply(&self, flows: Vec<Flow>) -> Vec<Flow> {
        match &self.0 {
            Some(change) => change(flows),
            None => flows,
        }
    }
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Patch" } else { "no patch" })
    }
}
