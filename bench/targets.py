"""targets.py -- what sharena is meant to reach, as ratios or values of one run; a table, and no test.

Each target is a text, the figure, and what it may be at most or must be at least.
"""


def _ratio(value, other):
    return value / other if value is not None and other else None


class Figures:
    """Medians by table, row and backend; None where something was not measured."""

    def __init__(self, results):
        self.results = results

    def ours(self, table, row):
        return self.results.median(table, row, "sharena")

    def against(self, table, row, *peers):
        """Ours divided by the peer's; of several peers, by the greatest."""
        medians = [self.results.median(table, row, x) for x in peers]
        known = [x for x in medians if x is not None]
        return _ratio(self.ours(table, row), max(known)) if known else None

    def greatest(self, table, word):
        """Of our medians in the rows whose name ends with the word."""
        known = [self.ours(table, x) for x in self.results.values[table] if x.endswith(word)]
        return max((x for x in known if x is not None), default=None)

    def least(self, table, word):
        known = [self.ours(table, x) for x in self.results.values[table] if x.endswith(word)]
        return min((x for x in known if x is not None), default=None)


def figures(results):
    """Yields (what, figure or None, "at most" or "at least", limit)."""
    f = Figures(results)
    for size in ("16 B", "64 B", "256 B", "1 KiB"):
        yield f"pair of {size}, of jemalloc's time", f.against("pair", size, "jemalloc"), "at most", 0.65
    yield "pair of 8 KiB, of tcmalloc's time", f.against("pair", "8 KiB", "tcmalloc"), "at most", 1
    for size in ("64 KiB", "1 MiB", "4 MiB"):
        yield f"pair of {size}, ns", f.ours("pair", size), "at most", 60
    yield "batch of 64 B, of mimalloc's time", f.against("batch", "64 B", "mimalloc"), "at most", 1.2
    yield "batch of 512 B, of tcmalloc's time", f.against("batch", "512 B", "tcmalloc"), "at most", 1
    for most in ("up to 8 KiB", "up to 256 KiB"):
        yield (f"replacement {most}, of the best private rate",
               f.against("replace", most, "jemalloc", "mimalloc", "tcmalloc"), "at least", 1)
        yield (f"replacement {most}, two processes, of one's rate",
               _ratio(f.ours("replace", f"{most}, two workers"), f.ours("replace", most)),
               "at least", 1.9)
    yield ("messages, of the rate of the bare ring", f.against("share", "messages of 256 B", "bare"),
           "at least", 0.65)
    yield "larson, of tcmalloc's rate", f.against("share", "larson", "tcmalloc"), "at least", 1
    yield "growth, of the kernel's time", f.against("growth", "take, ns", "bare"), "at most", 1.1
    yield "open, in the slowest heap, us", f.greatest("scale", ", open, us"), "at most", 200
    for blocks in ("1000 blocks", "100000 blocks"):
        yield f"usable after kill -9, {blocks}, %", f.ours("deaths", f"{blocks}, usable, %"), "at least", 100
        parts = [f.ours("deaths", f"{blocks}, {x}, ms") for x in ("open", "first block")]
        yield (f"open after kill -9 and first block, {blocks}, ms",
               None if None in parts else sum(parts), "at most", 2)
    yield ("check, in the slowest heap, M blocks/s", f.least("scale", "check, M blocks/s"),
           "at least", 20)
    yield ("held for each byte in use, at the last peak",
           f.ours("fragmentation", "the last peak: held for each that is in use"), "at most", 1.1)
    yield ("held when purged, 22 MiB in use, MiB",
           f.ours("fragmentation", "purged, 22 MiB in use: held, MiB"), "at most", 48)
    yield ("held when all is given back and purged, MiB",
           f.ours("fragmentation", "none left, purged, 0 MiB in use: held, MiB"), "at most", 2)


def table_lines(results, number):
    yield "| target | | measured | |"
    yield "|---|---|---|---|"
    for what, figure, bound, limit in figures(results):
        if figure is not None:
            is_met = figure <= limit if bound == "at most" else figure >= limit
            yield f"| {what} | {bound} {limit} | {number(figure)} | {'met' if is_met else '**missed**'} |"
