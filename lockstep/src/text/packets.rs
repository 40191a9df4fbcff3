//! Lines about packets.

use super::error::ParseError;
use super::words::{Word, Words};
use crate::frames::{arrival, is_port_number};
use crate::scenario::{Contents, Event, Extras, Packet, Sender, Step};
use flowproof_model::policy::{Policy, PortId};

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// `PORT`, or `uplink:NUMBER`
fn sender(words: &mut Words<'_>) -> Result<Sender, ParseError> {
    let word = words.need("a port or `uplink:` with a number")?;
    match word.text.strip_prefix("uplink:") {
        None => Ok(Sender::Port(PortId::from(word.text.as_str()))),
        Some(uplink) => number(uplink)
            .filter(|number| is_port_number(*number))
            .map(Sender::Uplink)
            .ok_or_else(|| words.complaint(&word, "this is no OpenFlow port number")),
    }
}

fn receiver(words: &mut Words<'_>) -> Result<Option<PortId>, ParseError> {
    if !words.skip(">") {
        return Ok(None);
    }
    Ok(Some(PortId::from(words.need("a port")?.text.as_str())))
}

fn extras(words: &mut Words<'_>) -> Result<Extras, ParseError> {
    let mut extras = Extras::default();
    while let Some(word) = words.next() {
        let complaint = || {
            words.complaint(&word, "an extra is payload, seq, ack, icmp-id, ip-id or fragment with `=` and a number, or `bad-checksum`")
        };
        let (key, value) = word.text.split_once('=').unwrap_or((&word.text, ""));
        match key {
            "payload" => extras.payload = Some(number(value).ok_or_else(complaint)?),
            "seq" => extras.seq = Some(number(value).ok_or_else(complaint)?),
            "ack" => extras.ack = Some(number(value).ok_or_else(complaint)?),
            "icmp-id" => extras.icmp_id = Some(number(value).ok_or_else(complaint)?),
            "ip-id" => extras.ip_id = Some(number(value).ok_or_else(complaint)?),
            "fragment" => extras.fragment = Some(number(value).ok_or_else(complaint)?),
            "bad-checksum" if value.is_empty() => extras.bad_checksum = true,
            _ => return Err(complaint()),
        }
    }
    Ok(extras)
}

/// The packet that an error message after these steps is about: the last one that is no error.
pub(crate) fn last_packet(steps: &[Step]) -> Option<&Packet> {
    steps.iter().rev().find_map(|step| match &step.event {
        Event::Packet(packet) if !matches!(packet.contents, Contents::Error(..)) => Some(packet),
        _ => None,
    })
}

/// The event, once it is known that there can be such a packet.
fn checked(
    policy: &Policy,
    steps: &[Step],
    packet: Packet,
    (words, place): (&Words<'_>, &Word),
) -> Result<Event, ParseError> {
    match arrival(policy, &packet, last_packet(steps)) {
        Ok(_) => Ok(Event::Packet(packet)),
        Err(error) => {
            let place = Word { column: place.column + error.column, ..place.clone() };
            Err(words.complaint(&place, error))
        }
    }
}

/// `packet SENDER [> PORT] FLOW [EXTRA…]`
pub(super) fn packet(policy: &Policy, steps: &[Step], words: &mut Words<'_>) -> Result<Event, ParseError> {
    let (from, to) = (sender(words)?, receiver(words)?);
    let flow = words.need("a packet in flow syntax")?;
    let items = flow.text.split(',').filter(|item| !item.is_empty()).map(|item| match item.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (item.to_owned(), None),
    });
    let contents = Contents::Flow(items.collect());
    let packet = Packet { from, to, contents, extras: extras(words)? };
    checked(policy, steps, packet, (words, &flow))
}

/// `hex SENDER DIGITS [EXTRA…]`
pub(super) fn hex(policy: &Policy, steps: &[Step], words: &mut Words<'_>) -> Result<Event, ParseError> {
    const SHORTEST: usize = 14;
    let from = sender(words)?;
    let digits = words.need("a frame in hexadecimal")?;
    let nibbles: Option<Vec<u8>> =
        digits.text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let bytes = nibbles.filter(|nibbles| nibbles.len() % 2 == 0 && nibbles.len() >= 2 * SHORTEST);
    let bytes = bytes.ok_or_else(|| words.complaint(&digits, "this is no frame in hexadecimal"))?;
    let (pairs, _) = bytes.as_chunks::<2>();
    let contents = Contents::Raw(pairs.iter().map(|[high, low]| high << 4 | low).collect());
    let packet = Packet { from, to: None, contents, extras: extras(words)? };
    checked(policy, steps, packet, (words, &digits))
}

/// `error SENDER TYPE/CODE`
pub(super) fn error(policy: &Policy, steps: &[Step], words: &mut Words<'_>) -> Result<Event, ParseError> {
    let from = sender(words)?;
    let kind = words.need("type and code of an ICMP error")?;
    let numbers = kind.text.split_once('/').and_then(|(kind, code)| Some((number(kind)?, number(code)?)));
    let (error, code) = numbers.ok_or_else(|| words.complaint(&kind, "this is no TYPE/CODE"))?;
    let contents = Contents::Error(error, code);
    let packet = Packet { from, to: None, contents, extras: extras(words)? };
    checked(policy, steps, packet, (words, &kind))
}
