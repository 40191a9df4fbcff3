#!/usr/bin/env python3
"""Whether the installed driver writes what the corpus of a release says, intent by intent.

    check.py RELEASE [CASE…]

Flows are compared as sets: table, priority, match and actions, numbers in any spelling; cookies, timeouts and order do
not count. Identifiers of conjunctions are compared as they are. Flows of table 0 do not count: they are the agent's.
"""

import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
IGNORED = ("cookie", "hard_timeout", "idle_timeout")
# What no single intent describes: a port has come and gone.
HISTORIES = {"33_remove_ports"}


def number(text):
    try:
        return int(text, 0)
    except ValueError:
        return text


def flow(line):
    """A flow as a value that compares."""
    head, actions = re.split(r",\s*actions=|\s+actions=", line.strip(), maxsplit=1)
    fields = dict(part.partition("=")[::2] for part in head.split(","))
    table, priority = number(fields.pop("table", "0")), number(fields.pop("priority", "32768"))
    match = frozenset((name, number(value)) for name, value in fields.items() if name not in IGNORED)
    return table, priority, match, actions.replace("goto_table=", "goto_table:").lower()


def read(text):
    flows = {flow(line) for line in text.splitlines() if line.strip() and not line.startswith("#")}
    return {one for one in flows if one[0] != 0}


def made(intent):
    words = [sys.executable, "-W", "ignore", str(HERE / "flows.py"), str(intent)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def differs(release, case):
    """What is not the same, in words; none if nothing."""
    done = made(FIXTURES / "intents" / f"{case}.json")
    if done.returncode:
        return [done.stderr.strip().splitlines()[-1]]
    ours, theirs = read(done.stdout), read((FIXTURES / "corpus" / release / f"{case}.flows").read_text())
    return [f"- {line}" for line in shown(theirs - ours)] + [f"+ {line}" for line in shown(ours - theirs)]


def shown(flows):
    for table, priority, match, actions in flows:
        fields = ",".join(f"{name}={value}" for name, value in sorted(match, key=str))
        yield f"table={table},priority={priority},{fields} actions={actions}"


def main():
    release, *cases = sys.argv[1:]
    with_flows = {path.stem for path in (FIXTURES / "corpus" / release).glob("*.flows")}
    with_intent = {path.stem for path in (FIXTURES / "intents").glob("*.json")}
    failed = 0
    chosen = sorted(cases or with_flows & with_intent - HISTORIES)
    for case in chosen:
        found = differs(release, case)
        failed += bool(found)
        print(f"{case}: {'differs' if found else 'same'}", *found[:12], sep="\n    ")
    print(json.dumps({"release": release, "cases": len(chosen), "differ": failed}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
