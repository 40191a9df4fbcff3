//! `--ovs`: a private real switch, and what it says, in words.

use crate::failure::Failure;
use crate::input;
use flowproof_ovs::{Difference, Framed, Judge};
use flowproof_packet::summary::summary;

/// Starts one, or says why there is none.
pub(crate) fn summon() -> Result<Judge, Failure> {
    Judge::summon().map_err(|error| failed(&error))
}

/// The machine's fault, or the flows': nothing is known of any packet.
pub(crate) fn failed(error: &dyn ToString) -> Failure {
    Failure::input([format!("--ovs: {}", input::printable(&error.to_string()))])
}

/// A difference for a person.
pub(crate) fn words(difference: &Difference) -> String {
    let Difference { claimed, real, .. } = difference;
    format!("a real switch sends {}; expected {}", list(real), list(claimed))
}

fn list(frames: &[Framed]) -> String {
    let one = |(port, frame): &Framed| format!("{} by port {port}", summary(frame));
    match frames {
        [] => "nothing".to_owned(),
        _ => frames.iter().map(one).collect::<Vec<_>>().join(" and "),
    }
}
