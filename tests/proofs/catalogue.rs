//! The catalogue of properties that is shipped says what the program proves.

use flowproof_packet::{Field, Origin};
use flowproof_proofs::{intent, isolation, properties};
use std::fmt::Write as _;

const CATALOGUE: &str = "docs/properties.md";

fn rows<'p>(properties: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    let mut table = "| property | theorem |\n|---|---|\n".to_owned();
    for (name, theorem) in properties {
        writeln!(table, "| `{name}` | {theorem} |").unwrap();
    }
    table
}

fn origins() -> String {
    let mut table = "| origin | fields |\n|---|---|\n".to_owned();
    for (origin, what) in [
        (Origin::Frame, "the frame"),
        (Origin::Port, "the port"),
        (Origin::Tunnel, "the tunnel"),
        (Origin::Host, "the host's network stack"),
        (Origin::Datapath, "the datapath"),
        (Origin::Flows, "flows only"),
    ] {
        let specs = Field::all().map(Field::spec).filter(|spec| spec.origin == origin && spec.is_matchable());
        let names: Vec<String> = specs.map(|spec| format!("`{}`", spec.name)).collect();
        writeln!(table, "| {what} | {} |", names.join(", ")).unwrap();
    }
    table
}

#[test]
fn the_catalogue_lists_every_property_and_every_field() {
    let before = std::fs::read_to_string(CATALOGUE).unwrap();
    let mut text = before.clone();
    let of = |property: &'static properties::Property| (property.name, property.theorem);
    for (part, table) in [
        ("origins", origins()),
        ("sender", rows(properties::SENDER.iter().map(of))),
        ("isolation", rows(isolation::ROWS.iter().map(|row| of(&row.property)))),
        ("intent", rows(intent::PROPERTIES.into_iter().map(of))),
    ] {
        let mark = format!("<!-- {part} -->\n");
        let (head, rest) = text.split_once(&mark).unwrap();
        let (_, tail) = rest.split_once("<!-- end -->").unwrap();
        text = format!("{head}{mark}{table}<!-- end -->{tail}");
    }
    if std::env::var_os("FLOWPROOF_BLESS").is_some() {
        std::fs::write(CATALOGUE, &text).unwrap();
    }
    assert_eq!(before, text, "{CATALOGUE} is written anew by FLOWPROOF_BLESS=1");
}
