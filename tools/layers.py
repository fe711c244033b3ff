#!/usr/bin/env python3
"""layers.py -- checks what a compiler does not: who may include whom, sizes, and that tests exist.

Run from anywhere; prints one line per finding and exits with 1 if there are any. LAYERS below is the
architecture: a new file is entered there first.
"""

import re
import sys
from pathlib import Path

# {folder: {layer: [file stems]}}: a file may include headers of its own layer or a lower one.
LAYERS = {
    "ipc": {
        0: ["cancel", "check", "errors", "faultpoint", "shared", "layout", "conf"],
        1: ["file"],
        2: ["superblock", "mapping"],
        4: ["token"],
        5: ["registry"],
        6: ["journal"],
        7: ["lock"],
        8: ["slot", "thread"],
        9: ["forking"],
    },
    "heap": {
        0: ["layout", "offsets", "prof_layout", "tcache_layout", "geometry", "sizeclass"],
        1: ["tree", "locate", "fill", "hooks"],
        2: ["backing", "decay", "misuse"],
        3: ["chunk", "run", "prof_samples", "prof_modules"],
        4: ["arena"],
        5: ["bin", "large"],
        6: ["huge"],
        7: ["tcache"],
        8: ["publish", "quarantine"],
        9: ["purge", "reap", "audit", "audit_counts", "audit_slots", "audit_prof", "verify", "prof",
            "watch"],
        10: ["heap", "attach", "background", "alloc", "roots", "check", "census", "ctl", "ctl_arena",
             "ctl_names", "ctl_stats", "processes", "stats", "stats_json", "stats_text"],
        11: ["api", "care"],
    },
    "cli": {
        0: ["cli", "args", "print", "commands", "copy", "holders", "shield", "symbols",
            "map_walk", "top_sample"],
        1: ["guardian", "stop", "map_cells", "map_draw", "map_text", "map_svg", "map_html",
            "map_json", "top_view", "top_lines", "top_json", "top_screen", "prof_read"],
        2: ["prof_formats", "create", "info", "check", "ps", "ls", "map", "reap", "snapshot",
            "stats", "top", "rm"],
        3: ["prof"],
        4: ["main"],
    },
}

# {folder: folders whose headers its files may include}
FOLDERS = {"ipc": ["ipc"], "heap": ["heap", "ipc"], "cli": ["cli", "heap", "ipc"]}

# These are tested from outside, as programs: tests/cli.
PROGRAMS = ["cli"]

# The one file that may include liburcu's headers.
URCU_FILE = "src/ipc/registry.c"

# {source below src/: the reason why it has no test of its own}
UNTESTED = {}

COLUMNS_MAX = 100
LINES_MAX = {".c": 600, ".h": 250}
FUNCTION_LINES_MAX = 70

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
# A definition as clang-format leaves it: begins in column 0, its body's brace ends the line.
NOT_A_FUNCTION = re.compile(r"^(?:typedef\s+)?(?:struct|union|enum)\s*\w*\s*\{$|^extern \"C\"|=\s*\{$")
LABEL = re.compile(r"^\w+:$")

findings = []


def report(path, line, text):
    where = path.relative_to(ROOT)
    findings.append(f"{where}:{line}: {text}" if line else f"{where}: {text}")


def layer_of(folder, stem):
    for layer, stems in LAYERS[folder].items():
        if stem in stems:
            return layer
    return None


def check_quoted_include(path, line, name):
    folder = path.parent.name
    if name == "sharena/sharena.h":
        return
    target = SOURCE / name
    if not target.is_file():
        report(path, line, f'"{name}" does not exist below src/')
        return
    other = name.split("/")[0]
    if name.count("/") != 1 or other not in FOLDERS[folder]:
        allowed = ", ".join(f"{x}/" for x in FOLDERS[folder])
        report(path, line, f'a file in {folder}/ may not include "{name}": only {allowed}')
        return
    if other == folder:
        own, its = layer_of(folder, path.stem), layer_of(other, target.stem)
        if own is not None and its is not None and its > own:
            report(path, line, f'"{name}" is of layer {its}, this file of layer {own}')


def check_includes(path, lines):
    for number, text in enumerate(lines, 1):
        match = INCLUDE.match(text)
        if not match:
            continue
        name = match[1] or match[2]
        if name.endswith(".c"):
            report(path, number, f"includes a source file, {name}")
        elif match[1]:
            check_quoted_include(path, number, name)
        elif name.split("/")[0] in FOLDERS:
            report(path, number, f'<{name}> is ours: write "{name}"')
        elif name.startswith("urcu") and path != ROOT / URCU_FILE:
            report(path, number, f"<{name}>: only {URCU_FILE} may include liburcu")


def check_layer_table(path):
    folder = path.parent.name
    if layer_of(folder, path.stem) is None:
        report(path, 0, f'"{path.stem}" is in no layer of {folder}: add it to LAYERS in tools/layers.py')


def functions(lines):
    """Yields (line number, name, length) of every function definition."""
    begin = None
    for number, text in enumerate(lines, 1):
        if re.match(r"^[A-Za-z_]", text) and not LABEL.match(text):
            begin = number
        if text == "}" and begin is not None:
            head = " ".join(x.strip() for x in lines[begin - 1 : number])
            head = head.split("{")[0] + "{"
            if "(" in head and not NOT_A_FUNCTION.search(head):
                found = re.search(r"(\w+)\s*\(", head)
                yield begin, found[1] if found else "?", number - begin + 1
            begin = None


def check_sizes(path, lines):
    limit = LINES_MAX[path.suffix]
    if len(lines) > limit:
        report(path, 0, f"{len(lines)} lines; at most {limit}")
    for number, text in enumerate(lines, 1):
        if len(text) > COLUMNS_MAX:
            report(path, number, f"{len(text)} columns; at most {COLUMNS_MAX}")
        if "\t" in text:
            report(path, number, "a tab; indent with 4 spaces")
    for number, name, length in functions(lines):
        if length > FUNCTION_LINES_MAX:
            report(path, number, f"{name}() has {length} lines; at most {FUNCTION_LINES_MAX}")


def check_test_exists(path):
    """src/DIR/X.c has tests/unit/test_X.c, or test_DIR_X.c where two folders have an X.c."""
    name = path.relative_to(SOURCE).as_posix()
    if path.parent.name in PROGRAMS:
        return
    is_unique = sum(x.parent.name not in PROGRAMS for x in SOURCE.glob(f"*/{path.name}")) == 1
    stem = path.stem if is_unique else f"{path.parent.name}_{path.stem}"
    test = ROOT / "tests" / "unit" / f"test_{stem}.c"
    if name in UNTESTED:
        if test.is_file():
            report(path, 0, f"is listed as UNTESTED, but {test.relative_to(ROOT)} exists")
    elif not test.is_file():
        report(path, 0, f"has no test: {test.relative_to(ROOT)} is missing")


def check_table_is_current():
    """No entry of the tables without a file."""
    for folder, layers in LAYERS.items():
        for stems in layers.values():
            for stem in stems:
                if not any((SOURCE / folder / f"{stem}{x}").is_file() for x in (".c", ".h")):
                    findings.append(f"tools/layers.py: LAYERS names {folder}/{stem}, which does not exist")
    for name in UNTESTED:
        if not (SOURCE / name).is_file():
            findings.append(f"tools/layers.py: UNTESTED names {name}, which does not exist")


def main():
    paths = sorted(x for x in SOURCE.rglob("*") if x.is_file())
    for path in paths:
        if path.suffix not in LINES_MAX:
            report(path, 0, "only .c and .h files belong below src/")
            continue
        if path.parent.parent != SOURCE or path.parent.name not in FOLDERS:
            report(path, 0, f"belongs into one of: {', '.join(f'src/{x}/' for x in FOLDERS)}")
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        check_layer_table(path)
        check_includes(path, lines)
        check_sizes(path, lines)
        if path.suffix == ".c":
            check_test_exists(path)
    check_table_is_current()
    for finding in findings:
        print(finding)
    print(f"layers: {len(paths)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
