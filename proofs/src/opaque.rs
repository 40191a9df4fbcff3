//! What stays opaque: accepted, printed, and not followed by proofs.
//!
//! One row a construct; `docs/opaque.md` is this table, and a test holds the file to it. Invariant: [`is_modelled`] denies every
//! example that is an action, unless the row says that only a part of it is not followed. Deliberately absent: what nobody can
//! write in a flow.
//!
//! [`is_modelled`]: crate::is_modelled

use std::fmt::Write;

/// One construct.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// How it is written.
    pub construct: &'static str,
    /// Flows that have it, as `ovs-ofctl` reads them.
    pub examples: &'static [&'static str],
    /// Whether the interpreter (`trace`, replays, `run`) carries it out.
    pub interpreted: bool,
    /// Whether proofs know the action and not all of what it may do.
    pub partly: bool,
    /// What is not known.
    pub unknown: &'static str,
}

const fn row(construct: &'static str, examples: &'static [&'static str], unknown: &'static str) -> Row {
    Row { construct, examples, interpreted: false, partly: false, unknown }
}

const fn interpreted(
    construct: &'static str,
    examples: &'static [&'static str],
    unknown: &'static str,
) -> Row {
    Row { interpreted: true, ..row(construct, examples, unknown) }
}

/// The table.
pub const OPAQUE: &[Row] = &[
    interpreted(
        "`learn(…)`, and lookups in the table that it adds to",
        &["actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"],
        "which flows packets have added",
    ),
    interpreted(
        "`write_actions(…)`, `clear_actions`",
        &["actions=write_actions(output:1)", "actions=clear_actions"],
        "what is carried out at the end",
    ),
    interpreted(
        "`output(port=…,max_len=…)`",
        &["actions=output(port=1,max_len=64)"],
        "what is left of a frame",
    ),
    Row { partly: true, ..interpreted("`dec_ttl`", &["ip actions=dec_ttl"], "the time to live") },
    Row {
        partly: true,
        ..interpreted("`resubmit(…,ct)`", &["ct_state=+trk+est,ip actions=resubmit(,1,ct)"], "the lookup")
    },
    row("`group:N` without `--groups`", &["actions=group:1"], "the buckets"),
    row(
        "MPLS headers: `push_mpls`, `pop_mpls`, `dec_mpls_ttl`",
        &["ip actions=push_mpls:0x8847", "mpls actions=pop_mpls:0x0800", "mpls actions=dec_mpls_ttl"],
        "the packet behind it",
    ),
    row(
        "other headers: `encap`, `decap`, `dec_nsh_ttl`",
        &["actions=encap(nsh)", "actions=decap()", "dl_type=0x894f actions=dec_nsh_ttl"],
        "the packet behind it",
    ),
    row(
        "choices by a hash: `bundle`, `bundle_load`, `multipath`",
        &[
            "actions=bundle(eth_src,0,hrw,ofport,members:1,2)",
            "actions=bundle_load(eth_src,50,hrw,ofport,NXM_NX_REG0[],members:1,2)",
            "actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[])",
        ],
        "which is chosen",
    ),
    row(
        "`debug_recirc`, `debug_slow`",
        &["actions=debug_recirc", "actions=debug_slow"],
        "nothing but the way",
    ),
    row("`sample(…)`", &["actions=sample(probability=1)"], "who gets a copy"),
    row("`fin_timeout(…)`", &["tcp actions=fin_timeout(idle_timeout=5)"], "how long the flow is there"),
    row(
        "tunnel metadata: `tun_metadata0` to `tun_metadata63`, matched or written",
        &[
            "tun_metadata0=1 actions=drop",
            "actions=set_field:1->tun_metadata0",
            "actions=delete_field:tun_metadata0",
        ],
        "the field",
    ),
    row("`set_vlan_vid`, `set_vlan_pcp` of packets without a tag", &["actions=set_vlan_vid:5"], "the tag"),
    row("`pop` into a VLAN tag", &["actions=pop:NXM_OF_VLAN_TCI[]"], "the tag"),
];

const HEAD: &str = "# What stays opaque

Everything that `ovs-ofctl` 3.1 accepts is read and printed. What stands here is not followed by proofs: what becomes of a
packet there is unknown. Some of it the interpreter carries out all the same (`trace`, `run`, and the replays of
counterexamples). This table is generated; see `proofs/src/opaque.rs`.

| construct | `trace` and replays | what proofs do not know |
|---|---|---|
";

const FOOT: &str = "
What that means:

- `prove`: a packet that a property forbids and that comes to such a construct makes the verdict `unknown` (exit 3), unless
  something else refutes the property. A construct that no forbidden packet comes to changes nothing.
- `diff`: the same construct in both tables is the same deed; different ones are a difference that is not certain.
- `lint`: each is listed as `opaque`.
- `trace`: `NOT MODELLED`, and exit 3, where the interpreter does not carry it out.

What is followed, though it has more than one outcome: a meter lets pass (whoever is dropped by it goes nowhere); any bucket
of a `select` or `ff` group may be taken; `check_pkt_larger` may say either; queues change nothing but time. The controller
is a sink of its own; behind `controller(pause)` nothing happens until it answers, and what it answers is not followed.
";

/// The documentation page.
#[must_use]
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    for row in OPAQUE {
        let carried = if row.interpreted { "carried out" } else { "not modelled" };
        let _infallible = writeln!(out, "| {} | {carried} | {} |", row.construct, row.unknown);
    }
    out + FOOT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::is_modelled;
    use flowproof_switch::flow::{Flow, ParseOptions, parse_flows};

    fn read(text: &str) -> Flow {
        parse_flows(text, &ParseOptions::default()).unwrap().flows.remove(0)
    }

    fn is_opaque(flow: &Flow) -> bool {
        !flow.opaque_match.is_empty() || !flow.actions.iter().all(is_modelled)
    }

    /// The word that an action begins with.
    fn name(text: &str) -> &str {
        text.split([':', '(']).next().unwrap_or(text)
    }

    #[test]
    fn the_page_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/opaque.md");
        if std::env::var_os("FLOWPROOF_WRITE").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page());
    }

    #[test]
    fn every_example_is_opaque_unless_it_is_so_in_part() {
        for row in OPAQUE {
            for example in row.examples {
                assert_eq!(is_opaque(&read(example)), !row.partly, "{example}");
            }
        }
    }

    #[test]
    fn every_opaque_action_of_the_tool_has_a_row() {
        let fixtures = ["constructs.tsv", "parse-flows-cases.tsv"].map(|name| {
            let path = format!("{}/../tests/fixtures/flows/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        });
        let known: Vec<String> = OPAQUE
            .iter()
            .flat_map(|row| row.examples)
            .flat_map(|example| {
                let flow = read(example);
                flow.actions.iter().map(|action| name(&action.to_string()).to_owned()).collect::<Vec<_>>()
            })
            .collect();
        let cells = fixtures.iter().flat_map(|text| text.lines()).flat_map(|line| line.split('\t'));
        let flows = cells.filter_map(|cell| parse_flows(cell, &ParseOptions::default()).ok());
        let mut seen = 0;
        for action in flows.flat_map(|file| file.flows).flat_map(|flow| flow.actions) {
            let text = action.to_string();
            let nested = matches!(name(&text), "clone");
            if !is_modelled(&action) && !nested {
                seen += 1;
                let of_tunnels = text.contains("tun_metadata");
                assert!(of_tunnels || known.iter().any(|word| word == name(&text)), "no row for {text}");
            }
        }
        assert!(seen > 50, "only {seen}");
    }
}
