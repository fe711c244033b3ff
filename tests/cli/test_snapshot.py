"""test_snapshot.py -- `sharena snapshot`: copies of heaps in use are whole, and nobody stays stopped."""

import json
import os
import resource
import signal
import subprocess
import threading
import time
import unittest

import support
from support import FAILED, WRONG, children, sharena, state_of

ROUNDS = 20


def verify(path):
    ran = subprocess.run([support.program("cli_churn"), "verify", path], capture_output=True,
                         text=True, check=False)
    return ran.returncode, json.loads(ran.stdout or "{}")


class Snapshot(support.Case):
    def setUp(self):
        super().setUp()
        self.create("-c", "1G")
        self.copy = self.path("copy")

    def everybody(self, process):
        return [process.pid, *children(process.pid)]

    def expect_running(self, process, count):
        pids = self.everybody(process)
        self.assertEqual(len(pids), count)
        self.wait_for(lambda: all(state_of(x) in "RSD" for x in pids), "somebody stays stopped")

    def expect_nothing_made(self):
        self.wait_for(lambda: os.listdir(self.folder) == ["heap"], "something was left")

    def test_copies_of_a_busy_heap(self):
        churners = self.churn("run", 4)
        nodes = 0
        for _ in range(ROUNDS):
            facts = self.run_json("snapshot", self.heap, self.copy)
            self.assertEqual(facts["processes"], 5)
            self.assertGreater(facts["copied_bytes"], 1 << 20)
            self.assertGreater(facts["stopped_us"], 0)
            self.expect_running(churners, 5)
            self.assertEqual(self.run_json("info", self.copy)["use"], "closed")
            status, found = verify(self.copy)
            self.assertEqual((status, found["bad"], found["lists"]), (0, 0, 4), found)
            self.assertGreaterEqual(facts["blocks_live"], found["nodes"] + 4)
            nodes += found["nodes"]
            os.unlink(self.copy)
        self.expect_nothing_made()
        self.assertGreater(nodes, 100 * ROUNDS)

    def test_a_child_without_a_slot(self):
        pair = self.churn("pair")
        back = 0
        for _ in range(ROUNDS):
            self.assertEqual(self.run_json("snapshot", self.heap, self.copy)["processes"], 2)
            status, found = verify(self.copy)
            self.assertEqual((status, found["bad"]), (0, 0), found)
            self.assertGreaterEqual(found["back"], back)
            back = found["back"]
            os.unlink(self.copy)
        self.assertGreater(back, 0)
        self.expect_running(pair, 2)

    def test_who_was_stopped_stays_stopped(self):
        idle = self.churn("wait", 1)
        busy = self.churn("run", 1)
        os.kill(idle.pid, signal.SIGSTOP)
        self.wait_for(lambda: state_of(idle.pid) == "T", "does not stop")
        self.run_fine("snapshot", self.heap, self.copy)
        self.expect_running(busy, 2)
        self.assertEqual(state_of(idle.pid), "T")

    def test_somebody_continues_who_was_stopped(self):
        churners = self.churn("run", 2)
        victim = children(churners.pid)[0]
        self.churn("wait", 128)  # so that the copy takes some time
        is_over = threading.Event()

        def meddle():
            """Lets it run for a moment when it has been stopped for a while."""
            while not is_over.wait(0.0005):
                if state_of(victim) == "T":
                    time.sleep(0.03)
                    os.kill(victim, signal.SIGCONT)
                    os.kill(victim, signal.SIGSTOP)
                    is_over.wait(0.5)
                    os.kill(victim, signal.SIGCONT)

        meddler = threading.Thread(target=meddle)
        meddler.start()
        noticed = 0
        try:
            for _ in range(40):
                ran = sharena("snapshot", self.heap, self.copy)
                if ran.status == FAILED:
                    self.assertRegex(ran.err, "continued process|does not stop")
                    self.assertFalse(os.path.exists(self.copy))
                    noticed += "continued process" in ran.err
                else:  # it ran before all stood still, or after
                    self.assertEqual((ran.status, verify(self.copy)[0]), (0, 0))
                    os.unlink(self.copy)
                if noticed == 5:
                    break
        finally:
            is_over.set()
            meddler.join()
        self.assertEqual(noticed, 5)
        self.expect_running(churners, 3)
        self.run_fine("snapshot", self.heap, self.copy)

    def test_interrupted(self):
        churners = self.churn("run", 4)
        hits = 0
        for number in range(40):
            by = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)[number % 3]
            with subprocess.Popen([support.program("sharena"), "snapshot", self.heap, self.copy],
                                  stdout=subprocess.DEVNULL) as snapshot:
                while state_of(churners.pid) != "T" and snapshot.poll() is None:
                    pass
                snapshot.send_signal(by)
                snapshot.wait()
                hits += snapshot.returncode == -by
            self.expect_running(churners, 5)
            if os.path.exists(self.copy):
                os.unlink(self.copy)
            self.expect_nothing_made()
        self.assertGreater(hits, 5)

    def test_a_heap_that_nobody_uses(self):
        self.assertEqual(self.run_json("snapshot", self.heap, self.copy)["processes"], 0)
        self.assertEqual(verify(self.copy)[0], 0)
        self.assertEqual(os.stat(self.copy).st_mode, os.stat(self.heap).st_mode)
        self.assertEqual(self.run_json("info", self.copy)["uuid"],
                         self.run_json("info", self.heap)["uuid"])

    def test_a_heap_that_the_dead_left(self):
        self.end(self.churn("run", 2))
        self.wait_for(lambda: self.run_json("info", self.heap)["processes"] == 0, "still in use")
        self.run_fine("snapshot", self.heap, self.copy)
        status, found = verify(self.copy)
        self.assertEqual((status, found["lists"]), (0, 2))

    def test_permissions_are_kept(self):
        os.chmod(self.heap, 0o640)
        self.run_fine("snapshot", self.heap, self.copy)
        self.assertEqual(os.stat(self.copy).st_mode & 0o777, 0o640)

    def test_names_that_are_taken(self):
        self.run_fine("snapshot", self.heap, self.copy)
        before = os.stat(self.copy).st_ino
        self.run_bad(FAILED, ["sharena: snapshot: ", "exists", "--force"], "snapshot", self.heap,
                     self.copy)
        self.assertEqual(os.stat(self.copy).st_ino, before)
        self.run_fine("snapshot", "--force", self.heap, self.copy)
        self.assertNotEqual(os.stat(self.copy).st_ino, before)
        used, self.heap = self.heap, self.copy
        self.churn("wait", 1)
        self.run_bad(FAILED, "in use", "snapshot", "-f", used, self.copy)
        self.run_bad(FAILED, "symbolic link", "snapshot", "-f", used, self.link("link", used))
        self.assertEqual(sorted(os.listdir(self.folder)), ["copy", "heap", "link"])

    def link(self, name, to):
        os.symlink(to, self.path(name))
        return self.path(name)

    def test_what_cannot_be_copied(self):
        self.run_bad(FAILED, "no such file", "snapshot", self.path("none"), self.copy)
        self.run_bad(FAILED, self.path("no/copy"), "snapshot", self.heap, self.path("no/copy"))
        self.expect_nothing_made()
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        churners = self.churn("run", 1)
        ran = sharena("snapshot", self.heap, self.copy, preexec_fn=limit)
        self.assertEqual(ran.status, FAILED, ran)
        self.assertIn("File too large", ran.err)
        self.expect_running(churners, 2)
        self.expect_nothing_made()

    def test_a_source_that_is_damaged(self):
        self.end(self.churn("run", 1))
        with open(self.heap, "r+b") as file:  # the free runs of the first arena
            file.seek(self.arenas_offset() + 64)
            file.write(b"\xff" * 8)
        self.run_bad(WRONG, "sharena: snapshot: ", "snapshot", self.heap, self.copy)
        self.expect_nothing_made()
        with open(self.heap, "r+b") as file:
            file.write(b"no heap")
        self.run_bad(WRONG, "magic", "snapshot", self.heap, self.copy)
        os.truncate(self.heap, 0)
        self.run_bad(WRONG, "empty", "snapshot", self.heap, self.copy)
        self.expect_nothing_made()

    @staticmethod
    def arenas_offset():
        """As src/heap/layout.h has it: slots, one page, roots."""
        return (1 << 20) + 4096 * 65536 + 4096 + (1 << 19)

    @unittest.skipIf(os.geteuid() != 0, "needs root, to be somebody else")
    def test_another_user(self):
        os.chmod(self.folder, 0o777)
        os.chmod(self.heap, 0o644)
        churners = self.churn("run", 1)
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        ran = sharena("snapshot", self.heap, self.copy, **nobody)
        self.assertEqual(ran.status, FAILED, ran)
        self.assertIn("another user", ran.err)
        self.expect_running(churners, 2)
        self.expect_nothing_made()

    @unittest.skipIf(subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"],
                                    capture_output=True, check=False).returncode != 0,
                     "no pid namespaces for us")
    def test_pid_namespaces(self):
        unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
        outside = self.churn("run", 1)
        ran = subprocess.run([*unshare, support.program("sharena"), "snapshot", self.heap,
                              self.copy], capture_output=True, text=True, check=False)
        self.assertEqual(ran.returncode, FAILED, ran)
        self.assertIn("pid namespace", ran.stderr)
        self.expect_running(outside, 2)
        self.expect_nothing_made()
        self.end(outside)
        self.wait_for(lambda: self.run_json("info", self.heap)["processes"] == 0, "still in use")
        # The other way round all is well: who is below ours can be seen.
        inside = self.start(*unshare, "--kill-child", support.program("cli_churn"), "run",
                            self.heap, 2)
        self.assertEqual(self.run_json("snapshot", self.heap, self.copy)["processes"], 3)
        self.assertEqual(verify(self.copy)[0], 0)
        self.assertEqual(state_of(inside.pid), "S")


if __name__ == "__main__":
    support.main()
