//! What a packet brings with it besides its bytes, and what nobody has said of it.
//!
//! What it means: registers, tunnel fields, marks and the state of a connection are no part of a frame; a packet may
//! be given them as `ofproto/trace` takes them, and may begin in any table. What comes with frames from a tunnel and
//! was not given is *open*: where a flow that asks for it could have decided, the outcome says so. Invariant: what is
//! open is zero for lookups, and stays open until an action writes it. Deliberately absent: following both answers.
//!
//! Source: ovs-vswitchd(8), `ofproto/trace`; ovs-fields(7), "Tunnel Fields".

use crate::flow::{Match, Subfield};
use crate::table::{FlowId, Lookup, Tables};
use flowproof_packet::{
    Field, FlowKey, Origin, PortNo,
    key::{MaskedWord, masked_words},
};
use std::sync::LazyLock;

/// Everything that lookup sees of a packet and that is no part of its frame; the input port apart, and what kind of packet
/// it is.
static METADATA: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let has_name = |field: &Field| !field.spec().name.is_empty();
    let is_beside = |field: &Field| !matches!(field.spec().origin, Origin::Frame | Origin::Port);
    let all = Field::all().filter(|field| field.spec().is_slot_owner() && *field != Field::PacketType);
    all.filter(has_name).filter(is_beside).collect()
});

/// What a packet out of a tunnel brings with it.
pub fn tunnel_fields() -> impl Iterator<Item = Field> {
    METADATA.iter().copied().filter(|field| field.spec().origin == Origin::Tunnel)
}

/// Whether a field, under whatever name, is no part of a frame.
#[must_use]
pub fn is_metadata(field: Field) -> bool {
    METADATA.iter().any(|own| own.overlaps(field))
}

/// What the text of an [`Effect::Opaque`](super::Effect::Opaque) begins with that is about open fields; their names
/// follow.
pub const NOT_GIVEN: &str = "not given: ";

/// How a packet comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The table it begins in.
    pub table: u8,
    /// What it brings with it; items about the frame do not count.
    pub given: Match,
    /// Fields that it may bring with it and that nobody has said.
    pub open: Vec<Field>,
}

impl Start {
    /// Puts what is given into a key.
    pub fn put(&self, key: &mut FlowKey) {
        for field in METADATA.iter() {
            let (value, mask) = self.given.get(*field);
            key.set_masked(*field, value, mask);
        }
    }

    /// What is open, by the bits of the key.
    pub(super) fn open(&self) -> Open {
        let mut open = Open::default();
        for field in &self.open {
            let (_, given) = self.given.get(*field);
            open.set(*field, !given, true);
        }
        open
    }
}

/// Bits of the key that nobody has said anything about.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// The bits as ones; none where nothing was ever open.
    bits: Option<Box<FlowKey>>,
}

impl Open {
    fn set(&mut self, field: Field, mask: u128, open: bool) {
        if open && self.bits.is_none() {
            self.bits = Some(Box::default());
        }
        if let Some(bits) = &mut self.bits {
            for part in masked_words(field, 0, mask) {
                bits.set_word(usize::from(part.word), if open { u64::MAX } else { 0 }, part.mask);
            }
        }
    }

    /// An action writes these bits of a field.
    pub(super) fn written(&mut self, field: Field, mask: u128) {
        self.set(field, mask, false);
    }

    /// An action copies bits: where any of them is open, all of the copy is.
    pub(super) fn copied(&mut self, src: Subfield, dst: Subfield) {
        let Some(bits) = &self.bits else { return };
        let mask = |part: Subfield| flowproof_packet::key::low_bits(part.width) << part.start;
        let open = bits.get(src.field) & mask(src) != 0;
        self.set(dst.field, mask(dst), open);
    }

    /// A flow that an open bit may decide about: one above the flow that was found, or that flow itself.
    pub(super) fn rival(&self, tables: &Tables, table: u8, key: &FlowKey, found: &Lookup) -> Option<FlowId> {
        let bits = self.bits.as_deref()?;
        let least = found.flow.and_then(|id| tables.flow(id)).map(|flow| flow.priority);
        let open_to = |id: &&FlowId| {
            let Some(flow) = tables.flow(**id) else { return false };
            let asks = |part: &MaskedWord| part.mask & bits.word(usize::from(part.word)) != 0;
            let fits = |part: &MaskedWord| {
                let known = part.mask & !bits.word(usize::from(part.word));
                (key.word(usize::from(part.word)) ^ part.value) & known == 0
            };
            let above = least.is_none_or(|least| flow.priority > least) || found.flow == Some(**id);
            let words = flow.matching.words();
            above && words.iter().any(asks) && words.iter().all(fits)
        };
        tables.in_table(table).iter().find(open_to).copied()
    }

    /// The open fields that a flow asks for, by name.
    pub(super) fn asked_by(&self, matching: &Match) -> Vec<&'static str> {
        let Some(bits) = &self.bits else { return Vec::new() };
        let open = |field: &Field| {
            let (_, mask) = matching.get(*field);
            mask & bits.get(*field) != 0 && field.spec().is_slot_owner()
        };
        Field::all().filter(open).map(|field| field.spec().name).collect()
    }
}

/// Where packets come in that no list of ports has, and leave by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unlisted {
    /// There are no other ports.
    #[default]
    Absent,
    /// Ports that only a register names are there.
    There,
}

impl Unlisted {
    /// Whether a packet may leave by a port of this number.
    pub(super) const fn has(self, port: PortNo) -> bool {
        matches!(self, Self::There) && port > 0 && port < FIRST_RESERVED
    }
}

/// The first number that is no ordinary port's.
const FIRST_RESERVED: PortNo = 0xff00;
