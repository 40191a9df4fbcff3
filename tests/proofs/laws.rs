//! Laws of packet sets, and of predicates, which are folded three ways.

use super::{hosts, rng::Rng};
use biodivine_lib_bdd::{Bdd as Reference, BddVariable, BddVariableSet};
use flowproof_fuzz::tables::{self as random_flows, Spice};
use flowproof_packet::{Field, FlowKey, key::low_bits};
use flowproof_proofs::{
    bdd::{Bdd, Bdds},
    diagram::Diagram,
    predicate::Predicate,
    set::{Literal, PacketSets},
    symbolic::{self, Emit},
    symkey::Form,
    tables::Tables,
    vars::{self, Var},
    z3_engine::{Answer, Counts, Encoder},
    z3_query::ask,
};
use flowproof_switch::{conntrack::Profile, table::FlowId};
use std::collections::BTreeSet;

/// Variables far apart in the order, so that diagrams skip levels.
fn some_vars(count: usize) -> Vec<Var> {
    let fields = [
        Field::DlType,
        Field::TcpDst,
        Field::ArpSha,
        Field::DlSrc,
        Field::NwSrc,
        Field::Ipv6Dst,
        Field::CtMark,
    ];
    let mut all: Vec<Var> = fields.iter().filter_map(|field| vars::sent(*field).nth(3)).collect();
    all.extend(vars::tracked(0, Field::CtState).take(3));
    all.extend(vars::sent(Field::TcpSrc));
    all.truncate(count);
    all
}

/// A random expression, built in our diagrams and in those of the reference side by side.
struct Pair<'a> {
    sets: Bdds,
    theirs: BddVariableSet,
    vars: &'a [Var],
}

impl Pair<'_> {
    fn cube(&mut self, rng: &mut Rng) -> (Bdd, Reference) {
        let mut literals: Vec<Literal> = Vec::new();
        let mut reference = self.theirs.mk_true();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(self.vars.len());
            let on = rng.chance(50);
            literals.push((self.vars[at], on));
            reference = reference.and(&self.theirs.mk_literal(BddVariable::from_index(at), on));
        }
        (self.sets.cube(&literals), reference)
    }

    fn expression(&mut self, rng: &mut Rng, depth: usize) -> (Bdd, Reference) {
        if depth == 0 || rng.chance(10) {
            return self.cube(rng);
        }
        let (a, x) = self.expression(rng, depth - 1);
        let (b, y) = self.expression(rng, depth - 1);
        match rng.below(5) {
            0 => (self.sets.and(a, b), x.and(&y)),
            1 => (self.sets.or(a, b), x.or(&y)),
            2 => (self.sets.minus(a, b), x.and_not(&y)),
            3 => (self.sets.not(a), x.not()),
            _ => {
                let dropped: BTreeSet<usize> = (0..3).map(|_| rng.below(self.vars.len())).collect();
                let names: Vec<BddVariable> = dropped.iter().map(|at| BddVariable::from_index(*at)).collect();
                let gone: BTreeSet<Var> = dropped.iter().map(|at| self.vars[*at]).collect();
                (self.sets.exists(a, &|var| gone.contains(&var)), x.exists(&names))
            }
        }
    }
}

fn valuation(vars: &[Var], bits: usize) -> impl Fn(Var) -> bool + '_ {
    move |var| vars.iter().position(|known| *known == var).is_some_and(|at| bits >> at & 1 == 1)
}

/// Whether two sets have something in common is found without making their intersection.
fn assert_meet(sets: &mut Bdds, a: Bdd, b: Bdd) {
    let before = sets.size();
    let meet = sets.meet(a, b);
    assert_eq!(sets.size(), before, "nothing is made");
    let both = sets.and(a, b);
    assert_eq!(meet, !sets.is_empty(both));
}

#[test]
fn diagrams_agree_with_another_library_and_with_counting() {
    let vars = some_vars(10);
    let mut rng = Rng::new(21);
    for round in 0..150 {
        let theirs = BddVariableSet::new_anonymous(vars.len() as u16);
        // Without a limit numbers of nodes leave no room for a part of the hash.
        let limit = if round % 2 == 0 { 1_000_000 } else { usize::MAX };
        let mut pair = Pair { sets: Bdds::with_limit(limit), theirs, vars: &vars };
        let built: Vec<(Bdd, Reference)> = (0..4).map(|_| pair.expression(&mut rng, 4)).collect();
        for (ours, reference) in &built {
            for bits in 0..1usize << vars.len() {
                let values: Vec<bool> = (0..vars.len()).map(|at| bits >> at & 1 == 1).collect();
                let expected = reference.eval_in(&biodivine_lib_bdd::BddValuation::new(values));
                assert_eq!(pair.sets.contains(*ours, valuation(&vars, bits)), expected);
            }
            assert_eq!(pair.sets.is_empty(*ours), reference.is_false());
            match pair.sets.member(*ours) {
                None => assert!(reference.is_false()),
                Some(literals) => {
                    let cube = pair.sets.cube(&literals);
                    assert!(!pair.sets.is_empty(cube));
                    assert_eq!(
                        pair.sets.minus(cube, *ours),
                        pair.sets.none(),
                        "all that have these bits are members"
                    );
                }
            }
        }
        for (a, x) in &built {
            for (b, y) in &built {
                assert_eq!(a == b, x == y, "equal sets are equal numbers");
                assert_meet(&mut pair.sets, *a, *b);
            }
        }
        assert!(!pair.sets.overflown());
    }
}

#[test]
fn sets_are_a_boolean_algebra() {
    let vars = some_vars(12);
    let mut rng = Rng::new(22);
    for _ in 0..200 {
        let theirs = BddVariableSet::new_anonymous(vars.len() as u16);
        let mut pair = Pair { sets: Bdds::with_limit(1_000_000), theirs, vars: &vars };
        let [a, b, c] = [(); 3].map(|()| pair.expression(&mut rng, 3).0);
        let sets = &mut pair.sets;
        let (all, none) = (sets.all(), sets.none());
        let (not_a, not_b) = (sets.not(a), sets.not(b));
        assert_eq!(sets.not(not_a), a);
        assert_eq!((sets.or(a, not_a), sets.and(a, not_a)), (all, none));
        assert_eq!((sets.and(a, b), sets.or(a, b)), (sets.and(b, a), sets.or(b, a)));
        let (both, either) = (sets.and(not_a, not_b), sets.or(a, b));
        assert_eq!(sets.not(either), both);
        assert_eq!(sets.minus(a, b), sets.and(a, not_b));
        let (ab, ac, bc) = (sets.and(a, b), sets.and(a, c), sets.or(b, c));
        assert_eq!(sets.and(a, bc), sets.or(ab, ac));
        let projected = sets.exists(a, &|var| var == vars[0]);
        assert_eq!(sets.minus(a, projected), none);
        assert_eq!(sets.exists(projected, &|var| var == vars[0]), projected);
        assert_eq!(sets.exists(a, &|_| true), if a == none { none } else { all });
        assert_eq!(sets.exists(a, &|_| false), a);
    }
}

#[test]
fn contradicting_literals_have_no_packet() {
    let mut sets = Bdds::with_limit(100);
    let var = some_vars(1)[0];
    assert_eq!(sets.cube(&[(var, true), (var, false)]), sets.none());
    assert_eq!(sets.cube(&[(var, true), (var, true)]), sets.cube(&[(var, true)]));
    assert_eq!(sets.cube(&[]), sets.all());
}

/// A set that needs more nodes than it may have: two fields that lie apart in the order are equal.
#[test]
fn what_outgrows_its_limit_says_so() {
    let far = Predicate::Same(Field::NwSrc, Field::NwDst);
    let mut small = Bdds::with_limit(1000);
    far.to_set(&mut small);
    assert!(small.overflown() && small.size() <= 1000);
    let mut near = Bdds::with_limit(1000);
    Predicate::Same(Field::DlSrc, Field::ArpSha).to_set(&mut near);
    assert!(!near.overflown(), "those stand side by side: {}", near.size());
}

/// Whatever the limit, the engine gives up or says what it says with enough memory.
#[test]
fn less_memory_never_changes_an_answer() {
    let host = hosts::host(hosts::SEED);
    let (sender, profile) = (&host.ports[0], Profile::Kernel2016);
    let property = hosts::property("router-advertisement");
    let mut outcomes = BTreeSet::new();
    for nodes in [2, 10, 100, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000] {
        let engine = Diagram::with_limit(&host, sender, &[profile], nodes);
        let answer = engine.and_then(|mut engine| engine.violations(property, profile));
        match answer {
            Ok(found) => assert!(!found.is_empty(), "{nodes} nodes"),
            Err(why) => assert!(why.to_string().contains("memory limit"), "{why}"),
        }
        outcomes.insert(Diagram::with_limit(&host, sender, &[profile], nodes).is_ok());
    }
    assert_eq!(outcomes.len(), 2, "some limits suffice and some do not");
}

/// Explicit sets over a few variables: a bit for each assignment.
struct Enumeration {
    vars: Vec<Var>,
    sets: Vec<BTreeSet<u32>>,
}

impl Enumeration {
    fn new(vars: Vec<Var>) -> Self {
        let all = (0..1 << vars.len()).collect();
        Self { vars, sets: vec![BTreeSet::new(), all] }
    }

    fn put(&mut self, set: BTreeSet<u32>) -> usize {
        self.sets.iter().position(|known| *known == set).unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        })
    }

    fn mask(&self, var: Var) -> u32 {
        1 << self
            .vars
            .iter()
            .position(|known| *known == var)
            .unwrap_or_else(|| panic!("{var:?} is not enumerated"))
    }
}

impl PacketSets for Enumeration {
    type Set = usize;

    fn none(&self) -> usize {
        0
    }

    fn all(&self) -> usize {
        1
    }

    /// Variables that are not enumerated are false.
    fn cube(&mut self, literals: &[Literal]) -> usize {
        let (mut ones, mut zeros) = (0, 0);
        for (var, on) in literals {
            if !self.vars.contains(var) {
                if *on {
                    return 0;
                }
                continue;
            }
            *(if *on { &mut ones } else { &mut zeros }) |= self.mask(*var);
        }
        let set =
            self.sets[1].iter().copied().filter(|bits| bits & ones == ones && bits & zeros == 0).collect();
        self.put(set)
    }

    fn and(&mut self, a: usize, b: usize) -> usize {
        let set = &self.sets[a] & &self.sets[b];
        self.put(set)
    }

    fn or(&mut self, a: usize, b: usize) -> usize {
        let set = &self.sets[a] | &self.sets[b];
        self.put(set)
    }

    fn minus(&mut self, a: usize, b: usize) -> usize {
        let set = &self.sets[a] - &self.sets[b];
        self.put(set)
    }

    fn exists(&mut self, set: usize, drop: &dyn Fn(Var) -> bool) -> usize {
        let dropped = self.vars.iter().filter(|var| drop(**var)).fold(0, |sum, var| sum | self.mask(*var));
        let kept: BTreeSet<u32> = self.sets[set].iter().map(|bits| bits & !dropped).collect();
        let set = self.sets[1].iter().copied().filter(|bits| kept.contains(&(bits & !dropped))).collect();
        self.put(set)
    }

    fn member(&self, set: usize) -> Option<Vec<Literal>> {
        let bits = self.sets[set].first()?;
        Some(self.vars.iter().map(|var| (*var, bits & self.mask(*var) != 0)).collect())
    }
}

/// One of a dozen variables: what the twin's tables look at.
fn twin_vars() -> Vec<Var> {
    let bit = |field: Field, bit: usize| vars::sent(field).rev().nth(bit).unwrap();
    let mut all =
        vec![bit(Field::TcpDst, 0), bit(Field::TcpDst, 1), bit(Field::NwSrc, 0), bit(Field::NwSrc, 1)];
    all.extend([bit(Field::DlSrc, 0), bit(Field::VlanTci, 0)]);
    all.extend(vars::tracked(0, Field::CtState).rev().take(5));
    all.push(vars::tracked(0, Field::CtMark).next_back().unwrap());
    all
}

/// Tables that look at the twin's bits only.
fn twin_flows(rng: &mut Rng) -> String {
    let bits = ["tp_dst=0/1", "tp_dst=1/1", "tp_dst=2/2", "tp_dst=0/3", ""];
    let more = [
        "nw_src=0.0.0.1/0.0.0.1",
        "nw_src=0.0.0.0/0.0.0.3",
        "dl_src=00:00:00:00:00:01/00:00:00:00:00:01",
        "vlan_tci=1/1",
        "reg0=1",
        "",
    ];
    let states = ["+new", "+est", "-new", "+inv", "+rpl", "+est,ct_mark=1/1"];
    let actions = [
        "output:2",
        "output:3",
        "load:1->NXM_NX_REG0[]",
        "resubmit(,1)",
        "resubmit(,2)",
        "ct(table=1)",
        "NORMAL",
        "mod_vlan_vid:1",
        "drop",
    ];
    let mut lines = Vec::new();
    for table in 0..3 {
        for _ in 0..5 {
            let mut items =
                vec![format!("table={table}"), format!("priority={}", rng.below(6)), "tcp".to_owned()];
            items.push((*rng.pick(&bits)).to_owned());
            items.push((*rng.pick(&more)).to_owned());
            if table > 0 && rng.chance(60) {
                items.push(format!("ct_state={}", rng.pick(&states)));
            }
            items.retain(|item| !item.is_empty());
            let does: Vec<&str> =
                (0..1 + rng.below(2)).map(|_| *rng.pick(&actions)).filter(|a| *a != "drop").collect();
            let does = if does.is_empty() { "drop".to_owned() } else { does.join(",") };
            let does = does.replace("resubmit(,1)", if table < 1 { "resubmit(,1)" } else { "resubmit(,2)" });
            let does = if table > 1 {
                does.replace("resubmit(,2)", "output:4").replace("ct(table=1)", "output:5")
            } else {
                does
            };
            let does = if table > 0 { does.replace("ct(table=1)", "output:5") } else { does };
            lines.push(format!("{} actions={does}", items.join(",")));
        }
    }
    lines.join("\n")
}

#[test]
fn symbolic_execution_means_the_same_over_diagrams_and_over_explicit_sets() {
    let mut rng = Rng::new(23);
    let vars = twin_vars();
    let mut compared = 0;
    for round in 0..60 {
        let text = twin_flows(&mut rng);
        let tables = Tables::new(hosts::flows(&text));
        let profile = Profile::ALL[round % Profile::ALL.len()];
        let fixed = Predicate::is(Field::DlType, 0x0800u16).and(Predicate::is(Field::NwProto, 6u8));
        let mut sets = Bdds::with_limit(1_000_000);
        let start = fixed.to_set(&mut sets);
        let ours = symbolic::execute(&mut sets, &tables, profile, Form::Whole, 1, start);
        let mut twin = Enumeration::new(vars.clone());
        let all = twin.all();
        let theirs = symbolic::execute(&mut Twin(&mut twin), &tables, profile, Form::Whole, 1, all);
        let alike = |path: Vec<FlowId>| path.into_iter().map(|flow| tables.like(flow)).collect::<Vec<_>>();
        let exits = |emit: &Emit, path: Vec<FlowId>, bits: u32| (emit.clone(), alike(path), bits);
        let fixed_bits = |var: Var| {
            let value = |field: Field, value: u128| {
                vars::sent(field).rev().position(|v| v == var).map(|at| value >> at & 1 == 1)
            };
            value(Field::DlType, 0x800).or(value(Field::NwProto, 6)).unwrap_or(var == trk())
        };
        let mut a = BTreeSet::new();
        for event in &ours.events {
            for bits in 0..1u32 << vars.len() {
                let bit = |var: Var| match vars.iter().position(|known| *known == var) {
                    Some(at) => bits >> at & 1 == 1,
                    None => fixed_bits(var),
                };
                if sets.contains(event.packets, bit) {
                    a.insert(exits(&event.emit, symbolic::flows_of(&event.path), bits));
                }
            }
        }
        let b: BTreeSet<_> = theirs
            .events
            .iter()
            .flat_map(|event| {
                let path = symbolic::flows_of(&event.path);
                twin.sets[event.packets]
                    .iter()
                    .map(move |bits| exits(&event.emit, path.clone(), *bits))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(a, b, "{text}");
        compared += a.len();
    }
    assert!(compared > 10_000, "{compared}");
}

fn trk() -> Var {
    vars::tracked(0, Field::CtState).rev().nth(5).unwrap()
}

/// The enumeration for TCP over IPv4: what makes it that is true of all.
struct Twin<'a>(&'a mut Enumeration);

impl Twin<'_> {
    fn known(var: Var) -> Option<bool> {
        let value = |field: Field, value: u128| {
            vars::sent(field).rev().position(|v| v == var).map(|at| value >> at & 1 == 1)
        };
        value(Field::DlType, 0x800).or(value(Field::NwProto, 6)).or((var == trk()).then_some(true))
    }
}

impl PacketSets for Twin<'_> {
    type Set = usize;

    fn none(&self) -> usize {
        self.0.none()
    }

    fn all(&self) -> usize {
        self.0.all()
    }

    fn cube(&mut self, literals: &[Literal]) -> usize {
        if literals.iter().any(|(var, on)| Self::known(*var).is_some_and(|known| known != *on)) {
            return 0;
        }
        let free: Vec<Literal> =
            literals.iter().copied().filter(|(var, _)| Self::known(*var).is_none()).collect();
        self.0.cube(&free)
    }

    fn and(&mut self, a: usize, b: usize) -> usize {
        self.0.and(a, b)
    }

    fn or(&mut self, a: usize, b: usize) -> usize {
        self.0.or(a, b)
    }

    fn minus(&mut self, a: usize, b: usize) -> usize {
        self.0.minus(a, b)
    }

    fn exists(&mut self, set: usize, drop: &dyn Fn(Var) -> bool) -> usize {
        self.0.exists(set, drop)
    }

    fn member(&self, set: usize) -> Option<Vec<Literal>> {
        self.0.member(set)
    }
}

const FIELDS: [Field; 8] = [
    Field::DlType,
    Field::DlSrc,
    Field::ArpSha,
    Field::NwSrc,
    Field::NwProto,
    Field::TcpSrc,
    Field::TcpDst,
    Field::Ipv6Src,
];

fn predicate(rng: &mut Rng, depth: usize) -> Predicate {
    let parts = |rng: &mut Rng| (0..rng.below(4)).map(|_| predicate(rng, depth - 1)).collect();
    match if depth == 0 { 4 } else { rng.below(6) } {
        0 => Predicate::All(parts(rng)),
        1 => Predicate::Any(parts(rng)),
        2 => predicate(rng, depth - 1).negate(),
        3 => Predicate::Same(Field::DlSrc, Field::ArpSha),
        _ => {
            let field = *rng.pick(&FIELDS);
            let all = low_bits(field.spec().width);
            // Few bits, so that packets at random often have them.
            let mask = if rng.chance(30) { all } else { 1 << rng.below(field.spec().width.into()) };
            Predicate::Is(field, small(rng, field) & mask, mask)
        }
    }
}

fn small(rng: &mut Rng, field: Field) -> u128 {
    let all = low_bits(field.spec().width);
    match rng.below(3) {
        0 => rng.bits() & all,
        1 => 6,
        _ => rng.below(3) as u128,
    }
}

fn packet(rng: &mut Rng) -> FlowKey {
    let mut key = FlowKey::default();
    for field in FIELDS {
        key.set(field, small(rng, field));
    }
    key
}

/// Each packet is asked of the predicate itself, of its set, and of Z3 as a packet that is the only one possible.
#[test]
fn predicates_hold_of_the_packets_of_their_set_and_of_the_models_of_their_formula() {
    let mut rng = Rng::new(24);
    let mut counts = [0usize; 2];
    let tables = Tables::default();
    for round in 0..400 {
        let predicate = predicate(&mut rng, 4);
        let mut sets = Bdds::with_limit(1_000_000);
        let set = predicate.to_set(&mut sets);
        for at in 0..12 {
            let packet = packet(&mut rng);
            let holds = predicate.holds(&packet);
            assert_eq!(sets.contains(set, |var| packet.bit(var.0)), holds, "{predicate:?} of {packet:?}");
            counts[usize::from(holds)] += 1;
            if round % 4 != 0 || at > 0 {
                continue;
            }
            let mut encoder = Encoder::new(&tables, Profile::Kernel, Form::Whole, true, Counts::Escape);
            let only = FIELDS.map(|field| Predicate::is(field, packet.get(field)));
            let formulas = [encoder.predicate(&predicate), encoder.predicate(&Predicate::All(only.to_vec()))];
            assert_eq!(ask(&formulas, None) == Answer::Sat, holds, "{predicate:?} of {packet:?}");
        }
        let mut encoder = Encoder::new(&tables, Profile::Kernel, Form::Whole, true, Counts::Escape);
        if round % 4 == 0 {
            let formula = encoder.predicate(&predicate);
            let expected = if sets.is_empty(set) { Answer::Unsat } else { Answer::Sat };
            assert_eq!(ask(&[formula], None), expected, "{predicate:?}");
        }
    }
    assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
}

/// What connection tracking really says of packets is among what the proofs take for possible.
#[test]
fn what_connection_tracking_answers_is_legal() {
    use flowproof_fuzz::packets::{self as random_packets, Assignment, Pool};
    use flowproof_switch::{
        pipeline::{PortConfig, Switch, SwitchConfig},
        trace::Event,
    };
    let mut rng = Rng::new(25);
    let text = "table=0,priority=0,ip actions=ct(table=1,zone=1)\ntable=0,priority=0,ipv6 actions=ct(table=1,zone=1)\n\
                table=1,ip,ct_state=+trk-inv actions=ct(commit,zone=1,exec(load:1->NXM_NX_CT_MARK[])),NORMAL\n\
                table=1,ipv6,ct_state=+trk-inv actions=ct(commit,zone=1),NORMAL";
    let tables = Tables::new(hosts::flows(text));
    let pool = Pool::of(&Tables::new(hosts::flows(&random_flows::text(&mut rng, Spice::default()))));
    let mut states = BTreeSet::new();
    for profile in Profile::ALL {
        let mut sets = Bdds::with_limit(1_000_000);
        let legal = Form::ALL.map(|form| symbolic::legal_answers(&mut sets, profile, form, 0));
        let ports = (1..=4).map(PortConfig::trunk).collect();
        let mut switch =
            Switch::new(tables.switch().clone(), SwitchConfig { profile, ..SwitchConfig::new(ports) });
        for _ in 0..1500 {
            let form = *rng.pick(&[Form::Whole, Form::Whole, Form::Whole, Form::First, Form::Later]);
            let Some(frame) = random_packets::frame(&mut rng, &pool, form, 1) else { continue };
            let outcome = switch.receive_traced(1 + rng.below(2) as u16, &frame.bytes);
            let trace = outcome.trace.unwrap();
            // What comes out may be an older fragment than what went in; its own form counts.
            if form != Form::Whole {
                switch.advance(rng.below(20_000) as u64);
                continue;
            }
            let answer = trace.steps.iter().find_map(|step| match step.event {
                Event::Tracked(info) => Some(info),
                _ => None,
            });
            let Some(answer) = answer else { continue };
            states.insert(answer.state);
            let packet = Assignment::new(&frame, &[answer]);
            assert!(sets.contains(legal[0], |var| packet.bit(var)), "{profile:?}: {answer:?} of {frame:?}");
        }
    }
    assert!(states.len() >= 4, "{states:?}");
}
