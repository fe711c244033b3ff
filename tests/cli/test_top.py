"""test_top.py -- what happens in a heap: the numbers are what was done, and the terminal is left as it was."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import support
from content import Content, fill
from support import FAILED, FINE, MIB

PAGE = 4096


def class_of(sample, block_bytes):
    return next(x for x in sample["classes"] if x["block_bytes"] == block_bytes)


class Live:
    """The program on a terminal of its own."""

    def __init__(self, test, *arguments, rows=40, columns=120, **more):
        self.test = test
        self.text = ""
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        environment = {**os.environ, "TERM": "xterm-256color", **more}
        self.process = subprocess.Popen([support.program("sharena"), "top", *arguments],
                                        stdin=self.slave, stdout=self.slave, env=environment,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True)
        test.addCleanup(self.end)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        """What it wrote within that time, or until it writes no more."""
        end = time.monotonic() + seconds
        new = ""
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                new += os.read(self.master, 65536).decode(errors="replace")
            elif self.process.poll() is not None:
                break
        self.text += new
        return new

    def wait_for(self, word, seconds=20):
        seen = ""
        end = time.monotonic() + seconds
        while word not in seen:
            self.test.assertLess(time.monotonic(), end, f"no {word!r} in {seen!r}")
            self.test.assertIsNone(self.process.poll(), f"it ended: {seen!r}")
            seen += self.read(0.1)
        return seen

    def press(self, keys):
        os.write(self.master, keys.encode())

    def left_as_it_was(self):
        """Waits for its end; the terminal has its modes, screen and cursor again. Its exit status."""
        for _ in range(200):
            self.read(0.1)
            if self.process.poll() is not None:
                break
        status = self.process.wait(timeout=10)
        self.read(0.2)
        self.test.assertEqual(termios.tcgetattr(self.slave), self.before)
        self.test.assertIn("\033[?1049h", self.text)
        self.test.assertGreater(self.text.rfind("\033[?1049l"), self.text.rfind("\033[?1049h"))
        self.test.assertGreater(self.text.rfind("\033[?25h"), self.text.rfind("\033[?25l"))
        return status

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)


class Top(support.Case):
    def filled(self, conf=None):
        content = Content(self, self.heap, conf)
        fill(content)
        return content

    def samples(self, count=1, *more):
        text = self.run_fine("top", "--json", "-n", count, "-d", "0.1", *more, self.heap)
        return [json.loads(x) for x in text.splitlines()]

    # ---- numbers ----

    def test_memory_is_what_the_books_say(self):
        content = self.filled()
        report = content.report()
        sample = self.samples()[0]
        memory = sample["memory"]
        self.assertEqual(memory["allocated_bytes"], report["live_bytes"])
        self.assertEqual(memory["cached_bytes"], report["cached_bytes"])
        self.assertGreater(memory["cached_bytes"], 0)
        self.assertEqual(memory["dirty_bytes"], report["dirty"] * PAGE)
        self.assertEqual(memory["used_chunks"] + memory["free_chunks"], report["chunks"])
        self.assertEqual(memory["free_chunks"], report["chunks_free"])
        picture = self.run_json("map", self.heap)
        self.assertEqual(memory["resident_bytes"], picture["heap"]["stored_bytes"])
        self.assertEqual(memory["metadata_bytes"], picture["heap"]["metadata_bytes"])
        pages = {kind: x["pages"] for kind, x in picture["kinds"].items()}
        self.assertEqual(memory["active_bytes"],
                         (pages["small"] + pages["large"] + pages["huge"]) * PAGE)
        for one in sample["classes"]:
            spans = [x for x in picture["spans"] if x.get("block_bytes") == one["block_bytes"]]
            self.assertEqual(one["blocks"], sum(x["used"] for x in spans), one)
            self.assertEqual(one["cached"], sum(x["cached"] for x in spans), one)
            if spans and spans[0]["kind"] == "small":
                self.assertEqual(one["held_bytes"], sum(x["pages"] for x in spans) * PAGE, one)
            self.assertEqual(one["taken"] - one["given"], one["blocks"] + one["cached"], one)
        self.assertEqual(sample["taken"] - sample["given"], report["live"] + report["cached"])
        self.assertEqual(class_of(sample, 64)["blocks"], 10000)
        self.assertEqual(class_of(sample, 20480)["blocks"], 26)
        self.assertEqual(class_of(sample, 5 * MIB)["blocks"], 1)
        self.assertEqual(sum(x["bytes"] for x in sample["classes"]), report["live_bytes"])

    def test_counters_are_what_was_done(self):
        content = Content(self, self.heap)
        content.tell("alloc 64 100")
        content.tell("flush")  # or it would be given back when the cache's GC finds it unused
        before = self.samples()[0]
        content.tell("cycle 64 12345")
        content.tell("cycle 100000 17")
        content.tell("cycle 3000000 5")
        now = self.samples()[0]
        for word in ("taken", "given"):
            self.assertEqual(class_of(now, 64)[word] - class_of(before, 64)[word], 12345)
        self.assertEqual(now["taken"] - before["taken"], 12345 + 17 + 5)
        self.assertEqual(now["given"] - before["given"], 12345 + 17 + 5)

    def test_what_is_purged(self):
        content = Content(self, self.heap, "dirty_decay_ms:-1")
        for order in ("alloc 20000 40", "alloc 3000000 2", "free 20000 1", "free 3000000 1", "flush"):
            content.tell(order)
        dirty = content.report()["dirty"]
        self.assertGreater(dirty, 1000)
        before = self.samples()[0]
        self.assertEqual(before["memory"]["dirty_bytes"], dirty * PAGE)
        process = subprocess.Popen([support.program("sharena"), "top", "-j", "-n", "3", "-d", "0.4",
                                    self.heap], stdout=subprocess.PIPE, text=True)
        samples = [json.loads(process.stdout.readline())]
        content.tell("purge")
        samples += [json.loads(x) for x in process.stdout]
        process.stdout.close()
        self.assertEqual(process.wait(), FINE)
        self.assertEqual(samples[-1]["purged_pages"] - before["purged_pages"], dirty)
        self.assertEqual(round(sum(x["per_second"]["purged_bytes"] * x["seconds"] for x in samples)),
                         dirty * PAGE)
        self.assertEqual(samples[-1]["memory"]["dirty_bytes"], 0)
        self.assertEqual(samples[-1]["memory"]["clean_bytes"], before["memory"]["clean_bytes"]
                         + dirty * PAGE)

    def test_rates_add_up(self):
        content = Content(self, self.heap)
        content.tell("alloc 64 100")
        content.tell("flush")
        process = subprocess.Popen([support.program("sharena"), "top", "-j", "-n", "5", "-d", "0.4",
                                    self.heap], stdout=subprocess.PIPE, text=True)
        samples = [json.loads(process.stdout.readline())]
        content.tell("cycle 64 5000")
        content.tell("cycle 3000000 4")
        samples += [json.loads(x) for x in process.stdout]
        process.stdout.close()
        self.assertEqual(process.wait(), FINE)
        self.assertEqual(len(samples), 5)

        def total(rate_of):
            return round(sum(rate_of(x) * x["seconds"] for x in samples))

        self.assertEqual(total(lambda x: x["per_second"]["taken"]), 5004)
        self.assertEqual(total(lambda x: x["per_second"]["given"]), 5004)
        self.assertEqual(total(lambda x: x["per_second"]["taken_bytes"]), 5000 * 64 + 4 * 3 * MIB)
        self.assertEqual(total(lambda x: class_of(x, 64)["taken_per_second"]), 5000)
        self.assertEqual(total(lambda x: x["processes"][0]["given_bytes_per_second"]),
                         5000 * 64 + 4 * 3 * MIB)
        self.assertGreaterEqual(total(lambda x: x["per_second"]["locks_acquired"]), 10000)
        for sample in samples:
            self.assertAlmostEqual(sample["seconds"], 0.4, delta=2)
            self.assertGreaterEqual(sample["seconds"], 0.4)

    def test_processes_and_what_becomes_of_them(self):
        first = self.filled()
        second = Content(self, self.heap)
        second.tell("alloc 64 1")
        second.tell("threads 3")
        first.report()

        def states():
            return {x["pid"]: x for x in self.samples()[0]["processes"]}

        seen = states()
        self.assertEqual(set(seen), {first.pid, second.pid})
        self.assertEqual((seen[first.pid]["threads"], seen[second.pid]["threads"]), (1, 4))
        self.assertEqual(seen[second.pid]["name"], "cli_content")
        self.assertEqual({x["state"] for x in seen.values()}, {"alive"})
        self.assertEqual(seen[first.pid]["cached_bytes"] + seen[second.pid]["cached_bytes"],
                         self.samples()[0]["memory"]["cached_bytes"])
        os.kill(second.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, second.pid, os.WSTOPPED)
        self.assertEqual(states()[second.pid]["state"], "stopped")
        second.end()
        self.assertEqual(states()[second.pid]["state"], "dead")
        first.tell("report")  # reaps
        self.assertEqual(set(states()), {first.pid})
        self.assertEqual(self.samples()[0]["reaped_threads"], 4)

    def test_classes_come_in_the_order_that_is_asked_for(self):
        self.filled()
        keys = {"bytes": lambda x: -x["bytes"], "size": lambda x: x["block_bytes"],
                "waste": lambda x: -(x["held_bytes"] - x["bytes"])}
        for order, key in keys.items():
            rows = [key(x) for x in self.samples(1, "--sort", order)[0]["classes"]]
            self.assertEqual(rows, sorted(rows), order)
            self.assertGreater(len(set(rows)), 3)

    def test_text_says_the_same(self):
        content = self.filled("lg_tcache_max:16")
        content.tell("free 10000 2")
        sample = self.samples()[0]
        text = self.run_fine("top", "--batch", "--count=2", "--interval", "0.1", self.heap)
        self.assertEqual(text.count("sharena top "), 2)
        rows = {tuple(x.split()[:2]): x.split()[2:] for x in text.splitlines() if x}
        for one in sample["classes"]:
            size = one["block_bytes"]
            if size < 1024:
                self.assertEqual(rows[str(size), "B"][:2],
                                 [str(one["blocks"]), str(one["cached"])])
        self.assertIn(f"{sample['memory']['resident_bytes'] / MIB:.1f} MiB (no limit)", text)
        line = next(x for x in text.splitlines() if "cli_content" in x)
        self.assertEqual(line.split()[:3], [str(content.pid), "alive", "1"])
        bar = next(x for x in text.splitlines() if x.startswith("["))
        self.assertEqual(len(bar), 66)
        share = sample["memory"]["allocated_bytes"] / sample["memory"]["resident_bytes"]
        self.assertAlmostEqual(bar.count("#") / 64, share, delta=0.02)

    def test_a_limit(self):
        self.create("--capacity", "256M", "--limit", "100M")
        fill(Content(self, self.heap))
        memory = self.samples()[0]["memory"]
        self.assertEqual(memory["limit_bytes"], 100 * MIB)
        self.assertRegex(self.run_fine("top", "-b", "-n1", "-d.1", self.heap),
                         r"\([0-9.]+ % of the limit of 100.0 MiB\)")

    # ---- files that go ----

    def test_the_file_goes(self):
        def replace(path):
            os.rename(self.create("--capacity", "64M", path=self.path("other")), path)

        for way in (os.unlink, replace):
            content = self.filled()
            process = subprocess.Popen([support.program("sharena"), "top", "-b", "-n", "6", "-d",
                                        "0.2", self.heap], stdout=subprocess.PIPE, text=True)
            first = ""
            while "attached" not in first:
                first = process.stdout.readline()
                self.assertNotIn("removed", first)
            way(self.heap)
            rest = process.stdout.read()
            process.stdout.close()
            self.assertEqual(process.wait(), FINE)
            self.assertIn("The file was removed or replaced", rest)
            content.end()

    def test_the_file_is_cut(self):
        content = self.filled()
        live = Live(self, "-d", "0.2", self.heap)
        live.wait_for("cli_content")
        os.kill(content.pid, signal.SIGKILL)
        os.truncate(self.heap, 8192)
        self.assertEqual(live.left_as_it_was(), FAILED)
        self.assertIn("sharena: top: the file of the heap lacks pages", live.process.stderr.read())

    # ---- the terminal ----

    def test_it_starts_shows_and_quits(self):
        content = self.filled()
        live = Live(self, "-d", "0.2", self.heap)
        shown = live.wait_for("cli_content")
        for word in ("sharena top", "resident", "fragmentation", "64 B", "10000", str(content.pid)):
            self.assertIn(word, shown)
        content.tell("alloc 7000 123")
        live.wait_for("123")
        live.press("q")
        self.assertEqual(live.left_as_it_was(), FINE)
        self.assertEqual(live.process.stderr.read(), "")

    def test_keys(self):
        self.filled()
        live = Live(self, "-d", "60", self.heap)
        live.wait_for("by bytes")
        live.press("s")
        live.wait_for("rate")
        live.press("h")
        live.wait_for("sorts classes")
        live.press("h")
        live.wait_for("fragmentation")
        live.press("-" * 9 + " ")  # down to 0.12 s: now it goes on by itself
        live.read(0.5)
        self.assertNotEqual(live.read(2.5), "")
        live.press("q")
        self.assertEqual(live.left_as_it_was(), FINE)

    def test_terminals_of_all_sizes(self):
        self.filled()
        live = Live(self, "-d", "0.1", self.heap)
        live.wait_for("cli_content")
        for rows, columns in ((1, 1), (2, 5), (5, 300), (300, 7), (500, 400), (3, 20), (12, 80)):
            live.resize(rows, columns)
            os.kill(live.process.pid, signal.SIGWINCH)
            live.read(0.4)
            self.assertIsNone(live.process.poll(), f"{rows} x {columns}")
        live.resize(50, 130)
        os.kill(live.process.pid, signal.SIGWINCH)
        live.wait_for("cli_content")
        live.press("q")
        self.assertEqual(live.left_as_it_was(), FINE)

    def test_signals_leave_the_terminal_in_order(self):
        self.filled()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            live = Live(self, self.heap)
            live.wait_for("cli_content")
            os.kill(live.process.pid, number)
            self.assertEqual(live.left_as_it_was(), -number)

    def test_it_ends_after_so_many(self):
        self.filled()
        live = Live(self, "-n", "3", "-d", "0.1", self.heap)
        self.assertEqual(live.left_as_it_was(), FINE)

    def test_what_cannot_be_done(self):
        self.create("--capacity", "64M")
        self.run_bad(FAILED, ["sharena: top: ", "no terminal", "--batch"], "top", self.heap)
        for interval in ("0", "-1", "x", "nan", "1e9", ""):
            self.run_bad(FAILED, "is not an interval", "top", "-b", f"--interval={interval}",
                         self.heap)
        self.run_bad(FAILED, "is not one of: bytes", "top", "--sort=blocks", self.heap)
        self.run_bad(FAILED, "is not a number", "top", "-n", "x", self.heap)
        # ncurses leaks what it made for a terminal that it then does not know.
        live = Live(self, self.heap, TERM="no-such-terminal", ASAN_OPTIONS="detect_leaks=0")
        live.read(3)
        self.assertEqual(live.process.wait(timeout=10), FAILED)
        self.assertIn("no-such-terminal", live.process.stderr.read())
        self.assertEqual(termios.tcgetattr(live.slave), live.before)

    def test_an_empty_heap(self):
        self.create("--capacity", "64M")
        sample = self.samples()[0]
        self.assertEqual(sample["classes"], [])
        self.assertEqual(sample["processes"], [])
        self.assertEqual(sample["memory"]["allocated_bytes"], 0)
        self.run_fine("top", "-b", "-n", "1", "-d", "0.1", self.heap)


if __name__ == "__main__":
    support.main()
