//! The Z3 engine on one port: each property as one query for each form of frame.

use crate::{
    arrival::Arrival,
    diagram::Host,
    familiar::{self, Choice},
    ports::Port,
    predicate::Predicate,
    properties::{self, Judge, Property},
    symkey::Form,
    z3_engine::{Answer, Counts, Encoder, Exit},
    z3_query::ask,
};
use flowproof_packet::PortNo;
use flowproof_switch::conntrack::Profile;
use std::collections::BTreeMap;
use z3::ast::Bool;

/// A query as SMT-LIB 2, named after what it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// File name without extension.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Everything Z3 is asked about one port under one profile. Formulas that several properties share are built once.
///
/// Z3's objects belong to the thread that made them; so does this.
pub struct Z3Port<'a> {
    host: &'a Host,
    port: &'a Port,
    profile: Profile,
    members: BTreeMap<PortNo, Option<u16>>,
    escapes: BTreeMap<Form, (Bool, Bool, Vec<Exit>, bool)>,
    queries: Option<Vec<Query>>,
    satisfied: Option<(Form, Vec<Bool>)>,
    within: Predicate,
}

impl<'a> Z3Port<'a> {
    /// The engine for `port` under `profile`; keeps every query if `keep` is set.
    #[must_use]
    pub fn new(host: &'a Host, port: &'a Port, profile: Profile, keep: bool) -> Self {
        let queries = keep.then(Vec::new);
        Self {
            host,
            port,
            profile,
            members: host.members(),
            escapes: BTreeMap::new(),
            queries,
            satisfied: None,
            within: Predicate::always(),
        }
    }

    /// From now on only packets of which this is true are asked about.
    pub fn restrict(&mut self, within: Predicate) {
        self.within = within;
    }

    /// The queries asked so far.
    #[must_use]
    pub fn queries(self) -> Vec<Query> {
        self.queries.unwrap_or_default()
    }

    /// Whether some packet violates `property`.
    pub fn violated(&mut self, property: &Property) -> Answer {
        let mut unknown = None;
        for form in property.forms {
            for answer in self.form(property, *form) {
                match answer {
                    Answer::Sat => return Answer::Sat,
                    Answer::Unsat => {}
                    Answer::Unknown(why) => unknown = Some(Answer::Unknown(why)),
                }
            }
        }
        unknown.unwrap_or(Answer::Unsat)
    }

    fn form(&mut self, property: &Property, form: Form) -> Vec<Answer> {
        let (sendable, escape, exits, complete) = self.escape(form);
        if !complete {
            return vec![Answer::Unknown("the tables are too large to encode".to_owned())];
        }
        let mut encoder = self.encoder(form, Counts::Escape);
        let violation = properties::violation(property, self.port).and(self.within.clone());
        let violation = encoder.predicate(&violation);
        match property.judge {
            Judge::Implication { .. } | Judge::Prohibition { .. } => {
                vec![self.ask(property, form, 0, &[sendable, violation, escape])]
            }
            Judge::KeepsVlan => {
                let members = self.members.clone();
                let counts = Counts::LeavesNetwork { network: self.port.network, members: &members };
                let leaves = self.encoder(form, counts).enters(self.port.ofport, Arrival::Ordinary);
                vec![self.ask(property, form, 0, &[sendable, violation, leaves])]
            }
            Judge::FragmentsLikeWholes => exits
                .iter()
                .enumerate()
                .map(|(number, exit)| {
                    let mut wholes = self.encoder(Form::Whole, Counts::Exit(exit));
                    let whole = if exit.0.is_modelled() {
                        wholes.enters(self.port.ofport, Arrival::Ordinary)
                    } else {
                        Bool::from_bool(false)
                    };
                    let mut fragments = self.encoder(form, Counts::Exit(exit)).told(wholes.deepest());
                    let fragment = fragments.enters(self.port.ofport, Arrival::Ordinary);
                    self.ask(
                        property,
                        form,
                        number,
                        &[sendable.clone(), violation.clone(), fragment, whole.not()],
                    )
                })
                .collect(),
        }
    }

    fn encoder<'b>(&self, form: Form, counts: Counts<'b>) -> Encoder<'b>
    where
        'a: 'b,
    {
        let access = self.host.is_access(self.port.ofport);
        Encoder::new(&self.host.tables, self.profile, form, access, counts).on(self.host)
    }

    /// The frames of a form, those of them that escape, and by which exits.
    fn escape(&mut self, form: Form) -> (Bool, Bool, Vec<Exit>, bool) {
        if let Some(known) = self.escapes.get(&form) {
            return known.clone();
        }
        let mut encoder = self.encoder(form, Counts::Escape);
        let (sendable, escape) = (encoder.sendable(), encoder.enters(self.port.ofport, Arrival::Ordinary));
        let built = (sendable, escape, encoder.exits().to_vec(), encoder.complete());
        self.escapes.insert(form, built.clone());
        built
    }

    fn ask(&mut self, property: &Property, form: Form, number: usize, formulas: &[Bool]) -> Answer {
        let mut text = String::new();
        let answer = ask(formulas, self.queries.is_some().then_some(&mut text));
        if let Some(queries) = &mut self.queries {
            let begun = format!("{}-port{}-{}", property.name, self.port.ofport, self.profile.name());
            let name = format!("{begun}-{}-{number}", form.name());
            queries.push(Query { name, text });
        }
        if answer == Answer::Sat {
            self.satisfied = Some((form, formulas.to_vec()));
        }
        answer
    }

    /// The most familiar packet that violates what was last found violated.
    #[must_use]
    pub fn example(&self) -> Option<Choice> {
        let (form, formulas) = self.satisfied.as_ref()?;
        let others: Vec<&Port> =
            self.host.ports.iter().filter(|p| p.ofport != self.port.ofport).take(4).collect();
        self.encoder(*form, Counts::Escape).choose(formulas, &familiar::wishes(self.port, &others))
    }
}
