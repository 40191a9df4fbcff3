//! Groups of fields that are written together, by word of the key: writing them one by one costs more than a lookup.

use flowproof_packet::{
    Field, FlowKey,
    key::{WORDS, masked_words},
};
use std::sync::LazyLock;

/// Everything a `ct()` sets and `ct_clear` clears.
const CT: [Field; 11] = [
    Field::CtState,
    Field::CtZone,
    Field::CtMark,
    Field::CtLabel,
    Field::CtNwProto,
    Field::CtNwSrc,
    Field::CtNwDst,
    Field::CtIpv6Src,
    Field::CtIpv6Dst,
    Field::CtTpSrc,
    Field::CtTpDst,
];

/// Registers and metadata that survive recirculation; the wide ones cover several.
pub(super) const SURVIVORS: [Field; 19] = [
    Field::InPort,
    Field::Metadata,
    Field::Xxreg0,
    Field::Xxreg1,
    Field::Xxreg2,
    Field::Xxreg3,
    Field::PktMark,
    Field::SkbPriority,
    Field::TunId,
    Field::TunSrc,
    Field::TunDst,
    Field::TunIpv6Src,
    Field::TunIpv6Dst,
    Field::TunFlags,
    Field::TunTtl,
    Field::TunTos,
    Field::TunGbpId,
    Field::TunGbpFlags,
    Field::PacketType,
];

/// Words of the key and the bits of them that a group of fields fills.
struct Group(Vec<(usize, u64)>);

static CT_WORDS: LazyLock<Group> = LazyLock::new(|| Group::of(&CT));
static SURVIVOR_WORDS: LazyLock<Group> = LazyLock::new(|| Group::of(&SURVIVORS));

impl Group {
    fn of(fields: &[Field]) -> Self {
        let mut words = [0; WORDS];
        for part in fields.iter().flat_map(|field| masked_words(*field, 0, u128::MAX)) {
            if let Some(word) = words.get_mut(usize::from(part.word)) {
                *word |= part.mask;
            }
        }
        Self(words.into_iter().enumerate().filter(|(_, mask)| *mask != 0).collect())
    }
}

/// Clears everything that a `ct()` sets.
pub(super) fn clear_tracked(key: &mut FlowKey) {
    CT_WORDS.0.iter().for_each(|(word, mask)| key.set_word(*word, 0, *mask));
}

/// Copies what survives recirculation.
pub(super) fn survive(from: &FlowKey, to: &mut FlowKey) {
    SURVIVOR_WORDS.0.iter().for_each(|(word, mask)| to.set_word(*word, from.word(*word), *mask));
}
