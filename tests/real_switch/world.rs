//! The tables that the suites run, and who lives around them.

use super::{random_tables, rng::Rng};
use flowproof_ovs::split_untyped_ct;
use flowproof_packet::{Field, PortNo, key::low_bits, port};
use flowproof_switch::{
    flow::{Action, Flow, ParseOptions, parse_flows},
    pipeline::PortConfig,
    table::Tables,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

/// Somebody who sends and receives.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) port: PortNo,
    pub(super) mac: u128,
    pub(super) ipv4: Vec<u128>,
    pub(super) ipv6: Vec<u128>,
    /// The VLANs that its frames may carry; none for a virtual machine.
    pub(super) vlans: Vec<u16>,
}

/// Tables, ports, and everything that packets can be made of.
#[derive(Debug)]
pub(super) struct World {
    pub(super) name: String,
    pub(super) ports: Vec<PortConfig>,
    /// The flows; then the same with some missing, for changes under way. Cookies count the flows from 1.
    pub(super) variants: Vec<Arc<Tables>>,
    pub(super) hosts: Vec<Host>,
    /// Every value and mask that the flows match, by field.
    pub(super) values: BTreeMap<Field, Vec<(u128, u128)>>,
}

/// Addresses and ports that no flow names.
const STRANGERS_V4: [u128; 4] = [0x0808_0808, 0x0a00_0163, 0xc0a8_0105, 0xe000_0001];
const STRANGERS_V6: [u128; 3] = [0x2001_0db8 << 96 | 9, 0xfe80 << 112 | 9, 0xff02 << 112 | 1];
const STRANGER_MAC: u128 = 0x0200_0000_0001;
const LOCAL_MAC: u128 = 0xaa55_aa55_0000;

impl World {
    fn new(name: String, flows: &[Flow], rng: &mut Rng) -> Self {
        let tables = Tables::new(split_untyped_ct(flows));
        let mut flows = tables.flows().to_vec();
        for (cookie, flow) in (1..).zip(&mut flows) {
            flow.cookie = cookie;
        }
        let thinned = |percent| {
            let mut keep = Vec::new();
            for flow in &flows {
                if !rng.chance(percent) {
                    keep.push(flow.clone());
                }
            }
            keep
        };
        let variants: Vec<_> =
            [0, 10, 30].map(thinned).into_iter().map(|some| Arc::new(Tables::new(some))).collect();
        let values = values(&flows);
        let ports = ports(&flows, &values);
        let hosts = hosts(&flows, &values, &ports);
        Self { name, ports, variants, hosts, values }
    }

    pub(super) fn flows(&self) -> &[Flow] {
        self.variants[0].flows()
    }

    /// A value that some flow looks at, its open bits at random.
    pub(super) fn value(&self, field: Field, rng: &mut Rng) -> Option<u128> {
        let (value, mask) = *rng.pick(self.values.get(&field).filter(|values| !values.is_empty())?);
        let open = if rng.chance(50) { 0 } else { rng.bits() };
        Some((value | open & !mask) & low_bits(field.spec().width))
    }
}

fn values(flows: &[Flow]) -> BTreeMap<Field, Vec<(u128, u128)>> {
    let mut values: BTreeMap<Field, BTreeSet<(u128, u128)>> = BTreeMap::new();
    for flow in flows {
        for field in Field::all() {
            let (value, mask) = flow.matching.get(field);
            if mask != 0 {
                values.entry(field).or_default().insert((value, mask));
            }
        }
    }
    values.into_iter().map(|(field, values)| (field, values.into_iter().collect())).collect()
}

/// All ports that flows match or write to; those whose packets get a VLAN in register 6 are access ports of it, as
/// Neutron's agent sets them up.
fn ports(flows: &[Flow], values: &BTreeMap<Field, Vec<(u128, u128)>>) -> Vec<PortConfig> {
    let matched = values.get(&Field::InPort).into_iter().flatten().map(|(value, _)| *value as PortNo);
    let output = flows.iter().flat_map(|flow| &flow.actions).filter_map(|action| match action {
        Action::Output(number) => Some(*number),
        _ => None,
    });
    let numbers: BTreeSet<PortNo> =
        matched.chain(output).chain([1, 2]).filter(|number| *number > 0 && *number < 60_000).collect();
    let vlan = |number: PortNo| {
        let own = flows.iter().filter(|flow| flow.matching.exact(Field::InPort) == Some(number.into()));
        own.flat_map(|flow| &flow.actions).find_map(|action| match action {
            Action::Set { field: Field::Reg6, value, .. } => Some(*value as u16),
            _ => None,
        })
    };
    let config =
        |number| vlan(number).map_or(PortConfig::trunk(number), |vlan| PortConfig::access(number, vlan));
    numbers.into_iter().map(config).collect()
}

fn hosts(flows: &[Flow], values: &BTreeMap<Field, Vec<(u128, u128)>>, ports: &[PortConfig]) -> Vec<Host> {
    let mut machines: BTreeMap<(PortNo, u128), (BTreeSet<u128>, BTreeSet<u128>)> = BTreeMap::new();
    for flow in flows {
        let exact = |field| flow.matching.exact(field);
        if let (Some(number), Some(mac)) = (exact(Field::InPort), exact(Field::DlSrc)) {
            let (v4, v6) = machines.entry((number as PortNo, mac)).or_default();
            v4.extend(exact(Field::NwSrc).filter(|address| *address != 0));
            v6.extend(exact(Field::Ipv6Src));
        }
    }
    let all = |field| values.get(&field).into_iter().flatten().map(|(value, _)| *value);
    let vlans: Vec<u16> =
        all(Field::VlanTci).map(|tci| tci as u16 & 0xfff).filter(|vid| *vid != 0xfff).collect();
    let machine = |((port, mac), (v4, v6)): ((PortNo, u128), (BTreeSet<u128>, BTreeSet<u128>))| Host {
        port,
        mac,
        ipv4: v4.into_iter().chain([0x0a00_0109]).collect(),
        ipv6: v6.into_iter().chain([0xfe80 << 112 | 0x109]).collect(),
        vlans: Vec::new(),
    };
    let mut hosts: Vec<Host> = machines.into_iter().map(machine).collect();
    let strange_v4: Vec<u128> = all(Field::NwSrc).chain(STRANGERS_V4).collect();
    let strange_v6: Vec<u128> = all(Field::Ipv6Src).chain(STRANGERS_V6).collect();
    let lonely: Vec<PortNo> = ports
        .iter()
        .map(|port| port.ofport)
        .filter(|number| hosts.iter().all(|host| host.port != *number))
        .collect();
    for (at, number) in (0..).zip(lonely.into_iter().chain([port::LOCAL])) {
        let mac = if number == port::LOCAL { LOCAL_MAC } else { STRANGER_MAC + at };
        let (ipv4, ipv6) = (strange_v4.clone(), strange_v6.clone());
        hosts.push(Host { port: number, mac, ipv4, ipv6, vlans: vlans.clone() });
    }
    hosts
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn parse(text: &str) -> Vec<Flow> {
    parse_flows(text, &ParseOptions { lenient: true, ..ParseOptions::default() }).unwrap().flows
}

/// Mitaka to the newest.
const RELEASES: [&str; 7] = ["8.1.0", "9.4.1", "12.0.0", "16.0.0", "20.0.0", "25.0.0", "29.0.0"];

/// The genuine tables: the host of 2016, and what Neutron's drivers of seven releases wrote.
pub(super) fn genuine() -> Vec<World> {
    let read = |path: &Path| parse(&fs::read_to_string(path).unwrap());
    let mut files = vec![root().join("examples/mitaka-2016/flows.txt")];
    let corpus = root().join("tests/fixtures/corpus");
    for release in RELEASES {
        let cases = fs::read_dir(corpus.join(release)).unwrap();
        files.extend(
            cases
                .map(|case| case.unwrap().path())
                .filter(|path| path.extension().is_some_and(|ext| ext == "flows")),
        );
    }
    files.sort_unstable();
    assert!(files.len() > 20, "the corpus is not where it was");
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    files.iter().map(|path| World::new(name(path), &read(path), &mut Rng::new(1))).collect()
}

/// Ports 1 to 4, the last an access port, and somebody behind each.
fn small(mut world: World) -> World {
    let host = |number: u16| Host {
        port: number,
        mac: if number == 3 { 0xfa16_3e00_0003 } else { 0x0200_0000_0000 | u128::from(number) },
        ipv4: vec![0x0a00_0000 | u128::from(number)],
        ipv6: vec![0xfd00 << 112 | u128::from(number), 0xfe80 << 112 | u128::from(number)],
        vlans: vec![5],
    };
    world.ports = (1..=4)
        .map(|number| if number == 4 { PortConfig::access(4, 5) } else { PortConfig::trunk(number) })
        .collect();
    world.hosts = (1..=4).map(host).collect();
    world
}

/// Small tables that are given.
pub(super) fn given(flows: &str) -> World {
    small(World::new(format!("given tables:\n{flows}"), &parse(flows), &mut Rng::new(1)))
}

/// Tables that are given, on the ports that they name.
pub(super) fn named(flows: &str) -> World {
    World::new(format!("given tables:\n{flows}"), &parse(flows), &mut Rng::new(1))
}

/// Small tables at random.
pub(super) fn random(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let lines = random_tables::lines(&mut rng);
    // Chance may write what a flow cannot say, such as ct(commit) for invalid packets.
    let sayable = |line: &&str| parse_flows(line, &ParseOptions::default()).is_ok();
    let text: Vec<&str> = lines.iter().map(String::as_str).filter(sayable).collect();
    let text = text.join("\n");
    small(World::new(format!("random tables {seed}:\n{text}"), &parse(&text), &mut rng))
}
