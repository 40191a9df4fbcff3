//! Splitting `key=value,key(value),key` lists, for matches and actions alike.
//!
//! Invariant: every piece is a slice of the input; nothing is copied. Parentheses inside a value protect delimiters.
//!
//! Source: experiments with `ovs-ofctl parse-flows` 3.1.

/// One `key`, `key=value`, `key:value` or `key(value)`, with whatever follows `)->`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    /// What stands before the delimiter.
    pub(crate) key: &'a str,
    /// What stands after it; empty if there is nothing.
    pub(crate) value: &'a str,
    /// Key and value together.
    pub(crate) whole: &'a str,
}

/// The items of a list, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    rest: &'a str,
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

const fn is_separator(byte: u8) -> bool {
    byte == b',' || is_space(byte)
}

/// Splits at a byte offset that is known to stand before or after an ASCII delimiter.
fn split(text: &str, at: usize) -> (&str, &str) {
    text.split_at_checked(at).unwrap_or((text, ""))
}

/// Length of the value at the start of `text`, up to a byte for which `ends` holds outside parentheses.
fn value_len(text: &str, ends: impl Fn(u8) -> bool) -> usize {
    let mut level = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => level += 1,
            b')' if level > 0 => level -= 1,
            _ if level == 0 && ends(byte) => return at,
            _ => {}
        }
    }
    text.len()
}

impl<'a> Items<'a> {
    /// The items of `text`.
    pub(crate) fn of(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let start = self.rest.bytes().position(|b| !is_separator(b))?;
        let (_, text) = split(self.rest, start);
        let key_len = text
            .bytes()
            .position(|b| is_separator(b) || matches!(b, b':' | b'=' | b'('))
            .unwrap_or(text.len());
        let (key, after) = split(text, key_len);
        let delimiter = after.bytes().next();
        let (_, after) = split(after, 1);
        let (value, rest) = match delimiter {
            Some(b':' | b'=') => {
                let (value, rest) = split(after, value_len(after, is_separator));
                (value, rest)
            }
            Some(b'(') => {
                let mut len = value_len(after, |b| b == b')');
                let (_, tail) = split(after, len);
                if tail.starts_with(")->") {
                    len += 1 + value_len(split(tail, 1).1, is_separator);
                    let (value, rest) = split(after, len);
                    (value, rest)
                } else {
                    (split(after, len).0, split(tail, 1).1)
                }
            }
            _ => ("", after),
        };
        let whole = split(text, text.len() - rest.len()).0;
        let whole = whole.trim_end_matches([',', ' ', '\t', '\r', '\n']);
        self.rest = rest;
        Some(Item { key, value, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let found: Vec<_> = Items::of(text).map(|item| (item.key, item.value)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn separators_are_commas_and_blanks_outside_parentheses() {
        check("", &[]);
        check(" , ,", &[]);
        check("a,b c", &[("a", ""), ("b", ""), ("c", "")]);
        check("a=1,b:2 c(3)", &[("a", "1"), ("b", "2"), ("c", "3")]);
        check(
            "ct(commit,exec(load:1->X[]),table=2),x",
            &[("ct", "commit,exec(load:1->X[]),table=2"), ("x", "")],
        );
        check("check(200)->R[0],x", &[("check", "200)->R[0]"), ("x", "")]);
        check("a=f(1,2),b", &[("a", "f(1,2)"), ("b", "")]);
        check("a(unclosed,b", &[("a", "unclosed,b")]);
    }
}
