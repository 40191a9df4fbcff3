//! What tells packets apart, as axes: header fields, answers of connection tracking, and, so that one set can hold all of
//! them, the form of the frame and the datapath.

use crate::{
    arrival::Arrival,
    set::Literal,
    symkey::{Form, SymKey, tracked_state},
    vars::{self, Var},
};
use flowproof_packet::Field;
use flowproof_switch::conntrack::Profile;

/// What packets may differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// A field of the datagram as it is sent.
    Sent(Field),
    /// The next header that a fragment shows.
    Shown,
    /// What connection tracking answered at this depth.
    Answer(u16, Field),
    /// What the frame is of its datagram.
    Form,
    /// The datapath.
    Datapath,
}

/// No frame has a recirculation id: its bits are free to tell what a frame does not.
const SPARE: Field = Field::RecircId;

fn spare(from: usize) -> Vec<Var> {
    let mut vars: Vec<Var> = vars::sent(SPARE).rev().skip(from).take(2).collect();
    vars.reverse();
    vars
}

impl Axis {
    /// Its variables, the most significant first.
    #[must_use]
    pub fn vars(self) -> Vec<Var> {
        match self {
            Self::Sent(field) => vars::sent(field).collect(),
            Self::Shown => vars::fragment_proto().collect(),
            Self::Answer(depth, field) => vars::tracked(depth, field).collect(),
            Self::Form => spare(0),
            Self::Datapath => spare(2),
        }
    }

    /// The bits that say that the axis has this value.
    #[must_use]
    pub fn literals(self, value: u128) -> Vec<Literal> {
        let bits = self.vars().into_iter().rev().enumerate();
        bits.map(|(bit, var)| (var, value >> bit & 1 == 1)).collect()
    }
}

/// The form and the datapath, by their places among all of them, and how the packet comes in.
#[must_use]
pub fn combination(form: Form, profile: Profile, arrival: Arrival) -> Vec<Literal> {
    let form = Form::ALL.into_iter().position(|known| known == form).unwrap_or_default();
    let profile = Profile::ALL.into_iter().position(|known| known == profile).unwrap_or_default();
    let mut literals = Axis::Form.literals(form as u128);
    literals.extend(Axis::Datapath.literals(profile as u128));
    let tracked = Axis::Sent(Field::CtState).literals(u128::from(tracked_state::TRK));
    let flag = tracked.into_iter().find(|(_, on)| *on);
    literals.extend(flag.map(|(var, _)| (var, arrival == Arrival::Tracked)));
    let bare = Axis::Sent(Field::PacketType).literals(1 << 16);
    let flag = bare.into_iter().find(|(_, on)| *on);
    literals.extend(flag.map(|(var, _)| (var, arrival == Arrival::Bare)));
    literals
}

/// Everything that packets may differ in, what people care for least first.
pub(super) fn axes(depth: u16) -> Vec<Axis> {
    const LITTLE: &[Field] = &[
        Field::MplsLabel,
        Field::MplsTc,
        Field::MplsBos,
        Field::MplsTtl,
        Field::Ipv6Label,
        Field::NwTos,
        Field::NwTtl,
        Field::TcpFlags,
        Field::NdReserved,
        Field::NdOptionsType,
        Field::ArpTha,
    ];
    const ADDRESSES: &[Field] = &[Field::ArpSha, Field::NdTarget, Field::DlSrc, Field::VlanTci, Field::DlDst];
    const LAST: &[Field] =
        &[Field::TcpSrc, Field::Ipv6Src, Field::NwSrc, Field::Ipv6Dst, Field::NwDst, Field::TcpDst];
    let answers = |of: &dyn Fn(Field) -> bool| -> Vec<Axis> {
        let fields: Vec<Field> = vars::tracked_fields().filter(|field| of(*field)).collect();
        (0..depth).flat_map(|depth| fields.iter().map(move |field| Axis::Answer(depth, *field))).collect()
    };
    let shown = |field: Field| matches!(field, Field::CtState | Field::CtMark);
    let sent = |fields: &'static [Field]| fields.iter().map(|field| Axis::Sent(*field));
    let named = [LITTLE, ADDRESSES, LAST, &[Field::NwProto, Field::DlType, Field::InPort, Field::CtState]];
    let others = Field::all().filter(|field| SymKey::is_sent(*field) && !named.concat().contains(field));
    let mut all: Vec<Axis> = others.map(Axis::Sent).chain(sent(LITTLE)).chain([Axis::Shown]).collect();
    all.extend(answers(&|field| !shown(field)));
    all.push(Axis::Datapath);
    all.extend(sent(ADDRESSES).chain([Axis::Form]).chain(sent(LAST)));
    all.extend(answers(&|field| field == Field::CtMark));
    all.extend(answers(&|field| field == Field::CtState));
    all.extend([Field::CtState, Field::NwProto, Field::DlType, Field::InPort].map(Axis::Sent));
    all
}
