//! Hygiene by examples and by sweeps, each held to what it replaces.

use super::{hosts, rng::Rng};
use flowproof_fuzz::tables::{self as random_flows, Spice};
use flowproof_proofs::{
    check,
    hygiene::{Hygiene, examine, examine_by_examples, examine_by_sweeps, examine_slowly},
    tables::Tables,
};
use flowproof_switch::flow::{ParseOptions, parse_flows};
use std::fmt::Write;

/// Changed hosts that are looked through.
const CHANGES: usize = 200;

/// All ways to look through a table say the same of it; how long its ways are the fast ones may overstate.
#[track_caller]
fn looks_alike(text: &str) -> Hygiene {
    let tables = Tables::new(hosts::flows(text));
    let slow = examine_slowly(&tables);
    for fast in examine_by_examples(&tables).into_iter().chain([examine_by_sweeps(&tables)]) {
        is_like(&fast, &slow, text);
    }
    examine(&tables)
}

#[track_caller]
fn is_like(fast: &Hygiene, slow: &Hygiene, text: &str) {
    assert_eq!((fast.complete, fast.exceeds_limits), (slow.complete, slow.exceeds_limits), "{text}");
    assert_eq!(fast.rivals, slow.rivals, "{text}");
    assert_eq!(fast.dead, slow.dead, "{text}");
    let (a, b) = (fast.longest, slow.longest);
    assert!(
        fast.exceeds_limits
            || (a.calls >= b.calls && a.depth >= b.depth && a.recirculations >= b.recirculations),
        "{a:?} {b:?} {text}"
    );
}

#[test]
fn every_way_to_look_finds_what_going_every_way_finds() {
    let mut found = [0; 4];
    check::with_deep_stack(|| {
        for name in ["29.0.0/18_remote_group_3", "29.0.0/22_remote_group_priorities"] {
            looks_alike(hosts::corpus(name));
        }
        let mut rng = Rng::new(77);
        for _ in 0..120 {
            let text = random_flows::text(&mut rng, Spice::default());
            let hygiene = looks_alike(&text);
            let cases = [
                hygiene.dead.is_empty(),
                !hygiene.dead.is_empty(),
                !hygiene.rivals.is_empty(),
                hygiene.exceeds_limits,
            ];
            for (count, case) in found.iter_mut().zip(cases) {
                *count += usize::from(case);
            }
        }
    });
    assert!(found[1] > 20 && found[2] > 5, "alive, dead, rivals, without end: {found:?}");
}

/// What a driver writes needs no sweep.
#[test]
fn examples_suffice_for_what_a_driver_writes() {
    check::with_deep_stack(|| {
        for (name, text) in hosts::CORPUS {
            let tables = Tables::new(hosts::flows(text));
            let found =
                examine_by_examples(&tables).unwrap_or_else(|| panic!("{name} leaves something open"));
            is_like(&found, &examine_by_sweeps(&tables), name);
        }
    });
}

/// The sweep for what is left open keeps what a table writes that is called on the way.
#[test]
fn what_a_called_table_writes_is_seen_by_its_caller() {
    let text = "actions=resubmit(,1),goto_table:2\n\
        table=1,tcp,tp_dst=80 actions=mod_tp_dst:83\n\
        table=2,priority=9,tcp,tp_dst=80 actions=output:1\n";
    let hygiene = check::with_deep_stack(|| looks_alike(text));
    assert_eq!(hygiene.dead.len(), 1, "{:?}", hygiene.dead);
}

/// What `ct()` makes of a frame with two tags is not modelled: nothing is said of flows behind it.
#[test]
fn nothing_is_said_of_flows_behind_two_tags() {
    let text = "dl_vlan=5,ip actions=push_vlan:0x8100,ct(table=1)\n\
        table=1,priority=1,ip actions=output:1\n\
        table=1,priority=0 actions=output:2\n";
    let hygiene = check::with_deep_stack(|| looks_alike(text));
    assert!(!hygiene.complete && hygiene.dead.is_empty(), "{:?}", hygiene.dead);
}

/// A flow that asks for some bits of a register only is not for all packets that come with it known. The last flow is hit by
/// ports that no example tries, so that it is left to what is known of its table.
#[test]
fn what_asks_for_a_part_of_a_register_takes_a_part() {
    let text = "in_port=7,actions=set_field:13->reg5,resubmit(,1)\n\
        table=1,priority=9,tcp,tp_dst=0x58 actions=output:2\n\
        table=1,priority=9,tcp,tp_dst=0x5a actions=output:2\n\
        table=1,priority=7,reg5=0x6/0x6 actions=output:3\n\
        table=1,priority=5,tcp,tp_dst=0x58/0xfff8 actions=output:4\n";
    let hygiene = check::with_deep_stack(|| looks_alike(text));
    let dead: Vec<u32> = hygiene.dead.iter().map(|(flow, _)| flow.0).collect();
    assert_eq!(dead, [3], "13 is 0b1101");
}

/// A host with something changed: a flow is gone, asks for less, or stands higher or lower.
fn changed(rng: &mut Rng, text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = rng.below(lines.len());
    let Some((matches, actions)) = lines[at].split_once("actions=") else { return text.to_owned() };
    let mut items: Vec<&str> = matches.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    let place = rng.below(items.len());
    let higher = format!("priority={}", 5 + rng.below(120));
    match rng.below(3) {
        0 => items.clear(),
        1 if !items[place].starts_with("table=") && items[place].contains('=') => drop(items.remove(place)),
        _ => {
            items.retain(|item| !item.starts_with("priority="));
            items.push(&higher);
        }
    }
    lines[at] =
        if items.is_empty() { String::new() } else { format!("{},actions={actions}", items.join(",")) };
    lines.join("\n")
}

#[test]
fn examples_say_of_changed_hosts_what_sweeps_say() {
    let (mut rng, mut found) = (Rng::new(2026), [0; 3]);
    check::with_deep_stack(|| {
        for _ in 0..CHANGES {
            let (_, text) = hosts::CORPUS[rng.below(hosts::CORPUS.len())];
            let (once, before) = (changed(&mut rng, text), Tables::new(hosts::flows(text)));
            let Ok(file) = parse_flows(&changed(&mut rng, &once), &ParseOptions::default()) else { continue };
            let tables = Tables::new(file.flows);
            found[0] += 1;
            let Some(by_examples) = examine_by_examples(&tables) else { continue };
            found[1] += 1;
            let usual = examine_by_examples(&before).map_or(0, |of| of.dead.len());
            found[2] += usize::from(by_examples.dead.len() != usual);
            is_like(&by_examples, &examine_by_sweeps(&tables), &once);
        }
    });
    assert!(
        found[1] > CHANGES / 3 && found[2] > CHANGES / 8,
        "read, by examples, with other dead flows: {found:?}"
    );
}

#[test]
fn a_loop_is_found_by_a_sweep() {
    let hygiene =
        check::with_deep_stack(|| looks_alike("actions=resubmit(,1)\ntable=1,ip actions=resubmit(,0)\n"));
    assert!(hygiene.exceeds_limits);
}

/// Each datapath answers some packets otherwise: what one has followed was not followed for another.
#[test]
fn what_only_one_datapath_does_is_not_dead() {
    let discovery = "table=0,priority=10,icmp6,icmp_type=135 actions=ct(table=1)\n\
        table=1,priority=10,ct_state=+new+trk,icmp6,icmp_type=135 actions=output:1\n";
    let mut often = String::new();
    for table in 0..7 {
        writeln!(often, "table={table},tcp,tp_dst=80 actions=ct(table={})", table + 1).unwrap();
    }
    often.push_str("table=7 actions=output:1\n");
    for text in [discovery, &often] {
        let hygiene = check::with_deep_stack(|| looks_alike(text));
        assert!(hygiene.complete && hygiene.dead.is_empty(), "{:?}", hygiene.dead);
    }
}

/// Packets that came back too often to go on say nothing of those that come there by a shorter way: to table 6 they come back ten
/// times, six times (more than either sort of datapath allows), three times, or not at all.
#[test]
fn what_is_out_of_reach_by_a_long_way_may_be_reached_by_a_short_one() {
    let mut text = "table=0,priority=5,tcp,tp_dst=80 actions=ct(table=10)\n\
        table=0,priority=10,tcp,tp_dst=80,nw_src=10.0.0.2 actions=ct(table=1)\n\
        table=0,priority=20,tcp,tp_dst=80,nw_src=10.0.0.1 actions=resubmit(,6)\n\
        table=0,priority=30,tcp,tp_dst=80,nw_src=10.0.0.3 actions=resubmit(,16)\n"
        .to_owned();
    for (table, next) in (1..7).map(|at| (at, at + 1)).chain((10..18).map(|at| (at, at + 1))).chain([(18, 6)])
    {
        writeln!(text, "table={table},tcp,tp_dst=80 actions=ct(table={next})").unwrap();
    }
    text.push_str("table=7 actions=output:1\n");
    let hygiene = check::with_deep_stack(|| looks_alike(&text));
    assert!(hygiene.complete && hygiene.dead.is_empty(), "{:?}", hygiene.dead);
}

/// A destination that was moved into a register is looked at there.
#[test]
fn a_destination_is_told_apart_where_a_register_shows_it() {
    let text = "table=0,dl_dst=00:00:00:00:00:01 \
        actions=move:NXM_OF_ETH_DST[0..15]->NXM_NX_REG0[0..15],resubmit(,1)\n\
        table=1,priority=5,reg0=0x1/0x1 actions=output:1\n\
        table=1,priority=5,reg0=0x2/0x2 actions=output:2\n";
    let hygiene = check::with_deep_stack(|| looks_alike(text));
    assert_eq!((hygiene.dead.len(), hygiene.rivals.len()), (1, 0));
}
