#!/usr/bin/env python3
"""mutants.py -- breaks the library, one store at a time, and shows that the crash tests notice.

    tests/crash/mutants.py                      every mutant; hours
    tests/crash/mutants.py --sample 40 --seed 1 some of them, evenly over all kinds and files
    tests/crash/mutants.py --only bin.c:120     those of a file, or of a line
    tests/crash/mutants.py --list               what there is

Kinds of mutants:

    J   journal_set() becomes shared_store(): the field changes, and the journal does not know
    C   a journal_commit() is dropped
    S   two stores that the code keeps in order change places
    L   a store of lock.c or slot.c is dropped

Each is compiled into crash_points, crash_steps and crash_storm, which run one after the other until
one of them fails. A mutant that all of them pass is a survivor: it is explained in mutants.md, or
the exit status is 1. mutants.md names a mutant as --list does, by its text, for lines move.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXPLAINED = Path(__file__).with_suffix(".md")
KINDS = "JSCL"
CC = os.environ.get("CC", "cc")
PATIENCE_S = 30  # beyond the time that a check was given: it hangs

# ---- what a program is made of; cmake/crash.cmake says the same ---------------------------------

FLAGS = ["-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-D_GNU_SOURCE", "-w"]
# With its assertions: a section that is left open is noticed at once, not only by another thread.
FAULT_POINTS = ["-DSHARENA_FAULT_POINTS", "-DSHARENA_DEBUG=1"]
TESTS = {
    "points": ["points*.c"],
    "steps": ["steps.c", "stage.c", "trace.c", "point.c", "scenarios_*.c"],
    "storm": ["storm*.c"],
}
LINK = {
    "points": ["-Wl,-z,now", "-Wl,--wrap=misuse_is_inherited"],
    "steps": ["-Wl,-z,now"],
    "storm": [],
}

# Scenarios of crash_points that pass through a file often; they come first, to save time.
SCENARIOS = {
    "bin": ["malloc_bin", "malloc_direct_bin", "free_full", "free_direct_last", "malloc_batch",
            "malloc_first", "malloc_nonfull", "flush_others"],
    "large": ["malloc_run_clean", "realloc_grow", "realloc_shrink", "free_direct", "malloc_to_miss",
              "realloc_blocked"],
    "huge": ["malloc_chunk_clean", "malloc_chunk_dirty", "realloc_to_huge", "realloc_grow",
             "realloc_shrink", "free_direct"],
    "chunk": ["malloc_chunk_new", "malloc_chunk_dirty", "free_joined", "free_chunk", "malloc_limit",
              "purge"],
    "arena": ["malloc_chunk_new", "malloc_run_clean", "malloc_run_dirty", "free_chunk", "purge",
              "malloc_first_ever", "change_arena"],
    "run": ["malloc_run_clean", "malloc_run_dirty", "free_direct_last", "free_chunk", "purge"],
    "tree": ["malloc_run_dirty", "malloc_chunk_dirty", "purge", "free_direct_last"],
    "backing": ["malloc_run_clean", "malloc_chunk_clean", "malloc_limit", "purge"],
    "tcache": ["flush", "free_full", "free_full_beside", "gc_step", "cache_off_on", "malloc_bin",
               "malloc_first_ever"],
    "publish": ["malloc_to_hit", "free_from", "free_from_full", "malloc_to_miss", "realloc_up"],
    "alloc": ["malloc_to_hit", "free_from", "malloc_batch", "free_batch"],
    "api": ["free_hit", "malloc_hit", "free_full"],
    "roots": ["root_new", "root_reused", "root_replace", "root_remove", "root_create", "root_create_fails"],
    "reap": ["reap", "thread_exit", "close"],
    "check": ["check"],
    "attach": ["create", "open_cold", "open_clean", "open_warm", "close"],
    "superblock": ["create", "open_cold", "open_clean"],
    "slot": ["thread_life", "thread_exit", "open_warm", "open_cold", "close", "reap"],
    "lock": ["malloc_bin", "reap", "check", "purge"],
    "thread": ["thread_life", "malloc_first_ever", "thread_exit"],
}


def run_quietly(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **more)


def compile_c(source, target, flags, tree):
    done = run_quietly([CC, *FLAGS, *flags, f"-I{ROOT / 'include'}", f"-I{tree}",
                        f"-I{ROOT / 'tests/crash'}", "-c", str(source), "-o", str(target)])
    return done.returncode == 0, done.stdout


# ---- mutants -------------------------------------------------------------------------------------

@dataclass
class Mutant:
    kind: str
    path: str  # from the root
    line: int
    function: str
    text: str  # what mutants.md names it by
    begin: int  # the source's characters [begin, end) become `new`
    end: int
    new: str

    def name(self):
        return f"{self.kind} {self.path} {self.function}: `{self.text}`"


COMMENT = re.compile(r"/\*.*?\*/", re.S)
FUNCTION = re.compile(r"^(?!#|\s|struct \w+ \{)[^;{}=]*?\b(\w+)\([^;{}]*?\)\s*\{$", re.M)
STORE = r"(?:journal_(?:set|record|commit|begin)|shared_(?:store(?:_release)?|publish|prepare|add)" \
        r"|publish_(?:begin|end))"
STATEMENT = re.compile(rf"[ ]*\b({STORE})\((?:[^;\"])*?\);\n")
ORDER = re.compile(r"[ ]*shared_order\(\);\n")
# These keep their place among the stores without a shared_order() beside them.
IN_ORDER = {"journal_record", "journal_begin", "shared_store_release", "shared_publish",
            "publish_begin", "publish_end", "shared_add"}
JOURNALED = {"journal_set"}
# Where the two stores do not stand side by side.
LITERAL = [
    ("S", "src/ipc/journal.c",
     """        restore(&dead->journal.entries[count - 1]);
        shared_order();
        count--;
        shared_store_release(&dead->journal.count, count);
""",
     """        count--;
        shared_store_release(&dead->journal.count, count);
        restore(&dead->journal.entries[count]);
""", "restore() after journal.count"),
]


def blank(match):
    """A comment as spaces, so that places stay; none of a line's end is left of one that ends it."""
    return re.sub(r"[^\n]", " ", match.group())


def shorten(text):
    return re.sub(r"\s+", " ", text).strip().rstrip(";").replace("( ", "(")


class Source:
    """One file: its text, the same without comments, and who is where."""

    def __init__(self, path):
        self.path = path
        self.text = (ROOT / path).read_text()
        # Trailing blanks stay within the statement before them, so lines end as STATEMENT expects.
        self.bare = COMMENT.sub(blank, self.text)
        self.functions = [(m.start(), m.group(1)) for m in FUNCTION.finditer(self.bare)]

    def mutant(self, kind, span, text, new):
        function = [name for start, name in self.functions if start <= span[0]]
        begin = span[0] + len(self.text[span[0]:]) - len(self.text[span[0]:].lstrip())
        line = self.text.count("\n", 0, begin) + 1
        return Mutant(kind, self.path, line, function[-1] if function else "-", text,
                      span[0], span[1], new)

    def journal_sets(self):
        for match in re.finditer(r"\bjournal_set\(\s*self,\s*", self.bare):
            end = self.bare.index(";", match.end())
            if match.start() > 0 and self.functions and match.start() > self.functions[0][0]:
                yield self.mutant("J", (match.start(), match.end()),
                                  shorten(self.bare[match.start():end]), "shared_store(")

    def commits(self):
        for match in re.finditer(r"\bjournal_commit\(self\);", self.bare):
            yield self.mutant("C", match.span(), "journal_commit(self)", ";")

    def stores(self):
        for match in re.finditer(r"\bshared_store(?:_release)?\([^;]*?\);", self.bare):
            yield self.mutant("L", match.span(), shorten(match.group()), ";")

    def swaps(self):
        """Stores in a row, with what orders them: each changes places with the next beyond it."""
        bare = re.sub(r" +\n", lambda m: "\n".rjust(len(m.group())), self.bare)
        row = []
        position = 0
        while position < len(bare):
            line = re.compile(r"[^\n]*\n?").match(bare, position)
            store = re.compile(STATEMENT.pattern.replace(r";\n", r";[ ]*\n")).match(bare, position)
            order = ORDER.match(bare, position)
            if store:
                row.append((store.group(1), store.span()))
                yield from self.swaps_with_last(row)
                position = store.end()
            elif order:
                row.append(("order", order.span()))
                position = order.end()
            else:
                if line.group().strip():
                    row = []
                position = line.end() if line.end() > position else len(bare)

    def swaps_with_last(self, row):
        later, later_span = row[-1]
        is_ordered = later in IN_ORDER or later == "journal_commit"
        for earlier, span in reversed(row[:-1]):
            if earlier == "order":
                is_ordered = True
                continue
            is_ordered = is_ordered or earlier in IN_ORDER or earlier == "journal_commit"
            if is_ordered and not {earlier, later} <= JOURNALED:
                text = self.text
                first, second = text[span[0]:span[1]], text[later_span[0]:later_span[1]]
                new = text[span[1]:later_span[0]] + second + first
                name = (f"{shorten(self.bare[span[0]:span[1]])}` after "
                        f"`{shorten(self.bare[later_span[0]:later_span[1]])}")
                yield self.mutant("S", (span[0], later_span[1]), name, new)
            if later in IN_ORDER or later == "journal_commit" or earlier == "journal_commit":
                return  # the nearest
            # Beyond another store the order is that one's business, but for those of one group.
            if row[-2][0] != "order":
                return


def find_mutants():
    found = []
    paths = [str(p.relative_to(ROOT)) for folder in ("src/ipc", "src/heap")
             for p in sorted((ROOT / folder).glob("*.[ch]"))]
    for path in paths:
        source = Source(path)
        if path != "src/ipc/journal.h":
            found += list(source.journal_sets())
        found += list(source.swaps())
        found += list(source.commits())
        if path in ("src/ipc/lock.c", "src/ipc/slot.c"):
            found += list(source.stores())
        for kind, where, old, new, text in LITERAL:
            if where == path:
                begin = source.text.index(old)
                found.append(source.mutant(kind, (begin, begin + len(old)), text, new))
    found.sort(key=lambda m: (KINDS.index(m.kind), m.path, m.begin))
    number_twins(found)
    return found


def number_twins(mutants):
    """The second of two that read alike gets a number."""
    seen = {}
    for mutant in mutants:
        count = seen[mutant.name()] = seen.get(mutant.name(), 0) + 1
        if count > 1:
            mutant.text += f" #{count}"


def read_explained():
    """{name: reason}; each heading of the file is a reason, and lists its mutants."""
    reasons = {}
    if EXPLAINED.exists():
        for section in re.split(r"^## ", EXPLAINED.read_text(), flags=re.M)[1:]:
            reason = section.splitlines()[0]
            reasons |= {name: reason for name in re.findall(r"^- (.+)$", section, re.M)}
    return reasons


# ---- building ------------------------------------------------------------------------------------

def includes_of(path, cache):
    """All headers below src/ that a source includes, also by others."""
    if path not in cache:
        cache[path] = set()
        for name in re.findall(r'#include "([^"]+)"', (ROOT / path).read_text()):
            if (ROOT / "src" / name).exists():
                cache[path] |= {f"src/{name}"} | includes_of(f"src/{name}", cache)
    return cache[path]


class Build:
    """The sound objects, compiled once; a mutant's replace those of what it changed."""

    def __init__(self, folder):
        self.folder = folder
        self.sources = [f"src/{d}/{p.name}" for d in ("ipc", "heap")
                        for p in sorted((ROOT / "src" / d).glob("*.c"))]
        cache = {}
        self.includes = {path: includes_of(path, cache) for path in self.sources}

    def library(self, name):
        return "points" if name == "points" else "plain"

    def object(self, folder, library, path):
        return folder / library / (path.replace("/", "_") + ".o")

    def prepare(self, jobs, checks):
        tasks = []
        for library in {self.library(name) for name in checks}:
            flags = FAULT_POINTS if library == "points" else []
            (self.folder / library).mkdir()
            tasks += [(ROOT / path, self.object(self.folder, library, path), flags)
                      for path in self.sources]
        for name in checks:
            (self.folder / name).mkdir(exist_ok=True)
            flags = FAULT_POINTS if name == "points" else []
            tasks += [(source, self.folder / name / f"test_{source.name}.o", flags)
                      for pattern in TESTS[name]
                      for source in (ROOT / "tests/crash").glob(pattern)]
        with ThreadPoolExecutor(jobs) as pool:
            for is_good, output in pool.map(lambda t: compile_c(*t, ROOT / "src"), tasks):
                if not is_good:
                    sys.exit(f"mutants.py: the sound library does not compile:\n{output}")

    def link(self, name, folder, changed):
        library = self.library(name)
        objects = [self.object(folder if path in changed else self.folder, library, path)
                   for path in self.sources]
        program = folder / f"crash_{name}"
        done = run_quietly([CC, "-o", str(program), *map(str, objects),
                            *map(str, (self.folder / name).glob("test_*.o")), *LINK[name],
                            "-lurcu-bp", "-lurcu-common", "-pthread"])
        return program if done.returncode == 0 else None

    def changed_by(self, path):
        return [p for p in self.sources if p == path or path in self.includes[p]]

    def mutate(self, mutant, folder):
        """The mutant's own tree of sources."""
        shutil.copytree(ROOT / "src", folder / "src")
        text = (ROOT / mutant.path).read_text()
        (folder / mutant.path).write_text(text[:mutant.begin] + mutant.new + text[mutant.end:])

    def program(self, name, folder, changed):
        """The path of the mutant's program, or None: it does not compile."""
        library = self.library(name)
        if not (folder / library).exists():
            (folder / library).mkdir()
            for path in changed:
                flags = FAULT_POINTS if name == "points" else []
                target = self.object(folder, library, path)
                if not compile_c(folder / path, target, flags, folder / "src")[0]:
                    return None
        return self.link(name, folder, changed)


# ---- checks --------------------------------------------------------------------------------------

def end_group(process):
    for number, patience_s in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience_s)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def remove_heaps(pid):
    for path in Path("/dev/shm").glob(f"sharena-*{pid}*"):
        if re.search(rf"\b{pid}\b", path.name):
            path.unlink(missing_ok=True)


def fails(command, seconds):
    """None if the check passed, else what noticed."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            status = process.wait(seconds + PATIENCE_S)
        except subprocess.TimeoutExpired:
            status = "timeout"
        end_group(process)
        remove_heaps(process.pid)
        if status == 0:
            return None
        output.seek(0)
        lines = [line for line in output.read().splitlines() if "FAIL" in line or "again" in line]
        return f"{status}: {lines[0].strip()[:110] if lines else ''}"


def checks_of(mutant, program_of, options):
    """(name, command, seconds) of each check, the likeliest first."""
    seconds = options.seconds
    if "points" in options.checks:
        points = [program_of("points"), "--jobs", "2", "--max-failures", "1", "--seed", "1"]
        for scenario in SCENARIOS.get(Path(mutant.path).stem, []) if mutant else []:
            share = max(1, seconds // 2)
            yield "points", [*points, "--seconds", str(share), "--scenario", scenario], share
        yield "points", [*points, "--seconds", str(seconds)], seconds
    if "steps" in options.checks:
        yield "steps", [program_of("steps"), "--jobs", "2", "--seconds", str(seconds)], seconds
    if "storm" in options.checks:
        yield "storm", [program_of("storm"), "--seconds", str(seconds), "--rounds", "1"], seconds


class DoesNotCompile(Exception):
    pass


def check(build, mutant, options):
    """(who noticed, how), or (None, "") for a survivor. `mutant` None: the sound library."""
    with tempfile.TemporaryDirectory(dir=build.folder) as name:
        folder = Path(name)
        changed = []
        if mutant:
            build.mutate(mutant, folder)
            changed = build.changed_by(mutant.path)

        programs = {}

        def program_of(name):
            if name not in programs:
                programs[name] = build.program(name, folder, changed)
            if programs[name] is None:
                raise DoesNotCompile
            return str(programs[name])

        for who, command, limit in checks_of(mutant, program_of, options):
            how = fails(command, limit)
            if how is not None:
                return who, how
    return None, ""


class Score:
    def __init__(self, explained):
        self.explained = explained
        self.lock = threading.Lock()
        self.counts = {kind: {} for kind in KINDS}
        self.unexplained = 0

    def add(self, mutant, verdict, how, seconds):
        reason = self.explained.get(mutant.name())
        if verdict is None:
            verdict = "explained" if reason else "SURVIVED"
            how = reason or ""
        with self.lock:
            counts = self.counts[mutant.kind]
            counts[verdict] = counts.get(verdict, 0) + 1
            self.unexplained += verdict == "SURVIVED"
            print(f"{verdict:9} {seconds:4.0f} s  {mutant.path}:{mutant.line} {mutant.name()}  {how}",
                  flush=True)

    def report(self):
        columns = ["points", "steps", "storm", "explained", "SURVIVED", "no build"]
        print(f"{'kind':4} {'run':>5} " + " ".join(f"{c:>9}" for c in columns))
        total = {}
        for kind in KINDS:
            self.report_line(kind, self.counts[kind], columns)
            for key, value in self.counts[kind].items():
                total[key] = total.get(key, 0) + value
        self.report_line("all", total, columns)
        noticed = sum(total.get(c, 0) for c in columns[:3])
        run = sum(total.values()) - total.get("no build", 0)
        if run:
            print(f"{noticed} of {run} noticed, {100 * noticed / run:.1f} %")

    @staticmethod
    def report_line(name, counts, columns):
        print(f"{name:4} {sum(counts.values()):5} "
              + " ".join(f"{counts.get(c, 0):9}" for c in columns))


def run_all(build, mutants, options):
    score = Score(read_explained())

    def one(mutant):
        begin = time.monotonic()
        if options.end is not None and begin > options.end:
            return
        try:
            verdict, how = check(build, mutant, options)
        except DoesNotCompile:
            verdict, how = "no build", ""
        score.add(mutant, verdict, how, time.monotonic() - begin)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, mutants))
    score.report()
    return 1 if score.unexplained else 0


# ---- options -------------------------------------------------------------------------------------

def choose(mutants, options):
    if options.only:
        mutants = [m for m in mutants
                   if any(f"/{m.path}:{m.line}:".endswith(f"/{only}:") or m.path.endswith(f"/{only}")
                          for only in options.only)]
    mutants = [m for m in mutants if m.kind in options.kinds]
    if options.sample and options.sample < len(mutants):
        step = len(mutants) / options.sample
        start = random.Random(options.seed).random() * step
        mutants = [mutants[int(start + i * step)] for i in range(options.sample)]
    return mutants


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    parser.add_argument("--only", metavar="FILE[:LINE]", action="append", help="repeatable")
    parser.add_argument("--kinds", default=KINDS, help=f"some of {KINDS}")
    parser.add_argument("--seconds", type=int, default=8, help="per check")
    parser.add_argument("--checks", default=",".join(TESTS), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--sample", type=int, metavar="N", help="only N of them")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--minutes", type=float, help="start no mutant after that")
    options = parser.parse_args()
    options.checks = options.checks.split(",")
    if not set(options.checks) <= set(TESTS):
        parser.error(f"--checks: some of {', '.join(TESTS)}")
    return options


def main():
    options = parse_options()
    mutants = choose(find_mutants(), options)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.path}:{mutant.line} {mutant.name()}")
        print(", ".join(f"{kind} {sum(m.kind == kind for m in mutants)}" for kind in KINDS),
              f"-- {len(mutants)} mutants")
        return 0
    options.end = time.monotonic() + 60 * options.minutes if options.minutes else None
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        build = Build(Path(folder))
        build.prepare(options.jobs, options.checks)
        who, how = check(build, None, options)
        if who:
            sys.exit(f"mutants.py: crash_{who} fails without a mutant: {how}")
        print(f"{len(mutants)} mutants; the sound library passes", flush=True)
        return run_all(build, mutants, options)


if __name__ == "__main__":
    sys.exit(main())
