//! From text to a scenario.

use super::error::ParseError;
use super::events;
use super::objects::Objects;
use super::words::Words;
use crate::scenario::{Scenario, Step, Tables, Written};
use flowproof_compiler::Layout;
use flowproof_model::policy::Policy;
use flowproof_model::switches::Switches;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::{ParseOptions, parse_flows};
use flowproof_switch::table::TieBreak;

/// Reads a file that a scenario names; an error is a message.
pub type ReadFile<'r> = &'r mut dyn FnMut(&str) -> Result<String, String>;

/// A scenario that names no files.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Scenario, ParseError> {
    parse_with(text, &mut |_| Err("files cannot be read here".to_owned()))
}

/// A scenario; `read` reads the files that it names.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_with(text: &str, read: ReadFile<'_>) -> Result<Scenario, ParseError> {
    let mut parser = Parser::new(read);
    for (number, line) in (1..).zip(text.lines()) {
        parser.line(number, line)?;
    }
    parser.finish()
}

/// Takes the rest of a line.
type Setting = fn(&mut Parser<'_>, &mut Words<'_>) -> Result<(), ParseError>;

/// Words that begin a line about what there is before anything happens.
const SETTINGS: &[(&str, Setting)] = &[
    ("layout", |parser, words| parser.layout(words)),
    ("flows", |parser, words| parser.flows(words)),
    ("datapath", |parser, words| parser.datapath(words)),
    ("tie", |parser, words| parser.tie(words)),
    ("switch", |parser, words| parser.switch(words)),
    ("intent", |parser, words| parser.intent(words)),
    ("network", |parser, words| parser.objects.network(words)),
    ("uplink", |parser, words| parser.objects.uplink(words)),
    ("option", |parser, words| parser.objects.option(words)),
    ("group", |parser, words| parser.objects.group(words)),
    ("rule", |parser, words| parser.objects.rule(words)),
    ("addresses", |parser, words| parser.objects.addresses(words)),
    ("port", |parser, words| parser.objects.port(words)),
];

struct Parser<'r> {
    read: ReadFile<'r>,
    notes: Vec<String>,
    /// Comments since the last step.
    comments: Vec<String>,
    objects: Objects,
    intent: Option<(String, Policy)>,
    tables: Option<Tables>,
    datapath: Profile,
    tie: TieBreak,
    switches: Vec<(String, String)>,
    /// The policy at the beginning and as it is now, once something has happened.
    policies: Option<(Policy, Policy)>,
    steps: Vec<Step>,
    started: bool,
}

impl<'r> Parser<'r> {
    fn new(read: ReadFile<'r>) -> Self {
        Self {
            read,
            notes: Vec::new(),
            comments: Vec::new(),
            objects: Objects::default(),
            intent: None,
            tables: None,
            datapath: Profile::Userspace31,
            tie: TieBreak::First,
            switches: Vec::new(),
            policies: None,
            steps: Vec::new(),
            started: false,
        }
    }

    fn line(&mut self, number: u32, line: &str) -> Result<(), ParseError> {
        let text = line.trim();
        if let Some(comment) = text.strip_prefix('#') {
            let comment = comment.strip_prefix(' ').unwrap_or(comment).trim_end().to_owned();
            if self.started {
                self.comments.push(comment)
            } else {
                self.notes.push(comment)
            }
            return Ok(());
        }
        if text.is_empty() {
            return Ok(());
        }
        if let Some(Tables::Inline(flows)) = &mut self.tables
            && self.policies.is_none()
            && text.contains("actions=")
        {
            check_flow(number, line)?;
            flows.push(text.to_owned());
            return Ok(());
        }
        self.started = true;
        if let Some(rest) = text.strip_prefix("divergence ") {
            return self.divergence(number, line, rest);
        }
        let mut words = Words::of(number, line)?;
        let first = words.need("a word")?;
        if first.text == "expect" {
            let expectation = events::expectation(&mut words)?;
            let step = self.steps.last_mut().ok_or_else(|| words.whole("nothing has happened yet"))?;
            step.expectations.push(expectation);
            return words.finish();
        }
        match SETTINGS.iter().find(|(name, _)| *name == first.text) {
            Some(_) if self.policies.is_some() => {
                Err(words.complaint(&first, "this cannot be said after the first event"))
            }
            Some((_, set)) => {
                // What stands among them belongs to the scenario as a whole.
                self.notes.append(&mut self.comments);
                set(self, &mut words)?;
                words.finish()
            }
            None => self.event(&first.text.clone(), first.column, &mut words),
        }
    }

    fn event(&mut self, name: &str, column: u32, words: &mut Words<'_>) -> Result<(), ParseError> {
        let Some(read) = events::reader(name) else {
            let message = "a line does not begin with this";
            return Err(ParseError::new(words.line, column, name, message));
        };
        let (_, now) = match self.policies.take() {
            Some(policies) => self.policies.insert(policies),
            None => {
                let policy = self.policy()?;
                self.policies.insert((policy.clone(), policy))
            }
        };
        let mut step = Step::new(read(now, &self.steps, words)?);
        words.finish()?;
        for change in step.event.changes(now) {
            now.apply(change)
                .map_err(|faults| words.whole(faults.first().map(ToString::to_string).unwrap_or_default()))?;
        }
        step.comments = std::mem::take(&mut self.comments);
        step.line = crate::scenario::Line(words.line);
        self.steps.push(step);
        Ok(())
    }

    fn policy(&mut self) -> Result<Policy, ParseError> {
        match &self.intent {
            Some((_, policy)) => Ok(policy.clone()),
            None => std::mem::take(&mut self.objects).policy(),
        }
    }

    fn layout(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let mut layouts = vec![layout(words)?];
        while !words.is_empty() {
            layouts.push(layout(words)?);
        }
        self.set_tables(Tables::Compiled(layouts), words)
    }

    /// `flows FILE`, or `flows` with the flows in the lines that follow.
    fn flows(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let Some(name) = words.next() else { return self.set_tables(Tables::Inline(Vec::new()), words) };
        let text = (self.read)(&name.text).map_err(|message| words.complaint(&name, message))?;
        let options = ParseOptions { lenient: true, ..ParseOptions::default() };
        let parsed = parse_flows(&text, &options).map_err(|errors| words.complaint(&name, errors))?;
        let flows = parsed.flows.iter().map(|flow| flow.to_string().trim_start().to_owned()).collect();
        self.set_tables(Tables::File(name.text, flows), words)
    }

    fn set_tables(&mut self, tables: Tables, words: &Words<'_>) -> Result<(), ParseError> {
        match self.tables.replace(tables) {
            None => Ok(()),
            Some(_) => Err(words.whole("the tables have been said already")),
        }
    }

    fn datapath(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let known = |text: &str| Profile::ALL.into_iter().find(|profile| profile.name() == text);
        self.datapath = words.read("a datapath (`userspace-3.1`, `kernel`, `kernel-2016`)", known)?;
        Ok(())
    }

    /// `tie last`: of several flows of one priority the last one wins.
    fn tie(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let known = |text: &str| TieBreak::ALL.into_iter().find(|tie| tie.name() == text);
        self.tie = words.read("which of several flows of one priority wins (`first`, `last`)", known)?;
        Ok(())
    }

    /// `switch NAME=SETTING`
    fn switch(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let word = words.need("a policy switch")?;
        let (name, setting) =
            word.text.split_once('=').ok_or_else(|| words.complaint(&word, "a switch is set with `=`"))?;
        Switches::default().set(name, setting).map_err(|bad| words.complaint(&word, bad))?;
        self.switches.push((name.to_owned(), setting.to_owned()));
        Ok(())
    }

    fn intent(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let name = words.need("a file")?;
        let text = (self.read)(&name.text).map_err(|message| words.complaint(&name, message))?;
        let policy = Policy::from_json(&text).map_err(|error| words.complaint(&name, error))?;
        self.intent = Some((name.text, policy));
        Ok(())
    }

    /// `divergence NAME [on LAYOUT…]: WHY`
    fn divergence(&mut self, number: u32, line: &str, rest: &str) -> Result<(), ParseError> {
        let (head, why) = rest.split_once(':').unwrap_or((rest, ""));
        let mut words = Words::of(number, head)?;
        let name = words.need("a name")?.text;
        let mut layouts = Vec::new();
        if words.skip("on") {
            layouts.push(layout(&mut words)?);
            while !words.is_empty() {
                layouts.push(layout(&mut words)?);
            }
        }
        words.finish()?;
        let whole = Words::of(number, line.split(':').next().unwrap_or(line))?;
        let step = self.steps.last_mut().ok_or_else(|| whole.whole("nothing has happened yet"))?;
        if why.trim().is_empty() {
            return Err(whole.whole("a divergence says why, after a colon"));
        }
        step.divergences.push(Written { name, layouts, why: why.trim().to_owned() });
        Ok(())
    }

    fn finish(mut self) -> Result<Scenario, ParseError> {
        let nothing = |what| ParseError::new(1, 1, "", what);
        let policy = match self.policies.take() {
            Some((policy, _)) => policy,
            None => self.policy()?,
        };
        if self.intent.is_some() && !self.objects.is_empty() {
            return Err(nothing("objects beside an intent file"));
        }
        // Comments behind the last step have nothing to stand in front of.
        self.notes.append(&mut self.comments);
        Ok(Scenario {
            notes: self.notes,
            tables: self.tables.ok_or_else(|| nothing("neither `layout` nor `flows` is said"))?,
            datapath: self.datapath,
            tie: self.tie,
            switches: self.switches,
            policy,
            intent: self.intent.map(|(name, _)| name),
            steps: self.steps,
        })
    }
}

fn layout(words: &mut Words<'_>) -> Result<Layout, ParseError> {
    let known = |text: &str| Layout::ALL.into_iter().find(|layout| layout.name() == text);
    let names: Vec<_> = Layout::ALL.map(Layout::name).to_vec();
    words.read(&format!("a layout ({})", names.join(", ")), known)
}

fn check_flow(number: u32, line: &str) -> Result<(), ParseError> {
    match parse_flows(line, &ParseOptions::default()) {
        Ok(_) => Ok(()),
        Err(errors) => Err(errors.errors.first().map_or_else(
            || ParseError::new(number, 1, line.trim(), "this is no flow"),
            |error| ParseError::new(number, error.column, &error.text, error.message.clone()),
        )),
    }
}
