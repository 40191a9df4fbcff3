//! Tables together with the intent that they were written for: isolation (section B), agreement with it (section D).

use super::{root, tables};
use flowproof_model::policy::Policy;
use flowproof_proofs::{
    check::Finding,
    diagram::Host,
    intent::{self, layout, site::Site},
    isolation,
    ports::Port,
    properties::Property,
    tables::Tables,
};
use flowproof_switch::conntrack::Profile;
use std::{fs, path::Path};

/// Tables of a host, and what was asked for on it.
pub(super) struct Bound {
    pub(super) host: Host,
    site: Site,
}

/// A verdict, and the name of the row that it is a part of.
pub(super) struct Part {
    pub(super) row: String,
    pub(super) finding: Finding,
}

/// The rows of section B.
pub(super) fn isolation_rows() -> impl Iterator<Item = &'static Property> {
    isolation::ROWS.iter().map(|row| &row.property)
}

impl Bound {
    #[track_caller]
    pub(super) fn read(flows: &Path, intent: &Path) -> Self {
        let text = fs::read_to_string(intent).unwrap_or_else(|error| panic!("{}: {error}", intent.display()));
        let flows = tables(flows);
        let (site, ..) = layout::bind(Policy::from_json(&text).unwrap(), &flows);
        let host = Host { ports: site.ports(&flows), tags: site.tags(), tables: Tables::new(flows) };
        Self { host, site }
    }

    /// What a release wrote for a case.
    #[track_caller]
    pub(super) fn new(release: &str, case: &str) -> Self {
        let intent = root().join("tests/fixtures/intents").join(case).with_extension("json");
        Self::read(&super::corpus().join(release).join(case).with_extension("flows"), &intent)
    }

    fn ports(&self) -> Vec<&Port> {
        self.host.ports.iter().collect()
    }

    /// Section B.
    pub(super) fn isolation(&self, profiles: &[Profile]) -> Vec<Part> {
        let ask = isolation::Ask {
            host: &self.host,
            site: Some(&self.site),
            ports: self.ports(),
            properties: isolation_rows().collect(),
            profiles: profiles.to_vec(),
            watch: &(),
        };
        let part = |finding: Finding| Part { row: finding.property.name.to_owned(), finding };
        isolation::check(&ask).into_iter().map(|of| part(of.finding)).collect()
    }

    /// Section D, a row for each direction and each place of the other end.
    pub(super) fn agreement(&self, profiles: &[Profile]) -> Vec<Part> {
        let ask = intent::Ask {
            host: &self.host,
            site: &self.site,
            ports: self.ports(),
            properties: intent::PROPERTIES.to_vec(),
            profiles: profiles.to_vec(),
            watch: &(),
        };
        let part = |of: intent::IntentFinding| Part {
            row: format!("{} {} {}", of.finding.property.name, of.direction.name(), of.placement.name()),
            finding: of.finding,
        };
        intent::check(&ask).into_iter().map(part).collect()
    }
}
