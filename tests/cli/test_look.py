"""test_look.py -- check, ps, ls, reap, purge and rm, on heaps of which the test knows what is in them."""

import calendar
import contextlib
import os
import pty
import signal
import subprocess
import time

import support
from support import FAILED, KIB, MIB, WRONG, children, sharena, state_of


class Busy(support.Case):
    """Heaps that processes of these tests use."""

    def setUp(self):
        super().setUp()
        self.create("-c", "1G")

    def processes(self):
        return {x["pid"]: x for x in self.run_json("ps", self.heap)["processes"]}

    def test_processes_and_threads(self):
        before = int(time.time())
        churners = self.churn("run", 3)
        pids = [churners.pid, *children(churners.pid)]
        found = self.processes()
        self.assertEqual(sorted(found), sorted(pids))
        for pid, row in found.items():
            self.assertEqual((row["name"], row["state"], row["inner_pid"], row["nthreads"]),
                             ("cli_churn", "alive", pid, 1))
            self.assertEqual([x["tid"] for x in row["threads"]], [pid])
            self.assertEqual(row["cached_bytes"], sum(x["cached_bytes"] for x in row["threads"]))
            attached = calendar.timegm(time.strptime(row["attached"], "%Y-%m-%dT%H:%M:%SZ"))
            self.assertTrue(before <= attached <= time.time())
        self.assertGreater(sum(x["cached_bytes"] for x in found.values()), KIB)
        text = self.run_fine("ps", self.heap).splitlines()
        self.assertEqual(len(text), 1 + len(pids))
        self.assertRegex(text[0], r"slot +pid +inner pid +name +state +attached +nthreads +cached")
        threads = self.run_fine("ps", "--threads", self.heap).splitlines()
        self.assertEqual(len(threads), 1 + len(pids))

    def test_stopped_and_dead(self):
        churners = self.churn("run", 2)
        stopped, dead = children(churners.pid)
        os.kill(stopped, signal.SIGSTOP)
        self.wait_for(lambda: state_of(stopped) == "T", "does not stop")
        found = self.processes()
        self.assertEqual(found[stopped]["state"], "stopped")
        self.assertEqual(found[dead]["state"], "alive")
        self.end(churners)
        self.wait_for(lambda: self.run_json("info", self.heap)["processes"] == 0, "still in use")
        found = self.processes()
        self.assertEqual({x["state"] for x in found.values()}, {"dead"})
        self.assertEqual(len(found), 3)
        cached = sum(x["cached_bytes"] for x in found.values())
        self.assertGreater(cached, KIB)
        reaped = self.run_json("reap", self.heap)
        self.assertEqual((reaped["slots"], reaped["processes"], reaped["cached_bytes"]),
                         (3, 3, cached))
        self.assertEqual(self.processes(), {})
        self.assertEqual(self.run_json("reap", self.heap)["slots"], 0)
        checked = self.run_json("check", self.heap)
        self.assertEqual((checked["blocks_cached"], checked["cached_bytes"]), (0, 0))

    def test_reap_takes_nothing_from_the_living(self):
        churners = self.churn("run", 2)
        stopped, dead = children(churners.pid)
        os.kill(stopped, signal.SIGSTOP)
        os.kill(dead, signal.SIGKILL)
        self.wait_for(lambda: self.run_json("info", self.heap)["processes"] == 2, "still in use")
        self.assertIn(self.run_json("reap", self.heap)["slots"], (0, 1))  # its brother may be faster
        found = self.processes()
        self.assertNotIn(dead, found)
        self.assertEqual(found[stopped]["state"], "stopped")

    def test_roots(self):
        self.assertEqual(self.run_json("ls", self.heap), {"roots": []})
        self.assertEqual(self.run_fine("ls", self.heap), "")
        self.churn("run", 2)
        base = int(self.run_json("info", self.heap)["base_address"], 16)
        roots = self.run_json("ls", self.heap)["roots"]
        self.assertEqual(sorted((x["name"], x["bytes"]) for x in roots),
                         [("lists-0", 512), ("lists-1", 512)])
        for root in roots:
            self.assertGreater(int(root["address"], 16), base)
        self.assertRegex(self.run_fine("ls", self.heap), r"(?m)^lists-1 +0x[0-9a-f]+ +512 B$")

    def test_a_big_root(self):
        self.end(self.churn("pair"))
        roots = self.run_json("ls", self.heap)["roots"]
        self.assertEqual([(x["name"], x["bytes"]) for x in roots], [("pair", 10 * MIB)])

    def test_check_in_use_and_left(self):
        churners = self.churn("run", 2)
        checked = self.run_json("check", self.heap)
        self.assertEqual((checked["state"], checked["findings"], checked["messages"]),
                         ("clean", 0, []))
        self.assertGreater(checked["blocks_live"], 100)
        self.end(churners)
        self.assertEqual(self.run_json("check", self.heap)["state"], "clean")
        self.assertRegex(self.run_fine("check", self.heap), r"(?m)^state: +clean$")

    def test_check_shows_its_progress_on_a_terminal(self):
        master, slave = pty.openpty()
        ran = subprocess.run([support.program("sharena"), "check", self.heap], check=False,
                             stdout=subprocess.PIPE, stderr=slave, timeout=60)
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nothing more comes
            while piece := os.read(master, 10000):
                shown += piece
        os.close(master)
        self.assertEqual(ran.returncode, 0)
        self.assertRegex(shown, rb"^\rchecked: +\d+ %")
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown)
        self.assertNotIn(b"checked", ran.stdout)

    def damage(self, offset, data):
        with open(self.heap, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def test_check_damaged(self):
        self.end(self.churn("run", 1))
        self.run_fine("check", self.heap)
        arenas = (1 << 20) + 4096 * 65536 + 4096 + (1 << 19)  # as src/heap/layout.h has it
        with open(self.heap, "rb") as file:
            file.seek(arenas + 64)
            sound = file.read(64)
        self.damage(arenas + 64 + 12, b"\x77\x00")  # its number of chunks
        checked = self.run_json("check", self.heap, status=WRONG)
        self.assertEqual((checked["state"], checked["findings"]), ("damaged", 1))
        self.assertRegex(checked["messages"][0], "arena 0: [01] chunks, not 119")
        ran = sharena("check", self.heap)
        self.assertEqual((ran.status, ran.err), (WRONG, ""))
        self.assertRegex(ran.out, "arena 0: [01] chunks, not 119")
        self.damage(arenas + 64, sound)
        self.run_fine("check", self.heap)
        self.damage(0, b"no heap at all")
        checked = self.run_json("check", self.heap, status=WRONG)
        self.assertEqual((checked["state"], checked["findings"]), ("damaged", 1))
        self.assertIn("magic", checked["messages"][0])
        self.damage(0, b"sharena1" + b"\x04\x03\x02\x01" + b"\x63\0\0\0")
        self.run_bad(FAILED, "format version 99", "check", self.heap)

    def test_check_of_a_torn_copy(self):
        self.end(self.churn("run", 2))
        copy = self.path("copy")
        subprocess.run(["cp", "--sparse=always", self.heap, copy], check=True)
        self.heap = copy
        checked = self.run_json("check", copy, status=WRONG)
        self.assertIn("was in use", checked["messages"][0])
        self.assertEqual(self.run_json("check", "--recover", copy)["state"], "clean")
        self.assertEqual(self.run_json("check", copy)["state"], "clean")

    def test_stats(self):
        self.end(self.churn("run", 2))
        self.wait_for(lambda: self.run_json("info", self.heap)["processes"] == 0, "still in use")
        checked = self.run_json("check", self.heap)  # and reaped: all is exact now
        found = self.run_json("stats", self.heap)
        self.assertEqual(found["sharena"]["summary"]["allocated"], checked["live_bytes"])
        whole = self.run_fine("stats", self.heap)
        self.assertGreater(len(whole.splitlines()), 30)
        less = self.run_fine("stats", "-o", "abl", self.heap)
        self.assertLess(len(less), len(whole))
        self.assertNotEqual(less, "")
        self.run_bad(FAILED, ["sharena: stats: ", "gmablxp"], "stats", "--omit", "abc", self.heap)

    def test_rm(self):
        waiting = self.churn("wait", 1)
        self.run_bad(FAILED, "in use", "rm", self.heap)
        self.run_bad(FAILED, "in use", "rm", "-f", self.heap)
        self.assertTrue(os.path.exists(self.heap))
        self.end(waiting)
        self.run_fine("rm", self.heap)
        self.assertFalse(os.path.exists(self.heap))
        self.run_bad(FAILED, "no such file", "rm", self.heap)
        self.run_fine("rm", "--force", self.heap)
        with open(self.heap, "w", encoding="ascii") as file:
            file.write("something else")
        self.run_bad(FAILED, "not a heap", "rm", "-f", self.heap)
        self.assertTrue(os.path.exists(self.heap))

    def test_looking_changes_nothing(self):
        self.end(self.churn("run", 2))
        self.wait_for(lambda: self.run_json("info", self.heap)["processes"] == 0, "still in use")
        with open(self.heap, "rb") as file:
            before = file.read(4 * MIB)
        for command in ("info", "ps", "ls"):
            self.run_fine(command, self.heap)
        os.chmod(self.heap, 0o400)
        with open(self.heap, "rb") as file:
            self.assertEqual(file.read(4 * MIB), before)


class Demos(support.Case):
    """Heaps of the demos."""

    def ask(self, port, *words):
        """One command to respd, its answer's first line."""
        import socket
        text = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(x), x) for x in words)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(text)
            return connection.makefile("rb").readline().strip()

    def start_respd(self):
        for _ in range(10):
            port = 20000 + int.from_bytes(os.urandom(2), "little") % 12000
            server = subprocess.Popen([support.program("respd"), "--heap", self.heap, "--port",
                                       str(port), "--workers", "3"], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
            self.addCleanup(self.stop, server)
            deadline = time.monotonic() + 20
            while server.poll() is None and time.monotonic() < deadline:
                try:
                    if self.ask(port, b"PING") == b"+PONG":
                        return server, port
                except OSError:
                    time.sleep(0.05)
        self.fail("respd does not start")
        return None

    @staticmethod
    def stop(server):
        server.terminate()
        server.wait()

    def test_respd(self):
        if not os.path.exists(support.program("respd")):
            self.skipTest("respd was not built")
        server, port = self.start_respd()
        empty = self.run_json("check", self.heap)
        keys, size = 500, 10000
        for key in range(keys):
            self.assertEqual(self.ask(port, b"SET", b"key%d" % key, b"x" * size), b"+OK")
        full = self.run_json("check", self.heap)
        self.assertEqual(full["state"], "clean")
        self.assertGreaterEqual(full["blocks_live"] - empty["blocks_live"], keys)
        self.assertGreaterEqual(full["live_bytes"] - empty["live_bytes"], keys * size)
        self.assertLess(full["live_bytes"] - empty["live_bytes"], keys * size * 1.3 + MIB)
        rows = self.run_json("ps", self.heap)["processes"]
        workers = children(server.pid)
        self.assertEqual(len(workers), 3)
        self.assertTrue({x["pid"] for x in rows} >= set(workers), rows)
        self.assertEqual({x["name"] for x in rows}, {"respd"})
        self.assertEqual(self.run_json("info", self.heap)["processes"], len(rows))
        self.assertEqual([x["name"] for x in self.run_json("ls", self.heap)["roots"]], ["respd"])
        self.run_bad(FAILED, "in use", "rm", self.heap)
        for key in range(keys):
            self.assertEqual(self.ask(port, b"DEL", b"key%d" % key), b":1")
        self.stop(server)
        purged = self.run_json("purge", self.heap)
        self.assertGreater(purged["purged_bytes"], keys * size * 0.9)
        self.assertLess(purged["backed_bytes"], 2 * MIB)
        self.assertEqual(purged["stored_bytes"], os.stat(self.heap).st_blocks * 512)
        self.assertEqual(self.run_json("purge", self.heap)["purged_bytes"], 0)
        self.assertEqual(self.run_json("check", self.heap)["pages_dirty"], 0)
        self.run_fine("rm", self.heap)

    def test_wordindex(self):
        texts = self.path("texts")
        os.mkdir(texts)
        for number in range(50):
            with open(f"{texts}/{number}", "w", encoding="ascii") as file:
                file.write("".join(f"word{number}x{i} " for i in range(200)))
        subprocess.run([support.program("wordindex"), "build", "--heap", self.heap, "--workers",
                        "2", texts], check=True, stdout=subprocess.DEVNULL)
        info = self.run_json("info", self.heap)
        self.assertEqual((info["use"], info["processes"]), ("closed", 0))
        checked = self.run_json("check", self.heap)
        self.assertEqual((checked["state"], checked["blocks_cached"]), ("clean", 0))
        self.assertGreater(checked["blocks_live"], 50 * 200)  # one for each word at least
        roots = self.run_json("ls", self.heap)["roots"]
        self.assertEqual([x["name"] for x in roots], ["wordindex"])
        self.assertGreater(roots[0]["bytes"], 0)
        self.assertEqual(self.run_json("ps", self.heap)["processes"], [])

    def test_messages(self):
        demo = subprocess.Popen([support.program("messages"), "--heap", self.heap, "--publishers",
                                 "2", "--subscribers", "2", "--size", "64", "--seconds", "3"],
                                stdout=subprocess.DEVNULL)
        self.addCleanup(self.stop, demo)
        most = []
        while demo.poll() is None and len(most) < 4:
            ran = sharena("ps", "--json", self.heap)
            rows = support.json.loads(ran.out)["processes"] if ran.status == 0 else []
            most = max(most, [x for x in rows if x["state"] == "alive"], key=len)
        self.assertGreaterEqual(len(most), 4)
        self.assertEqual({x["name"] for x in most}, {"messages"})


if __name__ == "__main__":
    support.main()
