"""test_docs.py -- the manual and the completion say what the command does."""

import re
import shutil
import subprocess

import support


def read_manual():
    with open(f"{support.SOURCE}/doc/sharena.1", encoding="utf-8") as file:
        return file.read()


class Docs(support.Case):
    def commands(self):
        listed = self.run_fine("--help").split("Commands:")[1]
        return re.findall(r"^  (\w+) ", listed, re.MULTILINE)

    def long_options(self, command):
        return set(re.findall(r"--([a-z-]+)", self.run_fine(command, "--help"))) - {"help"}


class Manual(Docs):
    def section_of(self, command):
        """What the manual says about a command: from its item to that of the next one."""
        text = read_manual().split(".Sh DESCRIPTION")[1].split(".Sh SNAPSHOTS")[0]
        items = re.split(r"(?m)^\.It (?=Xo$|Nm Cm )", text)[1:]
        found = [x for x in items if re.match(rf"(Xo\n\.Nm\n\.Cm|Nm Cm) {command}\b", x)]
        self.assertEqual(len(found), 1, f"{command} is not in doc/sharena.1")
        return found[0]

    def test_lint(self):
        if shutil.which("mandoc") is None:
            self.skipTest("no mandoc")
        ran = subprocess.run(["mandoc", "-Tlint", "-Wwarning", f"{support.SOURCE}/doc/sharena.1"],
                             capture_output=True, text=True, check=False)
        self.assertEqual((ran.returncode, ran.stdout), (0, ""))

    def test_every_command_and_option_is_in_it(self):
        for command in self.commands():
            section = self.section_of(command)
            for option in self.long_options(command) - {"json"}:
                self.assertRegex(section, rf"(?m)^\.(It )?Fl \w , -{option}\b",
                                 f"{command} --{option} is not in doc/sharena.1")
            has_json = "json" in self.long_options(command)
            self.assertEqual(bool(re.search(r"Fl \w*j\w*\b", section.split("\n.B")[0])), has_json,
                             f"{command} --json")

    def test_nothing_else_is_in_it(self):
        text = read_manual().split(".Sh DESCRIPTION")[1].split(".Sh SNAPSHOTS")[0]
        named = re.findall(r"(?m)^\.It Nm Cm (\w+)|^\.It Xo\n\.Nm\n\.Cm (\w+)", text)
        self.assertEqual(sorted(x or y for x, y in named), sorted(self.commands()))
        for command in self.commands():
            section = self.section_of(command)
            for option in re.findall(r"(?m)^\.(?:It )?Fl \w , -([a-z-]+)", section):
                self.assertIn(option, self.long_options(command), command)

    def test_every_option_of_the_configuration(self):
        self.create()
        found = re.findall(r"(?m)^\.It Va (\w+) No = ([\w.-]+) Pq (.*)$", read_manual())
        rows = {name: default for name, default, _ in found}
        with open(f"{support.SOURCE}/doc/configuration.md", encoding="utf-8") as file:
            table = re.findall(r"(?m)^\| `(\w+)` \| \w+ \| \S+ \| ([^|]*) \|", file.read())
        self.assertEqual({name: re.findall(r"\d+", values) for name, _, values in found},
                         {name: re.findall(r"\d+", values) for name, values in table})
        with open(f"{support.SOURCE}/include/sharena/sharena.h", encoding="utf-8") as file:
            header = file.read().partition("name                     default  meaning\n")[2]
        self.assertEqual(dict(re.findall(r"(?m)^ \*     (\w+) +([\w.-]+) +\w", header)), rows)
        options = self.run_json("stats", self.heap)["sharena"]["opt"]
        defaults = {name: str(x["value"]).lower() if isinstance(x["value"], bool)
                    else str(x["value"]) for name, x in options.items()
                    if x["source"] == "default"}
        self.assertEqual({name: rows.get(name) for name in defaults}, defaults)
        self.assertEqual(set(rows), set(options))


class Completion(Docs):
    def complete(self, *words):
        script = f"""
            source {support.SOURCE}/completions/sharena
            complete -p sharena > /dev/null || exit 1
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            _sharena
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        ran = subprocess.run(["bash", "-uc", script, "bash", support.program("sharena"), *words],
                             capture_output=True, text=True, cwd=self.folder, check=False)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        return sorted(ran.stdout.split("\n")[:-1]) if ran.stdout != "\n" else []

    def test_commands(self):
        self.assertEqual(self.complete(""), sorted(self.commands()))
        self.assertEqual(self.complete("sn"), ["snapshot"])
        self.assertEqual(self.complete("xyz"), [])
        self.assertEqual(self.complete("-"), ["--help", "--version"])

    def test_options(self):
        self.assertEqual(self.complete("check", "--"), ["--help", "--json", "--recover"])
        self.assertEqual(self.complete("create", "--c"), ["--capacity=", "--conf="])
        self.assertEqual(self.complete("rm", "x", "--f"), ["--force"])

    def test_files(self):
        self.create(path=self.path("one heap"))
        self.create(path=self.path("other"))
        self.assertEqual(self.complete("info", "o"), ["one heap", "other"])
        self.assertEqual(self.complete("info", "one"), ["one heap"])


if __name__ == "__main__":
    support.main()
