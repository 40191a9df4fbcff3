//! Operators that know no defect: applied to every flow of one port and to those of all ports.

use flowproof_switch::flow::{ParseOptions, parse_flows};

/// What one operator makes of one line.
#[derive(Clone, Debug)]
pub(super) struct Mutation {
    /// Which operator.
    pub(super) operator: &'static str,
    /// The flow, and what became of it.
    pub(super) what: String,
    /// The tables.
    pub(super) text: String,
    from: String,
    to: String,
}

impl Mutation {
    /// The same change of these tables, if they have the flow.
    pub(super) fn of(&self, text: &str) -> Option<String> {
        let is_it = |line: &str| line.trim() == self.from.trim();
        let with = |line: &str| format!("{}\n", if is_it(line) { self.to.as_str() } else { line });
        text.lines().any(is_it).then(|| text.lines().map(with).collect())
    }
}

/// An operator: its name, and what it makes of a line.
type Operator = (&'static str, fn(&str) -> Vec<String>);

const OPERATORS: &[Operator] = &[
    ("drop a match field", drop_fields),
    ("widen a mask by one bit", widen),
    ("lower the priority", |line| reprioritised(line, |_| 5)),
    ("raise the priority", |line| reprioritised(line, |_| 125)),
    ("swap actions", swapped),
    ("change the zone", |line| replaced(line, "zone=NXM_NX_REG6[0..15]", "zone=4095")),
    ("drop the commit", |line| {
        replaced(line, "ct(commit,zone=NXM_NX_REG6[0..15]),", "")
            .into_iter()
            .chain(replaced(line, "ct(commit,zone=NXM_NX_REG6[0..15],exec(set_field:0x1->ct_mark))", "drop"))
            .collect()
    }),
    ("off by one", off_by_one),
    ("wrong direction", turned),
    ("reuse a conjunction's number", reused),
    ("delete the flow", |_| vec![String::new()]),
];

fn parts(line: &str) -> Option<(&str, &str)> {
    line.split_once(" actions=")
}

/// The items of a match, table and priority apart.
fn items(line: &str) -> Vec<&str> {
    let matches = parts(line).map_or(line, |(matches, _)| matches);
    let all = matches.split(',').map(str::trim);
    all.filter(|item| !item.starts_with("table=") && !item.starts_with("priority=")).collect()
}

fn drop_fields(line: &str) -> Vec<String> {
    items(line).iter().map(|item| line.replacen(&format!(",{item}"), "", 1)).collect()
}

/// The item without the last bit of its mask.
fn widened(item: &str) -> Option<String> {
    let (field, value) = item.split_once('=')?;
    if value.contains('/') {
        return None;
    }
    let mask = match field {
        "dl_src" | "dl_dst" | "arp_sha" | "nd_sll" | "nd_tll" => "ff:ff:ff:ff:ff:fe",
        "nw_src" | "nw_dst" | "arp_spa" | "ct_nw_src" | "ct_nw_dst" => "31",
        "ipv6_src" | "ipv6_dst" | "nd_target" => "127",
        "tp_src" | "tp_dst" => "0xfffe",
        "reg5" | "reg6" | "ct_mark" => "0xfffffffe",
        _ => return None,
    };
    Some(format!("{field}={value}/{mask}"))
}

fn widen(line: &str) -> Vec<String> {
    let wide = |item: &&str| Some(line.replacen(item, &widened(item)?, 1));
    items(line).iter().filter_map(wide).collect()
}

fn reprioritised(line: &str, to: fn(u16) -> u16) -> Vec<String> {
    let Some((head, tail)) = line.split_once("priority=") else { return Vec::new() };
    let digits: String = tail.chars().take_while(char::is_ascii_digit).collect();
    let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
    let Ok(old) = digits.parse() else { return Vec::new() };
    vec![format!("{head}priority={}{rest}", to(old))]
}

/// What goes on is dropped, what is dropped leaves.
fn swapped(line: &str) -> Vec<String> {
    let Some((matches, actions)) = parts(line) else { return Vec::new() };
    let drops = matches!(actions, "drop" | "resubmit(,93)" | "ct_clear,resubmit(,93)");
    let other = if drops { "NORMAL" } else { "drop" };
    if actions.contains("conjunction(") { Vec::new() } else { vec![format!("{matches} actions={other}")] }
}

fn replaced(line: &str, from: &str, to: &str) -> Vec<String> {
    if line.contains(from) { vec![line.replacen(from, to, 1)] } else { Vec::new() }
}

/// The next number of a port.
fn off_by_one(line: &str) -> Vec<String> {
    let next = |item: &&str| {
        let (field, value) = item.split_once('=')?;
        let number: u16 = value.parse().ok()?;
        matches!(field, "tp_dst" | "tp_src" | "icmp_type")
            .then(|| line.replacen(item, &format!("{field}={}", number.checked_add(1)?), 1).into())
            .flatten()
    };
    items(line).iter().filter_map(next).collect()
}

const OPPOSITES: &[(&str, &str)] =
    &[("nw_src=", "nw_dst="), ("ipv6_src=", "ipv6_dst="), ("tp_src=", "tp_dst="), ("dl_src=", "dl_dst=")];

fn turned(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (a, b) in OPPOSITES {
        for (from, to) in [(a, b), (b, a)] {
            if line.contains(&format!(",{from}")) && !line.contains(&format!(",{to}")) {
                all.push(line.replacen(&format!(",{from}"), &format!(",{to}"), 1));
            }
        }
    }
    all
}

/// The number before it.
fn reused(line: &str) -> Vec<String> {
    let Some((head, tail)) = line.split_once("conjunction(") else { return Vec::new() };
    let Some((number, rest)) = tail.split_once(',') else { return Vec::new() };
    let number: Option<u32> = number.parse().ok();
    number.map(|number| format!("{head}conjunction({},{rest}", number ^ 1)).into_iter().collect()
}

/// Lines that speak of this one port, or of no port.
fn concerns(line: &str, port: u16, others: &[u16]) -> bool {
    let names = |line: &str, port: u16| {
        let register = format!("{port:#x}");
        items(line)
            .iter()
            .any(|item| *item == format!("in_port={port}") || *item == format!("reg5={register}"))
            || line.contains(&format!("set_field:{register}->reg5"))
    };
    names(line, port) || !others.iter().any(|other| names(line, *other))
}

/// Every operator on every flow that concerns `port`, as far as the tables can still be read.
pub(super) fn mutations(text: &str, port: u16, others: &[u16]) -> Vec<Mutation> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all: Vec<Mutation> = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| concerns(line, port, others)) {
        for (operator, make) in OPERATORS {
            for changed in make(line) {
                let with = lines.iter().enumerate().map(|(other, line)| {
                    if other == at { format!("{changed}\n") } else { format!("{line}\n") }
                });
                let text: String = with.collect();
                let known = changed == *line || all.iter().any(|one| one.text == text);
                if !known && parse_flows(&text, &ParseOptions::default()).is_ok() {
                    let what = format!(
                        "{} ⇒ {}",
                        line.trim(),
                        if changed.is_empty() { "—" } else { changed.trim() }
                    );
                    let (from, to) = ((*line).to_owned(), changed);
                    all.push(Mutation { operator, what, text, from, to });
                }
            }
        }
    }
    all
}
