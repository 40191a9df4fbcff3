use super::*;
use crate::flow::{Conjunction, Match};
use flowproof_packet::Field;
use proptest::prelude::*;

fn flow(priority: u16, fields: &[(Field, u128)], actions: Vec<Action>) -> Flow {
    let mut matching = Match::default();
    for (field, value) in fields {
        matching.set(*field, *value, u128::MAX);
    }
    Flow { priority, matching, actions, ..Flow::default() }
}

fn clause(id: u32, clause: u8, clauses: u8) -> Action {
    Action::Conjunction(Conjunction { id, clause, clauses })
}

fn key(fields: &[(Field, u128)]) -> FlowKey {
    let mut key = FlowKey::default();
    for (field, value) in fields {
        key.set(*field, *value);
    }
    key
}

const SRC: (Field, u128) = (Field::NwSrc, 1);
const DST: (Field, u128) = (Field::NwDst, 2);

/// The output port of the flow that is found for source 1 and destination 2; 0 for a miss. Both searches find it.
#[track_caller]
fn check(flows: Vec<Flow>, tie: TieBreak, port: u16, rival: bool) {
    let tables = Tables::new(flows).searched_by(Search::Compiled);
    let scanning = tables.clone().searched_by(Search::Scan);
    let key_of_both = key(&[SRC, DST]);
    assert_eq!(tables.lookup(0, &key_of_both, tie), scanning.lookup(0, &key_of_both, tie));
    let found = tables.lookup(0, &key(&[SRC, DST]), tie);
    let output = found.flow.and_then(|id| tables.flow(id)).map(|flow| flow.actions.clone());
    assert_eq!(output.unwrap_or_else(|| vec![Action::Output(0)]), [Action::Output(port)]);
    assert_eq!(found.rival.is_some(), rival, "{found:?}");
}

fn out(port: u16) -> Vec<Action> {
    vec![Action::Output(port)]
}

#[test]
fn highest_priority_wins_and_a_tie_goes_to_the_earlier_and_is_reported() {
    check(vec![flow(1, &[SRC], out(3)), flow(2, &[DST], out(4))], TieBreak::First, 4, false);
    check(vec![flow(2, &[SRC], out(3)), flow(2, &[DST], out(4))], TieBreak::First, 3, true);
    check(vec![flow(2, &[SRC], out(3)), flow(2, &[DST], out(4))], TieBreak::Last, 4, true);
    check(vec![flow(2, &[SRC], out(3)), flow(2, &[DST], out(3))], TieBreak::First, 3, false);
    check(vec![flow(2, &[(Field::NwSrc, 9)], out(3))], TieBreak::First, 0, false);
}

#[test]
fn a_later_flow_replaces_an_identical_one_and_is_reported() {
    let tables = Tables::new(vec![flow(5, &[SRC], out(3)), flow(4, &[], out(1)), flow(5, &[SRC], out(4))]);
    assert_eq!(tables.flows().len(), 2);
    assert_eq!(tables.replaced(), [Replaced { earlier: flow(5, &[SRC], out(3)), by: FlowId(0) }]);
    assert_eq!(tables.flow(FlowId(0)).unwrap().actions, out(4));
}

fn clauses(priority: u16, id: u32) -> Vec<Flow> {
    vec![flow(priority, &[SRC], vec![clause(id, 1, 2)]), flow(priority, &[DST], vec![clause(id, 2, 2)])]
}

#[track_caller]
fn check_conjunction(more: &[Flow], port: u16, rival: bool) {
    check([clauses(60, 20), more.to_vec()].concat(), TieBreak::First, port, rival);
}

const ID: (Field, u128) = (Field::ConjId, 20);

#[test]
fn a_conjunction_applies_when_all_its_clauses_match() {
    check_conjunction(&[flow(60, &[ID], out(3)), flow(40, &[], out(4))], 3, false);
    let half = vec![clauses(60, 20).remove(0), flow(60, &[ID], out(3)), flow(40, &[], out(4))];
    check(half, TieBreak::First, 4, false);
}

#[test]
fn an_ordinary_flow_wins_a_tie_with_clauses() {
    check_conjunction(&[flow(60, &[ID], out(3)), flow(60, &[SRC, DST], out(4))], 4, false);
    check_conjunction(&[flow(60, &[ID], out(3)), flow(61, &[SRC, DST], out(4))], 4, false);
    check_conjunction(&[flow(60, &[ID], out(3)), flow(59, &[SRC, DST], out(4))], 3, false);
}

#[test]
fn the_second_lookup_takes_whatever_is_best_and_skips_lower_conjunctions() {
    let lower = [
        flow(50, &[SRC, (Field::DlType, 0)], vec![clause(10, 1, 2)]),
        flow(50, &[DST, (Field::DlType, 0)], vec![clause(10, 2, 2)]),
        flow(50, &[(Field::ConjId, 10)], out(3)),
    ];
    check_conjunction(&lower, 3, false);
    check_conjunction(&[&lower[..], &[flow(40, &[], out(4))]].concat(), 4, false);
    check_conjunction(&[flow(30, &[ID], out(3)), flow(40, &[], out(4))], 4, false);
    check_conjunction(&[flow(60, &[ID, (Field::NwDst, 9)], out(3)), flow(40, &[], out(4))], 4, false);
}

#[test]
fn a_clause_hides_what_lies_below_it_from_the_second_lookup() {
    check_conjunction(&[flow(50, &[SRC], out(3)), flow(40, &[], out(4))], 4, false);
    check_conjunction(&[flow(50, &[SRC], out(3))], 3, false);
}

#[test]
fn clauses_of_different_priorities_or_counts_do_not_combine() {
    let spread = vec![
        flow(60, &[SRC], vec![clause(20, 1, 2)]),
        flow(50, &[DST], vec![clause(20, 2, 2)]),
        flow(60, &[ID], out(3)),
        flow(40, &[], out(4)),
    ];
    check(spread, TieBreak::First, 4, false);
}

#[test]
fn two_satisfied_conjunctions_are_ambiguous() {
    let mut both = clauses(60, 20);
    both.push(flow(60, &[SRC, DST], vec![clause(21, 1, 2), clause(21, 2, 2)]));
    both.push(flow(60, &[ID], out(3)));
    both.push(flow(60, &[(Field::ConjId, 21)], out(4)));
    check(both.clone(), TieBreak::First, 3, true);
    check(both, TieBreak::Last, 4, true);
}

#[test]
fn a_flow_that_completes_two_conjunctions_is_ambiguous_even_if_one_leads_nowhere() {
    let mut flows = clauses(60, 20);
    flows[1].actions.push(clause(21, 2, 2));
    flows[0].actions.push(clause(21, 1, 2));
    flows.push(flow(60, &[ID], out(3)));
    check(flows.clone(), TieBreak::First, 3, true);
    flows[1].actions.pop();
    check(flows, TieBreak::First, 3, false);
}

#[test]
fn an_opaque_match_is_reported_where_it_could_decide() {
    let unknown = |priority| Flow {
        opaque_match: vec!["tun_metadata0=1".to_owned()],
        ..flow(priority, &[SRC], out(9))
    };
    let opaque = |flows: Vec<Flow>| Tables::new(flows).lookup(0, &key(&[SRC, DST]), TieBreak::First).opaque;
    assert_eq!(opaque(vec![unknown(5), flow(4, &[], out(1))]), Some(FlowId(0)));
    assert_eq!(opaque(vec![unknown(3), flow(4, &[], out(1))]), None);
    assert_eq!(opaque(vec![unknown(3)]), Some(FlowId(0)));
    let conjunction = [clauses(60, 20), vec![flow(70, &[ID], out(3)), unknown(65)]].concat();
    assert_eq!(opaque(conjunction), Some(FlowId(3)));
}

/// The highest priority by definition: no flow that matches has a higher one.
fn naive(flows: &[Flow], key: &FlowKey) -> Option<(u16, usize)> {
    let matching = flows.iter().enumerate().filter(|(_, flow)| {
        Field::all().all(|field| {
            let (value, mask) = flow.matching.get(field);
            key.get(field) & mask == value
        })
    });
    matching.map(|(at, flow)| (flow.priority, at)).reduce(|a, b| if b.0 > a.0 { b } else { a })
}

proptest! {
    #[test]
    fn lookup_agrees_with_the_definition(
        rows in proptest::collection::vec((0_u16..4, 0_u128..3, 0_u128..4, 0_u128..3), 0..12),
        src in 0_u128..3,
        dst in 0_u128..3,
    ) {
        let flows = rows.iter().enumerate().map(|(at, (priority, value, mask, dst))| {
            let mut new = flow(*priority, &[], out(at as u16));
            new.matching.set(Field::NwSrc, *value, *mask);
            if *dst != 0 {
                new.matching.set(Field::TcpDst, *dst, u128::MAX);
            }
            new
        });
        let tables = Tables::new(flows.collect());
        let key = key(&[(Field::NwSrc, src), (Field::TcpDst, dst)]);
        let expected = naive(tables.flows(), &key).map(|(_, at)| FlowId(at as u32));
        prop_assert_eq!(tables.lookup(0, &key, TieBreak::First).flow, expected);
    }
}

/// Values and masks that overlap often: a few of each, for fields in one word, in one slot, and in two words.
const POOL: &[(Field, &[u128], &[u128])] = &[
    (Field::InPort, &[1, 2, 3, 4], &[u128::MAX]),
    (Field::Reg5, &[1, 2, 3, 4], &[u128::MAX]),
    (Field::DlType, &[0x800, 0x86dd], &[u128::MAX]),
    (Field::VlanTci, &[0, 0x1001], &[0x1000, 0x1fff]),
    (Field::NwProto, &[6, 17], &[u128::MAX]),
    (Field::NwSrc, &[0x0a00_0001, 0x0a00_0102, 0x0a80_0001], &[0xffff_ffff, 0xffff_ff00, 0xff80_0000, 1]),
    (Field::NwDst, &[0x0a00_0001, 0x0a00_0102], &[0xffff_ffff, 0xffff_0000]),
    (Field::TcpDst, &[80, 81, 88], &[0xffff, 0xfffe, 0xfff0, 0x8000]),
    (Field::CtState, &[0x21, 0x22, 0x2a, 0x30], &[0x20, 0x21, 0x3f, 0x22]),
    (Field::Ipv6Src, &[1, 1 << 64 | 1, 2 << 64], &[u128::MAX, u128::MAX << 64, 3]),
];

/// One field of a match or key: a row of [`POOL`], a value, a mask.
type Wish = (usize, usize, usize);

fn wishes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Wish>> {
    proptest::collection::vec((0..POOL.len(), 0_usize..4, 0_usize..4), count)
}

fn random_action() -> impl Strategy<Value = Vec<Action>> {
    let clauses = proptest::collection::vec((0_u32..3, 1_u8..4), 1..3);
    prop_oneof![
        4 => (0_u16..4).prop_map(out),
        1 => clauses.prop_map(|all| all.iter().map(|(id, at)| clause(*id, *at, 2 + (*id == 2) as u8)).collect()),
    ]
}

fn random_flow() -> impl Strategy<Value = Flow> {
    let conj_id = prop_oneof![9 => Just(None), 1 => (0_u128..3).prop_map(Some)];
    let opaque = prop_oneof![60 => Just(false), 1 => Just(true)];
    (0_u16..5, wishes(0..4), random_action(), conj_id, opaque).prop_map(
        |(priority, wishes, actions, id, opaque)| {
            let mut new = flow(priority, &[], actions);
            for (row, value, mask) in wishes {
                let (field, values, masks) = POOL[row];
                new.matching.set(field, values[value % values.len()], masks[mask % masks.len()]);
            }
            if let Some(id) = id {
                new.matching.set(Field::ConjId, id, u128::MAX);
            }
            if opaque {
                new.opaque_match.push("tun_metadata0=1".to_owned());
            }
            new
        },
    )
}

fn random_key(wishes: &[Wish]) -> FlowKey {
    let mut key = FlowKey::default();
    for (row, value, _) in wishes {
        let (field, values, _) = POOL[*row];
        key.set(field, values[value % values.len()]);
    }
    key
}

/// Every key finds the same in a compiled table as in a scanned one, whichever flow wins a tie.
#[track_caller]
fn check_searches(flows: Vec<Flow>, keys: &[Vec<Wish>]) {
    let compiled = Tables::new(flows).searched_by(Search::Compiled);
    let scanned = compiled.clone().searched_by(Search::Scan);
    for key in keys.iter().map(|wishes| random_key(wishes)) {
        for tie in [TieBreak::First, TieBreak::Last] {
            assert_eq!(compiled.lookup(0, &key, tie), scanned.lookup(0, &key, tie), "{key:?} {tie:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn compiling_changes_no_lookup(
        flows in proptest::collection::vec(random_flow(), 0..80),
        keys in proptest::collection::vec(wishes(0..14), 40),
    ) {
        check_searches(flows, &keys);
    }

    #[test]
    fn compiling_changes_no_lookup_among_clauses(
        flows in proptest::collection::vec((random_flow(), clause_or_output()), 0..30),
        keys in proptest::collection::vec(wishes(0..14), 40),
    ) {
        let flows = flows.into_iter().map(|(flow, actions)| Flow { actions, opaque_match: Vec::new(), ..flow });
        check_searches(flows.collect(), &keys);
    }
}

fn clause_or_output() -> impl Strategy<Value = Vec<Action>> {
    prop_oneof![(0_u32..2, 1_u8..3).prop_map(|(id, at)| vec![clause(id, at, 2)]), (0_u16..3).prop_map(out),]
}

/// A table of `ports` ports with `rules` rules each: by register, protocol, address block and port range.
fn large(ports: u128, rules: u128) -> Vec<Flow> {
    let rule = |port: u128, rule: u128| {
        let mut new = flow((rule % 3) as u16, &[(Field::Reg5, port), (Field::NwProto, 6)], out(rule as u16));
        new.matching.set(Field::NwSrc, (rule * 0x0123_4567) & 0xffff_ffff, u128::MAX << (8 + rule % 20));
        new.matching.set(Field::TcpDst, (rule * 16) & 0xffff, u128::MAX << (rule % 5));
        new
    };
    (0..ports).flat_map(|port| (0..rules).map(move |at| rule(port, at))).collect()
}

#[test]
fn a_large_table_is_compiled_into_branches_that_find_what_a_scan_finds() {
    let compiled = Tables::new(large(20, 60));
    let scanned = compiled.clone().searched_by(Search::Scan);
    let mut found = 0;
    for flow in compiled.flows() {
        let mut key = FlowKey::default();
        for part in flow.matching.words() {
            key.set_word(usize::from(part.word), part.value | 0x5555 & !part.mask, u64::MAX);
        }
        for tie in [TieBreak::First, TieBreak::Last] {
            let expected = scanned.lookup(0, &key, tie);
            assert_eq!(compiled.lookup(0, &key, tie), expected);
            found += u32::from(expected.flow.is_some());
        }
    }
    assert_eq!(found, 2 * 20 * 60, "every flow's own packet finds one");
}

#[test]
fn a_clone_of_compiled_tables_and_tables_with_few_flows_find_the_same() {
    for count in 0..6 {
        let flows: Vec<Flow> = (0..count).map(|at| flow(1, &[(Field::InPort, at)], out(at as u16))).collect();
        let tables = Tables::new(flows);
        for port in 0..7 {
            let key = key(&[(Field::InPort, port)]);
            let expected = (port < count).then_some(FlowId(port as u32));
            assert_eq!(tables.lookup(0, &key, TieBreak::First).flow, expected);
            assert_eq!(tables.clone().lookup(0, &key, TieBreak::First).flow, expected);
        }
    }
}
