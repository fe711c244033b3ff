"""content.py -- for tests: a process that fills a heap as it is told (content.c)."""

import subprocess

import support
from support import MIB


class Content:
    """A process that fills a heap as it is told, and knows what is in it."""

    def __init__(self, test, path, conf=None, capacity=256 * MIB):
        arguments = [support.program("cli_content"), path, str(capacity)] + ([conf] if conf else [])
        self.test = test
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        test.addCleanup(self.end)
        self.pid = int(self.answer()[0])

    def answer(self):
        line = self.process.stdout.readline()
        self.test.assertTrue(line.startswith("ok"), line)
        return line.split()[1:]

    def tell(self, order):
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return self.answer()

    def report(self):
        names = "live live_bytes cached cached_bytes backed dirty chunks chunks_free".split()
        return dict(zip(names, map(int, self.tell("report"))))

    def end(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()


def fill(content):
    """Some of everything, with holes."""
    for order in ("alloc 64 20000", "alloc 500 4000", "alloc 3000 400", "alloc 10000 120",
                  "alloc 20000 40", "alloc 300000 12", "alloc 3000000 3", "alloc 5000000 2",
                  "free 64 2", "free 500 3", "free 20000 3", "free 300000 2", "free 5000000 2",
                  "flush", "purge", "free 10000 4", "free 3000 2", "alloc 100 2000"):
        content.tell(order)
