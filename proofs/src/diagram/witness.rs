//! Packets that show why a property that holds is not vacuous, and what showing a packet depends on.

use super::{Depends, Diagram, Exhausted, Found, rank};
use crate::{
    bdd::Bdd,
    familiar::{self, Choice},
    predicate::{self, Predicate},
    properties::{self, Property},
    set::{Literal, PacketSets},
    symbolic::{self, Emit},
    symkey::Form,
    vars,
};
use flowproof_packet::Field;
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Subfield},
    table::FlowId,
};

/// Ways out of the tables among which a witness is looked for, where familiar destinations offer none.
const ENOUGH: usize = 256;

const WHOLE: &[Form] = &[Form::Whole];

impl Diagram<'_> {
    /// Offers packets that `property`, which holds, speaks of and that escape under `profile`, until `accept` takes one; those to
    /// familiar destinations, or those that go `far`.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn innocent<T>(
        &mut self,
        property: &Property,
        profile: Profile,
        far: bool,
        accept: &mut dyn FnMut(&Choice) -> Option<T>,
    ) -> Result<Option<T>, Exhausted> {
        let premise = properties::premise(property, self.port).to_set(&mut self.workshop.sets);
        let escapes = if far {
            let elsewhere = self.elsewhere(premise);
            self.escapes_of(elsewhere, profile, property.forms, ENOUGH)?
        } else {
            self.escapes(profile, property.forms)?
        };
        self.offer(escapes, premise, accept)
    }

    /// Offers of `escapes` what is in `wanted`, the most telling first.
    fn offer<T>(
        &mut self,
        mut escapes: Vec<Found>,
        wanted: Bdd,
        accept: &mut dyn FnMut(&Choice) -> Option<T>,
    ) -> Result<Option<T>, Exhausted> {
        escapes.sort_by_key(rank);
        for mut found in escapes {
            found.event.packets = self.workshop.sets.and(found.event.packets, wanted);
            self.sound()?;
            if let Some(taken) = self.example(&found).and_then(|choice| accept(&choice)) {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Those of `packets` that go to no familiar destination.
    fn elsewhere(&mut self, packets: Bdd) -> Bdd {
        let familiar = familiar::destinations(self.port, &self.others);
        let familiar = Predicate::one_of(Field::DlDst, familiar).to_set(&mut self.workshop.sets);
        self.workshop.sets.minus(packets, familiar)
    }

    /// Offers forbidden packets that do not escape under `profile`, each with a twin that does and differs in `traits`
    /// only, until `accept` takes a pair. Where no fragment may pass at all the twin is whole. Near or far, as for
    /// [`Diagram::innocent`].
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn twins<T>(
        &mut self,
        property: &Property,
        profile: Profile,
        (traits, far): (&[Field], bool),
        accept: &mut dyn FnMut(&Choice, &Choice) -> Option<T>,
    ) -> Result<Option<T>, Exhausted> {
        let forms: &[&[Form]] =
            if property.forms.contains(&Form::Whole) { &[property.forms] } else { &[property.forms, WHOLE] };
        let forbidden = properties::premise(property, self.port).to_set(&mut self.workshop.sets);
        let like = self.workshop.sets.exists(forbidden, &|var| is_of(var, traits));
        let elsewhere = self.elsewhere(like);
        for forms in forms {
            let escapes = match far {
                false => self.escapes(profile, forms)?,
                true => self.escapes_of(elsewhere, profile, forms, ENOUGH)?,
            };
            if let Some(taken) = self.twins_among(escapes, property, traits, accept)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    fn twins_among<T>(
        &mut self,
        mut escapes: Vec<Found>,
        property: &Property,
        traits: &[Field],
        accept: &mut dyn FnMut(&Choice, &Choice) -> Option<T>,
    ) -> Result<Option<T>, Exhausted> {
        let forbidden = properties::premise(property, self.port).to_set(&mut self.workshop.sets);
        escapes.sort_by_key(rank);
        for mut found in escapes {
            let sets = &mut self.workshop.sets;
            found.event.packets = sets.minus(found.event.packets, forbidden);
            let like = sets.exists(found.event.packets, &|var| !is_sent(var) || is_of(var, traits));
            let form = property.forms.iter().copied().find(|form| *form == found.form);
            let Some(form) = form.or(property.forms.first().copied()) else { continue };
            let sendable = self.workshop.sendable(form);
            let sets = &mut self.workshop.sets;
            let candidates = sets.and(like, forbidden);
            let candidates = sets.and(candidates, sendable);
            let Some(stopped) = self.choose(candidates, form, 0) else { continue };
            let sets = &mut self.workshop.sets;
            let same = sets.cube(&same_but(&stopped, traits));
            found.event.packets = sets.and(found.event.packets, same);
            self.sound()?;
            if let Some(taken) = self.example(&found).and_then(|twin| accept(&stopped, &twin)) {
                return Ok(Some(taken));
            }
        }
        self.sound().map(|()| None)
    }

    /// What else must be so for the packets to leave like this.
    pub(super) fn depends(&self, profile: Profile, found: &Found) -> Depends {
        let event = &found.event;
        let own = event.key.constant(Subfield::whole(Field::InPort)) == Some(self.port.ofport.into());
        let trunk = event.emit == Emit::Normal && !(own && self.host.is_access(self.port.ofport));
        if !event.emit.is_modelled() || trunk || self.limited.contains(&profile) {
            Depends::Precision
        } else if event.recirculations > 0 || self.may_be_held(found) {
            Depends::State
        } else {
            Depends::Nothing
        }
    }

    /// Whether connection tracking may keep a fragment until its datagram is complete.
    fn may_be_held(&self, found: &Found) -> bool {
        let tracks = |id: &FlowId| {
            let actions = self.host.tables.flow(*id).map(|flow| flow.actions.as_slice());
            actions.unwrap_or_default().iter().any(|action| matches!(action, Action::Ct(_)))
        };
        found.form != Form::Whole && symbolic::flows_of(&found.event.path).iter().any(tracks)
    }
}

const fn is_sent(var: vars::Var) -> bool {
    (var.0 as usize) < flowproof_packet::key::BITS
}

fn is_of(var: vars::Var, fields: &[Field]) -> bool {
    fields
        .iter()
        .map(|field| field.spec())
        .any(|spec| (spec.offset..spec.offset + spec.width).contains(&var.0))
}

/// The packets that equal `choice` in every field that is not one of `traits`.
fn same_but(choice: &Choice, traits: &[Field]) -> Vec<Literal> {
    let owners = Field::all().filter(|field| field.spec().is_slot_owner());
    owners
        .flat_map(|field| predicate::literals(field, choice.sent.get(field), u128::MAX))
        .filter(|(var, _)| !is_of(*var, traits))
        .collect()
}
