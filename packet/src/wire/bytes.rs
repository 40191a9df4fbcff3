//! Reading and writing big-endian numbers at an offset, without panics.

/// The `N` bytes at `offset`, if they are there.
pub(crate) fn at<const N: usize>(data: &[u8], offset: usize) -> Option<&[u8; N]> {
    data.get(offset..)?.first_chunk()
}

/// One byte.
pub(crate) fn u8_at(data: &[u8], offset: usize) -> Option<u8> {
    data.get(offset).copied()
}

/// A 16-bit number.
pub(crate) fn u16_at(data: &[u8], offset: usize) -> Option<u16> {
    at(data, offset).map(|b| u16::from_be_bytes(*b))
}

/// A 32-bit number.
pub(crate) fn u32_at(data: &[u8], offset: usize) -> Option<u32> {
    at(data, offset).map(|b| u32::from_be_bytes(*b))
}

/// A 48-bit number, as an Ethernet address.
pub(crate) fn u48_at(data: &[u8], offset: usize) -> Option<u64> {
    let [a, b, c, d, e, f] = *at(data, offset)?;
    Some(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

/// A 128-bit number, as an IPv6 address.
pub(crate) fn u128_at(data: &[u8], offset: usize) -> Option<u128> {
    at(data, offset).map(|b| u128::from_be_bytes(*b))
}

/// `data` without its first `count` bytes; nothing if it has fewer.
pub(crate) fn rest(data: &[u8], count: usize) -> &[u8] {
    data.get(count..).unwrap_or_default()
}

/// Overwrites the bytes at `offset`; whether they were there.
pub(crate) fn put(data: &mut [u8], offset: usize, value: &[u8]) -> bool {
    match data.get_mut(offset..).and_then(|d| d.get_mut(..value.len())) {
        Some(place) => {
            place.copy_from_slice(value);
            true
        }
        None => false,
    }
}
