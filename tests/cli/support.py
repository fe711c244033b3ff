"""support.py -- for the tests of the command: runs it, keeps heaps in a folder that goes away again.

A test is a program of its own with unittest cases. SHARENA_BIN is the folder with the programs.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BIN = os.environ.get("SHARENA_BIN") or sys.exit("SHARENA_BIN: the folder with the programs is not set")
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

FINE, WRONG, FAILED = 0, 1, 2
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def program(name):
    return os.path.join(BIN, name)


class Ran:
    """What a run of the command said."""

    def __init__(self, result):
        self.status = result.returncode
        self.out = result.stdout
        self.err = result.stderr

    def __str__(self):
        return f"exit {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def sharena(*arguments, **more):
    arguments = [str(x) for x in arguments]
    return Ran(subprocess.run([program("sharena"), *arguments], capture_output=True, text=True,
                              errors="replace", timeout=120, check=False, **more))


class Case(unittest.TestCase):
    """A test with a folder for heaps, and words for what a run must be."""

    maxDiff = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix=f"sharena-test-{os.getpid()}-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.heap = self.path("heap")

    def path(self, name):
        return os.path.join(self.folder, name)

    def run_fine(self, *arguments):
        ran = sharena(*arguments)
        self.assertEqual(ran.status, FINE, ran)
        self.assertEqual(ran.err, "", ran)
        return ran.out

    def run_json(self, command, *arguments, status=FINE):
        ran = sharena(command, "--json", *arguments)
        self.assertEqual(ran.status, status, ran)
        return json.loads(ran.out)

    def run_bad(self, status, words, *arguments):
        """The run ends with that status; its message names the command, and all of the words."""
        ran = sharena(*arguments)
        self.assertEqual(ran.status, status, ran)
        for word in words if isinstance(words, (list, tuple)) else [words]:
            self.assertIn(word, ran.err, ran)
        self.assertTrue(ran.err.startswith("sharena: "), ran)
        return ran

    def create(self, *options, path=None):
        self.run_fine("create", *options, path or self.heap)
        return path or self.heap


    def start(self, *arguments, **more):
        """A helper of these tests that says "running" once it is; killed at the end of the test."""
        process = subprocess.Popen([str(x) for x in arguments], stdout=subprocess.PIPE, text=True,
                                   **more)
        self.addCleanup(self.end, process)
        self.assertEqual(process.stdout.readline(), "running\n")
        return process

    @staticmethod
    def end(process):
        if process.returncode is not None:
            return
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        process.stdout.close()

    def churn(self, command, *arguments, **more):
        return self.start(program("cli_churn"), command, self.heap, *arguments, **more)

    def wait_for(self, condition, what, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.01)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(x) for x in file.read().split()]


def state_of(pid):
    """The letter of /proc/PID/stat: T is stopped."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0]


def main():
    unittest.main(verbosity=2)
