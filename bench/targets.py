"""targets.py -- what sharena is meant to reach, as ratios or values of one run: a table, no test.

Each target is a text, the figure, and what it may be at most or must be at least.
"""


def _ratio(value, other):
    return value / other if value is not None and other else None


class Figures:
    """Medians by table, row and backend; None where something was not measured."""

    def __init__(self, results):
        self.results = results

    def rows(self, table):
        return self.results.values.get(table, {})

    def ours(self, table, row):
        return self.results.median(table, row, "sharena")

    def against(self, table, row, *peers):
        """Ours divided by the peer's; of several peers, by the greatest."""
        medians = [self.results.median(table, row, x) for x in peers]
        known = [x for x in medians if x is not None]
        return _ratio(self.ours(table, row), max(known)) if known else None

    def greatest(self, table, word):
        """Of our medians in the rows whose name ends with the word."""
        known = [self.ours(table, x) for x in self.rows(table) if x.endswith(word)]
        return max((x for x in known if x is not None), default=None)

    def least(self, table, word):
        known = [self.ours(table, x) for x in self.rows(table) if x.endswith(word)]
        return min((x for x in known if x is not None), default=None)


AT_MOST, AT_LEAST = "at most", "at least"


def speed_targets(f):
    for size in ("16 B", "64 B", "256 B", "1 KiB"):
        figure = f.against("pair", size, "jemalloc")
        yield f"pair of {size}, of jemalloc's time", figure, AT_MOST, 0.65
    for size in ("16 B", "64 B", "1 KiB"):
        figure = _ratio(f.results.median("static", size, "sharena_static"),
                        f.results.median("static", size, "jemalloc_static"))
        yield f"pair of {size}, both linked statically, of jemalloc's time", figure, AT_MOST, 0.65
    figure = f.against("pair", "8 KiB", "tcmalloc")
    yield "pair of 8 KiB, of tcmalloc's time", figure, AT_MOST, 1
    for size in ("64 KiB", "1 MiB", "4 MiB"):
        yield f"pair of {size}, ns", f.ours("pair", size), AT_MOST, 60
    figure = f.against("batch", "64 B", "mimalloc")
    yield "batch of 64 B, of mimalloc's time", figure, AT_MOST, 1.2
    figure = f.against("batch", "512 B", "tcmalloc")
    yield "batch of 512 B, of tcmalloc's time", figure, AT_MOST, 1
    for most in ("up to 8 KiB", "up to 256 KiB"):
        figure = f.against("replace", most, "jemalloc", "mimalloc", "tcmalloc")
        yield f"replacement {most}, of the best private rate", figure, AT_LEAST, 1
        figure = _ratio(f.ours("replace", f"{most}, two workers"), f.ours("replace", most))
        yield f"replacement {most}, two processes, of one's rate", figure, AT_LEAST, 1.9
    figure = f.against("share", "messages of 256 B", "bare")
    yield "messages, of the rate of the bare ring", figure, AT_LEAST, 0.65
    yield "larson, of tcmalloc's rate", f.against("share", "larson", "tcmalloc"), AT_LEAST, 1


def heap_targets(f):
    yield "growth, of the kernel's time", f.against("growth", "take, ns", "bare"), AT_MOST, 1.1
    yield "open, in the slowest heap, us", f.greatest("scale", ", open, us"), AT_MOST, 200
    for blocks in ("1000 blocks", "100000 blocks"):
        figure = f.ours("deaths", f"{blocks}, usable, %")
        yield f"usable after kill -9, {blocks}, %", figure, AT_LEAST, 100
        parts = [f.ours("deaths", f"{blocks}, {x}, ms") for x in ("open", "first block")]
        figure = None if None in parts else sum(parts)
        yield f"open after kill -9 and first block, {blocks}, ms", figure, AT_MOST, 2
    figure = f.least("scale", "check, M blocks/s")
    yield "check, in the slowest heap, M blocks/s", figure, AT_LEAST, 20
    figure = f.ours("fragmentation", "the last peak: held for each that is in use")
    yield "held for each byte in use, at the last peak", figure, AT_MOST, 1.1
    figure = f.ours("fragmentation", "purged, 22 MiB in use: held, MiB")
    yield "held when purged, 22 MiB in use, MiB", figure, AT_MOST, 48
    figure = f.ours("fragmentation", "none left, purged, 0 MiB in use: held, MiB")
    yield "held when all is given back and purged, MiB", figure, AT_MOST, 2


def table_lines(results, number):
    yield "| target | | measured | |"
    yield "|---|---|---|---|"
    figures = Figures(results)
    for what, figure, bound, limit in (*speed_targets(figures), *heap_targets(figures)):
        if figure is not None:
            is_met = figure <= limit if bound == AT_MOST else figure >= limit
            state = "met" if is_met else "**missed**"
            yield f"| {what} | {bound} {limit} | {number(figure)} | {state} |"
