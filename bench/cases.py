"""cases.py -- what is measured: every line of every table, and how much of it in which mode.

A case is one command line of the driver, run once per round for each backend. The driver's sources say
what a workload does; here stand only its arguments.
"""

from dataclasses import dataclass

# In the order of the tables' columns. "bare" is no allocator at all.
BACKENDS = ["sharena", "jemalloc", "mimalloc", "tcmalloc", "glibc", "boost", "pmemobj", "bare"]
FILES = ["sharena", "boost", "pmemobj", "bare"]  # heaps in a file
SHARED = ["sharena", "boost", "bare"]  # those that many processes may have open
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


def small_cases():
    for size in (16, 64, 256, KIB, 8 * KIB, 64 * KIB, MIB, 4 * MIB):
        mode = QUICK if size in (64, KIB, 64 * KIB, 4 * MIB) else FULL
        yield Case("pair", size_text(size), ("pair", size), mode=mode)
    for size in (64, 512):
        yield Case("batch", size_text(size), ("batch", size, 10000), mode=QUICK)
    for most in (8 * KIB, 256 * KIB):
        yield Case("replace", f"up to {size_text(most)}", ("replace", most, 1, 100000),
                   smoke=("replace", most, 1, 1000), mode=QUICK)
        yield Case("replace", f"up to {size_text(most)}, two workers", ("replace", most, 2, 100000),
                   smoke=("replace", most, 2, 1000), mode=QUICK if most == 8 * KIB else FULL)


CASES = [*small_cases()]
