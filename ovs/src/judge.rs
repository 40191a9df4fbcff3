//! Stories told twice: to the interpreter and to a private real switch.
//!
//! What it means: somebody claims what comes out of a switch when frames come in; [`Judge::hear`] repeats the story in
//! both and says whether the claim is true. Invariants: both have the same flows, those that a current Open vSwitch
//! accepts; a failure of the machine is an error, never an answer; before a difference is believed, the switch is asked
//! whether it can do its work. Deliberately absent: the order among several ports.

use crate::{
    error::{EnvError, LoadError},
    flows::split_untyped_ct,
    switch::RealSwitch,
};
use flowproof_packet::PortNo;
use flowproof_switch::{
    flow::Flow,
    pipeline::{Outcome, PortConfig, Switch, SwitchConfig},
    table::{Tables, TieBreak},
};
use std::sync::Arc;

/// A frame with the port it leaves by.
pub type Framed = (PortNo, Vec<u8>);

/// Something that happens to a switch.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A frame comes in.
    Frame {
        /// Where.
        in_port: PortNo,
        /// The frame.
        frame: &'a [u8],
        /// What comes out, as it is claimed.
        claimed: Vec<Framed>,
    },
    /// The flows are exchanged; connections and learned addresses stay.
    Flows(&'a [Flow]),
    /// Time passes, in milliseconds.
    Advance(u64),
    /// Connections and learned addresses are forgotten.
    Flush,
    /// Connections with mark 1 of this zone are forgotten.
    ForgetMarked(u16),
}

/// What happens to a fresh switch, from the beginning.
#[derive(Clone, Debug)]
pub struct Story<'a> {
    /// The ports.
    pub ports: &'a [PortConfig],
    /// The flows at the beginning.
    pub flows: &'a [Flow],
    /// Which of two overlapping flows of equal priority the claim takes for the winner.
    pub tie: TieBreak,
    /// What happens.
    pub events: Vec<Event<'a>>,
}

/// What a real switch says of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything that is claimed comes out, byte for byte, and nothing else.
    Same,
    /// It cannot be asked, or need not do what is claimed: why.
    Open(&'static str),
    /// It does something else.
    Differs(Difference),
}

/// Where a real switch does something else than was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The event, counted from 0.
    pub at: usize,
    /// What was claimed, by ascending port.
    pub claimed: Vec<Framed>,
    /// What came out, by ascending port.
    pub real: Vec<Framed>,
}

/// A story that no real switch of ours can be told: its datapath is another one.
pub const OTHER_DATAPATH: &str = "not replayable on this datapath";

const NO_PORT: &str = "a frame enters by a port that no switch can have";
const NOT_MODELLED: &str = "something on the way is not modelled";
const TIE: &str =
    "which of two overlapping flows of equal priority wins is open, and here it is the other one";
const SPLIT: &str = "a current Open vSwitch refuses flows with ct() that do not match on IP; where they match IP \
                     only, something else comes out";

/// A real switch that hears stories, one after the other.
#[derive(Debug)]
pub struct Judge {
    version: String,
    /// Clean, with nothing that an earlier story left.
    idle: Option<Stage>,
    /// Flows that the real switch is not told of.
    withheld: fn(&Flow) -> bool,
}

/// A real switch, and what it was started and loaded with.
#[derive(Debug)]
struct Stage {
    ports: Vec<PortConfig>,
    flows: Vec<Flow>,
    real: RealSwitch,
    withheld: fn(&Flow) -> bool,
}

impl Judge {
    /// Makes sure that there is an Open vSwitch that can be started.
    ///
    /// # Errors
    ///
    /// There is none, or it does not start.
    pub fn summon() -> Result<Self, EnvError> {
        let real = RealSwitch::start(&[])?;
        Ok(Self { version: real.version().to_owned(), idle: None, withheld: |_| false })
    }

    /// The same, but its switch is not told of some flows: whoever asks it should notice.
    #[must_use]
    pub fn withholding(self, withheld: fn(&Flow) -> bool) -> Self {
        Self { withheld, ..self }
    }

    /// The version of the real switch, such as `3.1.0`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tells a story to the interpreter and to the real switch.
    ///
    /// # Errors
    ///
    /// The switch refuses the flows, or the machine fails.
    pub fn hear(&mut self, story: &Story<'_>) -> Result<Answer, LoadError> {
        let enters = |event: &Event<'_>| match event {
            Event::Frame { in_port, .. } => Some(*in_port),
            Event::Flows(_) | Event::Advance(_) | Event::Flush | Event::ForgetMarked(_) => None,
        };
        let known = |port: PortNo| {
            port == flowproof_packet::port::LOCAL || story.ports.iter().any(|config| config.ofport == port)
        };
        if !story.events.iter().filter_map(enters).all(known) {
            return Ok(Answer::Open(NO_PORT));
        }
        let stage = self.stage(story)?;
        let config = SwitchConfig { tie: story.tie, ..SwitchConfig::new(story.ports.to_vec()) };
        let ours = Switch::new(Arc::new(Tables::new(split_untyped_ct(story.flows))), config);
        let mut telling = Telling { stage, ours, tie: story.tie, tied: false };
        let answer = telling.tell(&story.events)?;
        // Fragments that it still holds would come out in the next story.
        if !telling.ours.conntrack().holds_fragments() {
            self.idle = Some(telling.stage);
        }
        Ok(answer)
    }

    /// A switch as at the beginning of the story.
    fn stage(&mut self, story: &Story<'_>) -> Result<Stage, LoadError> {
        let mut stage = match self.idle.take().filter(|stage| stage.ports == story.ports) {
            Some(stage) => stage,
            None => {
                let ports = story.ports.to_vec();
                Stage { real: RealSwitch::start(&ports)?, ports, flows: Vec::new(), withheld: self.withheld }
            }
        };
        stage.load(story.flows, story.tie)?;
        stage.real.reset()?;
        Ok(stage)
    }
}

impl Stage {
    /// Open vSwitch prefers the flow that was added first.
    fn load(&mut self, flows: &[Flow], tie: TieBreak) -> Result<(), LoadError> {
        let mut flows = Tables::new(split_untyped_ct(flows)).flows().to_vec();
        flows.retain(|flow| !(self.withheld)(flow));
        if tie == TieBreak::Last {
            flows.reverse();
        }
        if flows != self.flows {
            self.real.load(&flows)?;
            self.flows = flows;
        }
        Ok(())
    }
}

/// A story under way.
struct Telling {
    stage: Stage,
    ours: Switch,
    tie: TieBreak,
    /// Whether a packet has met two overlapping flows of equal priority.
    tied: bool,
}

impl Telling {
    fn tell(&mut self, events: &[Event<'_>]) -> Result<Answer, LoadError> {
        for (at, event) in events.iter().enumerate() {
            match event {
                Event::Frame { in_port, frame, claimed } => {
                    match self.send(at, *in_port, frame, claimed.clone())? {
                        Answer::Same => {}
                        other => return Ok(other),
                    }
                }
                Event::Flows(flows) => {
                    self.stage.load(flows, self.tie)?;
                    self.ours.replace_tables(Arc::new(Tables::new(split_untyped_ct(flows))));
                }
                Event::Advance(ms) => {
                    self.stage.real.advance(*ms)?;
                    self.ours.advance(*ms);
                }
                Event::Flush => {
                    self.stage.real.reset()?;
                    self.ours.flush_fdb();
                    self.ours.conntrack_mut().flush(None);
                }
                Event::ForgetMarked(zone) => {
                    self.stage.real.forget_marked(*zone)?;
                    self.ours.conntrack_mut().delete_marked(*zone, 1);
                }
            }
        }
        Ok(Answer::Same)
    }

    fn send(
        &mut self,
        at: usize,
        in_port: PortNo,
        frame: &[u8],
        claimed: Vec<Framed>,
    ) -> Result<Answer, EnvError> {
        let outcome = self.ours.receive_traced(in_port, frame);
        if outcome.is_opaque() {
            return Ok(Answer::Open(NOT_MODELLED));
        }
        self.tied |= is_tied(&outcome);
        let (claimed, ours) = (by_port(claimed), by_port(outcome.delivered()));
        if claimed != ours {
            return Ok(Answer::Open(SPLIT));
        }
        let real = self.stage.real.send(in_port, frame)?;
        if real == claimed {
            return Ok(Answer::Same);
        }
        self.stage.real.check_health()?;
        Ok(if self.tied { Answer::Open(TIE) } else { Answer::Differs(Difference { at, claimed, real }) })
    }
}

fn is_tied(outcome: &Outcome) -> bool {
    outcome.trace.as_ref().is_some_and(|trace| !trace.ambiguities().is_empty())
}

/// Frames by ascending port, each port's in order.
fn by_port(mut frames: Vec<Framed>) -> Vec<Framed> {
    frames.sort_by_key(|(port, _)| *port);
    frames
}
