//! Frames and captures: any bytes are read, and what is written is read back.

use super::{Objection, Verdict, object, subject};
use flowproof_packet::build::{IcmpError, defragment, fragment, icmp_error};
use flowproof_packet::summary::summary;
use flowproof_packet::wire::{self, IpVersion, commit, extract};
use flowproof_packet::{Field, pcap as capture};
use flowproof_switch::conntrack::{Conntrack, Profile};
use flowproof_switch::flow::{Flow, ParseOptions, parse_flows};
use flowproof_switch::pipeline::{PortConfig, Switch, SwitchConfig};
use flowproof_switch::table::Tables;
use std::sync::{Arc, LazyLock};

/// Everything that looks into packets, and at what connection tracking makes of them.
const TABLE: &str = "\
    table=0,priority=9,in_port=2,vlan_tci=0x1000/0x1000 actions=strip_vlan,ct(commit,zone=2,table=1)\n\
    table=0,priority=8,in_port=2,ip actions=ct(table=1,zone=1)\n\
    table=0,priority=8,in_port=2,ipv6 actions=ct(table=1,zone=1)\n\
    table=0,priority=7,in_port=2,arp actions=move:NXM_OF_ARP_SPA[]->NXM_NX_REG0[],NORMAL\n\
    table=0,priority=0 actions=NORMAL\n\
    table=1,priority=9,ct_state=+new,ip actions=ct(commit,zone=1),mod_nw_dst:10.9.9.9,output:3\n\
    table=1,priority=9,ct_state=+new,ipv6 actions=ct(commit,zone=1),mod_dl_dst:02:00:00:00:00:09,output:3\n\
    table=1,priority=5,tcp actions=mod_tp_dst:99,mod_vlan_vid:7,output:1\n\
    table=1,priority=4,ct_state=+inv actions=drop\n\
    table=1,priority=0 actions=output:1,output:3\n";

static TABLES: LazyLock<Arc<Tables>> = LazyLock::new(|| {
    let flows: Vec<Flow> =
        parse_flows(TABLE, &ParseOptions::default()).map(|file| file.flows).unwrap_or_default();
    Arc::new(Tables::new(flows))
});

/// Longer frames are only slower.
const LONGEST: usize = 2048;

/// A frame can be read, shown and sent; writing nothing into it changes nothing; its fragments are the whole.
///
/// # Errors
/// It cannot.
pub fn frame(bytes: &[u8]) -> Verdict {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let key = extract(bytes, 1);
    let _for_people = summary(bytes);
    let written = subject(commit(bytes, &key, &key), |mut frame| {
        if key.get(Field::NwTtl) == 64
            && let Some(last) = frame.last_mut()
        {
            *last ^= 1;
        }
        frame
    });
    if written != bytes {
        return object(format!("writing nothing changes a frame: {}", hex(bytes)));
    }
    if let Some(l3) = wire::l3(bytes).filter(|l3| !l3.is_partial()) {
        // A first fragment without all extension headers is dropped (RFC 7112), not put together.
        let extensions = if l3.version == IpVersion::V6 { l3.header.len().saturating_sub(40) } else { 0 };
        pieces(bytes, extensions.next_multiple_of(8) + l3.payload.len() / 16 * 8)?;
    }
    let _may_have_no_error = icmp_error(bytes, &IcmpError::new(3, 1, 0x0a00_0001));
    send(bytes)
}

/// Whatever can be cut in pieces is the same when they are put together.
fn pieces(bytes: &[u8], first: usize) -> Verdict {
    let Some(fragments) = fragment(bytes, first) else { return Ok(()) };
    let keys = |frame: &[u8]| {
        let key = extract(frame, 1);
        (key.get(Field::NwProto), key.get(Field::TcpSrc), key.get(Field::TcpDst))
    };
    match defragment(&fragments) {
        Some(whole) if keys(&whole) == keys(bytes) => Ok(()),
        Some(whole) => object(format!("{} comes back as {}", hex(bytes), hex(&whole))),
        None => object(format!("the fragments of {} are not put together", hex(bytes))),
    }
}

/// Sent twice, under a datapath that its length decides.
fn send(bytes: &[u8]) -> Verdict {
    let profile = Profile::ALL.get(bytes.len() % Profile::ALL.len()).copied().unwrap_or(Profile::Kernel);
    let ports = vec![PortConfig::trunk(1), PortConfig::access(2, 5), PortConfig::trunk(3)];
    let config = SwitchConfig { profile, ..SwitchConfig::new(ports) };
    let mut switch = Switch::with_tracker(Arc::clone(&TABLES), config, Conntrack::new(profile));
    for _ in 0..2 {
        let outcome = switch.receive(2, bytes);
        if outcome.delivered().iter().any(|(port, _)| *port == 2) {
            return object(format!("{} goes back where it came from", hex(bytes)));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A capture can be read or is refused; its frames lie within it, and read back when they are written.
///
/// # Errors
/// They do not.
pub fn pcap(bytes: &[u8]) -> Verdict {
    let Ok(records) = capture::read(bytes) else { return Ok(()) };
    let frames: Vec<_> = records.map_while(Result::ok).collect();
    let held: usize = frames.iter().map(|record| record.frame.len()).sum();
    if held > bytes.len() {
        return object(format!("{held} bytes of frames in a capture of {}", bytes.len()));
    }
    let failed = |error: std::io::Error| Objection(format!("what was read cannot be written: {error}"));
    let mut writer = capture::Writer::new(Vec::new()).map_err(failed)?;
    for record in &frames {
        // After 2106, or longer than a classic capture can have it.
        let Ok(()) = writer.write(record.timestamp, record.frame) else { return Ok(()) };
    }
    let written = subject(writer.into_inner(), |mut file| {
        if frames.len() > 1 {
            file.pop();
        }
        file
    });
    let again: Vec<_> =
        capture::read(&written).map(|records| records.map_while(Result::ok).collect()).unwrap_or_default();
    let same = |(one, other): (&capture::Record<'_>, &capture::Record<'_>)| one.frame == other.frame;
    if again.len() != frames.len() || !frames.iter().zip(&again).all(same) {
        return object(format!("{} frames are written, {} read back", frames.len(), again.len()));
    }
    Ok(())
}
