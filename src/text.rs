//! Laying text out for a terminal of 80 columns.

/// Columns of a terminal that everybody has.
pub(crate) const WIDTH: usize = 80;

/// Breaks `text` after commas and blanks so that every line, `indent` blanks included, fits [`WIDTH`]; a piece that
/// is longer than a line stands on its own. The lines come without their indentation.
pub(crate) fn wrapped(text: &str, indent: usize) -> Vec<String> {
    let room = WIDTH.saturating_sub(indent);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for piece in text.split_inclusive([',', ' ']) {
        let length = line.chars().count() + piece.trim_end().chars().count();
        if !line.is_empty() && length > room {
            lines.push(line.trim_end().to_owned());
            line.clear();
        }
        line.push_str(piece);
    }
    lines.push(line.trim_end().to_owned());
    lines
}

/// `text` with `label` before its first line, and the lines that follow indented as far.
pub(crate) fn hanging(label: &str, text: &str) -> String {
    let indent = label.chars().count();
    let lines = wrapped(text, indent);
    let mut result = String::new();
    for (at, line) in lines.iter().enumerate() {
        let margin = if at == 0 { label.to_owned() } else { " ".repeat(indent) };
        result.push_str(margin.as_str());
        result.push_str(line);
        result.push('\n');
    }
    result
}

/// `text` cut to `width` columns, with an ellipsis where something was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// `1 flow`, `2 flows`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The items with commas between them.
pub(crate) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().collect();
    items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_wrapping() {
        let text = "priority=65,ct_state=-trk,ipv6,reg5=0xd,in_port=13,dl_src=fa:16:3e:e9:f9:c8,ipv6_src=fe80::1 actions=drop";
        for indent in [0, 10, 70, 90] {
            let joined = wrapped(text, indent).concat().replace(' ', "");
            assert_eq!(joined, text.replace(' ', ""), "{indent}");
        }
    }

    #[test]
    fn lines_fit_unless_one_piece_does_not() {
        let text = format!("{},{}", "a,".repeat(200), "b".repeat(100));
        let lines = hanging("label: ", &text);
        assert!(lines.lines().filter(|line| line.chars().count() > WIDTH).all(|line| line.contains('b')));
        assert!(lines.lines().skip(1).all(|line| line.starts_with("       ")));
    }

    #[test]
    fn cut_text_shows_that_it_was_cut() {
        assert_eq!(cut("12345", 5), "12345");
        assert_eq!(cut("123456", 5), "1234…");
    }
}
