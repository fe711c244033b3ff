"""cases.py -- what is measured: every line of every table, and how much of it in which mode.

A case is one command line of the driver, run once per round for each backend. The driver's sources
say what a workload does; here stand only its arguments.
"""

from dataclasses import dataclass

# In the order of the tables' columns. "bare" is no allocator at all.
BACKENDS = ["sharena", "jemalloc", "mimalloc", "tcmalloc", "glibc", "boost", "pmemobj", "bare"]
STATIC = ["sharena_static", "jemalloc_static", "tcmalloc_static"]  # of the table "static" alone
HEAP_FILES = ("sharena", "boost", "pmemobj")
SHARED = ("sharena", "boost", "bare")  # what many processes may have open
QUICK, FULL = 1, 2

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    table: str
    label: str
    args: tuple  # of the driver, in a full run
    smoke: tuple = None  # the same, as small as it can be; None: as it is
    quick: tuple = None  # in a quick run; None: as it is
    mode: int = FULL  # QUICK: part of a quick run, too
    backends: tuple = tuple(BACKENDS)
    rounds: int = 7  # at most

    def arguments(self, mode):
        chosen = {"smoke": self.smoke, "quick": self.quick}.get(mode) or self.args
        return [str(x) for x in chosen]


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    more_is_better: bool = False


TABLES = [
    Table("pair", "A block taken and given back at once, ns"),
    Table("static", "The same, where all are linked statically, ns"),
    Table("batch", "10 000 blocks taken, then given back in random order, ns for each"),
    Table("replace", "Random ones of 100 000 live blocks replaced, M/s", True),
    Table("share", "Between two workers, M/s", True),
    Table("workers", "Workers on one heap, 10 000 live blocks up to 8 KiB each, M/s in all", True),
    Table("exchange", "Two workers, blocks given back by the other one, M/s in all", True),
    Table("growth", "From an empty heap to 1 GiB and back, ns per page"),
    Table("touch", "First touch of memory that another process made, ns per page"),
    Table("life", "Threads and processes that allocate one block, us"),
    Table("cache", "Past the thread's cache: 64 blocks taken, given back, flushed; ns per block"),
    Table("scale", "Against the size of the heap, in blocks of 16 B"),
    Table("deaths", "After kill -9 of every process"),
    Table("fragmentation", "Six rounds of shifting sizes, MiB"),
]


def size_text(size):
    if size >= MIB:
        return f"{size // MIB} MiB"
    return f"{size // KIB} KiB" if size >= KIB else f"{size} B"


def size_cases():
    for size in (16, 64, 256, KIB, 8 * KIB, 64 * KIB, MIB, 4 * MIB):
        mode = QUICK if size in (64, KIB, 64 * KIB, 4 * MIB) else FULL
        yield Case("pair", size_text(size), ("pair", size), mode=mode)
    for size in (16, 64, KIB, 8 * KIB, 64 * KIB):
        yield Case("static", size_text(size), ("pair", size), backends=(*STATIC, "bare"))
    for size in (64, 512):
        yield Case("batch", size_text(size), ("batch", size, 10000), mode=QUICK)
    for most in (8 * KIB, 256 * KIB):
        for workers in (1, 2):
            label = f"up to {size_text(most)}" + (", two workers" if workers == 2 else "")
            yield Case("replace", label, ("replace", most, workers, 100000),
                       smoke=("replace", most, workers, 1000),
                       mode=QUICK if most == 8 * KIB else FULL)


def worker_cases():
    yield Case("share", "messages of 256 B", ("messages", 256), mode=QUICK)
    yield Case("share", "larson", ("larson", 2), mode=QUICK)
    for workers in (1, 2, 4, 8, 16, 32, 64):
        yield Case("workers", str(workers), ("replace", 8 * KIB, workers, 10000),
                   smoke=("replace", 8 * KIB, min(workers, 8), 100), rounds=3)
    for percent in (0, 25, 50, 75, 100):
        yield Case("exchange", f"{percent} %", ("exchange", percent), rounds=5)


def page_cases():
    # A pool of libpmemobj has all its memory from the beginning.
    growing = tuple(x for x in BACKENDS if x != "pmemobj")
    yield Case("growth", "", ("growth", 1024), smoke=("growth", 8), quick=("growth", 128),
               mode=QUICK, backends=growing, rounds=3)
    yield Case("touch", "", ("touch", 256), smoke=("touch", 8), backends=SHARED, rounds=5)
    yield Case("fragmentation", "", ("fragment", 440), smoke=("fragment", 4),
               backends=tuple(x for x in growing if x != "bare"), rounds=2)


def life_cases():
    yield Case("life", "", ("threads",))
    yield Case("life", "", ("processes",))
    cached = ("sharena", "jemalloc", "mimalloc", "tcmalloc")
    for size in (64, KIB):
        yield Case("cache", size_text(size), ("flushes", size), backends=cached)
    for power in range(4, 9):
        blocks = 10**power
        # The peers need up to ten times as long, and more memory, for each block.
        backends = HEAP_FILES[: 3 if power <= 6 else 2 if power == 7 else 1]
        yield Case("scale", f"10^{power}", ("scale", blocks), smoke=("scale", min(blocks, 10**4)),
                   quick=("scale", min(blocks, 10**6)), mode=QUICK if power in (4, 6) else FULL,
                   backends=backends, rounds=5 if power <= 6 else 3)
    for blocks in (1000, 100000):
        yield Case("deaths", f"{blocks} blocks", ("deaths", blocks, 4), smoke=("deaths", 100, 1),
                   mode=QUICK if blocks == 1000 else FULL, backends=HEAP_FILES, rounds=5)


CASES = [*size_cases(), *worker_cases(), *page_cases(), *life_cases()]
