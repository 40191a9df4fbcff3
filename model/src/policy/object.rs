//! Reading one JSON object: every field that is missing or has another form than it should leaves a fault.

use super::error::{Fault, Problem};
use serde_json::{Map, Value};

/// The faults found so far.
pub(super) type Faults = Vec<Fault>;

/// An object under its name, while it is read.
pub(super) struct Object<'a> {
    kind: &'static str,
    /// The object's id, or its place.
    pub(super) id: String,
    map: &'a Map<String, Value>,
}

/// A value as a message shows it: text without quotation marks.
pub(super) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl<'a> Object<'a> {
    /// The object at `place` of its list; a fault if it is no object or has no id under `id_key`.
    pub(super) fn open(
        kind: &'static str,
        place: usize,
        id_key: &'static str,
        value: &'a Value,
        faults: &mut Faults,
    ) -> Option<Self> {
        let id = format!("#{}", place + 1);
        let Some(map) = value.as_object() else {
            let problem = Problem::Not { value: shown(value), expected: "an object" };
            faults.push(Fault { object: kind, id, field: "", problem });
            return None;
        };
        let mut object = Self { kind, id, map };
        object.id = object.text(id_key, faults)?.to_owned();
        Some(object)
    }

    /// An object that has no id of its own.
    pub(super) fn part(kind: &'static str, id: &str, map: &'a Map<String, Value>) -> Self {
        Self { kind, id: id.to_owned(), map }
    }

    /// Records what is wrong with a field.
    pub(super) fn fault(&self, field: &'static str, problem: Problem, faults: &mut Faults) {
        faults.push(Fault { object: self.kind, id: self.id.clone(), field, problem });
    }

    /// Records that a field's value is not what it should be.
    pub(super) fn not(
        &self,
        field: &'static str,
        value: &Value,
        expected: &'static str,
        faults: &mut Faults,
    ) {
        self.fault(field, Problem::Not { value: shown(value), expected }, faults);
    }

    /// The value of a key, `None` for null or for a key that is not there.
    pub(super) fn optional(&self, field: &'static str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// The value of a key that has to be there, `None` for null.
    pub(super) fn nullable(&self, field: &'static str, faults: &mut Faults) -> Option<&'a Value> {
        if !self.map.contains_key(field) {
            self.fault(field, Problem::Missing, faults);
        }
        self.optional(field)
    }

    /// The value of a key that has to be there and not be null.
    pub(super) fn required(&self, field: &'static str, faults: &mut Faults) -> Option<&'a Value> {
        let found = self.optional(field);
        if found.is_none() {
            self.fault(field, Problem::Missing, faults);
        }
        found
    }

    /// `value` if `read` makes something of it, a fault otherwise.
    pub(super) fn convert<T>(
        &self,
        field: &'static str,
        value: &'a Value,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
        faults: &mut Faults,
    ) -> Option<T> {
        let found = read(value);
        if found.is_none() {
            self.not(field, value, expected, faults);
        }
        found
    }

    /// A required text.
    pub(super) fn text(&self, field: &'static str, faults: &mut Faults) -> Option<&'a str> {
        let value = self.required(field, faults)?;
        self.convert(field, value, "a text", Value::as_str, faults)
    }

    /// An optional text.
    pub(super) fn optional_text(&self, field: &'static str, faults: &mut Faults) -> Option<&'a str> {
        let value = self.optional(field)?;
        self.convert(field, value, "a text", Value::as_str, faults)
    }

    /// An optional truth value.
    pub(super) fn flag(&self, field: &'static str, default: bool, faults: &mut Faults) -> bool {
        let Some(value) = self.optional(field) else { return default };
        self.convert(field, value, "true or false", Value::as_bool, faults).unwrap_or(default)
    }

    /// A required list.
    pub(super) fn list(&self, field: &'static str, faults: &mut Faults) -> &'a [Value] {
        match self.required(field, faults) {
            Some(value) => {
                self.convert(field, value, "a list", Value::as_array, faults).map_or(&[], Vec::as_slice)
            }
            None => &[],
        }
    }

    /// An optional list; empty if it is not there.
    pub(super) fn optional_list(&self, field: &'static str, faults: &mut Faults) -> &'a [Value] {
        if self.optional(field).is_none() { &[] } else { self.list(field, faults) }
    }
}
