"""plots.py -- pictures of some of the tables, by gnuplot, as SVG."""

import subprocess

# One colour per backend in all pictures (Okabe and Ito's, which the colour-blind can tell apart).
COLOURS = {"sharena": "#d55e00", "jemalloc": "#0072b2", "mimalloc": "#009e73",
           "tcmalloc": "#cc79a7", "glibc": "#56b4e9", "boost": "#000000", "pmemobj": "#e69f00",
           "bare": "#999999"}

HEAD = """set terminal svg size 760,420 font 'sans-serif,13' background '#ffffff'
set output '{path}'
set title '{title}'
set ylabel '{ylabel}'
set key outside right
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror
"""


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def lines_plot(results, path, spec):
    """One line per backend over the rows of a table; the rows are named along the x axis."""
    rows = [x for x in results.values[spec["table"]] if spec.get("row", "") in x]
    backends = [x for x in COLOURS if any(x in results.values[spec["table"]][r] for r in rows)]
    if not rows or not backends:
        return
    script = HEAD.format(path=path, title=spec["title"], ylabel=spec["ylabel"])
    script += "set logscale y\n" if spec.get("is_log") else "set yrange [0:*]\n"
    labels = [row.split(",")[0].replace("%", "%%") for row in rows]
    tics = ", ".join(f"'{label}' {i}" for i, label in enumerate(labels))
    script += f"set xtics ({tics})\nset xrange [-0.3:{len(rows) - 0.7}]\n"
    plotted = []
    data = ""
    for backend in backends:
        data += f"${backend} << END\n"
        for i, row in enumerate(rows):
            median = results.median(spec["table"], row, backend)
            data += f"{i} {median}\n" if median is not None else ""
        data += "END\n"
        width = 3 if backend == "sharena" else 1.5
        plotted.append(f"${backend} using 1:2 with linespoints lw {width} pt 7 ps 0.6 "
                       f"lc rgb '{COLOURS[backend]}' title '{backend}'")
    gnuplot(script + data + "plot " + ", \\\n  ".join(plotted) + "\n")


PLOTS = [
    {"file": "pair.svg", "table": "pair", "title": "A block taken and given back at once",
     "ylabel": "ns", "is_log": True},
    {"file": "workers.svg", "table": "workers", "title": "Workers on one heap",
     "ylabel": "million replacements per second"},
    {"file": "exchange.svg", "table": "exchange", "title": "Blocks given back by the other worker",
     "ylabel": "million blocks per second"},
    {"file": "fragmentation.svg", "table": "fragmentation", "row": "in use: held",
     "title": "Memory held while sizes shift", "ylabel": "MiB"},
    {"file": "scale.svg", "table": "scale", "row": "open",
     "title": "Opening a heap of so many blocks", "ylabel": "us", "is_log": True},
]


def draw(results, folder):
    folder.mkdir(exist_ok=True)
    for spec in PLOTS:
        if spec["table"] in results.values:
            lines_plot(results, folder / spec["file"], spec)
