"""A bridge that records flows instead of installing them, and answers what the driver asks of OVSDB."""

import collections
import contextlib

# What tells one flow from another besides its match, and what is not part of a match.
NO_MATCH = ("priority", "table", "cookie", "cookie_mask", "actions", "hard_timeout", "idle_timeout", "strict")

Vif = collections.namedtuple("Vif", "port_name ofport vif_id vif_mac switch")


def number(value):
    """A number in any spelling, or the text as it is."""
    try:
        return int(str(value), 0)
    except ValueError:
        return str(value)


class Bridge:
    """Flows by table, priority and match, as a switch keeps them: the last one added wins, deleting is not strict."""

    br_name = "br-int"
    is_hw_offload_enabled = False

    def __init__(self, ports):
        """`ports`: by name, a dict with `id`, `mac`, `ofport` and `other_config`; the last may be missing."""
        self.ports = ports
        self.flows = {}
        self.cookies = []
        self.default_cookie = 1

    # Flows.

    def add_flow(self, **flow):
        cookie = self.cookies[-1] if self.cookies else self.default_cookie
        flow.setdefault("cookie", cookie)
        flow.pop("flow_group_id", None)
        table, priority = int(flow.get("table", 0)), int(flow.get("priority", 32768))
        match = {name: value for name, value in flow.items() if name not in NO_MATCH}
        key = (table, priority, frozenset((name, number(value)) for name, value in match.items()))
        self.flows[key] = (table, priority, match, flow["actions"], flow["cookie"])

    def mod_flow(self, **flow):
        self.add_flow(**flow)

    def delete_flows(self, **wanted):
        table = wanted.get("table")
        match = {(name, number(value)) for name, value in wanted.items() if name not in NO_MATCH}
        cookie = self.wanted_cookie(wanted)
        strict = wanted.get("strict") or wanted.get("priority") is not None

        def goes(key, flow):
            same_table = table is None or key[0] == int(table)
            if strict:
                same = key[1] == int(wanted.get("priority", 32768)) and key[2] == match
            else:
                same = match <= key[2]
            return same_table and same and (cookie is None or number(flow[4]) == cookie)

        self.flows = {key: flow for key, flow in self.flows.items() if not goes(key, flow)}

    def wanted_cookie(self, wanted):
        """The cookie to delete by; none for any, which is written as `0/0`, as a mask of zero, or left out."""
        cookie = str(wanted.get("cookie", "0/0"))
        value, _, mask = cookie.partition("/")
        if mask and number(mask) == 0 or number(wanted.get("cookie_mask", -1)) == 0:
            return None
        # The driver's constant for any cookie is no number.
        return number(value) if isinstance(number(value), int) else None

    def request_cookie(self):
        self.cookies.append(1 + max([self.default_cookie, *self.cookies]))
        return self.cookies[-1]

    def unset_cookie(self, cookie):
        self.cookies.remove(cookie)

    def dump_flows_for_table(self, table):
        return "\n".join(self.lines(table))

    def dump_flows(self, table=None):
        del table
        return []

    def lines(self, table=None):
        """The flows as `ovs-ofctl add-flows` reads them, by table, in the order they were added."""
        for at, priority, match, actions, _ in sorted(self.flows.values(), key=lambda flow: flow[0]):
            if table is None or at == table:
                fields = "".join(f",{name}={value}" for name, value in match.items())
                yield f"table={at},priority={priority}{fields},actions={actions}"

    @contextlib.contextmanager
    def bulk(self):
        yield self

    # What the driver asks of it besides.

    def add_protocols(self, *_protocols):
        pass

    set_protocols = add_protocols

    def deferred(self, **_options):
        return Deferred(self)

    def vif(self, name):
        port = self.ports[name]
        return Vif(name, port["ofport"], port["id"], port["mac"], self)

    def get_vif_port_by_id(self, port_id):
        return self.get_vifs_by_ids([port_id]).get(port_id)

    def get_vifs_by_ids(self, port_ids):
        found = {port["id"]: self.vif(name) for name, port in self.ports.items() if port["id"]}
        return {port_id: found.get(port_id) for port_id in port_ids}

    def get_port_ofport(self, name):
        return self.ports[name]["ofport"] if name in self.ports else -1

    def get_port_name_list(self):
        return list(self.ports)

    def get_port_tag_by_name(self, name):
        return int(self.ports[name]["other_config"]["tag"])

    def db_get_val(self, _table, name, column, **_options):
        return self.ports.get(name, {}).get(column, {} if column == "other_config" else [])


class Deferred:
    """The same bridge, to a driver that wants to apply flows later."""

    def __init__(self, bridge):
        self.br = bridge
        self.waiting = []

    def add_flow(self, flow_group_id=None, **flow):
        del flow_group_id
        self.waiting.append((self.br.add_flow, dict(flow, cookie=flow.get("cookie", self.cookie()))))

    def mod_flow(self, **flow):
        self.add_flow(**flow)

    def delete_flows(self, **wanted):
        wanted.pop("flow_group_id", None)
        self.waiting.append((self.br.delete_flows, wanted))

    def cookie(self):
        return self.br.cookies[-1] if self.br.cookies else self.br.default_cookie

    def apply_flows(self):
        waiting, self.waiting = self.waiting, []
        for action, arguments in waiting:
            action(**arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.apply_flows()

    def __getattr__(self, name):
        return getattr(self.br, name)
