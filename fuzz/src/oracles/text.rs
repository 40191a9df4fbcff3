//! Everything that is read as text prints as what reads back the same.

use super::{Verdict, object, subject};
use flowproof_compiler::{Layout, Options, compile};
use flowproof_lockstep::{parse, run};
use flowproof_model::policy::Policy;
use flowproof_switch::flow::{Action, Flow, ParseOptions, Span, parse_bytes, parse_flows};

/// Events and ports of a scenario that is not only read but played: more would be slow, not deep.
const PLAYED: usize = 12;

/// Flows read back as they are printed, each for itself; text of every fourth length is read leniently, too.
///
/// # Errors
/// One does not.
pub fn flow_text(bytes: &[u8]) -> Verdict {
    if bytes.len().is_multiple_of(4) {
        let _may_refuse = parse_bytes(bytes, &ParseOptions { lenient: true, ..ParseOptions::default() });
    }
    let Ok(file) = parse_bytes(bytes, &ParseOptions::default()) else { return Ok(()) };
    file.flows.iter().try_for_each(flow_reads_back)
}

fn flow_reads_back(flow: &Flow) -> Verdict {
    let text = subject(flow.to_string(), |text| text.replace("ct_state=+est", "ct_state=+new"));
    let again = match parse_flows(&text, &ParseOptions::default()) {
        Ok(file) => file.flows,
        Err(errors) => return object(format!("`{text}` is printed and not read back: {errors}")),
    };
    let same = |copy: &Flow| Flow { span: Span::default(), actions: clear(&copy.actions), ..copy.clone() };
    match again.as_slice() {
        [copy] if same(copy) == same(flow) => Ok(()),
        _ => object(format!("`{text}` reads back as something else:\n{flow:?}\n{again:?}")),
    }
}

/// The actions as a flow has them that is no line of a dump any more: there the words mean what they say.
fn clear(actions: &[Action]) -> Vec<Action> {
    const VID: u16 = 0x0fff;
    let clear = |action: &Action| match action {
        Action::RetagUnclear { bits, mask: VID } => Action::ModVlanVid(*bits),
        Action::RetagUnclear { bits, .. } => Action::ModVlanPcp((*bits >> 13) as u8),
        other => other.clone(),
    };
    actions.iter().map(clear).collect()
}

/// One of these, by the length of the input: to try all of them takes three times as long and finds the same, later.
fn one_of<T: Copy>(all: &[T], bytes: &[u8]) -> Option<T> {
    all.get(bytes.len().checked_rem(all.len())?).copied()
}

/// An intent reads back as it is written, and a layout, which its length decides, compiles it.
///
/// # Errors
/// It does not.
pub fn intent_json(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(()) };
    let Ok(policy) = Policy::from_json(text) else { return Ok(()) };
    let mut written = policy.to_json();
    written = subject(written, |mut written| {
        if let Some(ports) = written.get_mut("ports").and_then(|ports| ports.as_array_mut()) {
            for port in ports.iter_mut().filter_map(|port| port.as_object_mut()) {
                port.remove("fixed_ips");
            }
        }
        written
    });
    match Policy::from_json(&written.to_string()) {
        Ok(again) if again == policy => {}
        Ok(_) => return object(format!("the intent reads back as another: {written}")),
        Err(error) => return object(format!("the intent is written and not read back: {error}\n{written}")),
    }
    let (Some(host), Some(layout)) = (&policy.host, one_of(&Layout::ALL, bytes)) else { return Ok(()) };
    let compiled = compile(&policy, host, layout, &Options::default());
    let flows: String = compiled.flows.iter().map(|one| format!("{}\n", one.flow)).collect();
    match parse_flows(&flows, &ParseOptions::default()) {
        Err(errors) if !flows.is_empty() => {
            object(format!("{} writes what nobody reads: {errors}", layout.name()))
        }
        _ => Ok(()),
    }
}

/// A scenario reads back as it is printed; a short one can be played in a layout that it names, which its length
/// decides.
///
/// # Errors
/// It does not read back.
pub fn scenario_text(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(()) };
    let Ok(scenario) = parse(text) else { return Ok(()) };
    let printed = subject(scenario.to_string(), |text| text.replace("udp", "tcp"));
    match parse(&printed) {
        Ok(again) if again == scenario => {}
        Ok(_) => {
            return object(format!("reads back as another:\n{scenario}\nwhich is printed as\n{printed}"));
        }
        Err(error) => return object(format!("is printed and not read back: {error}\n{printed}")),
    }
    let short = scenario.steps.len() <= PLAYED && scenario.policy.ports.len() <= PLAYED;
    if let Some(layout) = one_of(&scenario.layouts(), bytes).filter(|_| short) {
        let _may_be_impossible = run(&scenario, layout);
    }
    Ok(())
}
