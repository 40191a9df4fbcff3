//! Diagrams: is a port's table of 2 000 CIDR rules equal to its intent? Ours, Z3 on the same question, and two crates
//! of diagrams on the same work.
//!
//! The table is a priority list: one flow for each rule and port mask, the last one drops. The intent is a union of
//! blocks and port ranges, where a range is a comparison, not a list of masks.

use crate::{host::Sequence, measure::Bench};
use anyhow::{Result, ensure};
use biodivine_lib_bdd::{Bdd, BddPartialValuation, BddVariable, BddVariableSet};
use flowproof_compiler::masks;
use flowproof_packet::{Field, key::low_bits};
use flowproof_proofs::{
    bdd::{self, Bdds},
    check::with_deep_stack,
    predicate::Predicate,
    set::PacketSets,
    symkey::Form,
    tables::Tables,
    vars,
    z3_engine::{Answer, Counts, Encoder},
    z3_query::ask,
};
use flowproof_switch::conntrack::Profile;
use oxidd::{BooleanFunction, Manager, ManagerRef, bdd::BDDFunction, util::AllocResult};

/// Rules of the largest table.
const RULES: usize = 2000;

/// A rule: an address block and a range of ports.
struct Rule {
    address: u32,
    prefix: u16,
    first: u16,
    last: u16,
}

impl Rule {
    fn mask(&self) -> u32 {
        (low_bits(32) & !low_bits(32 - self.prefix)) as u32
    }
}

fn rules(count: usize) -> Vec<Rule> {
    let mut draw = Sequence(7);
    let mut rule = || {
        let prefix = 12 + draw.below(19) as u16;
        let first = 1 + draw.below(65_000) as u16;
        let last = first.saturating_add(match draw.below(4) {
            0 | 1 => 0,
            2 => 9,
            _ => 100,
        });
        let mut rule = Rule { address: draw.below(1 << 32) as u32, prefix, first, last };
        rule.address &= rule.mask();
        rule
    };
    (0..count).map(|_| rule()).collect()
}

/// Bits of a destination port, then of a source address, the most significant first; with their values.
type Cube = Vec<(usize, bool)>;

fn bits(start: usize, width: usize, value: u32, mask: u32) -> impl Iterator<Item = (usize, bool)> {
    let shifts = (0..width).rev().enumerate();
    shifts
        .filter(move |(_, shift)| mask >> shift & 1 == 1)
        .map(move |(at, shift)| (start + at, value >> shift & 1 == 1))
}

/// What is asked of diagrams of any kind.
trait Diagrams {
    type Set: Clone + PartialEq;
    fn none(&mut self) -> Self::Set;
    fn all(&mut self) -> Self::Set;
    fn cube(&mut self, cube: &Cube) -> Self::Set;
    fn and(&mut self, a: &Self::Set, b: &Self::Set) -> Self::Set;
    fn or(&mut self, a: &Self::Set, b: &Self::Set) -> Self::Set;
    fn minus(&mut self, a: &Self::Set, b: &Self::Set) -> Self::Set;
}

/// What a priority list lets through.
fn listed<D: Diagrams>(diagrams: &mut D, flows: &[Cube]) -> D::Set {
    let (mut passed, mut rest) = (diagrams.none(), diagrams.all());
    for flow in flows {
        let cube = diagrams.cube(flow);
        let hit = diagrams.and(&rest, &cube);
        passed = diagrams.or(&passed, &hit);
        rest = diagrams.minus(&rest, &cube);
    }
    passed
}

/// Ports of at least, or of at most, a bound: bit by bit from the least significant.
fn compared<D: Diagrams>(diagrams: &mut D, bound: u16, at_least: bool) -> D::Set {
    (0..16).fold(diagrams.all(), |below, shift| {
        let bit = diagrams.cube(&vec![(15 - shift, at_least)]);
        if (bound >> shift & 1 == 1) == at_least {
            diagrams.and(&bit, &below)
        } else {
            diagrams.or(&bit, &below)
        }
    })
}

fn wanted<D: Diagrams>(diagrams: &mut D, rules: &[Rule]) -> D::Set {
    let mut union = diagrams.none();
    for rule in rules {
        let (low, high) = (compared(diagrams, rule.first, true), compared(diagrams, rule.last, false));
        let ports = diagrams.and(&low, &high);
        let block = diagrams.cube(&bits(16, 32, rule.address, rule.mask()).collect());
        let part = diagrams.and(&ports, &block);
        union = diagrams.or(&union, &part);
    }
    union
}

fn flows(rules: &[Rule]) -> Vec<Cube> {
    let of = |rule: &Rule| {
        let ports = masks::exact(rule.first, rule.last);
        let block: Cube = bits(16, 32, rule.address, rule.mask()).collect();
        let flow = |ports: masks::PortBlock| {
            let ports = bits(0, 16, u32::from(ports.value), u32::from(ports.mask));
            ports.chain(block.iter().copied()).collect::<Cube>()
        };
        ports.into_iter().map(flow).collect::<Vec<_>>()
    };
    rules.iter().flat_map(of).collect()
}

fn equal<D: Diagrams>(diagrams: &mut D, rules: &[Rule], flows: &[Cube]) -> bool {
    listed(diagrams, flows) == wanted(diagrams, rules)
}

/// Ours.
struct Ours(Bdds);

impl Diagrams for Ours {
    type Set = bdd::Bdd;
    fn none(&mut self) -> bdd::Bdd {
        self.0.none()
    }
    fn all(&mut self) -> bdd::Bdd {
        self.0.all()
    }
    fn cube(&mut self, cube: &Cube) -> bdd::Bdd {
        let var = |at: usize| match at {
            ..16 => vars::sent(Field::TcpDst).nth(at),
            _ => vars::sent(Field::NwSrc).nth(at - 16),
        };
        let literals: Vec<_> = cube.iter().filter_map(|(at, on)| Some((var(*at)?, *on))).collect();
        self.0.cube(&literals)
    }
    fn and(&mut self, a: &bdd::Bdd, b: &bdd::Bdd) -> bdd::Bdd {
        self.0.and(*a, *b)
    }
    fn or(&mut self, a: &bdd::Bdd, b: &bdd::Bdd) -> bdd::Bdd {
        self.0.or(*a, *b)
    }
    fn minus(&mut self, a: &bdd::Bdd, b: &bdd::Bdd) -> bdd::Bdd {
        self.0.minus(*a, *b)
    }
}

/// `biodivine-lib-bdd`: each set is a diagram of its own.
struct Biodivine(BddVariableSet);

impl Diagrams for Biodivine {
    type Set = Bdd;
    fn none(&mut self) -> Bdd {
        self.0.mk_false()
    }
    fn all(&mut self) -> Bdd {
        self.0.mk_true()
    }
    fn cube(&mut self, cube: &Cube) -> Bdd {
        let values: Vec<_> = cube.iter().map(|(at, on)| (BddVariable::from_index(*at), *on)).collect();
        self.0.mk_conjunctive_clause(&BddPartialValuation::from_values(&values))
    }
    fn and(&mut self, a: &Bdd, b: &Bdd) -> Bdd {
        a.and(b)
    }
    fn or(&mut self, a: &Bdd, b: &Bdd) -> Bdd {
        a.or(b)
    }
    fn minus(&mut self, a: &Bdd, b: &Bdd) -> Bdd {
        a.and_not(b)
    }
}

/// `oxidd`, one thread: its sets share nodes, and an operation may find no room for them. A set for which there was
/// none is `None`, and so is all that is made of it.
struct Oxidd {
    none: Option<BDDFunction>,
    all: Option<BDDFunction>,
    /// Each variable, and its opposite.
    literals: Vec<(BDDFunction, BDDFunction)>,
}

impl Oxidd {
    fn new() -> AllocResult<Self> {
        let manager = oxidd::bdd::new_manager(1 << 22, 1 << 20, 1);
        manager.with_manager_exclusive(|manager| {
            let vars = manager.add_vars(48);
            let literal = |var| Ok((BDDFunction::var(manager, var)?, BDDFunction::not_var(manager, var)?));
            let literals: AllocResult<Vec<_>> = vars.map(literal).collect();
            let (none, all) = (Some(BDDFunction::f(manager)), Some(BDDFunction::t(manager)));
            Ok(Self { none, all, literals: literals? })
        })
    }
}

type Found = Option<BDDFunction>;

impl Diagrams for Oxidd {
    type Set = Found;
    fn none(&mut self) -> Found {
        self.none.clone()
    }
    fn all(&mut self) -> Found {
        self.all.clone()
    }
    fn cube(&mut self, cube: &Cube) -> Found {
        // From the last variable up, so that each step adds one node.
        cube.iter().rev().try_fold(self.all.clone()?, |below, (at, on)| {
            let (yes, no) = self.literals.get(*at)?;
            below.and(if *on { yes } else { no }).ok()
        })
    }
    fn and(&mut self, a: &Found, b: &Found) -> Found {
        a.as_ref()?.and(b.as_ref()?).ok()
    }
    fn or(&mut self, a: &Found, b: &Found) -> Found {
        a.as_ref()?.or(b.as_ref()?).ok()
    }
    fn minus(&mut self, a: &Found, b: &Found) -> Found {
        b.as_ref()?.imp_strict(a.as_ref()?).ok()
    }
}

fn predicate(cube: &Cube) -> Predicate {
    let of = |from: usize, width: usize| {
        let part = cube.iter().filter(move |(at, _)| (from..from + width).contains(at));
        part.fold((0, 0), |(value, mask), (at, on)| {
            let bit = 1_u128 << (from + width - 1 - at);
            (if *on { value | bit } else { value }, mask | bit)
        })
    };
    let ((ports, port_mask), (block, block_mask)) = (of(0, 16), of(16, 32));
    Predicate::Is(Field::TcpDst, ports, port_mask).and(Predicate::Is(Field::NwSrc, block, block_mask))
}

fn bound(bound: u16, at_least: bool) -> Predicate {
    (0..16).fold(Predicate::always(), |below, shift| {
        let bit = 1_u128 << shift;
        let part = Predicate::Is(Field::TcpDst, if at_least { bit } else { 0 }, bit);
        if (bound >> shift & 1 == 1) == at_least { part.and(below) } else { part.or(below) }
    })
}

/// The same question as one formula: whether some packet is in one of table and intent only.
fn by_z3(rules: &[Rule], flows: &[Cube]) -> Answer {
    let table = Predicate::Any(flows.iter().map(predicate).collect());
    let wanted = rules.iter().map(|rule| {
        let block = Predicate::Is(Field::NwSrc, u128::from(rule.address), u128::from(rule.mask()));
        Predicate::All(vec![bound(rule.first, true), bound(rule.last, false), block])
    });
    let wanted = Predicate::Any(wanted.collect());
    let differ = table.clone().and(wanted.clone().negate()).or(wanted.and(table.negate()));
    let tables = Tables::new(Vec::new());
    let mut encoder = Encoder::new(&tables, Profile::Kernel, Form::Whole, true, Counts::Escape);
    ask(&[encoder.predicate(&differ)], None)
}

fn question(bench: &mut Bench, count: usize) -> Result<()> {
    let rules = rules(count);
    let flows = flows(&rules);
    let work = format!("{count} CIDR rules ({} flows) equal to their intent", flows.len());
    let mut answer = None;
    let time = bench.time(|| {
        answer = Some(with_deep_stack(|| equal(&mut Ours(Bdds::with_limit(1 << 26)), &rules, &flows)));
    })?;
    ensure!(answer == Some(true), "our diagrams say that the table differs");
    bench.row(&work, "flowproof's diagrams", Some(time), None);
    let time = bench.time(|| {
        answer = Some(Oxidd::new().is_ok_and(|mut all| equal(&mut all, &rules, &flows)));
    })?;
    ensure!(answer == Some(true), "oxidd says that the table differs");
    bench.row(&work, "oxidd 0.13, one thread", Some(time), None);
    let time = bench.time(|| {
        answer = Some(equal(&mut Biodivine(BddVariableSet::new_anonymous(48)), &rules, &flows));
    })?;
    ensure!(answer == Some(true), "biodivine-lib-bdd says that the table differs");
    bench.row(&work, "biodivine-lib-bdd 0.6", Some(time), None);
    let mut answer = None;
    let time = bench.time(|| answer = Some(with_deep_stack(|| by_z3(&rules, &flows))))?;
    ensure!(answer != Some(Answer::Sat), "Z3 says that the table differs");
    let who = if answer == Some(Answer::Unsat) { "Z3" } else { "Z3, which gives up (resource limit)" };
    bench.row(&work, who, Some(time), None);
    Ok(())
}

/// The rows of diagrams.
pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    [RULES / 20, RULES / 4, RULES].into_iter().try_for_each(|count| question(bench, count))
}
