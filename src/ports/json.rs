//! Tables as `ovs-vsctl --format=json` prints them.
//!
//! Source: ovs-vsctl(8), table formatting options; RFC 7047 section 5.1 (`["set", […]]`).

use super::{Columns, PortsError, Rows};
use flowproof_switch::pipeline::PortKind;
use serde_json::{Deserializer, Value};

/// Reads one document, which begins in this line of the file; how many bytes it is long.
pub(super) fn read(text: &str, line: usize, document: usize, rows: &mut Rows) -> Result<usize, PortsError> {
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let Some(value) = values.next() else { return Ok(text.len()) };
    let value = value.map_err(|error| PortsError::Json {
        line: line + error.line().saturating_sub(1),
        column: error.column(),
        message: without_position(&error),
    })?;
    let used = values.byte_offset();
    Document { line, document }.read(&value, rows)?;
    Ok(used)
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// Where a document stands, for complaints.
#[derive(Clone, Copy)]
struct Document {
    line: usize,
    document: usize,
}

impl Document {
    fn lacks(self, missing: &'static str) -> PortsError {
        PortsError::Shape { line: self.line, document: self.document, missing }
    }

    fn read(self, value: &Value, rows: &mut Rows) -> Result<(), PortsError> {
        let array =
            |missing: &'static str| value.get(missing).and_then(Value::as_array).ok_or(self.lacks(missing));
        let (headings, data) = (array("headings")?, array("data")?);
        let column = |name: &str| headings.iter().position(|heading| heading == name);
        let name_at = column("name").ok_or(self.lacks("name"))?;
        let (ofport_at, tag_at) = (column("ofport"), column("tag"));
        let type_at = column("type");
        for row in data {
            let cell = |at: usize| row.get(at).unwrap_or(&Value::Null);
            let name = cell(name_at).as_str().unwrap_or_default();
            let number = |column: &'static str, at: Option<usize>, most: u16| match at.map(cell) {
                None => Ok(None),
                Some(value) => small_number(value, most).ok_or_else(|| PortsError::Value {
                    line: self.line,
                    document: self.document,
                    name: name.to_owned(),
                    column,
                    value: value.to_string(),
                }),
            };
            let ofport = number("ofport", ofport_at, u16::MAX)?;
            let tag = number("tag", tag_at, 4095)?;
            let kind = type_at.and_then(|at| cell(at).as_str()).map(PortKind::of_type);
            let broken = ofport_at.is_some() && ofport.is_none();
            rows.add(name, Columns { ofport, tag, kind, broken, ..Columns::default() });
        }
        Ok(())
    }
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
