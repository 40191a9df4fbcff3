//! Replies, related errors, revocation, readmission: history, one story a test.

use crate::support::{
    check, check_invalid, error, frame, icmp, intent, load, port_of, rule, switched, tcp, the_port, udp,
    world,
};
use flowproof_model::frame::{Frame, Payload};
use flowproof_model::history::Tuple;
use flowproof_model::policy::{Change, Policy, Rule, RuleId};
use flowproof_model::switches::Switches;
use flowproof_model::world::{Event, World};
use serde_json::{Value, json};

const NO_RULE: &str = "drop: NoRule";
const REVOKED: &str = "drop: Revoked";
const REPLY: &str = "admit: Reply";

/// From `a` to a host elsewhere, and back.
fn out() -> Frame {
    frame("a", "r", tcp(("10.0.0.5", 1000), ("10.0.0.10", 22)))
}

fn back() -> Frame {
    frame("r", "a", tcp(("10.0.0.10", 22), ("10.0.0.5", 1000)))
}

/// From `a` to `b`, and back.
fn across() -> Frame {
    frame("a", "b", tcp(("10.0.0.5", 1000), ("10.0.0.6", 22)))
}

fn return_() -> Frame {
    frame("b", "a", tcp(("10.0.0.6", 22), ("10.0.0.5", 1000)))
}

fn change(world: &mut World, change: Change) {
    world.apply(Event::Change(change)).unwrap();
}

fn remove(world: &mut World, id: &str) {
    change(world, Change::RemoveRule(RuleId::from(id)));
}

fn parsed_rule(id: &str, line: &str) -> Rule {
    let intent: Value =
        json!({ "security_groups": [{ "id": "g", "security_group_rules": [rule(id, line)] }] });
    Policy::from_json(&intent.to_string()).unwrap().groups["g"].rules[0].clone()
}

fn put_back(world: &mut World, id: &str, line: &str) {
    change(world, Change::AddRule("sga".into(), parsed_rule(id, line)));
}

#[test]
fn reply_of_admitted_connection_is_admitted() {
    let mut world = world(&["egress IPv4 tcp"], &[]);
    check(&mut world, "net1", &back(), "a", NO_RULE);
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
    check(&mut world, "net1", &back(), "a", REPLY);
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
    check(&mut world, "net1", &frame("r", "a", tcp(("10.0.0.10", 22), ("10.0.0.5", 1001))), "a", NO_RULE);
    check(&mut world, "net1", &frame("r", "a", udp(("10.0.0.10", 22), ("10.0.0.5", 1000))), "a", NO_RULE);
    check_invalid(&world, "net1", &back(), "a", "drop: Invalid");
}

#[test]
fn a_reply_is_still_held_to_the_sender_s_own_addresses() {
    let mut world = world(&["egress IPv4 any"], &["ingress IPv4 any"]);
    check(&mut world, "a", &across(), "b", "admit: rule sgb-0");
    check(&mut world, "b", &return_(), "a", REPLY);
    let forged = frame("r", "a", tcp(("10.0.0.6", 22), ("10.0.0.5", 1000)));
    check(&mut world, "b", &forged, "a", "drop: SpoofedSource");
    check(
        &mut world,
        "a",
        &frame("a", "b", udp(("10.0.0.5", 68), ("10.0.0.6", 67))),
        "b",
        "admit: rule sgb-0",
    );
    check(
        &mut world,
        "b",
        &frame("b", "a", udp(("10.0.0.6", 67), ("10.0.0.5", 68))),
        "a",
        "drop: DhcpServer",
    );
}

#[test]
fn what_was_not_delivered_opens_nothing() {
    let mut world = world(&["egress IPv4 any"], &["ingress IPv4 udp"]);
    check(&mut world, "a", &across(), "b", NO_RULE);
    assert_eq!(world.history.connections().count(), 0);
    check(&mut world, "b", &return_(), "a", NO_RULE);
}

#[test]
fn nobody_opens_a_path_for_others_by_sending_elsewhere() {
    // `a` writes to the address of `b` under a foreign MAC: the host at that MAC may answer, `b` may not.
    let mut world = world(&["egress IPv4 any"], &[]);
    let astray = frame("a", "s", tcp(("10.0.0.5", 1000), ("10.0.0.6", 22)));
    check(&mut world, "a", &astray, "elsewhere", "admit: rule sga-0");
    check(&mut world, "b", &return_(), "a", NO_RULE);
    check(&mut world, "net1", &frame("s", "a", tcp(("10.0.0.6", 22), ("10.0.0.5", 1000))), "a", REPLY);
    let mut world = switched(world.clone(), "replies", "from-anyone");
    check(&mut world, "b", &return_(), "a", REPLY);
}

#[test]
fn infrastructure_opens_no_connection() {
    let mut world = world(&[], &[]);
    let request = frame("a", "r", udp(("10.0.0.5", 68), ("10.0.0.10", 67)));
    check(&mut world, "a", &request, "elsewhere", "admit: Infrastructure(DhcpClient)");
    assert_eq!(world.history.connections().count(), 0);
}

#[test]
fn an_echo_is_answered_under_its_identifier_and_never_the_other_way_round() {
    let mut world = world(&["egress IPv4 icmp 8"], &[]);
    let answer = frame("r", "a", icmp("10.0.0.10", "10.0.0.5", 0, 0));
    check(&mut world, "net1", &answer, "a", NO_RULE);
    check(
        &mut world,
        "a",
        &frame("a", "r", icmp("10.0.0.5", "10.0.0.10", 8, 0)),
        "elsewhere",
        "admit: rule sga-0",
    );
    check(&mut world, "net1", &answer, "a", REPLY);
    check(&mut world, "net1", &frame("r", "a", icmp("10.0.0.10", "10.0.0.5", 14, 0)), "a", NO_RULE);
    // A request from the other side is a connection of its own.
    check(&mut world, "net1", &frame("r", "a", icmp("10.0.0.10", "10.0.0.5", 8, 0)), "a", NO_RULE);
}

#[test]
fn an_echo_with_another_code_is_another_connection() {
    let mut world = world(&["egress IPv4 icmp 8/1"], &[]);
    let answer = |code| frame("r", "a", icmp("10.0.0.10", "10.0.0.5", 0, code));
    let asked = frame("a", "r", icmp("10.0.0.5", "10.0.0.10", 8, 1));
    check(&mut world, "a", &asked, "elsewhere", "admit: rule sga-0");
    check(&mut world, "net1", &answer(0), "a", NO_RULE);
    check(&mut world, "net1", &answer(1), "a", REPLY);
}

#[test]
fn an_error_about_an_admitted_packet_is_admitted_from_any_router() {
    let mut world = world(&["egress IPv4 tcp"], &[]);
    let complaint = |about: &Frame, to: &str| frame("r", "a", error("203.0.113.254", to, 3, &about.payload));
    check(&mut world, "net1", &complaint(&out(), "10.0.0.5"), "a", NO_RULE);
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
    check(&mut world, "net1", &complaint(&out(), "10.0.0.5"), "a", "admit: Related");
    let unknown = frame("a", "r", tcp(("10.0.0.5", 1001), ("10.0.0.10", 22)));
    check(&mut world, "net1", &complaint(&unknown, "10.0.0.5"), "a", NO_RULE);
    // It goes to whoever sent the packet, and to nobody else.
    check(&mut world, "net1", &complaint(&out(), "10.0.0.9"), "a", NO_RULE);
    check(&mut world, "net1", &complaint(&back(), "10.0.0.10"), "a", NO_RULE);
    check(
        &mut world,
        "net1",
        &frame("r", "a", error("203.0.113.254", "10.0.0.5", 8, &out().payload)),
        "a",
        NO_RULE,
    );
}

#[test]
fn an_error_about_a_reply_is_admitted() {
    let mut world = world(&["ingress IPv4 tcp 22-22"], &[]);
    let syn = frame("r", "a", tcp(("10.0.0.10", 1000), ("10.0.0.5", 22)));
    check(&mut world, "net1", &syn, "a", "admit: rule sga-0");
    let reply: Payload = tcp(("10.0.0.5", 22), ("10.0.0.10", 1000));
    check(
        &mut world,
        "net1",
        &frame("r", "a", error("203.0.113.254", "10.0.0.5", 11, &reply)),
        "a",
        "admit: Related",
    );
}

#[test]
fn after_removal_replies_end_with_the_first_refused_packet() {
    let mut world = world(&["egress IPv4 tcp"], &[]);
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
    remove(&mut world, "sga-0");
    check(&mut world, "net1", &back(), "a", REPLY);
    check(&mut world, "a", &out(), "elsewhere", REVOKED);
    check(&mut world, "net1", &back(), "a", REVOKED);
    let complaint = frame("r", "a", error("203.0.113.254", "10.0.0.5", 3, &out().payload));
    check(&mut world, "net1", &complaint, "a", REVOKED);
}

#[test]
fn strictly_replies_end_with_the_removal() {
    let mut world = switched(world(&["egress IPv4 tcp"], &[]), "revocation", "at-once");
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
    check(&mut world, "net1", &back(), "a", REPLY);
    remove(&mut world, "sga-0");
    check(&mut world, "net1", &back(), "a", REVOKED);
}

#[test]
fn either_end_can_revoke() {
    let mut world = world(&["egress IPv4 tcp"], &["ingress IPv4 tcp"]);
    check(&mut world, "a", &across(), "b", "admit: rule sgb-0");
    check(&mut world, "b", &return_(), "a", REPLY);
    remove(&mut world, "sgb-0");
    check(&mut world, "a", &across(), "b", REVOKED);
    check(&mut world, "b", &return_(), "a", REVOKED);
}

#[test]
fn a_forged_packet_revokes_nothing() {
    let mut world = world(&["egress IPv4 tcp"], &["ingress IPv4 tcp"]);
    check(&mut world, "a", &across(), "b", "admit: rule sgb-0");
    remove(&mut world, "sgb-0");
    check(&mut world, "a", &Frame { src: crate::support::mac("r"), ..across() }, "b", "drop: SpoofedSource");
    check(&mut world, "net1", &across(), "b", NO_RULE);
    check(&mut world, "b", &return_(), "a", REPLY);
}

#[test]
fn a_rule_put_back_restores_the_connection_at_once_or_when_it_is_forgotten() {
    let line = "egress IPv4 tcp";
    for (setting, replies) in [("immediate", REPLY), ("after-expiry", REVOKED)] {
        let mut world = switched(world(&[line], &[]), "readmission", setting);
        check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
        remove(&mut world, "sga-0");
        check(&mut world, "a", &out(), "elsewhere", REVOKED);
        put_back(&mut world, "again", line);
        check(&mut world, "net1", &back(), "a", replies);
        check(&mut world, "a", &out(), "elsewhere", "admit: rule again");
        check(&mut world, "net1", &back(), "a", replies);
        world.apply(Event::PortUpdated("a".into())).unwrap();
        if setting == "after-expiry" {
            check(&mut world, "net1", &back(), "a", NO_RULE);
        }
        check(&mut world, "a", &out(), "elsewhere", "admit: rule again");
        check(&mut world, "net1", &back(), "a", REPLY);
    }
}

#[test]
fn the_agent_forgets_revoked_connections_of_the_port_only() {
    let mut world =
        switched(world(&["egress IPv4 tcp", "egress IPv4 udp"], &[]), "readmission", "after-expiry");
    let query = frame("a", "r", udp(("10.0.0.5", 5000), ("10.0.0.10", 53)));
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
    check(&mut world, "a", &query, "elsewhere", "admit: rule sga-1");
    remove(&mut world, "sga-0");
    check(&mut world, "a", &out(), "elsewhere", REVOKED);
    world.apply(Event::PortUpdated("b".into())).unwrap();
    check(&mut world, "net1", &back(), "a", REVOKED);
    world.apply(Event::PortUpdated("a".into())).unwrap();
    check(&mut world, "net1", &back(), "a", NO_RULE);
    check(&mut world, "net1", &frame("r", "a", udp(("10.0.0.10", 53), ("10.0.0.5", 5000))), "a", REPLY);
}

#[test]
fn another_rule_that_admits_it_keeps_a_connection_alive() {
    let mut world = world(&["egress IPv4 tcp", "egress IPv4 any"], &[]);
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
    remove(&mut world, "sga-0");
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-1");
    check(&mut world, "net1", &back(), "a", REPLY);
}

#[test]
fn a_member_that_leaves_and_an_address_that_goes_revoke() {
    let from_r = frame("r", "a", tcp(("10.0.0.10", 1000), ("10.0.0.5", 22)));
    let to_r = frame("a", "r", tcp(("10.0.0.5", 22), ("10.0.0.10", 1000)));
    let mut world = world(&["ingress IPv4 tcp group=peers"], &[]);
    check(&mut world, "net1", &from_r, "a", "admit: rule sga-0");
    check(&mut world, "a", &to_r, "elsewhere", REPLY);
    change(&mut world, Change::SetGroups("r".into(), vec![]));
    check(&mut world, "net1", &from_r, "a", REVOKED);
    check(&mut world, "a", &to_r, "elsewhere", REVOKED);

    let from_office = frame("r", "a", tcp(("192.0.2.9", 1000), ("10.0.0.5", 22)));
    let mut world = crate::support::world(&["ingress IPv4 tcp addresses=offices"], &[]);
    check(&mut world, "net1", &from_office, "a", "admit: rule sga-0");
    change(&mut world, Change::SetAddresses("offices".into(), vec!["192.0.3.0/24".parse().unwrap()]));
    check(&mut world, "net1", &from_office, "a", REVOKED);
}

#[test]
fn a_new_member_is_admitted_by_rules_that_were_there() {
    let mut world = world(&["ingress IPv4 tcp 3355-3355 group=peers"], &[]);
    let syn = frame("u", "a", tcp(("10.0.0.7", 1000), ("10.0.0.5", 3355)));
    check(&mut world, "u", &syn, "a", NO_RULE);
    let mut member = the_port(&world, "u");
    member.groups.push("peers".into());
    change(&mut world, Change::PutPort(member));
    check(&mut world, "u", &syn, "a", "admit: rule sga-0");
}

#[test]
fn an_expired_connection_has_no_replies() {
    let mut world = world(&["egress IPv4 tcp"], &[]);
    check(&mut world, "a", &out(), "elsewhere", "admit: rule sga-0");
    world.apply(Event::Expired(Tuple::of(&"net1".into(), &out()).unwrap())).unwrap();
    check(&mut world, "net1", &back(), "a", NO_RULE);
}

#[test]
fn a_switched_off_port_is_free_and_a_switched_on_port_is_filtered_again() {
    let mut world = world(&[], &[]);
    let ping = frame("r", "a", icmp("10.0.0.10", "10.0.0.5", 8, 0));
    check(&mut world, "net1", &ping, "a", NO_RULE);
    let mut port = the_port(&world, "a");
    port.port_security_enabled = false;
    change(&mut world, Change::PutPort(port.clone()));
    check(&mut world, "net1", &ping, "a", "admit: Unfiltered");
    port.port_security_enabled = true;
    change(&mut world, Change::PutPort(port));
    check(&mut world, "net1", &ping, "a", NO_RULE);
}

#[test]
fn replies_of_a_stateless_group_need_a_rule_unless_it_is_treated_as_stateful() {
    let mut intent = intent(&["egress IPv4 tcp"], &[]);
    intent["security_groups"][0]["stateful"] = false.into();
    let mut stateless = World::new(load(&intent), Switches::default());
    check(&mut stateless, "a", &out(), "elsewhere", "admit: rule sga-0");
    check(&mut stateless, "net1", &back(), "a", NO_RULE);
    let mut treated = World::new(load(&intent), Switches::neutron());
    check(&mut treated, "a", &out(), "elsewhere", "admit: rule sga-0");
    check(&mut treated, "net1", &back(), "a", REPLY);
}

#[test]
fn replies_of_a_stateful_end_do_not_open_connections_of_their_own() {
    let mut intent = intent(&["egress IPv4 tcp", "ingress IPv4 tcp"], &["ingress IPv4 tcp"]);
    intent["security_groups"][0]["stateful"] = false.into();
    let mut world = World::new(load(&intent), Switches::default());
    for _ in 0..3 {
        check(&mut world, "a", &across(), "b", "admit: rule sgb-0");
        check(&mut world, "b", &return_(), "a", "admit: rule sga-1");
    }
}

#[test]
fn a_change_that_would_leave_the_policy_faulty_is_refused_whole() {
    let mut world = world(&["ingress IPv4 any group=peers"], &[]);
    let before = world.clone();
    let faults = world.apply(Event::Change(Change::RemoveGroup("peers".into()))).unwrap_err();
    assert!(faults.iter().any(|fault| fault.field == "remote_group_id"), "{faults:?}");
    assert_eq!(world, before);
}

#[test]
fn a_port_that_is_gone_leaves_nothing_behind() {
    let mut intent = intent(&["egress IPv4 tcp"], &["ingress IPv4 tcp"]);
    port_of(&mut intent, "b")["allowed_address_pairs"] = json!([{ "ip_address": "10.0.0.5" }]);
    let mut world = World::new(load(&intent), Switches::default());
    check(&mut world, "a", &across(), "b", "admit: rule sgb-0");
    change(&mut world, Change::RemovePort("a".into()));
    // `b` may use that address too, but the connection was not its own; the MAC is nobody's here any more.
    check(&mut world, "b", &return_(), "elsewhere", NO_RULE);
}
