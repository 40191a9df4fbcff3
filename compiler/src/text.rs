//! Compiled flows as the text that `ovs-ofctl add-flows` reads.

use crate::Compiled;
use std::fmt::Write;

/// The flows, one a line; with `annotate`, comments say what each run of flows is for and what is unsupported.
#[must_use]
pub fn text(compiled: &Compiled, annotate: bool) -> String {
    let mut out = String::new();
    if annotate {
        for one in &compiled.unsupported {
            let _ = writeln!(out, "# unsupported: {}", one_line(&one.to_string()));
        }
    }
    let mut last = None;
    for one in &compiled.flows {
        if annotate && last != Some(&one.why) {
            let _ = writeln!(out, "# {}", one_line(&one.why));
            last = Some(&one.why);
        }
        let _ = writeln!(out, "{}", one.flow);
    }
    out
}

/// Identifiers come from others: a comment must not end before its line does.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}
