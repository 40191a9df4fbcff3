//! Neighbour discovery messages (RFC 4861), as Open vSwitch reads their first options.

use super::bytes::{rest, u8_at, u32_at, u48_at, u128_at};

/// Neighbour solicitation.
pub(crate) const SOLICIT: u8 = 135;
/// Neighbour advertisement.
pub(crate) const ADVERT: u8 = 136;
/// Source link-layer address option.
pub(crate) const SOURCE_LINK: u8 = 1;
/// Target link-layer address option.
pub(crate) const TARGET_LINK: u8 = 2;

/// Where the reserved word, the target and the options lie in the ICMPv6 message.
pub(crate) const RESERVED: usize = 4;
/// See [`RESERVED`].
pub(crate) const TARGET: usize = 8;
/// See [`RESERVED`].
pub(crate) const OPTIONS: usize = 24;

/// Whether type and code are those of a solicitation or an advertisement.
pub(crate) const fn is_nd(kind: u8, code: u8) -> bool {
    matches!((kind, code), (SOLICIT | ADVERT, 0))
}

/// What the flow key holds of a neighbour solicitation or advertisement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NdView {
    /// The reserved word, with the advertisement's flags in its upper bits.
    pub reserved: u32,
    /// The target address; 0 if it is cut off or an option is there twice.
    pub target: u128,
    /// The source link-layer address option, 0 without one.
    pub sll: u64,
    /// The target link-layer address option, 0 without one.
    pub tll: u64,
    /// Type of the first link-layer address option (1 or 2), 0 without one. It stays when a duplicate voids them.
    pub first_option: u8,
}

/// Reads an ICMPv6 message; `None` unless it is type 135 or 136, code 0, with the 8-byte header.
///
/// Options are read until one has length 0 or is cut off; those before it count. Only link-layer address options
/// of 8 bytes count, both kinds in both messages. The same option twice voids target and addresses; an address
/// of zeroes does not count as there.
#[must_use]
pub fn nd(message: &[u8]) -> Option<NdView> {
    if !is_nd(u8_at(message, 0)?, u8_at(message, 1)?) {
        return None;
    }
    let reserved = u32_at(message, RESERVED)?;
    let Some(target) = u128_at(message, TARGET) else {
        return Some(NdView { reserved, ..NdView::default() });
    };
    let mut view = NdView { reserved, target, ..NdView::default() };
    for option in (Options { data: rest(message, OPTIONS) }) {
        let [kind @ (SOURCE_LINK | TARGET_LINK), 1, ..] = option else { continue };
        let link = if *kind == SOURCE_LINK { &mut view.sll } else { &mut view.tll };
        if *link != 0 {
            return Some(NdView { reserved, first_option: view.first_option, ..NdView::default() });
        }
        *link = u48_at(option, 2).unwrap_or(0);
        if view.first_option == 0 {
            view.first_option = *kind;
        }
    }
    Some(view)
}

/// The options, whole ones only, up to the first malformed one.
pub(crate) struct Options<'a> {
    pub(crate) data: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u8_at(self.data, 1)?) * 8;
        let (option, behind) = self.data.split_at_checked(length).filter(|_| length != 0)?;
        self.data = behind;
        Some(option)
    }
}
