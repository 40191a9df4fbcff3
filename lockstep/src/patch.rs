//! Defects on purpose: compiled tables with something changed, to see whether anybody notices.
//!
//! Invariant: what is remembered is what compiling again would give. Deliberately absent: which defects there are; those
//! are for whoever tests the tests.

use flowproof_compiler::{Layout, Options, compile};
use flowproof_model::policy::Policy;
use flowproof_switch::flow::Flow;
use flowproof_switch::table::Tables;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Policies whose tables are remembered.
const REMEMBERED: usize = 16;

/// What is done to tables after they are compiled.
#[derive(Clone, Default)]
pub struct Patch {
    change: Option<Arc<Change>>,
    memory: Option<Memory>,
}

type Change = dyn Fn(Vec<Flow>) -> Vec<Flow> + Send + Sync;

/// Tables of policies that were met, the latest last.
type Memory = Arc<Mutex<Vec<(Policy, Layout, Arc<Tables>)>>>;

impl Patch {
    /// Tables are changed by this each time they are compiled.
    pub fn new(change: impl Fn(Vec<Flow>) -> Vec<Flow> + Send + Sync + 'static) -> Self {
        Self { change: Some(Arc::new(change)), memory: None }
    }

    /// The same, for whoever comes back to the same policies often: their tables are compiled once.
    #[must_use]
    pub fn remembering(self) -> Self {
        Self { memory: Some(Memory::default()), ..self }
    }

    /// The tables after it.
    #[must_use]
    pub fn apply(&self, flows: Vec<Flow>) -> Vec<Flow> {
        match &self.change {
            Some(change) => change(flows),
            None => flows,
        }
    }

    /// The tables that a layout makes of a policy, after it.
    pub(crate) fn compiled(&self, policy: &Policy, layout: Layout) -> Arc<Tables> {
        let make = || {
            let host = policy.host.clone().unwrap_or_default();
            let compiled = compile(policy, &host, layout, &Options::default());
            Arc::new(Tables::new(self.apply(compiled.flows.into_iter().map(|one| one.flow).collect())))
        };
        let Some(memory) = &self.memory else { return make() };
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memory.iter().rposition(|(known, of, _)| *of == layout && known == policy);
        let met = match known {
            Some(at) => memory.remove(at),
            None => (policy.clone(), layout, make()),
        };
        let tables = Arc::clone(&met.2);
        memory.push(met);
        if memory.len() > REMEMBERED {
            memory.remove(0);
        }
        tables
    }
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.change.is_some() { "Patch" } else { "no patch" })
    }
}
