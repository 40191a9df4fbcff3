//! Groups as `ovs-ofctl` prints and reads them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use flowproof_switch::flow::{Action, GroupRef, Groups, ParseOptions, parse_flows};
use std::collections::BTreeMap;

/// `ovs-ofctl -O OpenFlow13 dump-groups` of a real Open vSwitch 3.1, and the same over OpenFlow 1.5.
const DUMPS: [&str; 2] = [
        "OFPST_GROUP_DESC reply (OF1.3) (xid=0x2):
 group_id=1,type=all,bucket=actions=output:3,bucket=actions=set_field:aa:aa:aa:aa:aa:aa->eth_src,output:4
 group_id=3,type=ff,bucket=watch_port:1,actions=output:1,bucket=watch_group:2,actions=group:2
 group_id=5,type=all
 group_id=6,type=select,bucket=actions=ct(table=3),bucket=actions=push_vlan:0x8100,set_field:4097->vlan_vid,output:1
 group_id=2,type=select,bucket=weight:7,actions=output:1,bucket=watch_port:3,actions=output:3
 group_id=4,type=indirect,bucket=actions=set_field:1.2.3.4->ip_src,resubmit(,1)
",
        "OFPST_GROUP_DESC reply (OF1.5) (xid=0x2):
 group_id=1,type=all,bucket=bucket_id:0,actions=output:3,bucket=bucket_id:1,actions=set_field:aa:aa:aa:aa:aa:aa->eth_src,output:4
 group_id=3,type=ff,bucket=bucket_id:0,watch_port:1,actions=output:1,bucket=bucket_id:1,watch_group:2,actions=group:2
 group_id=5,type=all
 group_id=6,type=select,selection_method=hash,fields=ip_src,bucket=bucket_id:0,actions=ct(table=3),bucket=bucket_id:1,actions=push_vlan:0x8100,set_field:4097->vlan_vid,output:1
 group_id=2,type=select,bucket=bucket_id:0,weight:7,actions=output:1,bucket=bucket_id:1,watch_port:3,actions=output:3
 group_id=4,type=indirect,bucket=bucket_id:0,actions=set_field:1.2.3.4->ip_src,resubmit(,1)
",
    ];

fn read(text: &str) -> Groups {
    Groups::parse(text, &BTreeMap::new()).unwrap()
}

#[test]
fn dumps_of_either_version_say_the_same_and_read_back_as_they_print() {
    let [early, late] = DUMPS.map(read);
    assert_eq!(early, late);
    assert_eq!(
        early.iter().map(|(id, group)| (id, group.buckets.len())).collect::<Vec<_>>(),
        [(1, 2), (2, 2), (3, 2), (4, 1), (5, 0), (6, 2)]
    );
    let printed: String = early.iter().map(|(id, group)| format!("group_id={id},{group}\n")).collect();
    assert_eq!(read(&printed), early);
}

#[test]
fn what_add_group_takes_needs_no_actions_word() {
    let text = "group_id=1 type=all bucket=output:3 bucket=mod_dl_src:aa:aa:aa:aa:aa:aa,output:4 # both";
    assert_eq!(read(text).get(1).unwrap().buckets.len(), 2);
    for (wrong, why) in [
        ("type=all,bucket=output:1", "group_id"),
        ("group_id=1,bucket=output:1", "type"),
        ("group_id=1,type=some", "unknown type"),
        ("group_id=1,type=all,bucket=frobnicate", "unknown action"),
    ] {
        let error = Groups::parse(wrong, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains(why) && error.starts_with("line 1:"), "{error}");
    }
}

#[test]
fn a_group_that_leads_to_itself_is_not_followed_there() {
    let mut flows = parse_flows("actions=group:1", &ParseOptions::default()).unwrap().flows;
    read("group_id=1,type=all,bucket=group:2\ngroup_id=2,type=all,bucket=group:1").resolve(&mut flows);
    let mut depth = 0;
    let mut at = flows[0].actions[0].clone();
    while let Action::Group(GroupRef { group: Some(group), .. }) = at {
        depth += 1;
        at = group.buckets[0].actions[0].clone();
    }
    assert_eq!((depth, at), (2, Action::Group(GroupRef::new(1))));
}
