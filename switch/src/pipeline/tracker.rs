//! Who answers a `ct()`: the seam between the tables and the memory of connections.

use crate::conntrack::{Before, Conntrack, CtInfo, CtOutput, CtRequest, Place, Unknown, state};

/// One packet at one `ct()`.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// What the action asks for.
    pub request: CtRequest,
    /// What the packet remembers of its previous `ct()`.
    pub before: Option<Before>,
    /// Where the action stands on the packet's way.
    pub place: Place,
    /// Whether the action has `table=…`, so that somebody looks at the answer.
    pub recirculates: bool,
    /// How often the packet has been recirculated before.
    pub depth: u8,
}

/// A memory of connections, or something that stands in for one.
pub trait Tracker {
    /// What `ct()` makes of a frame; the frame is empty when only a key is traced.
    fn track(&mut self, frame: &[u8], visit: &Visit) -> CtOutput;

    /// The same, for a tracker from which this frame comes out alone and unchanged: only what is known of it. Nothing
    /// where [`Self::track`] must be asked, and then nothing has happened yet.
    fn answer(&mut self, frame: &[u8], visit: &Visit) -> Option<CtInfo> {
        let _ = (frame, visit);
        None
    }

    /// Lets time pass, in milliseconds.
    fn advance(&mut self, ms: u64) {
        let _ = ms;
    }
}

impl Tracker for Conntrack {
    fn track(&mut self, frame: &[u8], visit: &Visit) -> CtOutput {
        self.execute_at(frame, &visit.request, visit.before.as_ref(), &visit.place)
    }

    fn advance(&mut self, ms: u64) {
        Self::advance(self, ms);
    }
}

/// Answers from a list, whatever the packet; a mark or label that the same `ct()` sets is in the answer. One that
/// an earlier `ct()` showed is not, though ofproto/trace keeps it: a tracker would say what is in *this* zone.
///
/// Source: ovs-vswitchd(8), `ofproto/trace --ct-next`.
#[derive(Clone, Debug)]
pub struct Scripted<'a> {
    next: std::slice::Iter<'a, CtInfo>,
}

impl<'a> Scripted<'a> {
    /// Gives these answers in order, then `+trk+new` for ever.
    #[must_use]
    pub fn new(answers: &'a [CtInfo]) -> Self {
        Self { next: answers.iter() }
    }
}

impl Tracker for Scripted<'_> {
    fn track(&mut self, frame: &[u8], visit: &Visit) -> CtOutput {
        self.answer(frame, visit).map(|info| (frame.to_vec(), info)).into_iter().collect()
    }

    fn answer(&mut self, _: &[u8], visit: &Visit) -> Option<CtInfo> {
        let usual = CtInfo { state: state::TRK | state::NEW, ..CtInfo::default() };
        let mut info = if visit.recirculates { self.next.next().copied().unwrap_or(usual) } else { usual };
        let ((mark, mark_mask), (label, label_mask)) = (visit.request.mark, visit.request.label);
        info.mark = info.mark & !mark_mask | mark & mark_mask;
        info.label = info.label & !label_mask | label & label_mask;
        // What became of the packet is not in the list.
        let translated = visit.request.nat.is_some() && info.state & (state::SNAT | state::DNAT) != 0;
        info.unknown = info.unknown.or(translated.then_some(Unknown::Choice));
        Some(info)
    }
}
