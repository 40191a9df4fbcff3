//! Replies and errors where they pass by what the rules say *now* of the first packet of their connection.
//!
//! That is the policy switch `revocation: at-once`. A reply is its connection's first packet with the ends exchanged,
//! but for ICMP, whose types connection tracking remembers; of what an error is about, connection tracking gives all
//! of it (`ct_nw_src` and its kin). Each end is held to its own rules: those of ingress for what was sent to it, those
//! of egress for what it sent. Deliberately absent: who the ends of a connection were if an error comes from somebody
//! else, or through a router.
//!
//! Source: ovs-fields(7), connection tracking; experiments with Open vSwitch 3.1.

use super::encode::{Words, own_sources};
use crate::{
    frames,
    predicate::Predicate,
    set::{Literal, PacketSets},
    symbolic::icmpv6,
    vars::{self, Var},
};
use flowproof_model::policy::{Direction, IcmpMatch, Port, Protocol, Rule};
use flowproof_packet::Field;
use flowproof_switch::conntrack::{Profile, state};

/// How a packet follows a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Following {
    /// It answers.
    Reply,
    /// It is an error about what the connection's opener sent, and goes back to it.
    ErrorBack,
    /// It is an error about an answer.
    ErrorForth,
}

impl Following {
    pub(crate) const ALL: [Self; 3] = [Self::Reply, Self::ErrorBack, Self::ErrorForth];

    /// The answers of the `ct()` at nesting `depth` that give a packet this standing.
    pub(crate) fn answered<S: PacketSets>(self, sets: &mut S, depth: u16) -> S::Set {
        let flags = match self {
            Self::Reply => [(state::EST, true), (state::REL, false), (state::RPL, true)],
            Self::ErrorBack => [(state::EST, false), (state::REL, true), (state::RPL, true)],
            Self::ErrorForth => [(state::EST, false), (state::REL, true), (state::RPL, false)],
        };
        sets.cube(&flags.map(|(flag, on)| (bit(depth, flag), on)))
    }

    /// Which rules of an end speak of the connection's first packet: the end that sends (egress) or receives (ingress)
    /// what follows it.
    const fn rules(self, end: Direction) -> Direction {
        match (self, end) {
            (Self::Reply | Self::ErrorBack, Direction::Egress) | (Self::ErrorForth, Direction::Ingress) => {
                Direction::Ingress
            }
            (Self::Reply | Self::ErrorBack, Direction::Ingress) | (Self::ErrorForth, Direction::Egress) => {
                Direction::Egress
            }
        }
    }

    /// Where a field of the first packet is to be seen.
    fn place(self, depth: u16, icmp: bool, field: Field) -> Option<Vec<Var>> {
        let sent = |field| Some(vars::sent(field).collect());
        let tracked = |field| Some(vars::tracked(depth, field).collect());
        match (self, field) {
            (_, Field::DlType) | (Self::Reply, Field::NwProto) => sent(field),
            (Self::Reply, Field::NwSrc) => sent(Field::NwDst),
            (Self::Reply, Field::NwDst) => sent(Field::NwSrc),
            (Self::Reply, Field::Ipv6Src) => sent(Field::Ipv6Dst),
            (Self::Reply, Field::Ipv6Dst) => sent(Field::Ipv6Src),
            (Self::Reply, Field::DlSrc) => sent(Field::DlDst),
            (Self::Reply, Field::DlDst) => sent(Field::DlSrc),
            (Self::Reply, Field::TcpSrc) if !icmp => sent(Field::TcpDst),
            (Self::Reply, Field::TcpDst) if !icmp => sent(Field::TcpSrc),
            (Self::ErrorBack, Field::DlSrc) => sent(Field::DlDst),
            (Self::ErrorBack, Field::DlDst) => sent(Field::DlSrc),
            (Self::ErrorForth, Field::DlSrc | Field::DlDst) => sent(field),
            (_, Field::TcpSrc) => tracked(Field::CtTpSrc),
            (_, Field::TcpDst) => tracked(Field::CtTpDst),
            (_, Field::NwProto) => tracked(Field::CtNwProto),
            (_, Field::NwSrc) => tracked(Field::CtNwSrc),
            (_, Field::NwDst) => tracked(Field::CtNwDst),
            (_, Field::Ipv6Src) => tracked(Field::CtIpv6Src),
            (_, Field::Ipv6Dst) => tracked(Field::CtIpv6Dst),
            _ => None,
        }
    }

    /// The end of a packet's way at which the connection was opened.
    pub(crate) const fn opener(self) -> Direction {
        match self {
            Self::Reply | Self::ErrorBack => Direction::Ingress,
            Self::ErrorForth => Direction::Egress,
        }
    }

    /// What follows connections that `port` can have opened: from addresses of its own.
    pub(crate) fn opened_by<S: PacketSets>(self, sets: &mut S, port: &Port, depth: u16) -> S::Set {
        fold(sets, &own_sources(port), &|field| self.place(depth, false, field))
    }

    /// What passes `port`, at this end of its way, because the rules admit its connection. `all_rules` are all of
    /// them; else those that name neither ports nor ICMP types.
    pub(crate) fn admitted<S: PacketSets>(
        self,
        sets: &mut S,
        words: Words<'_>,
        (port, end): (&Port, Direction),
        depth: u16,
        all_rules: bool,
    ) -> S::Set {
        let wanted = |rule: &&Rule| rule.direction == self.rules(end) && (all_rules || !names_ports(rule));
        let mut admitted = sets.none();
        for rule in words.policy.rules_of(port).filter(wanted) {
            let icmp = matches!(rule.protocol, Protocol::Icmp(_));
            let place = |field| self.place(depth, icmp, field);
            let by_rule = fold(sets, &words.rule(port, rule), &place);
            admitted = sets.or(admitted, by_rule);
        }
        admitted
    }
}

const fn names_ports(rule: &Rule) -> bool {
    matches!(
        rule.protocol,
        Protocol::Transport(_, Some(_)) | Protocol::Icmp(IcmpMatch::Type(_) | IcmpMatch::TypeCode(..))
    )
}

fn bit(depth: u16, flag: u32) -> Var {
    let place = flag.trailing_zeros() as usize;
    vars::tracked(depth, Field::CtState).rev().nth(place).unwrap_or(Var(u16::MAX))
}

/// A predicate over fields that stand elsewhere; where one is not to be seen, nothing is known to have a value in it.
fn fold<S: PacketSets>(
    sets: &mut S,
    predicate: &Predicate,
    place: &impl Fn(Field) -> Option<Vec<Var>>,
) -> S::Set {
    match predicate {
        Predicate::All(parts) => {
            let start = sets.all();
            parts.iter().fold(start, |sum, part| {
                let part = fold(sets, part, place);
                sets.and(sum, part)
            })
        }
        Predicate::Any(parts) => {
            let start = sets.none();
            parts.iter().fold(start, |sum, part| {
                let part = fold(sets, part, place);
                sets.or(sum, part)
            })
        }
        Predicate::Is(field, value, mask) => match place(*field) {
            Some(vars) => {
                let bits = vars.into_iter().rev().enumerate();
                let wanted = bits.filter(|(i, _)| mask >> i & 1 == 1);
                let literals: Vec<Literal> = wanted.map(|(i, var)| (var, value >> i & 1 == 1)).collect();
                sets.cube(&literals)
            }
            None => sets.none(),
        },
        // Rules say neither.
        Predicate::Not(_) | Predicate::Same(..) => sets.none(),
    }
}

/// A protocol of messages, by family: which of its types ask, which answer, which report errors (RFC 792, 950, 4443,
/// 4620).
struct Messages {
    family: u16,
    protocol: u8,
    queries: &'static [u8],
    answers: &'static [u8],
    errors: &'static [u8],
}

const MESSAGES: [Messages; 2] = [
    Messages {
        family: 0x0800,
        protocol: 1,
        queries: &[8, 13, 15, 17],
        answers: &[0, 14, 16, 18],
        errors: &[3, 4, 5, 11, 12],
    },
    Messages {
        family: 0x86dd,
        protocol: 58,
        queries: &[128, 139],
        answers: &[129, 140],
        errors: &[1, 2, 3, 4],
    },
];

/// What connection tracking can answer at nesting `depth`, for want of helpers: only an error is related; of ICMP only a
/// query opens a connection, only what answers it is a reply, of a connection of ICMP, and anything else is invalid or
/// untracked. The userspace datapath calls queries invalid whose code is not 0 (experiment).
pub(crate) fn plausible<S: PacketSets>(sets: &mut S, profile: Profile, depth: u16) -> S::Set {
    let flag = |flag, on| (bit(depth, flag), on);
    let codes =
        if profile == Profile::Userspace31 { Predicate::is(Field::TcpDst, 0u8) } else { Predicate::always() };
    let mut errors = Vec::new();
    let mut all = sets.all();
    for Messages { family, protocol, queries, answers, errors: types } in MESSAGES {
        let message = Predicate::is(Field::DlType, family).and(Predicate::is(Field::NwProto, protocol));
        let of = |types: &'static [u8]| Predicate::one_of(Field::TcpSrc, types.iter().copied());
        errors.push(message.clone().and(of(types)));
        // Discovery is its own matter: what is legal for it says all.
        let others = message.clone().negate().or(icmpv6(&frames::DISCOVERY));
        let may_open = others.clone().or(of(queries).and(codes.clone())).to_set(sets);
        let may_answer = others.or(of(answers)).to_set(sets);
        let opens = sets.cube(&[flag(state::NEW, true)]);
        let goes_on = sets.cube(&[flag(state::EST, true), flag(state::RPL, false)]);
        let opens = sets.or(opens, goes_on);
        let answered = sets.cube(&[flag(state::EST, true), flag(state::RPL, true)]);
        let (wrongly_open, wrongly_answer) = (sets.minus(opens, may_open), sets.minus(answered, may_answer));
        let wrong = sets.or(wrongly_open, wrongly_answer);
        all = sets.minus(all, wrong);
        let own = fold(sets, &Predicate::is(Field::CtNwProto, protocol), &|field| {
            Some(vars::tracked(depth, field).collect())
        });
        let theirs = sets.not(own);
        let established = sets.cube(&[flag(state::EST, true)]);
        let message = message.to_set(sets);
        let foreign = sets.and(established, message);
        let foreign = sets.and(foreign, theirs);
        all = sets.minus(all, foreign);
    }
    let errors = Predicate::Any(errors).to_set(sets);
    let related = sets.cube(&[flag(state::REL, true)]);
    let wrongly_related = sets.minus(related, errors);
    sets.minus(all, wrongly_related)
}
