//! The fast search of a table against flow by flow: one answer for every key.

use super::symbolic::flows;
use super::{Verdict, object, subject};
use crate::Choices;
use crate::packets::{self, Pool};
use crate::tables::{self, Spice};
use flowproof_packet::{Field, wire};
use flowproof_proofs::symkey::Form;
use flowproof_proofs::tables::Tables as Proved;
use flowproof_switch::flow::Flow;
use flowproof_switch::table::{Search, Tables, TieBreak};

/// Keys that are looked up in each case.
const KEYS: usize = 32;

/// Random tables, and keys that look for their differences.
///
/// # Errors
/// The two ways of searching find different flows.
pub fn fast_classifier(bytes: &[u8]) -> Verdict {
    let choices = &mut Choices::of(bytes);
    let spice = Spice { opaque: choices.chance(10), ..Spice::default() };
    let text = tables::text(choices, spice);
    let all = flows(&text);
    let pool = Pool::of(&Proved::new(all.clone()));
    let slow = Tables::new(all.clone()).searched_by(Search::Scan);
    let fewer =
        |flows: Vec<Flow>| flows.into_iter().filter(|flow| !flow.matching.looks_at(Field::TcpDst)).collect();
    let fast = Tables::new(subject(all, fewer)).searched_by(Search::Compiled);
    let found = |tables: &Tables, table, key: &_, tie| {
        let flow = tables.lookup(table, key, tie).flow.and_then(|id| tables.flow(id));
        flow.map(ToString::to_string)
    };
    for _ in 0..KEYS {
        let form = *choices.pick(&Form::ALL);
        let Some(frame) = packets::frame(choices, &pool, form, 1) else { continue };
        let key = wire::lookup_key(&wire::extract(&frame.bytes, 1));
        for table in slow.numbers() {
            for tie in [TieBreak::First, TieBreak::Last] {
                let (quick, right) = (found(&fast, table, &key, tie), found(&slow, table, &key, tie));
                if quick != right {
                    return object(format!(
                        "table {table}: {quick:?} instead of {right:?} for {key:?} in\n{text}"
                    ));
                }
            }
        }
    }
    Ok(())
}
