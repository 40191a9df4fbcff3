//! Laws of the interpreter that hold for every table and every frame.

use flowproof_packet::{Field, PortNo, port, wire};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Conjunction, Controller, Ct, Flow, Match, Subfield, Zone, ast::SetForm},
    pipeline::{DropReason, Effect, Outcome, PortConfig, Stateless, Switch, SwitchConfig, trace_stateless},
    table::{FlowId, Search, Tables, TieBreak},
};
use proptest::{collection::vec, prelude::*};
use std::sync::Arc;

const FIELDS: [Field; 12] = [
    Field::InPort,
    Field::Reg0,
    Field::Metadata,
    Field::VlanTci,
    Field::DlSrc,
    Field::NwSrc,
    Field::NwTos,
    Field::TcpDst,
    Field::Icmpv6Type,
    Field::Ipv6Dst,
    Field::CtState,
    Field::CtMark,
];

fn field() -> impl Strategy<Value = Field> {
    prop::sample::select(FIELDS.to_vec())
}

fn ports() -> impl Strategy<Value = PortNo> {
    prop_oneof![1_u16..5, Just(port::LOCAL), 0xfff8_u16..=0xffff]
}

fn ct() -> impl Strategy<Value = Action> {
    let mark = Action::Set { field: Field::CtMark, value: 5, mask: 0xf, form: SetForm::SetField };
    let fields = (any::<bool>(), any::<bool>(), prop::option::of(0_u8..3), 0_u16..2, any::<bool>());
    fields.prop_map(move |(commit, force, table, zone, exec)| {
        let exec = if exec { vec![mark.clone()] } else { Vec::new() };
        let zone = Zone::Const(zone);
        Action::Ct(Box::new(Ct { commit, force, table, zone, exec, nat: None, alg: None }))
    })
}

fn action() -> impl Strategy<Value = Action> {
    let low = |field| Subfield { field, start: 0, width: 8 };
    prop_oneof![
        ports().prop_map(Action::Output),
        (prop::option::of(ports()), prop::option::of(0_u8..4), any::<bool>())
            .prop_map(|(port, table, ct)| Action::Resubmit { port, table, ct }),
        (0_u8..4).prop_map(Action::GotoTable),
        (field(), any::<u128>(), any::<u128>()).prop_map(|(field, value, mask)| Action::Set {
            field,
            value,
            mask,
            form: SetForm::Load
        }),
        (field(), field()).prop_map(move |(src, dst)| Action::Move { src: low(src), dst: low(dst) }),
        Just(Action::OutputField(Subfield::whole(Field::Reg0))),
        (0_u16..0x1000).prop_map(Action::ModVlanVid),
        (0_u8..8).prop_map(Action::ModVlanPcp),
        Just(Action::StripVlan),
        Just(Action::PushVlan(0x8100)),
        Just(Action::DecTtl(String::new())),
        Just(Action::CtClear),
        Just(Action::Controller(Box::new(Controller::plain(128)))),
        Just(Action::Opaque("sample(probability=1)".to_owned())),
        ct(),
    ]
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let clause = (1_u8..3).prop_map(|clause| Action::Conjunction(Conjunction { id: 1, clause, clauses: 2 }));
    prop_oneof![8 => vec(action(), 0..4), 1 => clause.prop_map(|clause| vec![clause])]
}

fn flow() -> impl Strategy<Value = Flow> {
    let wanted = vec((field(), 0_u128..3, 0_u128..4), 0..3);
    (0_u8..4, 0_u16..4, wanted, actions(), any::<bool>()).prop_map(
        |(table, priority, wanted, actions, conj)| {
            let mut matching = Match::default();
            wanted.iter().for_each(|(field, value, mask)| matching.set(*field, *value, *mask));
            if conj {
                matching.set(Field::ConjId, 1, u128::MAX);
            }
            Flow { table, priority, matching, actions, ..Flow::default() }
        },
    )
}

fn config(profile: Profile, tie: TieBreak) -> SwitchConfig {
    let ports =
        vec![PortConfig::trunk(1), PortConfig::access(2, 1), PortConfig::access(3, 2), PortConfig::trunk(4)];
    SwitchConfig { ports, profile, tie }
}

/// Bytes that begin like a frame of a protocol that matters, or like nothing.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(vec![]),
        Just([&[2; 12][..], &[0x08, 0x00, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 17, 0, 0]].concat()),
        Just([&[2; 12][..], &[0x08, 0x00, 0x45, 0, 0, 40, 0, 1, 0x20, 0, 1, 6, 0, 0]].concat()),
        Just([&[2; 12][..], &[0x81, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]].concat()),
        Just([&[2; 12][..], &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]].concat()),
    ];
    (start, vec(any::<u8>(), 0..80)).prop_map(|(start, rest)| [start, rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_frame_has_an_outcome_and_a_trace_changes_nothing(
        flows in vec(flow(), 0..12),
        frames in vec((1_u16..5, frame()), 1..5),
        profile in prop::sample::select(Profile::ALL.to_vec()),
        last in any::<bool>(),
    ) {
        let tie = if last { TieBreak::Last } else { TieBreak::First };
        let tables = Arc::new(Tables::new(flows));
        let mut plain = Switch::new(tables.clone(), config(profile, tie));
        let mut traced = Switch::new(tables.clone(), config(profile, tie));
        for (port, frame) in frames {
            let outcome = plain.receive(port, &frame);
            prop_assert_eq!(&outcome.trace, &None);
            let with_trace = traced.receive_traced(port, &frame);
            let text = with_trace.trace.as_ref().unwrap().render(&tables);
            prop_assert!(text.starts_with("packet from port"));
            prop_assert_eq!(&outcome, &Outcome { trace: None, ..with_trace });
            plain.advance(1000);
            traced.advance(1000);
        }
    }

    #[test]
    fn a_packet_fares_the_same_by_either_search_and_in_a_switch_that_was_reset(
        flows in vec(flow(), 0..12),
        frames in vec((1_u16..5, frame()), 1..5),
        profile in prop::sample::select(Profile::ALL.to_vec()),
        last in any::<bool>(),
    ) {
        let tie = if last { TieBreak::Last } else { TieBreak::First };
        let tables = Tables::new(flows).searched_by(Search::Compiled);
        let scanned = Arc::new(tables.clone().searched_by(Search::Scan));
        let mut used = Switch::new(Arc::new(tables), config(profile, tie));
        let mut scanning = Switch::new(scanned, config(profile, tie));
        let story = |switch: &mut Switch| {
            let outcomes: Vec<_> = frames.iter().map(|(port, frame)| switch.receive(*port, frame)).collect();
            (outcomes, switch.fdb().entries())
        };
        let first = story(&mut used);
        prop_assert_eq!(&story(&mut scanning), &first);
        used.advance(1000);
        prop_assert_eq!(&story(&mut used.fresh()), &first);
        used.reset();
        prop_assert_eq!(&story(&mut used), &first);
    }

    #[test]
    fn a_stateless_pass_is_the_stateless_trace_without_its_trace(
        flows in vec(flow(), 0..12),
        frames in vec((1_u16..5, frame()), 1..5),
        last in any::<bool>(),
        with_frame in any::<bool>(),
    ) {
        let tie = if last { TieBreak::Last } else { TieBreak::First };
        let tables = Arc::new(Tables::new(flows));
        let config = config(Profile::Userspace31, tie);
        let mut switch = Stateless::new(tables.clone(), config.clone());
        for (port, frame) in &frames {
            let key = wire::extract(frame, *port);
            let frame: &[u8] = if with_frame { frame } else { &[] };
            let traced = trace_stateless(&tables, &config, &key, frame, &[]);
            prop_assert_eq!(switch.run(&key, frame, &[]), Outcome { trace: None, ..traced });
        }
    }

    #[test]
    fn nothing_leaves_by_an_unknown_port(flows in vec(flow(), 0..12), frame in frame()) {
        let mut switch = Switch::new(Arc::new(Tables::new(flows)), config(Profile::Userspace31, TieBreak::First));
        for (port, _) in switch.receive(1, &frame).delivered() {
            prop_assert!((1..5).contains(&port) || port == port::LOCAL, "{}", port);
        }
    }

    #[test]
    fn a_key_alone_takes_the_way_of_its_frame(flows in vec(flow(), 0..12), frame in frame()) {
        // Headers that cannot be: what is rewritten in the key need not be in the frame that is read again.
        let key = wire::extract(&frame, 1);
        prop_assume!(!flows.iter().any(|flow| flow.actions.iter().any(|action| matches!(action, Action::Ct(_)))));
        let tables = Tables::new(flows);
        let config = config(Profile::Userspace31, TieBreak::First);
        let ports = |outcome: &Outcome| outcome.delivered().iter().map(|(port, _)| *port).collect::<Vec<_>>();
        let whole = trace_stateless(&tables, &config, &key, &frame, &[]);
        let alone = trace_stateless(&tables, &config, &key, &[], &[]);
        prop_assert_eq!(ports(&whole), ports(&alone));
        prop_assert_eq!(whole.trace, alone.trace);
    }
}

fn out(port: PortNo) -> Flow {
    Flow { actions: vec![Action::Output(port)], ..Flow::default() }
}

#[track_caller]
fn receive(flows: Vec<Flow>) -> Outcome {
    let config = config(Profile::Userspace31, TieBreak::First);
    Switch::new(Arc::new(Tables::new(flows)), config).receive_traced(1, &[2; 60])
}

#[test]
fn a_drop_says_why() {
    let check = |flow: Flow, reason| assert_eq!(receive(vec![flow]).dropped, Some(reason));
    check(Flow { table: 1, ..out(2) }, DropReason::Miss { table: 0 });
    check(Flow { actions: Vec::new(), ..out(2) }, DropReason::Flow(FlowId(0)));
    check(out(1), DropReason::InputPort(1));
    check(out(9), DropReason::UnknownPort(9));
    assert_eq!(receive(vec![out(2)]).dropped, None);
}

#[test]
fn what_is_not_modelled_is_an_opaque_effect_and_never_a_drop() {
    // What surely leaves the packet alone is passed; behind anything else nobody knows what becomes of it.
    for (text, rest) in [("bundle(eth_src,0,hrw,ofport,members:1)", 1), ("multipath(…)", 0), ("group:1", 0)]
    {
        let action = |text: &str| Action::Opaque(text.to_owned());
        let outcome = receive(vec![Flow { actions: vec![action(text), Action::Output(2)], ..out(2) }]);
        let [Effect::Opaque { text: found, .. }, others @ ..] = &outcome.effects[..] else {
            panic!("{outcome:?}")
        };
        assert_eq!((found.as_str(), others.len(), outcome.dropped), (text, rest, None));
    }
    let unknown = Flow { opaque_match: vec!["tun_metadata0=1".to_owned()], priority: 5, ..out(3) };
    let outcome = receive(vec![out(2), unknown]);
    assert_eq!(outcome.effects, [Effect::Opaque { flow: FlowId(1), text: "tun_metadata0=1".to_owned() }]);
    assert_eq!((outcome.is_opaque(), outcome.dropped), (true, None));
}

#[test]
fn a_trace_names_the_path_and_what_is_ambiguous() {
    let mut narrow = out(3);
    narrow.matching.set(Field::InPort, 1, u128::MAX);
    let resubmit = Action::Resubmit { port: None, table: Some(7), ct: false };
    let flows = vec![
        Flow { actions: vec![resubmit], ..out(2) },
        Flow { table: 7, ..out(2) },
        Flow { table: 7, ..narrow },
    ];
    let trace = receive(flows).trace.unwrap();
    assert_eq!(trace.path(), [(0, FlowId(0)), (7, FlowId(1))]);
    assert_eq!(trace.ambiguities().len(), 1);
}
