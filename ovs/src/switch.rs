//! The switch itself: ports, flows, frames in, frames out.
//!
//! What it means: [`RealSwitch::send`] returns when everything that the frames cause has been written: a sentinel
//! frame queues behind them and comes out of a port of its own. Cached decisions are dropped before each
//! batch, so that what NORMAL learned and what flows were changed counts at once. Invariant: time stands still but
//! for [`RealSwitch::advance`].

use crate::{
    entries,
    error::{EnvError, LoadError},
    furnish::{Furniture, is_lost_early},
    guard::{Guard, program},
    pcap::Tail,
    said::{datapath_ports, fdb_entry, hex, sorted_lines},
    trace::{self, DatapathAction, RealTrace, TraceRequest},
    unixctl::Unixctl,
};
use flowproof_packet::{
    Field, FlowKey, MacAddr, PortNo,
    build::{ComposeOptions, compose},
    port, wire,
};
use flowproof_switch::{flow::Flow, pipeline::PortConfig};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

const BRIDGE: &str = "br0";
const BARRIER: &str = "barrier";
/// The sentinel: an ethertype for local experiments (IEEE 802), and an address that nobody else has.
const SENTINEL_TYPE: u16 = 0x88b5;
const SENTINEL_SOURCE: [u8; 6] = [0x06, 0xf1, 0x0f, 0x9a, 0x00, 0x0f];
/// Who sends datagrams that only go through `ct()`, and the zone, which nobody else should use.
const CARRIER_SOURCE: [u8; 6] = [0x06, 0xf1, 0x0f, 0x9a, 0x00, 0x10];
const CARRIER_ZONE: u16 = 65535;
/// Frames in one batch: the dummy port's queue holds a hundred.
const BATCH: usize = 90;
/// Reassembled datagrams and other long frames should not be lost at a port.
const MTU: &str = "mtu_request=9000";
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a sentinel may take before somebody looks whether there is space for it.
const SUSPICION: Duration = Duration::from_secs(1);
/// How often to look for the sentinel before giving the switch something to do.
const LOOKS: u32 = 50;
/// Traces that are under way at once.
const PIPELINE: usize = 8;

/// Drops cached decisions.
const PURGE: (&str, &[&str]) = ("revalidator/purge", &[]);

/// A learned address: the port, the VLAN (0 for none), the address.
pub type Learned = (PortNo, u16, MacAddr);

/// One port of the switch.
#[derive(Debug)]
struct Port {
    ofport: PortNo,
    name: String,
    tail: Tail,
}

/// A running Open vSwitch of our own.
///
/// It ends when it is dropped, and when this process ends.
#[derive(Debug)]
pub struct RealSwitch {
    // Before the guard, so that they are closed before the daemons end.
    control: Unixctl,
    ports: Vec<Port>,
    barrier: Tail,
    barrier_port: PortNo,
    version: String,
    /// Datapath port number → OpenFlow port number.
    datapath_ports: BTreeMap<u32, PortNo>,
    sent: u64,
    /// The groups and meters that it has.
    furniture: Furniture,
    guard: Guard,
}

/// What `ovs-vsctl` says of one port.
fn port_settings(guard: &Guard, name: &str, ofport: PortNo, access_vlan: Option<u16>) -> Vec<String> {
    let mut words = vec!["--".to_owned(), "add-port".to_owned(), BRIDGE.to_owned(), name.to_owned()];
    words.extend(access_vlan.map(|vlan| format!("tag={vlan}")));
    words.extend(["--", "set", "Interface", name, "type=dummy", MTU].map(str::to_owned));
    words.push(format!("ofport_request={ofport}"));
    words.push(format!("options:tx_pcap={}", capture(guard, ofport).display()));
    words
}

fn capture(guard: &Guard, ofport: PortNo) -> PathBuf {
    guard.path(&format!("{ofport}.pcap"))
}

fn bridge_settings(guard: &Guard) -> Vec<String> {
    let protocols = "protocols=[OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15]";
    let words = ["--no-wait", "--", "init", "--", "add-br", BRIDGE, "--", "set", "Bridge", BRIDGE];
    let mut words = words.map(str::to_owned).to_vec();
    words.extend(["datapath-type=dummy", "fail-mode=secure", protocols].map(str::to_owned));
    words.push("other-config:hwaddr=aa:55:aa:55:00:00".to_owned());
    words.extend(["--", "set", "Open_vSwitch", "."].map(str::to_owned));
    words.extend(
        ["n-handler-threads=1", "n-revalidator-threads=1"].map(|word| format!("other-config:{word}")),
    );
    words.extend(["--", "set", "Interface", BRIDGE, MTU].map(str::to_owned));
    words.push(format!("options:tx_pcap={}", capture(guard, port::LOCAL).display()));
    words
}

/// The ports by number, `LOCAL` included.
fn ports_of(guard: &Guard, configs: &[PortConfig]) -> Vec<Port> {
    let mut numbers: Vec<PortNo> = configs.iter().map(|config| config.ofport).chain([port::LOCAL]).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let name = |number: PortNo| if number == port::LOCAL { BRIDGE.to_owned() } else { format!("p{number}") };
    let port = |ofport| Port { ofport, name: name(ofport), tail: Tail::new(capture(guard, ofport)) };
    numbers.into_iter().map(port).collect()
}

fn configure(guard: &Guard, configs: &[PortConfig], barrier: PortNo) -> Result<(), EnvError> {
    let mut words = bridge_settings(guard);
    for config in configs {
        if config.ofport == port::LOCAL {
            let tag = config.access_vlan.map(|vlan| format!("tag={vlan}"));
            words.extend(tag.iter().flat_map(|tag| ["--", "set", "Port", BRIDGE, tag]).map(str::to_owned));
        } else {
            let name = format!("p{}", config.ofport);
            words.extend(port_settings(guard, &name, config.ofport, config.access_vlan));
        }
    }
    words.extend(port_settings(guard, BARRIER, barrier, None));
    guard.run(Command::new(program("ovs-vsctl")?).args(words), "").map(drop)
}

impl RealSwitch {
    /// Starts a switch with these ports, no flows, and its clock stopped.
    ///
    /// # Errors
    ///
    /// Open vSwitch is not installed, or does not start.
    pub fn start(ports: &[PortConfig]) -> Result<Self, EnvError> {
        let free = |number: &PortNo| ports.iter().all(|config| config.ofport != *number);
        let barrier_port = (1..60_000).rev().find(free).unwrap_or_default();
        let guard = Guard::start(|guard| configure(guard, ports, barrier_port))?;
        let mut switch = Self {
            control: Unixctl::connect(&guard.path("vs.ctl"))?,
            ports: ports_of(&guard, ports),
            barrier: Tail::new(capture(&guard, barrier_port)),
            barrier_port,
            version: String::new(),
            datapath_ports: BTreeMap::new(),
            sent: 0,
            furniture: Furniture::default(),
            guard,
        };
        let version = switch.appctl("version", &[])?;
        switch.version = version.split_whitespace().last().unwrap_or_default().to_owned();
        switch.await_ports()?;
        switch.appctl("time/stop", &[])?;
        let quiet = ports.iter().filter(|config| config.no_flood).map(|config| config.ofport);
        for number in quiet.chain([barrier_port]) {
            switch.ofctl(&["mod-port", BRIDGE, &number.to_string(), "no-flood"], "")?;
        }
        match switch.load(&[]) {
            Ok(()) => Ok(switch),
            Err(LoadError::Env(error)) => Err(error),
            Err(LoadError::Refused { message }) => Err(EnvError::Answer { text: message }),
        }
    }

    /// The version of the running switch, such as `3.1.0`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where the switch has its files: its log, its sockets, its captures.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.guard.path("")
    }

    /// Waits until the switch has all its ports, and notes their numbers.
    fn await_ports(&mut self) -> Result<(), EnvError> {
        let end = Instant::now() + PATIENCE;
        loop {
            // The command itself is not there before the switch has read its configuration.
            match self.appctl("dpif/show", &[]) {
                Ok(text) => self.datapath_ports = datapath_ports(&text),
                Err(EnvError::Command { .. }) => {}
                Err(error) => return Err(error),
            }
            let numbers: Vec<_> = self.datapath_ports.values().collect();
            let wanted = self.ports.iter().map(|port| port.ofport).chain([self.barrier_port]);
            if wanted.into_iter().all(|number| numbers.contains(&&number)) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(EnvError::Timeout { what: format!("the ports; {}", self.guard.log()) });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Replaces all flows; connections and learned addresses stay.
    ///
    /// Like `ovs-ofctl`, OpenFlow 1.0 with its extensions is tried first, because only that takes `strip_vlan`
    /// without a match on the VLAN, and 1.5 if the flows need more.
    ///
    /// # Errors
    ///
    /// The switch refuses the flows, or the machine fails.
    pub fn load(&mut self, flows: &[Flow]) -> Result<(), LoadError> {
        let (sentinel, carrier) = (MacAddr(SENTINEL_SOURCE), MacAddr(CARRIER_SOURCE));
        self.furnish(flows)?;
        let mut text = format!(
            "delete\ntable=0,priority=65535,dl_src={sentinel},dl_type={SENTINEL_TYPE:#06x},actions=output:{}\n\
             table=0,priority=65535,dl_src={carrier},ip,actions=ct(zone={CARRIER_ZONE})\n",
            self.barrier_port
        );
        let (late, early): (Vec<&Flow>, Vec<&Flow>) = flows.iter().partition(|flow| is_lost_early(flow));
        for flow in early {
            let _infallible = writeln!(text, "{}", flow.to_string().trim_start());
        }
        let mut added = self.ofctl(&["add-flows", BRIDGE, "-"], &text);
        if matches!(&added, Err(EnvError::Command { message, .. }) if message.contains("usable flow formats"))
        {
            added = self.ofctl(&["-O", "OpenFlow15", "add-flows", BRIDGE, "-"], &text);
        }
        if added.is_ok() && !late.is_empty() {
            let text: String =
                late.iter().map(|flow| format!("{}\n", flow.to_string().trim_start())).collect();
            added = self.ofctl(&["-O", "OpenFlow15", "add-flows", BRIDGE, "-"], &text);
        }
        self.judged(added)
    }

    fn judged(&mut self, added: Result<String, EnvError>) -> Result<(), LoadError> {
        match added {
            Ok(_) => Ok(self.purge()?),
            Err(EnvError::Command { message, .. }) => {
                self.appctl("version", &[])?;
                Err(LoadError::Refused { message })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the groups and meters that flows name, and takes away those of earlier flows.
    fn furnish(&mut self, flows: &[Flow]) -> Result<(), LoadError> {
        let wanted = Furniture::of(flows);
        if wanted == self.furniture {
            return Ok(());
        }
        let of15 = |command, argument: &str| {
            let words = ["-O", "OpenFlow15", command, BRIDGE, argument];
            words.into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let run = |words: Vec<String>, input: &str| {
            self.ofctl(&words.iter().map(String::as_str).collect::<Vec<_>>(), input)
        };
        let mut made = Ok(String::new());
        if !self.furniture.is_empty() {
            made = made.and(run(of15("del-groups", ""), "")).and(run(of15("del-meters", ""), ""));
        }
        for meter in wanted.meters() {
            made = made.and_then(|_| run(of15("add-meter", &meter), ""));
        }
        made = made.and_then(|_| run(of15("add-groups", "-"), &wanted.groups()));
        self.judged(made)?;
        self.furniture = wanted;
        Ok(())
    }

    /// The flows as the switch prints them, one a line (`ovs-ofctl -O OpenFlow15 --no-stats dump-flows`).
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn dump_flows(&mut self) -> Result<Vec<String>, EnvError> {
        let text = self.ofctl(&["-O", "OpenFlow15", "--no-stats", "dump-flows", BRIDGE], "")?;
        let own = [SENTINEL_SOURCE, CARRIER_SOURCE].map(|source| MacAddr(source).to_string());
        let theirs = |line: &&str| own.iter().all(|source| !line.contains(source));
        Ok(text.lines().filter(theirs).map(str::to_owned).collect())
    }

    /// Sends a frame of at least 14 bytes into a port; what came out, by ascending port, each port's in order.
    ///
    /// # Errors
    ///
    /// The machine fails, or there is no such port.
    pub fn send(&mut self, in_port: PortNo, frame: &[u8]) -> Result<Vec<(PortNo, Vec<u8>)>, EnvError> {
        self.send_many(in_port, &[frame])
    }

    /// Sends several frames into a port, one after the other; what came out, by ascending port.
    ///
    /// Within a batch cached decisions are kept, so what NORMAL learns from one frame may not count for the next.
    ///
    /// # Errors
    ///
    /// The machine fails, or there is no such port.
    pub fn send_many(
        &mut self,
        in_port: PortNo,
        frames: &[&[u8]],
    ) -> Result<Vec<(PortNo, Vec<u8>)>, EnvError> {
        let port = self.ports.iter().find(|port| port.ofport == in_port);
        let name = port.map(|port| port.name.clone()).ok_or_else(|| EnvError::Command {
            command: "netdev-dummy/receive".to_owned(),
            message: format!("no port {in_port}"),
        })?;
        for batch in frames.chunks(BATCH) {
            self.batch(&name, batch)?;
        }
        let mut left = Vec::new();
        for port in &mut self.ports {
            left.extend(port.tail.read()?.into_iter().map(|frame| (port.ofport, frame)));
        }
        if self.ports.iter().any(|port| port.tail.is_cut_short()) {
            self.check_health()?;
            return Err(EnvError::Answer { text: "a capture is cut short".to_owned() });
        }
        Ok(left)
    }

    /// Whether the switch can do its work: it answers, and there is space for what it writes.
    ///
    /// To be asked before a difference is believed: without space, frames are missing from the captures.
    ///
    /// # Errors
    ///
    /// It cannot.
    pub fn check_health(&mut self) -> Result<(), EnvError> {
        self.probe()?;
        self.appctl("version", &[]).map(drop)
    }

    fn probe(&self) -> Result<(), EnvError> {
        self.guard.probe().map_err(EnvError::io("cannot write captures"))
    }

    /// Sends frames and the sentinel behind them, and waits for it.
    fn batch(&mut self, port: &str, frames: &[&[u8]]) -> Result<(), EnvError> {
        self.sent += 1;
        let number = self.sent.to_be_bytes();
        let mut texts: Vec<String> = frames.iter().map(|frame| hex(frame)).collect();
        texts.push(hex(&sentinel(number)));
        let arguments: Vec<&str> = [port].into_iter().chain(texts.iter().map(String::as_str)).collect();
        self.appctls([PURGE, ("netdev-dummy/receive", &arguments)])?;
        self.wait_for_sentinel(number)
    }

    fn wait_for_sentinel(&mut self, number: [u8; 8]) -> Result<(), EnvError> {
        let end = Instant::now() + PATIENCE;
        let mut suspicious = Instant::now() + SUSPICION;
        for look in 1.. {
            let frames = self.barrier.read()?;
            if frames.iter().any(|frame| frame.get(14..22) == Some(&number)) {
                return Ok(());
            }
            if Instant::now() > end {
                let timeout = EnvError::Timeout { what: "the sentinel frame".to_owned() };
                return Err(self.explained(timeout));
            }
            // A command takes a turn of the switch's main loop; looking again is cheaper as long as that turns.
            if look % LOOKS == 0 {
                self.appctl("version", &[])?;
            }
            if Instant::now() > suspicious {
                self.probe()?;
                suspicious += SUSPICION;
            }
        }
        Ok(())
    }

    /// The cause of a failure, where the machine shows one.
    fn explained(&mut self, error: EnvError) -> EnvError {
        if let Err(cause) = self.probe() {
            return cause;
        }
        match error {
            EnvError::Ended { log } => EnvError::Ended { log: format!("{log}; {}", self.guard.log()) },
            other => other,
        }
    }

    /// What the flows make of a packet, without connections and without effect (`ofproto/trace`).
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn trace(&mut self, request: &TraceRequest<'_>) -> Result<RealTrace, EnvError> {
        self.traces(std::slice::from_ref(request))?.pop().ok_or_else(|| EnvError::answer(""))
    }

    /// The same for many packets, faster.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn traces(&mut self, requests: &[TraceRequest<'_>]) -> Result<Vec<RealTrace>, EnvError> {
        let mut traces = Vec::with_capacity(requests.len());
        for batch in requests.chunks(PIPELINE) {
            let arguments: Vec<Vec<String>> = batch.iter().map(|request| request.arguments(BRIDGE)).collect();
            let arguments: Vec<Vec<&str>> =
                arguments.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
            // A trace of a packet lets NORMAL learn.
            let commands: Vec<(&str, &[&str])> = arguments
                .iter()
                .flat_map(|words| [("fdb/flush", &[BRIDGE][..]), ("ofproto/trace", words.as_slice())])
                .collect();
            let answers = self.control.calls(&commands).map_err(|error| self.explained(error))?;
            for answer in answers.into_iter().skip(1).step_by(2) {
                let mut trace = trace::parse(&answer?, &self.datapath_ports)?;
                // `ALL` floods our own port too.
                let barrier = DatapathAction::Output(self.barrier_port);
                trace.passes.iter_mut().for_each(|pass| pass.actions.retain(|action| *action != barrier));
                traces.push(trace);
            }
        }
        Ok(traces)
    }

    /// The tracked connections as `dpctl/dump-conntrack` prints them, sorted.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn conntrack(&mut self) -> Result<Vec<String>, EnvError> {
        Ok(sorted_lines(&self.appctl("dpctl/dump-conntrack", &[])?))
    }

    /// What NORMAL has learned as (port, VLAN, address), sorted.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn fdb(&mut self) -> Result<Vec<Learned>, EnvError> {
        Ok(self.memory()?.1)
    }

    /// [`conntrack`](Self::conntrack) and [`fdb`](Self::fdb) at once, faster.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn memory(&mut self) -> Result<(Vec<String>, Vec<Learned>), EnvError> {
        // Packets that were forwarded by cached decisions have not been counted yet: these are dropped first.
        let commands: [(&str, &[&str]); 3] = [PURGE, ("dpctl/dump-conntrack", &[]), ("fdb/show", &[BRIDGE])];
        let [_, connections, addresses] = self.appctls(commands)?;
        let mut entries: Vec<_> = addresses.lines().skip(1).filter_map(fdb_entry).collect();
        if entries.len() + 1 != addresses.lines().count() {
            return Err(EnvError::answer(&addresses));
        }
        entries.sort_unstable();
        Ok((sorted_lines(&connections), entries))
    }

    /// Forgets connections and learned addresses. Held fragments stay; [`release`](Self::release) ends them.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn reset(&mut self) -> Result<(), EnvError> {
        let commands: [(&str, &[&str]); 3] =
            [PURGE, ("fdb/flush", &[BRIDGE]), ("dpctl/flush-conntrack", &[])];
        self.appctls(commands).map(drop)
    }

    /// Lets go up to this many trains of fragments that have waited for more than 15 seconds: they leave with other
    /// packets that come through `ct()`, and nobody sees them.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn release(&mut self, trains: usize) -> Result<(), EnvError> {
        let carrier = carrier();
        for batch in vec![carrier.as_slice(); trains].chunks(BATCH) {
            self.batch(BRIDGE, batch)?;
        }
        Ok(())
    }

    /// Forgets what NORMAL has learned.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn flush_fdb(&mut self) -> Result<(), EnvError> {
        // Dropping cached decisions lets NORMAL learn from the packets they forwarded: first that.
        self.appctls([PURGE, ("fdb/flush", &[BRIDGE])]).map(drop)
    }

    /// Forgets all connections, or those of one zone.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn flush_conntrack(&mut self, zone: Option<u16>) -> Result<(), EnvError> {
        let zone = zone.map(|zone| format!("zone={zone}"));
        let arguments: Vec<&str> = zone.iter().map(String::as_str).collect();
        self.appctl("dpctl/flush-conntrack", &arguments).map(drop)
    }

    /// Forgets the connections of a zone that have mark 1, one by one.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn forget_marked(&mut self, zone: u16) -> Result<(), EnvError> {
        let marked = |line: &String| entries::tuple_if_marked(line, zone, 1);
        let tuples: Vec<String> = self.conntrack()?.iter().filter_map(marked).collect();
        for tuple in tuples {
            self.appctl("dpctl/flush-conntrack", &[&format!("zone={zone}"), &tuple])?;
        }
        Ok(())
    }

    /// Lets virtual time pass, in milliseconds.
    ///
    /// # Errors
    ///
    /// The machine fails.
    pub fn advance(&mut self, milliseconds: u64) -> Result<(), EnvError> {
        self.appctls([PURGE, ("time/warp", &[&milliseconds.to_string()])])?;
        // What is too old goes in the next turns of the main loop.
        self.batch(BRIDGE, &[])
    }

    /// Any command that `ovs-appctl` knows, for settings.
    ///
    /// # Errors
    ///
    /// The command or the machine fails.
    pub fn appctl(&mut self, command: &str, arguments: &[&str]) -> Result<String, EnvError> {
        self.control.call(command, arguments).map_err(|error| self.explained(error))
    }

    /// Several commands, one after the other, and their answers.
    fn appctls<const N: usize>(&mut self, commands: [(&str, &[&str]); N]) -> Result<[String; N], EnvError> {
        let answers = self.control.calls(&commands).map_err(|error| self.explained(error))?;
        let answers = answers.into_iter().collect::<Result<Vec<String>, _>>()?;
        answers.try_into().map_err(|_| EnvError::answer(""))
    }

    fn purge(&mut self) -> Result<(), EnvError> {
        self.appctls([PURGE]).map(drop)
    }

    fn ofctl(&self, arguments: &[&str], input: &str) -> Result<String, EnvError> {
        self.guard.run(Command::new(program("ovs-ofctl")?).args(arguments), input)
    }
}

fn sentinel(number: [u8; 8]) -> Vec<u8> {
    let mut frame = vec![2; 6];
    frame.extend(SENTINEL_SOURCE);
    frame.extend(SENTINEL_TYPE.to_be_bytes());
    frame.extend(number);
    frame.resize(60, 0);
    frame
}

/// A UDP datagram from port 0 to port 0, of which only the sender is of interest.
fn carrier() -> Vec<u8> {
    let mut key = FlowKey::default();
    let source = u128::from(MacAddr(CARRIER_SOURCE).to_bits());
    let ethertype = u128::from(wire::ethertype::IPV4);
    let fields =
        [(Field::DlSrc, source), (Field::DlType, ethertype), (Field::NwProto, u128::from(wire::proto::UDP))];
    fields.into_iter().for_each(|(field, value)| key.set(field, value));
    compose(&key, &ComposeOptions::default())
}
