#!/usr/bin/env python3
"""report.py -- makes tables and plots of what run.py kept.

A cell is the median of the rounds, in brackets the lowest and the highest, and how many times
sharena's median that is. With --doc the tables replace what stands in that file between
`<!-- begin NAME -->` and `<!-- end NAME -->`, and the plots go to the folder plots/ beside it;
without, the tables go to the terminal.
"""

import argparse
import csv
import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import plots
import targets
from cases import BACKENDS, STATIC, TABLES


def unit_text(unit):
    return "" if unit == "1" else f", {unit}"


class Results:
    """values[table][row][backend] is the list of a row's values; rows and units in order."""

    def __init__(self, path):
        self.values = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        names = defaultdict(set)
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t"))
        for line in lines:
            names[line["table"]].add(line["name"])
        for line in lines:
            row = line["case"]
            if len(names[line["table"]]) > 1:
                row += f"{', ' if row else ''}{line['name']}{unit_text(line['unit'])}"
            self.values[line["table"]][row][line["backend"]].append(float(line["value"]))

    def median(self, table, row, backend):
        values = self.values.get(table, {}).get(row, {}).get(backend)
        return statistics.median(values) if values else None


def number(value):
    """Three digits or so."""
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}" \
        if size >= 0.1 else f"{value:.1g}"


def cell(values, ours):
    if not values:
        return ""
    median = statistics.median(values)
    text = f"**{number(median)}**"
    if len(values) > 1:
        text += f" [{number(min(values))}–{number(max(values))}]"
    if ours and median > 0:
        text += f" {number(median / ours)}×"
    return text


def table_lines(results, table):
    rows = results.values[table.name]
    backends = [x for x in STATIC + BACKENDS if any(x in row for row in rows.values())]
    first = backends[0]
    yield f"| | {' | '.join(backends)} |"
    yield "|---|" + "---|" * len(backends)
    for row, by_backend in rows.items():
        ours = results.median(table.name, row, first)
        cells = [cell(by_backend.get(x), ours if x != first else None) for x in backends]
        yield f"| {row} | {' | '.join(cells)} |"


def machine_lines(machine, rounds):
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    yield (f"{machine['processor']}, {machine['processors']} processors, "
           f"{machine['memory_gib']} GiB, {machine['system']}; {machine['date']}; {rounds} rounds; "
           f"load at the beginning {machine['load_at_begin']}.")
    yield f"Versions: {versions}."
    if machine["load_at_begin"] > machine["processors"] / 2:
        yield ("**The machine was busy with other things**: figures of several workers, threads and "
               "processes say little.")


def replace_between(text, name, lines):
    pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"report: the document has no place for {name}")
    return pattern.sub(lambda x: x[1] + "".join(f"{line}\n" for line in lines) + x[2], text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="the directory that run.py wrote")
    parser.add_argument("--doc", type=Path, help="the document to put the tables into")
    args = parser.parse_args()
    results = Results(args.results / "results.tsv")
    machine = json.loads((args.results / "machine.json").read_text(encoding="utf-8"))
    rounds = max((len(v) for table in results.values.values() for row in table.values()
                  for v in row.values()), default=0)
    parts = {"machine": list(machine_lines(machine, rounds))}
    tables = [x for x in TABLES if x.name in results.values]
    parts |= {x.name: list(table_lines(results, x)) for x in tables}
    parts["targets"] = list(targets.table_lines(results, number))
    if args.doc is None:
        for table in tables:
            print(f"\n{table.title}{' (more is better)' if table.more_is_better else ''}\n")
            print("\n".join(parts[table.name]))
        print("", *parts["targets"], "", *parts["machine"], sep="\n")
        return 0
    text = args.doc.read_text(encoding="utf-8")
    for name, lines in parts.items():
        text = replace_between(text, name, lines)
    args.doc.write_text(text, encoding="utf-8")
    plots.draw(results, args.doc.parent / "plots")
    return 0


if __name__ == "__main__":
    sys.exit(main())
