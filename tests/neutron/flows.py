#!/usr/bin/env python3
"""Neutron's own OVSFirewallDriver, asked for the flows of an intent.

    flows.py INTENT.json [--output FILE]

runs the driver of the Neutron that is installed beside this Python against a bridge that records what it is told, and
writes what `ovs-ofctl add-flows` reads: the driver's flows, and those few of the agent's that lead to them.
`make neutron-flows INTENT=…` installs a Neutron first.
"""

import argparse
import importlib
import ipaddress
import json
import sys
from unittest import mock

from bridge import Bridge

# Names for the uplinks' ports, as the agent would have them.
TUNNEL_PATCH = "patch-tun"


def version(address):
    return ipaddress.ip_network(address, strict=False).version


class Host:
    """An intent, as the driver is to be told of it."""

    def __init__(self, intent):
        host = intent["host"]
        self.options = host.get("options", {})
        self.uplinks = host.get("uplinks", [])
        self.networks = {network["id"]: network for network in intent["networks"]}
        self.groups = intent["security_groups"]
        self.address_groups = intent.get("address_groups", [])
        self.all_ports = intent["ports"]
        bindings = {binding["port_id"]: binding for binding in host["bindings"]}
        # In the order of their bindings: the driver numbers conjunctions as they come.
        ports = {port["id"]: port for port in intent["ports"]}
        self.local = [(ports[port_id], binding) for port_id, binding in bindings.items()]

    def mappings(self):
        """Physical networks and the names of their bridges."""
        uplinks = [uplink for uplink in self.uplinks if uplink.get("physical_network")]
        return {uplink["physical_network"]: f"br-{uplink['physical_network']}" for uplink in uplinks}

    def ovsdb(self):
        """The ports of the bridge by name."""
        ports = {}
        for port, binding in self.local:
            network = self.networks[port["network_id"]]
            config = {"tag": str(binding["vlan"])}
            for key in ("network_type", "segmentation_id", "physical_network"):
                value = network.get(f"provider:{key}")
                if value is not None:
                    config[key] = str(value)
            ports[f"tap{port['id'][:11]}"] = {
                "id": port["id"],
                "mac": port["mac_address"],
                "ofport": binding["ofport"],
                "other_config": config,
            }
        for uplink in self.uplinks:
            name = TUNNEL_PATCH
            if uplink.get("physical_network"):
                name = f"int-{self.mappings()[uplink['physical_network']]}"
            ports[name] = {"id": None, "mac": None, "ofport": uplink["ofport"]}
        return ports

    def rules(self, group):
        """The rules of a group as the agent hands them to the driver."""
        told = []
        for rule in group.get("security_group_rules", []):
            names = ("direction", "ethertype", "protocol", "port_range_min", "port_range_max")
            names += ("remote_group_id", "remote_address_group_id")
            one = {name: rule[name] for name in names if rule.get(name) is not None}
            prefix = rule.get("normalized_cidr") or rule.get("remote_ip_prefix")
            if prefix:
                # The API clears the host's bits before the agent sees them.
                prefix = str(ipaddress.ip_network(prefix, strict=False))
                one["source_ip_prefix" if rule["direction"] == "ingress" else "dest_ip_prefix"] = prefix
            told.append(dict(one, security_group_id=group["id"], stateful=group.get("stateful", True)))
        return told

    def remote_groups(self):
        rules = [rule for group in self.groups for rule in group.get("security_group_rules", [])]
        return {rule.get("remote_group_id") for rule in rules}, {rule.get("remote_address_group_id") for rule in rules}

    def members(self, group_id):
        """By family, the addresses of a group with the MACs they belong to."""
        members = {"IPv4": [], "IPv6": []}
        for port in self.all_ports:
            if group_id not in port["security_groups"]:
                continue
            addresses = [(ip["ip_address"], port["mac_address"]) for ip in port["fixed_ips"]]
            pairs = port.get("allowed_address_pairs", [])
            addresses += [(pair["ip_address"], pair.get("mac_address", port["mac_address"])) for pair in pairs]
            for address, mac in addresses:
                members[f"IPv{version(address)}"].append((address, mac))
        return members

    def port(self, port):
        """A port as the agent hands it to the driver."""
        pairs = [
            {"ip_address": pair["ip_address"], "mac_address": pair.get("mac_address", port["mac_address"])}
            for pair in port.get("allowed_address_pairs", [])
        ]
        return dict(
            port,
            device=port["id"],
            fixed_ips=[ip["ip_address"] for ip in port["fixed_ips"]],
            allowed_address_pairs=pairs,
            security_group_source_groups=[],
            security_group_rules=[],
        )


def constants():
    """The numbers of the tables, which have moved from Neutron to its library."""
    for name in (
        "neutron_lib.plugins.ml2.ovs_constants",
        "neutron.plugins.ml2.drivers.openvswitch.agent.common.constants",
    ):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    sys.exit("this Neutron has no table numbers")


def agent_flows(bridge, host):
    """What the agent itself installs, as far as it leads to the driver's tables."""
    tables = constants()
    names = ("PACKET_RATE_LIMIT", "BANDWIDTH_RATE_LIMIT", "TRANSIENT_TABLE")
    chain = sorted(getattr(tables, name) for name in names if hasattr(tables, name))
    ahead = dict(zip([0, *chain], [f"goto_table:{table}" for table in chain]))
    onward = ahead.get(0, "NORMAL")
    if chain:
        bridge.add_flow(table=0, priority=65535, dl_vlan=4095, actions="drop")
    for table, actions in ahead.items():
        bridge.add_flow(table=table, priority=0, actions=actions)
    if not chain:
        bridge.add_flow(table=0, priority=0, actions="NORMAL")
    vlans = {port["network_id"]: binding["vlan"] for port, binding in host.local}
    for uplink in host.uplinks:
        if not uplink.get("physical_network"):
            continue
        bridge.add_flow(table=0, priority=2, in_port=uplink["ofport"], actions="drop")
        for network in host.networks.values():
            if network.get("provider:physical_network") != uplink["physical_network"] or network["id"] not in vlans:
                continue
            segment, vlan = network.get("provider:segmentation_id"), vlans[network["id"]]
            tag = f"set_field:{4096 | vlan}->vlan_vid" if chain else f"mod_vlan_vid:{vlan}"
            matched = {"dl_vlan": segment}
            if segment is None:
                matched, tag = {"vlan_tci": "0x0000/0x1fff"}, f"push_vlan:0x8100,{tag}" if chain else tag
            bridge.add_flow(
                table=0, priority=3, in_port=uplink["ofport"], **matched, actions=f"{tag},{onward}"
            )
    for name, actions in (
        ("CANARY_TABLE", "drop"),
        ("ARP_SPOOF_TABLE", "drop"),
        ("LOCAL_EGRESS_TABLE", onward),
        ("LOCAL_IP_TABLE", onward),
    ):
        if hasattr(tables, name):
            bridge.add_flow(table=getattr(tables, name), priority=0, actions=actions.replace("NORMAL", "drop"))
    if chain:
        bridge.add_flow(table=chain[-1], priority=1, actions="NORMAL")
        if hasattr(tables, "TRANSIENT_EGRESS_TABLE"):
            bridge.add_flow(table=tables.TRANSIENT_EGRESS_TABLE, priority=3, actions="NORMAL")


def configure(host):
    from oslo_config import cfg

    for module, function in (
        ("neutron.conf.agent.securitygroups_rpc", "register_securitygroups_opts"),
        ("neutron.conf.plugins.ml2.drivers.ovs_conf", "register_ovs_agent_opts"),
    ):
        getattr(importlib.import_module(module), function)(cfg.CONF)
    cfg.CONF([], project="neutron")
    mappings = [f"{network}:{name}" for network, name in host.mappings().items()]
    for name, value, group in (
        ("permitted_ethertypes", host.options.get("permitted_ethertypes", []), "SECURITYGROUP"),
        ("explicitly_egress_direct", host.options.get("explicitly_egress_direct", False), "AGENT"),
        ("bridge_mappings", mappings, "OVS"),
        ("int_peer_patch_port", TUNNEL_PATCH, "OVS"),
    ):
        try:
            cfg.CONF.set_override(name, value, group)
        except cfg.NoSuchOptError:
            if value and name != "bridge_mappings":
                sys.exit(f"this Neutron has no option {name}")


def drive(intent):
    """The bridge after the driver has been told of everything in the intent."""
    host = Host(intent)
    configure(host)
    module = importlib.import_module("neutron.agent.linux.openvswitch_firewall.firewall")
    bridge = Bridge(host.ovsdb())
    agent_flows(bridge, host)
    with mock.patch.object(module, "iptables"), mock.patch.object(module, "ip_conntrack"):
        driver = module.OVSFirewallDriver(bridge)
        tell(driver, host)
    return bridge


def tell(driver, host):
    filtered = [port for port, _ in host.local if not port.get("device_owner", "").startswith("network:")]
    trusted = [port["id"] for port, _ in host.local if port.get("device_owner", "").startswith("network:")]
    groups, address_groups = host.remote_groups()
    with driver.defer_apply():
        for group in host.groups:
            driver.update_security_group_rules(group["id"], host.rules(group))
        for group in host.groups:
            if group["id"] in groups:
                driver.update_security_group_members(group["id"], host.members(group["id"]))
        for group in host.address_groups:
            if group["id"] in address_groups:
                members = {"IPv4": [], "IPv6": []}
                for address in group["addresses"]:
                    members[f"IPv{version(address)}"].append((address, None))
                driver.update_security_group_members(group["id"], members)
        for port in filtered:
            driver.prepare_port_filter(host.port(port))
        if trusted and hasattr(driver, "process_trusted_ports"):
            driver.process_trusted_ports(trusted)


def main():
    parser = argparse.ArgumentParser(description="the flows that Neutron's own driver writes for an intent")
    parser.add_argument("intent", help="the intent, as JSON")
    parser.add_argument("--output", help="write here instead of to standard output")
    options = parser.parse_args()
    with open(options.intent, encoding="utf-8") as file:
        intent = json.load(file)
    text = "".join(f"{line}\n" for line in drive(intent).lines())
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
