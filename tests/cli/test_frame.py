"""test_frame.py -- the command itself: help, version, and arguments that are wrong."""

import re
import subprocess

import support
from support import FAILED, FINE, sharena


def commands():
    listed = sharena("--help").out.split("Commands:")[1]
    return re.findall(r"^  (\w+) ", listed, re.MULTILINE)


class Frame(support.Case):
    def test_help_lists_commands_each_of_which_helps(self):
        self.assertIn("create", commands())
        for command in commands():
            for flag in ("-h", "--help"):
                text = self.run_fine(command, flag)
                self.assertIn(f"usage: sharena {command} ", text)
                self.assertIn("--help", text)

    def test_help_and_version(self):
        self.assertIn("usage: sharena", self.run_fine("-h"))
        with open(f"{support.SOURCE}/include/sharena/sharena.h", encoding="utf-8") as header:
            version = re.search(r'SHARENA_VERSION "([^"]+)"', header.read())[1]
        self.assertEqual(self.run_fine("--version"), f"sharena {version}\n")

    def test_no_command_and_an_unknown_one(self):
        ran = sharena()
        self.assertEqual((ran.status, ran.out), (FAILED, ""))
        self.assertIn("usage: sharena", ran.err)
        self.run_bad(FAILED, "there is no command bogus", "bogus", self.heap)

    def test_every_command_refuses_what_it_does_not_know(self):
        for command in commands():
            self.run_bad(FAILED, [f"sharena: {command}: --bogus", f"sharena {command} --help"],
                         command, "--bogus", self.heap)
            self.run_bad(FAILED, f"sharena: {command}: 0 arguments", command)
            self.run_bad(FAILED, f"sharena: {command}: 7 arguments", command, *"abcdefg")
            self.run_bad(FAILED, f"sharena: {command}: ", command, "")
            self.run_bad(FAILED, f"sharena: {command}: --help=x", command, "--help=x")

    def test_every_command_says_what_is_no_heap(self):
        for command in commands():
            operands = [self.path("missing/heap"), self.path("missing/copy")]
            count = len(re.search(r"\] (.*)", self.run_fine(command, "--help"))[1].split())
            ran = self.run_bad(FAILED, f"sharena: {command}: ", command, *operands[:count])
            self.assertIn("no such file", ran.err)

    def test_output_that_cannot_be_written(self):
        self.create()
        with open("/dev/full", "w", encoding="utf-8") as full:
            for arguments in (["--help"], ["create", "--help"], ["info", self.heap]):
                ran = subprocess.run([support.program("sharena"), *arguments], stdout=full,
                                     stderr=subprocess.PIPE, text=True, check=False)
                self.assertEqual(ran.returncode, FAILED, arguments)
                self.assertIn("cannot be written", ran.stderr, arguments)
        self.assertEqual(sharena("info", self.heap).status, FINE)


if __name__ == "__main__":
    support.main()
