//! The harness itself: it starts, it tells failures apart, and nothing is left of it.
//!
//! Without Open vSwitch these tests say so and pass, except in CI.

use flowproof_ovs::{DatapathAction, EnvError, LoadError, RealSwitch, TraceRequest, split_untyped_ct};
use flowproof_packet::{Field, FlowKey, build, port};
use flowproof_switch::{
    conntrack::state,
    flow::{Flow, ParseOptions, parse_flows},
    pipeline::PortConfig,
};
use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const PORTS: [PortConfig; 3] = [PortConfig::trunk(1), PortConfig::access(7, 5), PortConfig::trunk(9)];

pub(super) fn start() -> Option<RealSwitch> {
    match RealSwitch::start(&PORTS) {
        Ok(switch) => Some(switch),
        Err(error) if error.is_missing() && env::var_os("CI").is_none() => {
            // Not by a macro: the test harness swallows what those print.
            let _nobody_listens = writeln!(io::stderr(), "NOT TESTED against a real switch: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(super) fn flows(text: &str) -> Vec<Flow> {
    parse_flows(text, &ParseOptions::default()).unwrap().flows
}

pub(super) fn udp() -> Vec<u8> {
    let mut key = FlowKey::default();
    let fields = [
        (Field::DlSrc, 0x0200_0000_0001),
        (Field::DlDst, 0x0200_0000_0002),
        (Field::DlType, 0x0800),
        (Field::NwSrc, 0x0a00_0001),
        (Field::NwDst, 0x0a00_0002),
        (Field::NwProto, 17),
        (Field::NwTtl, 64),
        (Field::UdpSrc, 5),
        (Field::UdpDst, 6),
    ];
    fields.into_iter().for_each(|(field, value)| key.set(field, value));
    build::compose(&key, &build::ComposeOptions::default())
}

/// Whether any process mentions the directory.
fn has_processes(directory: &Path) -> bool {
    let wanted = directory.to_str().unwrap().trim_end_matches('/');
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(wanted)
    })
}

#[track_caller]
fn check_gone(directory: &Path) {
    let end = Instant::now() + Duration::from_secs(10);
    while directory.exists() || has_processes(directory) {
        assert!(Instant::now() < end, "`{}` is left behind", directory.display());
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn frames_come_out_where_the_flows_say() {
    let Some(mut switch) = start() else { return };
    assert!(switch.version().starts_with(|c: char| c.is_ascii_digit()), "`{}`", switch.version());
    switch
        .load(&flows("in_port=1 actions=output:9,NORMAL\nip,in_port=9 actions=ct(commit,zone=4)\n"))
        .unwrap();
    let frame = udp();
    let out = switch.send(1, &frame).unwrap();
    let expected = [7, 9, 9, port::LOCAL].map(|number| (number, frame.clone()));
    // The access port of VLAN 5 takes no part in the untagged VLAN.
    assert_eq!(out, [expected[1].clone(), expected[2].clone(), expected[3].clone()]);
    assert_eq!(switch.fdb().unwrap().len(), 1);
    assert_eq!(switch.send(9, &frame).unwrap(), []);
    let entry = "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=5,dport=6),reply=(src=10.0.0.2,dst=10.0.0.1,sport=6,dport=5),zone=4";
    assert_eq!(switch.conntrack().unwrap(), [entry]);
    switch.advance(61_000).unwrap();
    assert_eq!(switch.conntrack().unwrap(), [""; 0]);
    switch.reset().unwrap();
    assert_eq!(switch.fdb().unwrap(), []);
}

#[test]
fn many_frames_come_out_in_order_and_the_captures_do_not_grow() {
    let Some(mut switch) = start() else { return };
    switch.load(&flows("in_port=1 actions=output:9")).unwrap();
    let mut frame = udp();
    frame.resize(1400, 0);
    let frames: Vec<Vec<u8>> = (0_u32..8000)
        .map(|number| {
            let mut frame = frame.clone();
            frame[1000..1004].copy_from_slice(&number.to_be_bytes());
            frame
        })
        .collect();
    for batch in frames.chunks(500) {
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        let out: Vec<_> = switch.send_many(1, &batch).unwrap();
        assert!(
            out.iter().map(|(number, frame)| (*number, frame.as_slice())).eq(batch.iter().map(|f| (9, *f)))
        );
    }
    use std::os::unix::fs::MetadataExt;
    let blocks = fs::metadata(switch.directory().join("9.pcap")).unwrap().blocks();
    assert!(blocks * 512 < 8 << 20, "{blocks} blocks");
}

#[test]
fn traces_show_tables_flows_and_datapath_actions() {
    let Some(mut switch) = start() else { return };
    let text =
        "ip,priority=5,cookie=7 actions=ct(table=3,zone=2)\ntable=3,ct_state=+est,ip actions=output:7\n";
    switch.load(&flows(text)).unwrap();
    let frame = udp();
    let states = [[state::TRK | state::EST], [state::TRK | state::INV]];
    let requests = states.each_ref().map(|next| TraceRequest { in_port: 1, frame: &frame, ct_next: next });
    let traces = switch.traces(&requests).unwrap();
    for (trace, last) in traces.iter().zip([DatapathAction::Output(7), DatapathAction::Drop]) {
        let [first, second] = trace.passes.as_slice() else { panic!("{}", trace.text) };
        let rule = first.steps[0].rule.as_ref().unwrap();
        assert_eq!((rule.matching.as_str(), rule.priority, rule.cookie), ("ip", 5, 7));
        assert_eq!(first.actions, [DatapathAction::Ct("zone=2".to_owned()), DatapathAction::Recirculate]);
        assert_eq!(second.actions, [last]);
    }
}

#[test]
fn flows_that_the_switch_refuses_are_no_failure_of_the_machine() {
    let Some(mut switch) = start() else { return };
    let untyped = flows("table=82,ct_state=+est actions=ct(commit)");
    let error = switch.load(&untyped).unwrap_err();
    assert!(matches!(error, LoadError::Refused { .. }), "{error}");
    switch.load(&split_untyped_ct(&untyped)).unwrap();
    assert_eq!(switch.dump_flows().unwrap().iter().filter(|line| line.contains("table=82")).count(), 2);
    // Only OpenFlow 1.0 takes the first, only 1.1 and later the second.
    switch.load(&flows("actions=strip_vlan,output:1")).unwrap();
    switch.load(&flows("actions=push_vlan:0x8100,set_field:4101->vlan_vid,output:1")).unwrap();
}

#[test]
fn a_switch_that_dies_is_a_failure_of_the_machine() {
    let Some(mut switch) = start() else { return };
    let directory = switch.directory();
    switch.appctl("exit", &[]).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    let error = loop {
        match switch.send(1, &udp()) {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < end, "it does not die"),
        }
    };
    assert!(matches!(error, EnvError::Ended { .. }), "{error}");
    drop(switch);
    check_gone(&directory);
}

#[test]
fn nothing_is_left_after_a_panic() {
    let Some(switch) = start() else { return };
    let directory = switch.directory();
    assert!(has_processes(&directory));
    let panicked = std::thread::spawn(move || {
        let _running = switch;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    check_gone(&directory);
}

/// Runs in a process of its own, which [`nothing_is_left_when_the_process_is_killed`] starts.
#[test]
fn victim() {
    if env::var_os("FLOWPROOF_OVS_VICTIM").is_none() {
        return;
    }
    if let Some(switch) = start() {
        println!("\nvictim {}", switch.directory().display());
        sleep(Duration::from_secs(60));
    }
}

#[test]
fn nothing_is_left_when_the_process_is_killed() {
    // Within the crate, as the test harness names it.
    let module = module_path!().split_once("::").map_or("", |(_, module)| module);
    let mut victim = Command::new(env::current_exe().unwrap())
        .args([&format!("{module}::victim"), "--exact", "--nocapture"])
        .env("FLOWPROOF_OVS_VICTIM", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let directory = lines.filter_map(|line| line.strip_prefix("victim ").map(str::to_owned)).next();
    // SIGKILL: no destructor runs.
    victim.kill().unwrap();
    victim.wait().unwrap();
    match directory {
        Some(directory) => check_gone(Path::new(&directory)),
        None => assert!(start().is_none(), "the victim did not start its switch"),
    }
}
