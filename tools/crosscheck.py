"""crosscheck.py SOLVER SECONDS DIRECTORY: asks a second SMT solver each query below a directory.

A query says with `:status` what Z3 answered. Prints a table, a line a directory, and fails on any disagreement. The
solvers are Python modules of the environment that runs this: bitwuzla or cvc5, and Z3, which is timed beside it on the
same files. What is timed is the reading and the solving, in processor time.
"""

import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

# How each solver answers the file `path`.
PROGRAMS = {
    "bitwuzla": """
import bitwuzla
def solve(path):
    parser = bitwuzla.Parser(bitwuzla.TermManager(), bitwuzla.Options())
    if error := parser.parse(path, True, True):
        sys.exit(str(error))
    return parser.bitwuzla().check_sat()
""",
    "cvc5": """
import cvc5
def solve(path):
    solver = cvc5.Solver()
    parser = cvc5.InputParser(solver)
    parser.setFileInput(cvc5.InputLanguage.SMT_LIB_2_6, path)
    said = ""
    while not (command := parser.nextCommand()).isNull():
        said += command.invoke(solver, parser.getSymbolManager())
    return said.strip()
""",
    "z3": """
import z3
def solve(path):
    solver = z3.Solver()
    solver.set("rlimit", 100000000)
    solver.from_file(path)
    return solver.check()
""",
}
LOOP = """
for path in sys.argv[1:]:
    before = time.process_time()
    answer = str(solve(path)).split(".")[-1].lower()
    print(answer, time.process_time() - before, flush=True)
"""


def ask(solver, paths, seconds):
    """What the solver says of each file, and the processor time that it took; `unknown` where it does not finish."""
    told = []
    while len(told) < len(paths):
        rest = [str(path) for path in paths[len(told) :]]
        program = "import sys, time\n" + PROGRAMS[solver] + LOOP
        with subprocess.Popen(
            [sys.executable, "-c", program, *rest], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            lines = queue.Queue()
            threading.Thread(target=lambda: [lines.put(line) for line in process.stdout] + [lines.put(None)]).start()
            line = ""
            while line is not None and len(told) < len(paths):
                try:
                    line = lines.get(timeout=seconds)
                except queue.Empty:
                    told.append(("unknown", seconds))
                    break
                if line is None:
                    sys.exit(f"error: {solver} does not read {rest[0]} or one behind it: {process.stderr.read()[-300:]}")
                answer, took = line.split()
                if answer not in ("sat", "unsat", "unknown"):
                    sys.exit(f"error: {solver} says {answer} of {paths[len(told)]}")
                told.append((answer, float(took)))
            process.kill()
    return told


def expected(path):
    status = re.search(r"^\(set-info :status (\w+)\)$", path.read_text(), re.M)
    if not status:
        sys.exit(f"error: {path} does not say what Z3 answered")
    return status.group(1)


def judge(directory, solver, seconds):
    """One line of the table: queries, agreed, disagreed, not decided by one of the two, seconds of both."""
    paths = sorted(directory.glob("*.smt2"))
    theirs, ours = ask(solver, paths, seconds), ask("z3", paths, seconds)
    line = [len(paths), 0, 0, 0, sum(took for _, took in ours), sum(took for _, took in theirs)]
    for path, (answer, _) in zip(paths, theirs, strict=True):
        known = expected(path)
        place = 3 if "unknown" in (known, answer) else 1 if known == answer else 2
        line[place] += 1
        if place == 2:
            print(f"disagreed: {path.name} of {directory.name}: Z3 says {known}, {solver} {answer}")
            print(path.read_text())
    return line


def main():
    solver, seconds, root = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    print("| host | queries | agreed | disagreed | unknown | Z3, s | {}, s |".format(solver))
    print("|---|---|---|---|---|---|---|")
    total = [0, 0, 0, 0, 0.0, 0.0]
    show = "| {} | {} | {} | {} | {} | {:.1f} | {:.1f} |".format
    began = time.monotonic()
    for directory in sorted(path for path in root.iterdir() if path.is_dir()):
        line = judge(directory, solver, seconds)
        total = [a + b for a, b in zip(total, line, strict=True)]
        print(show(directory.name, *line), flush=True)
    print(show("all", *total))
    print(f"processor time, the reading included; {time.monotonic() - began:.0f} s in all", file=sys.stderr)
    if not total[0] or total[2]:
        sys.exit(1)


main()
