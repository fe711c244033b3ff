"""test_create.py -- `sharena create`, and what `sharena info` says about what it made."""

import calendar
import json
import os
import stat
import subprocess
import time

import support
from support import FAILED, GIB, MIB, TIB, WRONG, sharena


class Create(support.Case):
    def test_the_defaults(self):
        before = int(time.time())
        self.create()
        facts = self.run_json("info", self.heap)
        self.assertEqual(facts["state"], "heap")
        self.assertEqual(facts["use"], "closed")
        self.assertEqual(facts["processes"], 0)
        self.assertEqual(facts["capacity_bytes"], TIB)
        self.assertEqual(facts["limit"], "none")
        self.assertEqual(facts["format_version"], 1)
        self.assertEqual(facts["file_bytes"], os.stat(self.heap).st_size)
        self.assertEqual(facts["total_bytes"], facts["file_bytes"])
        self.assertEqual(facts["stored_bytes"], os.stat(self.heap).st_blocks * 512)
        self.assertEqual(facts["file_system"], "tmpfs")
        self.assertIs(facts["sync"], False)
        self.assertIs(facts["dax"], False)
        self.assertRegex(facts["uuid"], "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]")
        self.assertEqual(int(facts["base_address"], 16) % GIB, 0)
        created = time.strptime(facts["created"], "%Y-%m-%dT%H:%M:%SZ")
        self.assertTrue(before <= calendar.timegm(created) <= time.time())
        self.assertEqual(stat.S_IMODE(os.stat(self.heap).st_mode), 0o600)

    def test_each_option(self):
        self.create("--capacity", "64M", "--limit=8M", "-m", "640", "-b", "0x300000000000",
                    "--conf", "narenas:2")
        facts = self.run_json("info", self.heap)
        self.assertEqual(facts["capacity_bytes"], 64 * MIB)
        self.assertEqual(facts["limit_bytes"], 8 * MIB)
        self.assertEqual(facts["base_address"], "0x300000000000")
        self.assertEqual(stat.S_IMODE(os.stat(self.heap).st_mode), 0o640)
        text = self.run_fine("info", self.heap)
        self.assertRegex(text, r"(?m)^capacity: +64\.0 MiB$")
        self.assertRegex(text, r"(?m)^limit: +8\.0 MiB$")
        self.assertRegex(text, r"(?m)^sync: +no$")

    def test_sizes(self):
        for number, (size, bytes_) in enumerate([("4194304", 4 * MIB), ("4096k", 4 * MIB),
                                                 ("6M", 6 * MIB), ("1G", GIB), ("2t", 2 * TIB)]):
            heap = self.create("-c", size, path=self.path(f"size{number}"))
            self.assertEqual(self.run_json("info", heap)["capacity_bytes"], bytes_, size)

    def test_bad_values(self):
        for option, value, word in [
                ("-c", "64X", "is not a size"), ("-c", "-1", "is not a size"),
                ("-c", "", "is not a size"), ("-c", " 1M", "is not a size"),
                ("-c", "0x10", "is not a size"), ("-c", "1MM", "is not a size"),
                ("-c", "99999999999999999999", "is not a size"),
                ("-c", "99999999T", "is not a size"), ("-c", "512T", "capacity_bytes"),
                ("-l", "8 M", "is not a size"), ("-m", "888", "is not a mode"),
                ("-m", "1777", "is not a mode"), ("-m", "rw", "is not a mode"),
                ("-b", "0x", "is not a number"), ("-b", "1G", "is not a number"),
                ("-b", "4096", "base_address"), ("-C", "bogus:1", "bogus"),
                ("-C", "narenas:many", "narenas")]:
            self.run_bad(FAILED, ["sharena: create: ", word], "create", option, value, self.heap)
            self.assertFalse(os.path.exists(self.heap), (option, value))
        self.run_bad(FAILED, "-c needs an argument", "create", "-c")

    def test_what_exists_is_kept_unless_forced(self):
        self.create()
        uuid = self.run_json("info", self.heap)["uuid"]
        self.run_bad(FAILED, "sharena: create: ", "create", self.heap)
        self.assertEqual(self.run_json("info", self.heap)["uuid"], uuid)
        self.create("--force")
        self.assertNotEqual(self.run_json("info", self.heap)["uuid"], uuid)


class Info(support.Case):
    def patch(self, offset, data):
        with open(self.heap, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def wrong(self, *words):
        """What info says about a file that is no sound heap: in both forms."""
        facts = self.run_json("info", self.heap, status=WRONG)
        for word in words:
            self.assertIn(word, facts["problem"])
        ran = sharena("info", self.heap)
        self.assertEqual(ran.status, WRONG)
        self.assertIn("problem: ", ran.out)
        return facts

    def test_other_files(self):
        open(self.heap, "w").close()
        self.assertEqual(self.run_json("info", self.heap, status=WRONG)["state"], "empty")
        with open(self.heap, "w", encoding="ascii") as file:
            file.write("no heap at all\n")
        facts = self.wrong("magic", "is not a heap")
        self.assertEqual(facts["state"], "damaged")
        self.assertNotIn("uuid", facts)
        os.chmod(self.heap, 0)
        os.unlink(self.heap)
        os.symlink("elsewhere", self.heap)
        self.run_bad(FAILED, "symbolic link", "info", self.heap)
        self.run_bad(FAILED, "directory", "info", self.folder)

    def test_damaged_and_foreign(self):
        self.create("-c", "64M")
        whole = self.run_json("info", self.heap)
        with open(self.heap, "rb") as file:
            page = file.read(4096)
        cases = [(8, b"\x01\x02\x03\x04", "foreign", "byte order"),
                 (12, b"\x63\x00\x00\x00", "foreign", "format version 99"),
                 (16, b"\x00" * 8, "foreign", "fingerprint"),
                 (56, b"\x01" * 8, "damaged", "checksum"),
                 (80, b"\x00" * 8, "damaged", "checksum")]
        for offset, data, state, word in cases:
            self.patch(offset, data)
            facts = self.wrong(word)
            self.assertEqual(facts["state"], state, word)
            self.assertEqual(facts["uuid"], whole["uuid"], word)
            self.patch(0, page)
        self.assertEqual(self.run_json("info", self.heap), whole)
        self.patch(0, b"sharena0")
        self.assertEqual(self.run_json("info", self.heap, status=WRONG)["state"], "unfinished")

    def test_truncated(self):
        self.create("-c", "64M")
        for length, word in [(8192, "truncated"), (40, "truncated"), (3, "3 bytes")]:
            os.truncate(self.heap, length)
            self.wrong(word)

    def test_a_name_that_steers_terminals(self):
        heap = self.create(path=self.path("a\033[31mb\xff"))
        ran = sharena("info", heap)
        self.assertNotIn("\033", ran.out)

    def test_in_use_left_and_torn(self):
        demo = [support.program("wordindex"), "build", "--heap", self.heap, "--workers", "2",
                "/usr/include"]
        with subprocess.Popen(demo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as build:
            deadline = time.time() + 30
            processes = 0
            while processes < 3 and time.time() < deadline and build.poll() is None:
                ran = sharena("info", "-j", self.heap)
                processes = json.loads(ran.out).get("processes", 0) if ran.out else 0
            build.kill()
        self.assertEqual(processes, 3)
        while self.run_json("info", self.heap)["processes"] > 0 and time.time() < deadline:
            time.sleep(0.05)
        self.assertTrue(self.run_json("info", self.heap)["use"].startswith("left by processes"))
        copy = self.path("copy")
        subprocess.run(["cp", "--sparse=always", self.heap, copy], check=True)
        self.assertTrue(self.run_json("info", copy)["use"].startswith("torn"))


if __name__ == "__main__":
    support.main()
