//! `--intent`: what was asked for, as Neutron's API objects, and what is found out about it.

use crate::console::Console;
use crate::failure::Failure;
use crate::input;
use flowproof_model::policy::{LoadError, Policy};
use flowproof_proofs::intent::layout::{self, Recognised};
use flowproof_proofs::intent::rows::{Listed, NotChecked};
use flowproof_proofs::intent::site::Site;
use flowproof_proofs::intent::{self, NAMES};
use flowproof_proofs::listing::Listing;
use flowproof_proofs::properties::Property;
use flowproof_proofs::report::Row;
use flowproof_switch::flow::Flow;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// An intent, bound to the tables.
pub(crate) struct Intent {
    /// What was asked for, where.
    pub(crate) site: Site,
    /// The layout of the tables.
    pub(crate) recognised: Recognised,
    /// What was inferred because the intent has no `host`.
    pub(super) inferred: Vec<String>,
    files: Vec<Value>,
}

/// A result of the report.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    /// A verdict on a port.
    Verdict(Box<Row>),
    /// What the layout cannot express.
    Listed(Listed),
    /// Who is not filtered.
    Unfiltered(Listing),
    /// What needs an intent.
    NotChecked(NotChecked),
}

impl Outcome {
    /// Whether it is a list that was asked for, which may be empty.
    pub(super) const fn is_listed(&self) -> bool {
        matches!(self, Self::Listed(_) | Self::Unfiltered(_))
    }
}

impl Intent {
    /// Reads and merges the files of an intent, and binds it to `flows`; nothing without files.
    pub(crate) fn read(
        paths: &[PathBuf],
        flows: &[Flow],
        console: &Console,
    ) -> Result<Option<Self>, Failure> {
        if paths.is_empty() {
            return Ok(None);
        }
        let (mut texts, mut files) = (Vec::new(), Vec::new());
        for path in paths {
            let name = input::name(path);
            let bytes = input::read_bytes(path)?;
            let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            files.push(json!({"file": name, "sha256": sha256}));
            let text = String::from_utf8(bytes)
                .map_err(|error| Failure::input([format!("{name}: not text: {}", error.utf8_error())]))?;
            texts.push((name, text));
        }
        let documents = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let policy = Policy::merge(documents).map_err(|error| refused(&error))?;
        let (site, recognised, inferred) = layout::bind(policy, flows);
        for line in &inferred {
            console.remark(&format!("inferred: {line}"));
        }
        Ok(Some(Self { site, recognised, inferred, files }))
    }

    /// What reports say of the input: the file, or a list of them.
    pub(crate) fn json(&self) -> Value {
        match self.files.as_slice() {
            [one] => one.clone(),
            many => Value::from(many.to_vec()),
        }
    }

    /// What the verdicts rest on.
    pub(super) fn assumptions(&self) -> Vec<String> {
        let mut all: Vec<String> = self.inferred.iter().map(|line| format!("inferred: {line}")).collect();
        let layout = self.recognised.layout.name();
        all.push(format!("the intent is read as the layout `{layout}` means it: {}", self.site.switches));
        if self.site.uplinks().is_empty() {
            all.push(
                "the intent names no uplink: frames of other hosts come in on a trunk under local VLANs"
                    .to_owned(),
            );
        }
        all.push(
            "section D speaks of unicast frames that the properties of what a VM sends do not object to"
                .to_owned(),
        );
        all
    }
}

/// Every fault on a line of its own: object, field and value.
fn refused(error: &LoadError) -> Failure {
    let text = error.to_string();
    Failure::input(text.lines().map(|line| format!("intent: {}", input::printable(line))).collect::<Vec<_>>())
}

/// Those of section D's theorems that `wanted` selects and that are judged port by port.
pub(super) fn properties(wanted: impl Fn(&str) -> bool) -> Vec<&'static Property> {
    intent::PROPERTIES.into_iter().filter(|property| wanted(property.name)).collect()
}

/// What stands in section D beside verdicts on ports, as far as `wanted` selects it.
pub(super) fn other_results(intent: Option<&Intent>, wanted: impl Fn(&str) -> bool) -> Vec<Outcome> {
    match intent {
        Some(intent) => NAMES
            .into_iter()
            .filter(|name| *name == intent::UNSUPPORTED_RULE && wanted(name))
            .map(|_| Outcome::Listed(intent::rows::listed(&intent.recognised)))
            .collect(),
        None => {
            let rows = intent::rows::not_checked().into_iter().filter(|row| wanted(row.property));
            rows.map(Outcome::NotChecked).collect()
        }
    }
}
