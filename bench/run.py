#!/usr/bin/env python3
"""run.py -- runs the cases with every backend that was built, and keeps what they report.

Within a round each case runs with all backends in turn, each time in a fresh process with a fresh
heap on tmpfs; then comes the next round. DIR/results.tsv has a line per value: round, table, case,
backend, name, value, unit. DIR/machine.json says where that was, and with which versions.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cases import BACKENDS, STATIC, CASES, QUICK, TABLES

NOT_APPLICABLE = 77  # also of this script, where there is too little space
HEAPS = "/dev/shm"
COLUMNS = ["round", "table", "case", "backend", "name", "value", "unit"]


@dataclass(frozen=True)
class Mode:
    rounds: int
    duration_ms: int  # of one measurement
    timeout_s: int  # of one run of the driver
    limit_s: int  # a round begins only if it would end before that
    space_gib: int  # that must be free in HEAPS


MODES = {
    "full": Mode(rounds=7, duration_ms=150, timeout_s=180, limit_s=1200, space_gib=4),
    "quick": Mode(rounds=3, duration_ms=40, timeout_s=30, limit_s=60, space_gib=2),
    "smoke": Mode(rounds=1, duration_ms=2, timeout_s=20, limit_s=3600, space_gib=1),
}


class Failure(Exception):
    pass


def available(bin_dir):
    """Backends that were built; says which were not."""
    wanted = BACKENDS + STATIC
    found = [x for x in wanted if (bin_dir / f"bench_{x}").is_file()]
    for missing in sorted(set(wanted) - set(found)):
        print(f"bench: {missing} is left out: it was not built, see what cmake says")
    return found


def measure(bin_dir, backend, case, mode_name):
    """Yields (name, value, unit) of one run of the driver; nothing where it makes no sense."""
    mode = MODES[mode_name]
    heap = f"{HEAPS}/sharena-bench-{os.getpid()}"
    command = [bin_dir / f"bench_{backend}", "--ms", str(mode.duration_ms), "--file", heap]
    if mode_name == "smoke":
        command.append("--verify")
    command += case.arguments(mode_name)
    text = " ".join(str(x) for x in command)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=mode.timeout_s,
                              check=False)
    except subprocess.TimeoutExpired:
        raise Failure(f"{text}: not done after {mode.timeout_s} s") from None
    finally:
        Path(heap).unlink(missing_ok=True)
    if done.returncode == NOT_APPLICABLE:
        return
    if done.returncode != 0 or not done.stdout:
        raise Failure(f"{text}: status {done.returncode}: {done.stderr.strip()}")
    for line in done.stdout.splitlines():
        name, value, unit = line.split("\t")
        yield name, float(value), unit


def describe(bin_dir, backends):
    """What the figures depend on besides the code."""

    def first_line(path, key):
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return next((x for x in lines if x.startswith(key)), ":").split(":", 1)[1].strip()

    def version(backend):
        command = [bin_dir / f"bench_{backend}", "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    memory_kib = int(first_line("/proc/meminfo", "MemTotal").split()[0])
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": first_line("/proc/cpuinfo", "model name") or platform.machine(),
        "processors": os.cpu_count(),
        "memory_gib": round(memory_kib / (1 << 20)),
        "system": f"Linux {platform.release()}",
        "versions": {x: version(x) for x in backends if x not in STATIC},
        "load_at_begin": round(os.getloadavg()[0], 1),
    }


def run_round(number, cases, args, backends, out):
    failures = 0
    for case in cases:
        if number >= case.rounds:
            continue
        for backend in (x for x in backends if x in case.backends):
            try:
                for name, value, unit in measure(args.bin, backend, case, args.mode):
                    print(number, case.table, case.label, backend, name, value, unit, sep="\t",
                          file=out)
                out.flush()
            except Failure as failure:
                print(f"bench: {failure}", file=sys.stderr)
                failures += 1
    return failures


def run_rounds(cases, args, backends, out):
    mode = MODES[args.mode]
    begin = time.monotonic()
    failures = 0
    for number in range(args.rounds or mode.rounds):
        round_begin = time.monotonic()
        failures += run_round(number, cases, args, backends, out)
        now = time.monotonic()
        print(f"bench: round {number + 1} took {now - round_begin:.0f} s", flush=True)
        # The first round has also what is run only once; it is no measure for those to come.
        if number > 0 and now - begin + (now - round_begin) > mode.limit_s:
            print(f"bench: no more rounds: {mode.limit_s} s are the limit")
            break
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=MODES, nargs="?", default="full")
    parser.add_argument("--bin", type=Path, required=True, help="where the bench_* programs are")
    parser.add_argument("--out", type=Path, required=True, help="directory for the results")
    parser.add_argument("--table", action="append", choices=[x.name for x in TABLES],
                        help="only the cases of this table; may be repeated")
    parser.add_argument("--rounds", type=int, help="other than the mode's")
    args = parser.parse_args()
    space_gib = MODES[args.mode].space_gib
    if shutil.disk_usage(HEAPS).free < space_gib << 30:
        print(f"bench: skipped: {HEAPS} has not {space_gib} GiB free")
        return NOT_APPLICABLE
    backends = available(args.bin)
    cases = [x for x in CASES if (args.mode != "quick" or x.mode == QUICK)
             and (not args.table or x.table in args.table)]
    args.out.mkdir(parents=True, exist_ok=True)
    machine = describe(args.bin, backends)
    (args.out / "machine.json").write_text(json.dumps(machine, indent=2) + "\n", encoding="utf-8")
    with (args.out / "results.tsv").open("w", encoding="utf-8") as out:
        print(*COLUMNS, sep="\t", file=out)
        failures = run_rounds(cases, args, backends, out)
    if failures > 0:
        print(f"bench: {failures} runs failed", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
