//! Taking datagrams apart and putting them together again.

use crate::wire::{IpVersion, L3, l3, proto, put, updated};

/// An extension header to put in front of the upper layer, so that the first thing in the fragments' chain is not the
/// upper layer's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FragmentExtension {
    /// Destination options (60).
    DestinationOptions,
    /// A routing header with no segments left (43).
    Routing,
}

/// How to take a datagram apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentOptions {
    /// Bytes in the first fragment; rounded down to a multiple of 8, but at least 8.
    pub first_payload: usize,
    /// Bytes in each of the others, rounded in the same way; without it the second holds all the rest.
    pub next_payload: Option<usize>,
    /// IPv6 only: identification.
    pub id: u32,
    /// IPv6 only: an extension header to add behind the fragment header. Its number is then what later fragments
    /// name as next header.
    pub extension: Option<FragmentExtension>,
}

impl FragmentOptions {
    /// Two fragments, the first with this many bytes.
    #[must_use]
    pub const fn two(first_payload: usize) -> Self {
        Self { first_payload, next_payload: None, id: 1, extension: None }
    }
}

/// Splits an IPv4 or IPv6 datagram in two, the first part with `first_payload` bytes of payload; see
/// [`fragment_with`].
#[must_use]
pub fn fragment(frame: &[u8], first_payload: usize) -> Option<Vec<Vec<u8>>> {
    fragment_with(frame, &FragmentOptions::two(first_payload))
}

/// Splits a datagram (RFC 791 section 3.2, RFC 8200 section 4.5). `None` if the frame is not a sound IP datagram, is
/// a fragment already, or has no more payload than the first fragment is to hold.
///
/// Later IPv4 fragments have padding in the place of options that are not to be copied. A checksum of the IPv4
/// header that was wrong stays wrong. The IPv6 fragment header goes behind hop-by-hop and routing headers. Ethernet
/// padding is lost.
#[must_use]
pub fn fragment_with(frame: &[u8], opts: &FragmentOptions) -> Option<Vec<Vec<u8>>> {
    let l3 = l3(frame).filter(|l3| l3.faults.is_none() && l3.fragment.is_none())?;
    let split = split(&l3, opts)?;
    let pieces = pieces(split.body.len(), opts)?;
    let link = frame.get(..l3.offset)?;
    let make = |(offset, end): (usize, usize)| {
        let more = end < split.body.len();
        let header = match l3.version {
            IpVersion::V4 => header_v4(l3.header, offset, end - offset, more)?,
            IpVersion::V6 => header_v6(&split, offset, end - offset, more, opts.id)?,
        };
        Some([link, &header, split.body.get(offset..end)?].concat())
    };
    pieces.into_iter().map(make).collect()
}

/// A datagram in the two parts that fragmentation knows.
struct Split {
    /// Goes into every fragment. IPv6: up to where the fragment header goes.
    fixed: Vec<u8>,
    /// Is divided.
    body: Vec<u8>,
    /// IPv6: where `fixed` names what follows.
    next_at: usize,
    /// IPv6: what it named.
    next: u8,
}

fn split(l3: &L3<'_>, opts: &FragmentOptions) -> Option<Split> {
    let (at, next_at) = match l3.version {
        IpVersion::V4 => (l3.header.len(), 0),
        IpVersion::V6 => unfragmentable(l3.header)?,
    };
    let (fixed, rest) = l3.header.split_at_checked(at)?;
    let named = *fixed.get(next_at)?;
    let extension = opts.extension.filter(|_| l3.version == IpVersion::V6);
    let (next, added): (u8, &[u8]) = match extension {
        None => (named, &[]),
        // Six bytes of padding: PadN with four zeroes (RFC 8200, section 4.2).
        Some(FragmentExtension::DestinationOptions) => (proto::DEST_OPTIONS, &[named, 0, 1, 4, 0, 0, 0, 0]),
        // Type 253 is for experiments (RFC 4727); with no segments left it is skipped.
        Some(FragmentExtension::Routing) => (proto::ROUTING, &[named, 0, 253, 0, 0, 0, 0, 0]),
    };
    Some(Split { fixed: fixed.to_vec(), body: [added, rest, l3.payload].concat(), next_at, next })
}

/// Length of the part of an IPv6 header that goes into every fragment, and where it names what follows: up to a
/// routing header, or else a hop-by-hop header (RFC 8200, section 4.5).
fn unfragmentable(header: &[u8]) -> Option<(usize, usize)> {
    let mut found = (40, 6);
    let (mut at, mut named_at) = (40, 6);
    while at < header.len() {
        let number = *header.get(named_at)?;
        let length = extension_length(number, *header.get(at + 1)?);
        (named_at, at) = (at, at + length);
        if matches!(number, proto::ROUTING | proto::HOP_BY_HOP) {
            found = (at, named_at);
        }
    }
    Some(found)
}

/// The ranges of the body that the fragments hold.
fn pieces(length: usize, opts: &FragmentOptions) -> Option<Vec<(usize, usize)>> {
    let size = |wanted: usize| (wanted & !7).max(8);
    let first = size(opts.first_payload);
    let step = opts.next_payload.map_or(length, size);
    if first >= length {
        return None;
    }
    let later = (first..length).step_by(step).map(|start| (start, (start + step).min(length)));
    Some([(0, first)].into_iter().chain(later).collect())
}

fn header_v4(header: &[u8], offset: usize, length: usize, more: bool) -> Option<Vec<u8>> {
    let mut new = header.to_vec();
    let total = u16::try_from(header.len() + length).ok()?;
    let keep = *header.get(6)? & 0xc0;
    let word = u16::from(keep) << 8 | u16::from(more) << 13 | u16::try_from(offset / 8).ok()?;
    put(&mut new, 2, &total.to_be_bytes());
    put(&mut new, 6, &word.to_be_bytes());
    if offset != 0 {
        blank_options(new.get_mut(20..)?);
    }
    correct(&mut new, header)?;
    Some(new)
}

/// Corrects the checksum of `new`, which was made from `old`.
fn correct(new: &mut [u8], old: &[u8]) -> Option<()> {
    let [_, _, _, _, _, _, _, _, _, _, high, low, ..] = old else { return None };
    let sum = updated(u16::from_be_bytes([*high, *low]), old, new);
    put(new, 10, &sum.to_be_bytes());
    Some(())
}

/// Overwrites options without the copied flag with no-operation options (RFC 791, section 3.1).
fn blank_options(mut options: &mut [u8]) {
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    loop {
        let length = match options {
            [] | [0, ..] => return,
            [NO_OPERATION, ..] => 1,
            [_, length, ..] if *length >= 2 => usize::from(*length),
            _ => return,
        };
        let Some((option, rest)) = options.split_at_mut_checked(length) else { return };
        if option.first().is_some_and(|kind| kind & COPIED == 0) {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

fn header_v6(split: &Split, offset: usize, length: usize, more: bool, id: u32) -> Option<Vec<u8>> {
    let mut new = split.fixed.clone();
    let payload = u16::try_from(new.len() - 40 + 8 + length).ok()?;
    put(&mut new, 4, &payload.to_be_bytes());
    put(&mut new, split.next_at, &[proto::FRAGMENT]);
    new.extend([split.next, 0]);
    new.extend((u16::try_from(offset).ok()? | u16::from(more)).to_be_bytes());
    new.extend(id.to_be_bytes());
    Some(new)
}

/// Puts a complete train of fragments together, in whatever order they are given.
///
/// `None` unless they belong together (addresses and identification, IPv4 protocol), begin at offset 0, leave no gap,
/// do not overlap and end. The result has the link layer and the headers of the first fragment, without the IPv6
/// fragment header; extension headers behind it stay. This is what Linux's nf_defrag makes of them.
#[must_use]
pub fn defragment<F: AsRef<[u8]>>(frames: &[F]) -> Option<Vec<u8>> {
    let mut parts = Vec::with_capacity(frames.len());
    for frame in frames {
        let frame = frame.as_ref();
        let l3 = l3(frame).filter(|l3| l3.faults.is_none())?;
        let fragment = l3.fragment.filter(|fragment| fragment.is_partial())?;
        parts.push((fragment, l3, body(&l3)?, frame));
    }
    parts.sort_by_key(|(fragment, ..)| fragment.offset);
    let (first, first_l3, _, first_frame) = *parts.first()?;
    let mut whole = Vec::new();
    for (index, (fragment, l3, body, _)) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let fits = fragment.offset as usize == whole.len() && fragment.more != last;
        let kin = (fragment.id, l3.version, l3.src, l3.dst)
            == (first.id, first_l3.version, first_l3.src, first_l3.dst);
        let same_protocol = l3.version == IpVersion::V6 || l3.protocol == first_l3.protocol;
        let aligned = last || body.len() % 8 == 0;
        if !(fits && kin && same_protocol && aligned) {
            return None;
        }
        whole.extend_from_slice(body);
    }
    let header = match first_l3.version {
        IpVersion::V4 => {
            let mut new = first_l3.header.to_vec();
            let total = u16::try_from(new.len() + whole.len()).ok()?;
            let keep = *new.get(6)? & 0xc0;
            put(&mut new, 2, &total.to_be_bytes());
            put(&mut new, 6, &[keep, 0]);
            correct(&mut new, first_l3.header)?;
            new
        }
        IpVersion::V6 => without_fragment_header(&first_l3, first.header_offset, whole.len())?,
    };
    Some([first_frame.get(..first_l3.offset)?, &header, &whole].concat())
}

/// What a fragment holds of the datagram's body: IPv6, everything behind its fragment header.
fn body(l3: &L3<'_>) -> Option<Vec<u8>> {
    let held = match (l3.version, l3.fragment) {
        (IpVersion::V6, Some(fragment)) => l3.header.get(fragment.header_offset + 8..)?,
        _ => &[],
    };
    Some([held, l3.payload].concat())
}

fn without_fragment_header(l3: &L3<'_>, at: usize, length: usize) -> Option<Vec<u8>> {
    let mut new = l3.header.get(..at)?.to_vec();
    let next = *l3.header.get(at)?;
    let named_at = naming(&new)?;
    put(&mut new, named_at, &[next]);
    let payload = u16::try_from(at - 40 + length).ok()?;
    put(&mut new, 4, &payload.to_be_bytes());
    Some(new)
}

/// Where an IPv6 header with all its extension headers names what comes behind it.
fn naming(header: &[u8]) -> Option<usize> {
    let (mut at, mut named_at) = (40, 6);
    while at < header.len() {
        let length = extension_length(*header.get(named_at)?, *header.get(at + 1)?);
        (named_at, at) = (at, at + length);
    }
    Some(named_at)
}

fn extension_length(number: u8, stated: u8) -> usize {
    match number {
        proto::AH => (usize::from(stated) + 2) * 4,
        proto::FRAGMENT => 8,
        _ => (usize::from(stated) + 1) * 8,
    }
}
