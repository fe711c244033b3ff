"""test_prof.py -- `sharena prof`: who holds memory, by sites and processes that the test knows."""

import math
import os
import re
import shutil
import subprocess
import unittest

import support
from support import FAILED, FINE, KIB, MIB, program, sharena

ALL = "prof:true,lg_prof_sample:0"  # every block is sampled
PARSED = 1024  # what a block of 1000 bytes takes
LOADED = 112 * KIB  # ... and one of 100000


class Prof(support.Case):
    def setUp(self):
        super().setUp()
        self.create("--capacity", "4G")

    def target(self, conf, *commands, name="prof_target", status=0):
        arguments = [program(name), self.heap, conf, *[str(x) for x in commands]]
        ran = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        _, errors = ran.communicate(timeout=120)
        self.assertEqual((ran.returncode, errors), (status, ""))
        return ran.pid

    def sites(self):
        """{innermost function: row}"""
        rows = self.run_json("prof", "--by", "site", self.heap)["sites"]
        return {row["stack"][0]["function"]: row for row in rows}

    def holders(self):
        """{pid: row}"""
        return {row["pid"]: row for row in self.run_json("prof", self.heap)["holders"]}

    def assert_holds(self, row, bytes_, blocks):
        self.assertEqual((row["bytes"], row["blocks"], row["samples"]), (bytes_, blocks, blocks), row)

    def assert_clean(self):
        self.assertEqual(sharena("check", self.heap).status, FINE)

    def test_nothing_is_sampled_unasked(self):
        self.target("", "parse", 10, "load", 3)
        profile = self.run_json("prof", self.heap)
        self.assertEqual(profile, {"bytes": 0, "blocks": 0, "samples": 0, "dropped": 0, "holders": []})

    def test_sites(self):
        self.target(ALL, "parse", 100, "load", 7)
        sites = self.sites()
        self.assertEqual(set(sites), {"parse_things", "load_image"})
        self.assert_holds(sites["parse_things"], 100 * PARSED, 100)
        self.assert_holds(sites["load_image"], 7 * LOADED, 7)
        for row in sites.values():
            functions = [frame["function"] for frame in row["stack"]]
            self.assertEqual(functions[1:3], ["serve_requests", "main"])
            self.assertEqual(row["stack"][0]["module"], os.path.realpath(program("prof_target")))
            self.assertIn(" < serve_requests < main", row["site"])
            self.assertEqual(row["processes"], 1)
        self.assert_clean()

    def test_with_the_shared_library(self):
        """Its frames are left out, as those of the static one."""
        self.target(ALL, "parse", 5, "load", 2, name="prof_target_shared")
        sites = self.sites()
        self.assertEqual(set(sites), {"parse_things", "load_image"})
        self.assert_holds(sites["parse_things"], 5 * PARSED, 5)

    def test_a_killed_process_and_one_that_frees(self):
        killed = self.target(ALL, "parse", 60, "load", 4, "kill", status=-9)
        self.assertEqual(self.holders()[killed]["state"], "gone")
        self.assert_holds(self.holders()[killed], 60 * PARSED + 4 * LOADED, 64)
        other = self.target(ALL, "parse", 20)
        self.assert_holds(self.holders()[other], 20 * PARSED, 20)
        self.target("", "free", 20 + 4 + 30)  # samples nothing itself
        self.assertEqual(set(self.holders()), {killed})
        self.assert_holds(self.holders()[killed], 30 * PARSED, 30)
        self.assertEqual(set(self.sites()), {"parse_things"})
        self.assert_clean()
        self.target("", "free", 30)
        self.assertEqual(self.holders(), {})
        self.assert_clean()

    def test_alive_until_it_ends(self):
        arguments = [program("prof_target"), self.heap, ALL, "load", "2", "pause", "parse", "1"]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ran:
            self.assertEqual(ran.stdout.readline(), b"ready\n")
            row = self.holders()[ran.pid]
            self.assertEqual((row["state"], row["process"]), ("alive", "prof_target"))
            self.assertRegex(row["since"], r"^20\d\d-\d\d-\d\dT")
            ran.stdin.close()
        self.assertEqual(ran.returncode, 0)
        self.assertEqual(self.holders()[ran.pid]["state"], "gone")

    def test_a_forked_child_is_another_holder(self):
        parent = self.target(ALL, "parse", 3, "fork", "parse", 4)
        holders = self.holders()
        self.assertEqual(len(holders), 2)
        self.assert_holds(holders.pop(parent), 3 * PARSED, 3)
        self.assert_holds(holders.popitem()[1], 4 * PARSED, 4)

    def test_estimates(self):
        """One byte in 2^16 is sampled: the sums are right within five standard deviations."""
        blocks, bytes_ = 30000, 30000 * PARSED
        self.target("prof:true,lg_prof_sample:16", "parse", blocks)
        row = self.sites()["parse_things"]
        chance = -math.expm1(-PARSED / 2**16)
        spread = math.sqrt(blocks * (1 - chance) / chance)
        self.assertAlmostEqual(row["samples"], blocks * chance, delta=5 * math.sqrt(blocks * chance))
        self.assertAlmostEqual(row["blocks"], blocks, delta=5 * spread)
        self.assertAlmostEqual(row["bytes"], bytes_, delta=5 * spread * PARSED)
        self.assert_clean()

    def test_a_heap_that_is_full(self):
        """Sampled blocks are bigger; the limit holds for them as for all, and freeing goes on."""
        self.heap = self.create("--capacity", "1G", "--limit", "24M", path=self.path("small"))
        ran = subprocess.run([program("prof_target"), self.heap, ALL, "parse", "10000"], check=False,
                             capture_output=True, text=True)
        self.assertEqual(ran.returncode, 1, ran)
        self.assertIn("the limit of this heap is reached", ran.stderr)
        profile = self.run_json("prof", self.heap)
        self.assertGreater(profile["samples"], 1000)
        self.assertLess(profile["samples"], 24 * MIB / (16 * KIB))
        self.assertEqual(profile["dropped"], 0)
        self.assert_clean()
        self.target("", "free", 10000)
        self.assertEqual(self.run_json("prof", self.heap)["samples"], 0)
        self.assert_clean()

    def test_text_for_people(self):
        pid = self.target(ALL, "load", 3)
        text = self.run_fine("prof", self.heap)
        self.assertRegex(text, rf"(?m)^336\.0 KiB +3 +3 +{pid} +prof_target +gone +20")
        text = self.run_fine("prof", "--by", "site", self.heap)
        self.assertRegex(text, r"(?m)^336\.0 KiB +3 +3 +1 +20\S+ +load_image < serve_requests < main")

    def test_collapsed(self):
        pid = self.target(ALL, "parse", 3, "load", 1)
        lines = self.run_fine("prof", "--collapsed", self.heap).splitlines()
        sums = {}
        for line in lines:
            stack, value = re.fullmatch(r"(\S+) (\d+)", line).groups()
            frames = stack.split(";")
            self.assertEqual(frames[0], f"prof_target-{pid}")
            self.assertEqual(frames[-3:-1], ["main", "serve_requests"])
            sums[frames[-1]] = sums.get(frames[-1], 0) + int(value)
        self.assertEqual(sums, {"parse_things": 3 * PARSED, "load_image": LOADED})

    def test_pprof_text(self):
        self.target(ALL, "parse", 3, "load", 1)
        text = self.run_fine("prof", "--pprof", self.heap)
        total = 3 * PARSED + LOADED
        self.assertTrue(text.startswith(f"heap profile: 4: {total} [4: {total}] @ heap_v2/1\n"), text)
        stacks, libraries = text.split("\nMAPPED_LIBRARIES:\n")
        ranges = [[int(x, 16) for x in line.split()[0].split("-")] for line in libraries.splitlines()]
        records = stacks.splitlines()[1:]
        self.assertEqual(len(records), 4)
        for record in records:
            counts, addresses = record.split(" @ ")
            self.assertRegex(counts, r"^1: (\d+) \[1: \1\]$")
            for address in addresses.split():
                inside = [begin for begin, end in ranges if begin <= int(address, 16) < end]
                self.assertEqual(len(inside), 1, (address, libraries))

    @unittest.skipUnless(shutil.which("jeprof"), "jeprof (libjemalloc-dev) is not installed")
    def test_jeprof_reads_it(self):
        for name in ("prof_target", "prof_target_shared"):
            self.target(ALL, "parse", 30, "load", 2, name=name)
            profile = self.path("profile")
            with open(profile, "w", encoding="utf-8") as file:
                file.write(self.run_fine("prof", "--pprof", self.heap))
            ran = subprocess.run(["jeprof", "--text", "--show_bytes", program(name), profile],
                                 capture_output=True, text=True, check=True)
            rows = {line.split()[-1]: line.split() for line in ran.stdout.splitlines()[1:]}
            self.assertEqual(rows["parse_things"][0], str(30 * PARSED), ran.stdout)
            self.assertEqual(rows["load_image"][0], str(2 * LOADED), ran.stdout)
            self.assertEqual(rows["main"][3], str(30 * PARSED + 2 * LOADED), ran.stdout)
            self.target("", "free", 32)

    def test_a_program_that_is_gone(self):
        """Without its file there are addresses instead of names; with another in its place as well."""
        copy = self.path("program")
        shutil.copy(program("prof_target"), copy)
        subprocess.run([copy, self.heap, ALL, "load", "2"], check=True)
        self.assertIn("load_image", self.sites())
        shutil.copy("/bin/true", copy + ".new")
        os.replace(copy + ".new", copy)
        self.assertNotIn("load_image", self.sites())
        os.unlink(copy)
        row = self.run_json("prof", "--by", "site", self.heap)["sites"][0]
        self.assertIn("program+0x", row["site"])
        self.assert_holds(row, 2 * LOADED, 2)

    def test_wrong_arguments_and_files(self):
        self.run_bad(FAILED, ["prof", "'function' is not process or site"],
                     "prof", "--by", "function", self.heap)
        with open(self.path("text"), "w", encoding="utf-8") as file:
            file.write("not a heap\n" * 1000)
        self.run_bad(FAILED, "prof", "prof", self.path("text"))


if __name__ == "__main__":
    support.main()
