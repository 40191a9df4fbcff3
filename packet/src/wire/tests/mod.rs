//! Laws of the codec.

mod laws;
mod real;
mod rules;

/// The bytes that a text of hexadecimal digits and blanks says.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// One of the frames that the real switch was shown.
#[track_caller]
pub(crate) fn named_frame(name: &str) -> Vec<u8> {
    let mut rows = real::rows(real::FLOWS);
    let [_, _, hex, _] =
        rows.find(|[known, ..]| *known == name).unwrap_or_else(|| panic!("no frame `{name}`"));
    bytes(hex)
}
