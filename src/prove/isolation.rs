//! Section B: isolation and default deny.

use flowproof_proofs::check::Task;
use flowproof_proofs::intent::site::Site;
use flowproof_proofs::isolation::{self, Ask, IsolationFinding, ROWS};
use flowproof_proofs::properties::Property;
use flowproof_proofs::since::Since;

/// What is found out about the theorems of section B that `wanted` selects.
pub(super) fn check(
    task: &Task<'_>,
    site: Option<&Site>,
    since: Option<&Since>,
    wanted: impl Fn(&str) -> bool,
) -> Vec<IsolationFinding> {
    let chosen = ROWS.iter().map(|row| &row.property).filter(|property| wanted(property.name));
    let properties: Vec<&'static Property> = chosen.collect();
    if properties.is_empty() {
        return Vec::new();
    }
    let ask = Ask {
        host: task.host,
        site,
        ports: task.ports.clone(),
        properties,
        profiles: task.profiles.clone(),
        watch: task.watch,
    };
    since.map_or_else(|| isolation::check(&ask), |since| isolation::check_since(&ask, since))
}
