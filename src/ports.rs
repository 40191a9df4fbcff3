//! The ports of a bridge, as ovs-vsctl prints them: what no flow dump contains.
//!
//! The file is what this prints, one JSON document after the other, joined by `name`:
//! `ovs-vsctl --format=json --columns=name,tag list Port -- --columns=name,ofport list Interface`.
//! Other columns and other documents' order do not matter. A port without `tag` is a trunk; an interface without an
//! OpenFlow number, or with -1 (it could not be opened), is left out.
//!
//! Source: ovs-vsctl(8), table formatting options; RFC 7047 section 5.1 (`["set", […]]`).

use serde_json::{Deserializer, Value};
use std::collections::BTreeMap;
use thiserror::Error;

/// One port that flows can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its name.
    pub(crate) name: String,
    /// Its OpenFlow number.
    pub(crate) ofport: u16,
    /// The VLAN it is an access port of; none for a trunk.
    pub(crate) tag: Option<u16>,
}

/// Why the text is no list of ports.
#[derive(Debug, Error)]
pub(crate) enum PortsError {
    /// No JSON.
    #[error("{}:{}: {}", .0.line(), .0.column(), without_position(.0))]
    Json(#[from] serde_json::Error),
    /// JSON, but not the form that ovs-vsctl prints.
    #[error("1:1: document {document}: no `{missing}`: is this `ovs-vsctl --format=json` output?")]
    Shape {
        /// Which document, from 1.
        document: usize,
        /// What is missing in it.
        missing: &'static str,
    },
    /// A value that the column cannot have.
    #[error("1:1: document {document}: port `{name}`: `{column}` is `{value}`")]
    Value {
        /// Which document, from 1.
        document: usize,
        /// The port.
        name: String,
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// Well-formed, but no port has a number.
    #[error("1:1: no port has both `name` and `ofport`")]
    Empty,
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// What is known of a port from the documents read so far.
#[derive(Default)]
struct Columns {
    ofport: Option<u16>,
    tag: Option<u16>,
}

/// The ports in the output of ovs-vsctl, by number.
pub(crate) fn parse_ports(text: &str) -> Result<Vec<Port>, PortsError> {
    let mut rows: BTreeMap<String, Columns> = BTreeMap::new();
    for (at, document) in Deserializer::from_str(text).into_iter::<Value>().enumerate() {
        read_document(at + 1, &document?, &mut rows)?;
    }
    let port = |(name, columns): (String, Columns)| {
        columns.ofport.map(|ofport| Port { name, ofport, tag: columns.tag })
    };
    let mut ports: Vec<_> = rows.into_iter().filter_map(port).collect();
    ports.sort_by_key(|port| port.ofport);
    if ports.is_empty() { Err(PortsError::Empty) } else { Ok(ports) }
}

fn read_document(
    document: usize,
    value: &Value,
    rows: &mut BTreeMap<String, Columns>,
) -> Result<(), PortsError> {
    let array = |missing: &'static str| {
        value.get(missing).and_then(Value::as_array).ok_or(PortsError::Shape { document, missing })
    };
    let (headings, data) = (array("headings")?, array("data")?);
    let column = |name: &str| headings.iter().position(|heading| heading == name);
    let name_at = column("name").ok_or(PortsError::Shape { document, missing: "name" })?;
    for row in data {
        let cell = |at: usize| row.get(at).unwrap_or(&Value::Null);
        let name = cell(name_at).as_str().unwrap_or_default().to_owned();
        let number = |name: &str, column: &'static str, at: Option<usize>, most: u16| {
            let value = at.map(cell);
            value.map_or(Ok(None), |value| {
                small_number(value, most).ok_or_else(|| PortsError::Value {
                    document,
                    name: name.to_owned(),
                    column,
                    value: value.to_string(),
                })
            })
        };
        let ofport = number(&name, "ofport", column("ofport"), u16::MAX)?;
        let tag = number(&name, "tag", column("tag"), 4095)?;
        let known = rows.entry(name).or_default();
        known.ofport = ofport.or(known.ofport);
        known.tag = tag.or(known.tag);
    }
    Ok(())
}

/// A number up to `most`; `Some(None)` for the empty set, and for -1.
fn small_number(value: &Value, most: u16) -> Option<Option<u16>> {
    let is_empty_set = value.as_array().is_some_and(|set| match set.as_slice() {
        [kind, Value::Array(members)] => kind == "set" && members.is_empty(),
        _ => false,
    });
    if is_empty_set || value.as_i64() == Some(-1) {
        return Some(None);
    }
    let number = u16::try_from(value.as_u64()?).ok()?;
    (number <= most).then_some(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a real ovs-vsctl 3.1 printed it, with the numbers that the dummy bridge lacked.
    const PORTS: &str = r#"{"data":[["int-br-phy",["set",[]]],["tap1",5]],"headings":["name","tag"]}
{"data":[["tap1",13],["gone",["set",[]]],["broken",-1],["int-br-phy",1]],"headings":["name","ofport"]}"#;

    #[test]
    fn documents_are_joined_by_name() {
        let port = |name: &str, ofport, tag| Port { name: name.to_owned(), ofport, tag };
        assert_eq!(parse_ports(PORTS).unwrap(), [port("int-br-phy", 1, None), port("tap1", 13, Some(5))]);
    }

    #[track_caller]
    fn check(text: &str, message: &str) {
        assert_eq!(parse_ports(text).unwrap_err().to_string(), message);
    }

    #[test]
    fn what_ovs_vsctl_does_not_print_is_refused() {
        check("", "1:1: no port has both `name` and `ofport`");
        check("{}", "1:1: document 1: no `headings`: is this `ovs-vsctl --format=json` output?");
        check(
            r#"{"headings":["name"]}"#,
            "1:1: document 1: no `data`: is this `ovs-vsctl --format=json` output?",
        );
        check(
            r#"{"headings":["tag"],"data":[]}"#,
            "1:1: document 1: no `name`: is this `ovs-vsctl --format=json` output?",
        );
        check(
            r#"{"headings":["name","ofport"],"data":[["a",70000]]}"#,
            "1:1: document 1: port `a`: `ofport` is `70000`",
        );
        check("{\n \"data\": x", "2:10: expected value");
    }
}
