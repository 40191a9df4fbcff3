//! Flows are loaded with the groups and meters that they name.

use flowproof_ovs::RealSwitch;
use flowproof_packet::{
    FlowKey, PortNo,
    build::{ComposeOptions, compose},
};
use flowproof_switch::{
    flow::{Flow, Groups, ParseOptions, parse_flows},
    pipeline::PortConfig,
};
use std::{collections::BTreeMap, env, io::Write};

fn flows(text: &str, groups: &str) -> Vec<Flow> {
    let mut flows = parse_flows(text, &ParseOptions::default()).unwrap().flows;
    Groups::parse(groups, &BTreeMap::new()).unwrap().resolve(&mut flows);
    flows
}

#[test]
fn flows_come_with_the_groups_and_meters_that_they_name() {
    let ports = [1, 2, 3].map(PortConfig::trunk);
    let mut real = match RealSwitch::start(&ports) {
        Ok(real) => real,
        Err(error) if error.is_missing() && env::var_os("CI").is_none() => {
            let _nobody_listens = writeln!(std::io::stderr(), "NOT COMPARED with a real switch: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let frame = compose(&FlowKey::default(), &ComposeOptions::default());
    let mut check = |text: &str, groups: &str, expected: &[PortNo]| {
        real.load(&flows(text, groups)).unwrap();
        let left = real.send(1, &frame).unwrap();
        let ports: Vec<PortNo> = left.iter().map(|(port, _)| *port).collect();
        assert_eq!(ports, expected, "{text}\n{groups}");
    };
    let all = "group_id=7,type=all,bucket=output:2,bucket=group:8\ngroup_id=8,type=indirect,bucket=output:3";
    check("in_port=1 actions=meter:5,group:7", all, &[2, 3]);
    check("in_port=1 actions=group:7", "group_id=7,type=select,bucket=weight:10,output:3", &[3]);
    check("in_port=1 actions=write_actions(output:2)", "", &[2]);
    check("in_port=1 actions=strip_vlan,output:3\npriority=1 actions=meter:6,output:2", "", &[3]);
    check("in_port=1 actions=output:2", "", &[2]);
}
