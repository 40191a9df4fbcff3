//! How two tables differ: the packets that they do not do the same to, as few classes as there are pairs of behaviours.
//!
//! Exact on one pass for every packet that can come in anywhere, in every form, under every datapath, whatever connection
//! tracking answers; as both are told the same of a packet's connections, tables that do not differ here cannot be told
//! apart by any sequence of packets. Where OpenFlow leaves open which flow wins, all that may happen is compared.
//! What is not modelled is taken to do the same where it has the same words, the packet is the same by then, and nothing is
//! changed that may lie behind it; else it is not known whether the packets differ.
//!
//! Deliberately absent: how often a packet leaves by one port; what is stored in registers at the end.

mod deeds;
mod example;
mod find;
mod places;
mod relevant;
mod shape;
mod states;
mod words;

pub use deeds::{Change, Deed, Tracking, Way, Written};
pub use example::{Example, Side};
pub(crate) use find::marked;
pub use find::{Class, Danger, Found, Question, find, find_slowly, same, touched};
pub use places::{Axis, combination};
pub(crate) use relevant::Marked;
pub use shape::{Shape, Shapes};
pub use words::{behaviour, describe};

/// One class, told to people.
#[derive(Clone, Debug)]
pub struct Told {
    /// What it means.
    pub danger: Danger,
    /// What each table does.
    pub sides: [Vec<String>; 2],
    /// Its packets: boxes, items of each, and an example.
    pub boxes: Vec<(Vec<String>, Option<Example>)>,
    /// Whether there are more of them.
    pub more: bool,
}

/// How much is told.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Classes.
    pub classes: usize,
    /// Boxes of each.
    pub boxes: usize,
}

/// The classes that were found, the first ones, in words and with examples.
///
/// # Errors
/// The interpreter does something else to an example than symbolic execution says: a defect of this program.
pub fn tell(question: &Question<'_>, found: &mut Found, bounds: Bounds) -> Result<Vec<Told>, String> {
    let mut stage = example::Stage::new(*question);
    let mut told = Vec::new();
    for class in found.classes.clone().into_iter().take(bounds.classes) {
        stage.set(&class);
        let shapes = shape::shapes(found, class.packets, &mut stage, bounds.boxes)?;
        let boxes = shapes
            .boxes
            .into_iter()
            .map(|(shape, example)| (words::describe(&mut found.sets, &shape), example));
        let boxes = boxes.collect();
        let sides = [words::behaviour(&class.a), words::behaviour(&class.b)];
        told.push(Told { danger: class.danger(), sides, boxes, more: shapes.more });
    }
    Ok(told)
}
