"""test_map.py -- the heap as a picture: what it shows is what was allocated, in each of its forms."""

import html.parser
import os
import pty
import random
import re
import subprocess
import xml.etree.ElementTree

import support
from content import Content, fill
from support import FAILED, KIB, MIB, sharena

PAGE = 4096
CHUNK_PAGES = 512
SVG = "{http://www.w3.org/2000/svg}"

KINDS = ["small", "large", "huge", "tail", "dirty", "clean", "pool", "moving"]
GROUPS = [128, 1024, 4096, 14336]
PLAIN_SHADES = {"large": 16, "huge": 17, "tail": 19, "dirty": 20, "clean": 21, "pool": 22,
                "moving": 23}
CACHED = 18
LETTERS = "aaAAbbBBccCCddDDLH$~+._?"


def shade_of(span):
    """The number of a colour, by the rules of the legend."""
    if span["kind"] == "small":
        group = next(i for i, most in enumerate(GROUPS) if span["block_bytes"] <= most)
        share = span["used"] / span["blocks"]
        return group * 4 + (0 if share <= 0.25 else 1 if share <= 0.5 else 2 if share <= 0.75 else 3)
    if span.get("cached"):
        return CACHED
    return PLAIN_SHADES[span["kind"]]


def pages_by_shade(picture):
    pages = {}
    for span in picture["spans"]:
        shade = shade_of(span)
        pages[shade] = pages.get(shade, 0) + span["pages"]
    return pages


def u16(value):
    return value.to_bytes(2, "little")


def u32(value):
    return value.to_bytes(4, "little")


def u64(value):
    return value.to_bytes(8, "little")


class Layout:
    """Where things are in the file of a heap (src/ipc/layout.h, src/heap/layout.h)."""

    def __init__(self, path):
        self.path = path
        pages = os.path.getsize(path) // PAGE
        self.base = self.read(40, 1)[0]
        data_begin, _, data_page_map = self.read(PAGE, 3)
        self.data = data_begin - self.base
        page_map = data_page_map - self.base - self.data // PAGE * 2
        kinds = page_map + -(-pages * 2 // PAGE) * PAGE
        self.runs = kinds + -(-pages * 2 // PAGE) * PAGE
        self.chunks = self.runs + pages * 64

    def read(self, where, count):
        with open(self.path, "rb") as file:
            file.seek(where)
            data = file.read(8 * count)
        return [int.from_bytes(data[i:i + 8], "little") for i in range(0, 8 * count, 8)]

    def run(self, page):
        return self.runs + (self.data // PAGE + page) * 64

    def chunk(self, index):
        return self.chunks + (self.data // (2 * MIB) + index) * 32

    def stack_at(self, slot, block_bytes):
        """The stack of a class up to 128 bytes."""
        return (1 << 20) + slot * 65536 + 8192 + (block_bytes // 16 + 1) * 32

    def stack(self, slot, block_bytes):
        """Its top, base, full, bottom."""
        return self.read(self.stack_at(slot, block_bytes), 4)


class Map(support.Case):
    def check_tiling(self, picture):
        page = 0
        for span in picture["spans"]:
            self.assertEqual(span["page"], page, span)
            self.assertGreater(span["pages"], 0, span)
            self.assertLessEqual(span["backed"], span["pages"], span)
            if "blocks" in span:
                self.assertLessEqual(span["used"] + span["cached"], span["blocks"], span)
            page += span["pages"]
        self.assertEqual(page, picture["heap"]["pages"])

    def filled(self):
        content = Content(self, self.heap)
        fill(content)
        return content

    def test_json_agrees_with_the_books(self):
        report = self.filled().report()
        picture = self.run_json("map", self.heap)
        self.check_tiling(picture)
        kinds = picture["kinds"]
        self.assertEqual(list(kinds), KINDS)
        self.assertEqual(sum(kinds[x]["used_bytes"] for x in KINDS), report["live_bytes"])
        self.assertEqual(sum(kinds[x]["cached_bytes"] for x in KINDS), report["cached_bytes"])
        self.assertGreater(report["cached_bytes"], 0)
        self.assertEqual(sum(x["backed"] for x in picture["spans"]), report["backed"])
        self.assertEqual(kinds["dirty"]["pages"], report["dirty"])
        self.assertEqual(picture["heap"]["pages"], report["chunks"] * CHUNK_PAGES)
        self.assertEqual(picture["heap"]["stored_bytes"],
                         report["backed"] * PAGE + picture["heap"]["metadata_bytes"])
        self.assertEqual(kinds["moving"]["pages"], 0)
        self.assertRegex(picture["heap"]["read"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        for kind in KINDS:
            self.assertEqual(kinds[kind]["pages"],
                             sum(x["pages"] for x in picture["spans"] if x["kind"] == kind))

    def test_json_agrees_with_what_was_allocated(self):
        self.filled()
        spans = self.run_json("map", self.heap)["spans"]

        def blocks(size, word):
            return sum(x[word] for x in spans if x.get("block_bytes") == size)

        self.assertEqual(blocks(64, "used"), 10000)
        self.assertEqual(blocks(512, "used"), 4000 - 1334)
        self.assertEqual(blocks(3072, "used"), 200)
        self.assertEqual(blocks(112, "used"), 2000)
        self.assertEqual(blocks(10240, "used"), 90)
        self.assertEqual(blocks(20480, "used"), 40 - 14)
        self.assertEqual(blocks(20480, "pages"), (40 - 14) * 5)
        self.assertEqual(blocks(327680, "used"), 6)
        self.assertEqual(blocks(3 * MIB, "used"), 3)
        self.assertEqual(blocks(5 * MIB, "pages"), 5 * MIB // PAGE)
        tails = sum(x["pages"] for x in spans if x["kind"] == "tail")
        self.assertEqual(tails, 4 * CHUNK_PAGES // 2)  # 3 of 2 * 2 MiB, and 5 of 3 * 2 MiB

    def test_blocks_in_caches_are_told_apart(self):
        content = Content(self, self.heap)
        for count in (1, 2, 4):  # until the cache has room for four
            content.tell("alloc 20000 %d" % count)
            content.tell("free 20000 1")
        for order in ("flush", "alloc 64 100", "free 64 1", "alloc 20000 6", "free 20000 2",
                      "alloc 3000000 2", "free 3000000 2"):
            content.tell(order)
        report = content.report()
        picture = self.run_json("map", self.heap)
        large = [x for x in picture["spans"] if x["kind"] == "large"]
        huge = [x for x in picture["spans"] if x["kind"] == "huge"]
        self.assertEqual([x["cached"] for x in large], [1, 0, 1, 0, 1, 0])
        self.assertEqual([x["used"] for x in large], [0, 1, 0, 1, 0, 1])
        self.assertEqual(sum(x["cached"] for x in huge), 1)
        self.assertEqual(sum(x["used"] for x in huge), 1)
        small = sum(x["cached"] for x in picture["spans"] if x["kind"] == "small")
        self.assertEqual(small + 3 + 1, report["cached"])
        pages = pages_by_shade(picture)[CACHED]
        self.assertEqual(pages, 3 * 5 + 3 * MIB // PAGE)
        text = self.run_fine("map", "--zoom=1", self.heap)
        self.assertEqual(self.letters(text).count("$"), pages)
        root = xml.etree.ElementTree.fromstring(self.run_fine("map", "-z1", "-s-", self.heap))
        self.assertEqual(self.svg_pages(root, 1)[CACHED], pages)

    def test_a_block_that_its_alignment_made_huge(self):
        content = Content(self, self.heap)
        content.tell(f"align 70000 {2 * MIB}")
        report = content.report()
        picture = self.run_json("map", self.heap)
        self.check_tiling(picture)
        huge = [x for x in picture["spans"] if x["kind"] == "huge"]
        self.assertEqual([(x["block_bytes"], x["pages"], x["used"]) for x in huge], [(81920, 20, 1)])
        self.assertEqual(picture["kinds"]["tail"]["pages"], CHUNK_PAGES - 20)
        self.assertEqual(sum(x["backed"] for x in picture["spans"]), report["backed"])
        self.assertEqual(picture["kinds"]["huge"]["used_bytes"], report["live_bytes"])

    def test_the_rest_of_a_block_may_hold_storage(self):
        content = Content(self, self.heap, "tcache_bytes:0")
        for order in ("alloc 4194304 1", "free 4194304 1", "alloc 3000000 1"):
            content.tell(order)
        report = content.report()
        spans = self.run_json("map", self.heap)["spans"]
        self.assertEqual([(x["kind"], x["pages"], x["backed"]) for x in spans if x["kind"] != "pool"],
                         [("huge", 768, 768), ("tail", 256, 256)])
        self.assertEqual(report["backed"], 1024)

    # ---- text ----

    def letters(self, text):
        return "".join(re.findall(r"^ +\d*  \|(.*)\|$", text, re.MULTILINE))

    def test_letters_are_the_pages(self):
        self.filled()
        picture = self.run_json("map", self.heap)
        text = self.run_fine("map", "--zoom", 1, "--width", 80, self.heap)
        letters = self.letters(text)
        expected = "".join(LETTERS[shade_of(x)] * x["pages"] for x in picture["spans"])
        self.assertEqual(letters, expected)
        legend = text.split("legend")[1]
        for letter in set(LETTERS):
            self.assertRegex(legend, re.compile(rf"^  \S*{re.escape(letter)}", re.MULTILINE))
        self.assertIn("\n      1  |", text)

    def test_a_cell_of_several_pages_is_what_most_of_them_are(self):
        self.filled()
        picture = self.run_json("map", self.heap)
        pages = [shade_of(x) for x in picture["spans"] for _ in range(x["pages"])]
        text = self.run_fine("map", "--zoom", 8, "--width", 140, self.heap)
        cells = [pages[i:i + 8] for i in range(0, len(pages), 8)]
        expected = "".join(LETTERS[max(sorted(set(x)), key=x.count)] for x in cells)
        self.assertEqual(self.letters(text), expected)

    def test_it_fits(self):
        self.filled()
        for width, columns in ((1, 8), (40, 16), (80, 64), (200, 128), (4000, 512)):
            lines = [x for x in self.run_fine("map", "--width", width, self.heap).split("\n")
                     if re.match(r" +\d*  \|", x)]
            self.assertLessEqual(len(lines), 64)
            self.assertEqual(max(len(x) for x in lines), columns + 11)

    def test_colours(self):
        self.filled()
        plain = self.run_fine("map", "--color=never", self.heap)
        colour = self.run_fine("map", "--color=always", self.heap)
        self.assertNotIn("\033", plain)
        self.assertIn("\033[97;48;5;", colour)
        stripped = re.sub(r"\033\[[0-9;]*m", "", colour)
        self.assertEqual(self.letters(stripped), self.letters(plain))
        self.assertIn("48;2;29;127;44", sharena("map", "--color=always", self.heap, env={
            **os.environ, "COLORTERM": "truecolor"}).out)

    def on_terminal(self, **more):
        """What the command writes to a terminal of 100 columns."""
        pid, fd = pty.fork()
        if pid == 0:
            environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
            os.execve("/bin/sh", ["sh", "-c", 'stty cols 100; exec "$0" map "$1"',
                                  support.program("sharena"), self.heap], {**environment, **more})
        text = b""
        while True:
            try:
                part = os.read(fd, 65536)
            except OSError:
                break
            if not part:
                break
            text += part
        os.close(fd)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        return text.decode().replace("\r\n", "\n")

    def test_a_terminal_gets_colours_unless_it_wants_none(self):
        self.filled()
        self.assertIn("\033[", self.on_terminal())
        plain = self.on_terminal(NO_COLOR="1")
        self.assertNotIn("\033", plain)
        self.assertEqual(len(re.findall(r"^ +0  \|(.*)\|$", plain, re.MULTILINE)[0]), 64)

    # ---- pictures ----

    def svg_pages(self, root, zoom):
        """Pages of each shade, by the areas of the elements of the grid."""
        pages = {}
        for row in root.iter(SVG + "g"):
            if row.get("class") != "row":
                continue
            for rect in row.iter(SVG + "rect"):
                if rect.get("class") == "edge":
                    continue
                shade = int(rect.get("class")[1:])
                area = float(rect.get("width")) * float(rect.get("height"))
                pages[shade] = pages.get(shade, 0) + area * zoom * int(rect.get("data-rows", 1))
        return {shade: round(x, 2) for shade, x in pages.items()}

    def test_svg_has_the_cells(self):
        self.filled()
        expected = pages_by_shade(self.run_json("map", self.heap))
        out = self.path("out.svg")
        for zoom in (1, 4, 64):
            self.assertEqual(self.run_fine("map", "--zoom", zoom, "--svg", out, self.heap), "")
            root = xml.etree.ElementTree.parse(out).getroot()
            pages = self.svg_pages(root, zoom)
            self.assertEqual(set(pages), set(expected))
            for shade, count in expected.items():
                self.assertAlmostEqual(pages[shade], count, delta=0.001 * count + 0.1)
            rows = [x for x in root.iter(SVG + "g") if x.get("class") == "row"]
            for stretch in (x for row in rows for x in row.findall(SVG + "g")):
                self.assertRegex(stretch.find(SVG + "title").text, "^chunk [0-9]+, page [0-9]+")
            self.assertLess(os.path.getsize(out), 200 * KIB)

    def test_svg_explains_itself(self):
        self.filled()
        root = xml.etree.ElementTree.fromstring(self.run_fine("map", "--svg", "-", self.heap))
        text = " ".join(x.text or "" for x in root.iter(SVG + "text"))
        for word in (self.heap, "Storage: ", "holes in the file", "large block", "huge block",
                     "free, dirty", "free, clean", "up to 128 B", "metadata", "arena 0", "chunks"):
            self.assertIn(word, text)
        style = next(root.iter(SVG + "style")).text
        for shade in range(25):
            self.assertIn(f".s{shade}{{fill:#", style)
        bar = next(x for x in root.iter(SVG + "g") if x.get("class") == "bar")
        self.assertAlmostEqual(sum(float(x.get("width")) for x in bar), 1024, delta=0.1)
        titles = [x.text for x in root.iter(SVG + "title")]
        self.assertTrue([x for x in titles if "1 of 1 block of 5.0 MiB used, 0 cached" in x], titles)

    def test_html_is_whole(self):
        self.filled()
        out = self.path("out.html")
        self.run_fine("map", "--html", out, "--svg", self.path("out.svg"), self.heap)
        with open(out, encoding="utf-8") as file:
            page = file.read()
        tags = []
        parser = html.parser.HTMLParser()
        parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
        parser.feed(page)
        self.assertEqual([x for x, _ in tags].count("table"), 2)
        for _, attributes in tags:
            self.assertNotIn("src", attributes)
            self.assertNotIn("href", attributes)
        picture = re.search(r"<svg .*</svg>", page, re.DOTALL)[0]
        with open(self.path("out.svg"), encoding="utf-8") as file:
            self.assertEqual(re.sub(r"\d\d:\d\d:\d\d", "", picture),
                             re.sub(r"\d\d:\d\d:\d\d", "", file.read()).strip())
        self.assertRegex(page, "<tr><td>64 B<td>[0-9]+<td>[^<]*<td>[0-9]+<td>10000<td>")

    def test_names_are_escaped(self):
        self.heap = self.path('a<b>&"c\033d\u00e9')
        self.create("--capacity", "64M")
        root = xml.etree.ElementTree.fromstring(self.run_fine("map", "--svg", "-", self.heap))
        title = next(x.text for x in root.iter(SVG + "text") if x.get("class") == "title")
        self.assertEqual(title, self.heap.replace("\033", "?"))
        self.assertIn("a<b>&\"c?d", self.run_fine("map", self.heap).split("\n")[0])
        self.assertEqual(self.run_json("map", self.heap)["heap"]["file"], self.heap)

    # ---- heaps as they come ----

    def test_an_empty_heap(self):
        self.create("--capacity", "64M")
        picture = self.run_json("map", self.heap)
        self.assertEqual(picture["spans"], [])
        self.assertEqual(picture["heap"]["pages"], 0)
        self.assertIn("legend", self.run_fine("map", self.heap))
        xml.etree.ElementTree.fromstring(self.run_fine("map", "--svg", "-", self.heap))

    def test_nothing_is_changed_and_no_hole_is_filled(self):
        content = self.filled()
        content.end()

        def state():
            with open(self.heap, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_NORMAL)
                status = os.fstat(file.fileno())
            return status.st_blocks, status.st_mtime_ns, status.st_size

        before = state()
        for form in ("--json", "--svg=-", "--html=-", "--color=never"):
            self.run_fine("map", form, self.heap)
        self.assertEqual(state(), before)

    def test_while_it_changes(self):
        content = Content(self, self.heap)
        for turn in range(15):
            content.process.stdin.write("alloc 5000 3000\nalloc 30000 200\nalloc 3000000 4\n"
                                        "free 5000 1\nfree 30000 1\nfree 3000000 1\npurge\n")
            content.process.stdin.flush()
            self.check_tiling(self.run_json("map", self.heap))
            for _ in range(7):
                content.answer()
            if turn % 5 == 0:
                self.run_fine("map", "--html=-", self.heap)

    def damage(self, *words):
        """The map of a copy in which (offset, bytes) were written."""
        damaged = self.path("damaged")
        subprocess.run(["cp", "--sparse=always", self.heap, damaged], check=True)
        with open(damaged, "r+b") as file:
            for where, what in words:
                file.seek(where)
                file.write(what)
        picture = self.run_json("map", damaged)
        self.check_tiling(picture)
        return picture

    def test_what_cannot_be_is_not_followed(self):
        self.filled().end()
        file = Layout(self.heap)
        spans = self.run_json("map", self.heap)["spans"]
        small = next(x for x in spans if x["kind"] == "small")
        large = next(x for x in spans if x["kind"] == "large")
        huge = next(x for x in spans if x["kind"] == "huge")

        def moving(picture):
            return [(x["page"], x["pages"]) for x in picture["spans"] if x["kind"] == "moving"]

        def rest(page):
            return [(page, CHUNK_PAGES - page % CHUNK_PAGES)]

        self.assertEqual(moving(self.damage((file.chunk(0) + 28, u32(0)))), rest(0))
        for pages in (0, 513, 0xffffffff):
            picture = self.damage((file.run(large["page"]) + 8, u32(pages)))
            self.assertEqual(moving(picture), rest(large["page"]))
        picture = self.damage((file.run(small["page"]) + 18, u16(5000)))  # free_regions
        self.assertEqual(moving(picture), [(small["page"], small["pages"])])
        picture = self.damage((file.run(small["page"]) + 14, u16(36)))  # size_class
        self.assertEqual(moving(picture), [(small["page"], small["pages"])])
        picture = self.damage((file.chunk(huge["page"] // CHUNK_PAGES) + 8, u32(1 << 31)))
        self.assertIn((huge["page"], CHUNK_PAGES), moving(picture))
        picture = self.damage((file.chunk(huge["page"] // CHUNK_PAGES) + 20, u16(159)))
        self.assertIn(huge["page"], [x for x, _ in moving(picture)])

    def test_caches_that_cannot_be_are_not_followed(self):
        content = Content(self, self.heap, "tcache_bytes:0")
        for order in ("alloc 64 200", "free 64 2"):
            content.tell(order)
        content.end()
        file = Layout(self.heap)
        top, base, full, bottom = file.stack(0, 64)
        cached = self.run_json("map", self.heap)["kinds"]["small"]["cached_bytes"]
        self.assertGreater(cached, 0)
        for where in (0, 8, 1 << 60, (1 << 64) - 8, bottom + (1 << 40), bottom - 8, bottom + 257 * 8):
            picture = self.damage((file.stack_at(0, 64), u64(where)))
            self.assertEqual(picture["kinds"]["small"]["cached_bytes"], 0, hex(where))
        for block in (0, 8, (1 << 64) - 8, file.base, file.base + (1 << 34), full):
            picture = self.damage((bottom - file.base, u64(block)))
            self.assertEqual(picture["kinds"]["small"]["cached_bytes"], cached - 64, hex(block))
        self.assertLess(base, top)

    def test_a_damaged_heap_is_drawn_or_refused(self):
        self.filled().end()
        file = Layout(self.heap)
        for seed in range(40):
            rng = random.Random(seed)
            words = []
            for _ in range(rng.choice([1, 20, 300])):
                where = rng.choice([file.run(rng.randrange(20 * 512)) + rng.randrange(64),
                                    file.chunk(rng.randrange(20)) + rng.randrange(32),
                                    file.stack_at(0, 8) + rng.randrange(4096)])
                words.append((where, bytes([rng.choice([0, 1, 3, 255, rng.randrange(256)])])))
            self.damage(*words)
            self.run_fine("map", "--html=-", self.path("damaged"))

    def test_what_cannot_be_done(self):
        self.create("--capacity", "64M")
        for zoom in ("0", "3", "2097152", "x", "-1"):
            self.run_bad(FAILED, "is not a zoom", "map", f"--zoom={zoom}", self.heap)
        for width in ("0", "5000", "wide"):
            self.run_bad(FAILED, "is not a width", "map", f"--width={width}", self.heap)
        self.run_bad(FAILED, "is not one of: auto", "map", "--color=blue", self.heap)
        for out in ("/dev/full", self.path("missing/x.svg")):
            for form in ("--svg", "--html"):
                self.run_bad(FAILED, ["sharena: map: ", "cannot be written"], "map", form, out,
                             self.heap)


if __name__ == "__main__":
    support.main()
