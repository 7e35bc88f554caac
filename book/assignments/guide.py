"""What the teacher's guide takes from elsewhere, so that nothing is typed twice: python book/assignments/guide.py [--times [chapter …]]

Writes book/assignments/guide/*.md, which guide.md includes, and book/_static/prerequisites.svg. Outcomes come from the first cells
of the chapters, rubrics and points from the masters; what a chapter needs and when it is taught stands here. A test compares the
files with what this would write. --times executes the chapters given (or all) and keeps the processor time each one takes.
"""

import argparse
import json
import re
import resource
import tempfile
from pathlib import Path

import frame
import nbformat
import yaml

FOLDER = frame.HERE / "guide"
PICTURE = frame.ROOT / "book" / "_static" / "prerequisites.svg"
TIMES = FOLDER / "times.json"
NAME = re.compile(r"\b(?:(?:sigma|tau|zeta|x̂|[A-Za-z])(?:_(?:\w|<i|\{[^}]+\})(?:\^\w)?|\^(?:\w|\([^)]+\)))|tau|zeta)(?!\w)")

# chapter: (what must be known just before it, the words in its box of the picture, (row, column) of the box)
CHAPTERS = {
    "foundations/generative_models": ((), ("What a generative", "model is"), (0, 1)),
    "autoregression/chain_rule": (("foundations/generative_models",), ("The chain rule",), (1, 0)),
    "autoregression/nade": (("autoregression/chain_rule",), ("NADE and RNADE",), (2, 0)),
    "autoregression/transformer": (("autoregression/nade",), ("The causal", "Transformer"), (3, 0)),
    "denoising/forward": (("foundations/generative_models",), ("The forward", "process"), (1, 1)),
    "denoising/ddpm": (("denoising/forward",), ("DDPM",), (2, 1)),
    "denoising/parameterisations": (("denoising/ddpm",), ("Schedules and", "what to predict"), (3, 1)),
    "continuous/score_matching": (("denoising/ddpm",), ("Score matching",), (3, 2)),
    "continuous/sdes": (("continuous/score_matching", "denoising/parameterisations"), ("SDEs and their", "reversal"), (4, 2)),
    "continuous/probability_flow": (("continuous/sdes",), ("Probability-flow", "ODE"), (5, 2)),
    "variance/analytic": (("continuous/score_matching",), ("The optimal", "variance"), (5, 0)),
    "variance/trajectories": (("variance/analytic",), ("Bounds and", "trajectories"), (6, 0)),
    "variance/imperfect_mean": (("variance/analytic",), ("Imperfect mean",), (7, 0)),
    "fast/exact_linear_part": (("continuous/probability_flow",), ("The exact", "linear part"), (6, 2)),
    "fast/dpm_solver": (("fast/exact_linear_part",), ("DPM-Solver",), (7, 2)),
    "fast/guidance": (("fast/dpm_solver",), ("Guidance,", "DPM-Solver++"), (8, 2)),
    "fast/side_by_side": (("fast/guidance",), ("Solvers", "side by side"), (9, 2)),
    "cifar10/training": (("denoising/parameterisations",), ("Training", "a U-Net"), (4, 1)),
    "cifar10/measuring": (("cifar10/training", "continuous/probability_flow"), ("Measuring it",), (6, 1)),
}
COLOURS = {"foundations": "#e8e8e8", "autoregression": "#fde6c8", "denoising": "#d3e8f7", "continuous": "#d8f0e0", "variance": "#f6dcea",
           "fast": "#e3dcf5", "cifar10": "#f7f2c4"}

# week by week: chapters taught, assignment handed in at the end of that week; week 0 is reading before the course
SCHEDULES = {
    14: [(), ("foundations/generative_models",), ("autoregression/chain_rule", "autoregression/nade"),
         ("autoregression/transformer",), ("denoising/forward", "=autoregression"), ("denoising/ddpm",),
         ("denoising/parameterisations", "=ddpm"), ("continuous/score_matching",), ("continuous/sdes",),
         ("continuous/probability_flow",), ("variance/analytic", "=score_and_sde"),
         ("variance/trajectories", "variance/imperfect_mean"), ("fast/exact_linear_part", "fast/dpm_solver", "=analytic"),
         ("fast/guidance", "cifar10/training", "=dpm_solver"), ("fast/side_by_side", "cifar10/measuring", "=guidance")],
    10: [(), ("foundations/generative_models",), ("autoregression/chain_rule", "autoregression/nade"),
         ("denoising/forward", "=autoregression"), ("denoising/ddpm",),
         ("denoising/parameterisations", "continuous/score_matching", "=ddpm"),
         ("continuous/sdes", "continuous/probability_flow"), ("variance/analytic", "variance/trajectories", "=score_and_sde"),
         ("fast/exact_linear_part", "fast/dpm_solver", "=analytic"), ("fast/guidance", "=dpm_solver"), ("fast/side_by_side", "=guidance")],
    6: [("foundations/generative_models",), ("denoising/forward",), ("denoising/ddpm",),
        ("denoising/parameterisations", "continuous/score_matching", "=ddpm"), ("continuous/sdes", "continuous/probability_flow"),
        ("fast/exact_linear_part", "fast/dpm_solver", "=score_and_sde"), ("fast/guidance", "=dpm_solver")],
}


def chapters():
    """The chapters of _toc.yml, in its order. ValueError for one that is not in CHAPTERS."""
    parts = yaml.safe_load((frame.ROOT / "_toc.yml").read_text())["parts"]
    found = [chapter["file"].removeprefix("book/") for part in parts if part.get("numbered") for chapter in part["chapters"]
             if (frame.ROOT / f"{chapter['file']}.ipynb").exists()]
    found = [name for name in found if not name.startswith("assignments/")]
    if strange := [name for name in found if name not in CHAPTERS]:
        raise ValueError(f"chapters {strange} of _toc.yml need an entry in CHAPTERS of {Path(__file__).name}")
    return found


def short(name):
    return " ".join(CHAPTERS[name][1])


def link(name):
    return f"{{doc}}`{short(name)} <../{name}>`"


def opening(name):
    """(title, list of outcomes) as the chapter states them, in Markdown."""
    cells = [c.source for c in nbformat.read(frame.ROOT / "book" / f"{name}.ipynb", 4).cells if c.cell_type == "markdown"]
    title = re.search(r"^# (.+)$", "\n".join(cells[:2]), re.M)[1]
    box = re.search(r"^:::+\{admonition\}.*?\n(.*?)^:::", "\n".join(cells[:2]), re.M | re.S)[1]
    bullets = re.split(r"^- ", box, flags=re.M)[1:]
    if not bullets:
        raise ValueError(f"{name}: no list of outcomes in the admonition at its head")
    return title, bullets


def outcomes(texts):
    """A list in Markdown that ends the sentence "a student can …", whatever its parts end with."""
    parts = [uncapitalised(" ".join(text.split())).rstrip(".;") for text in texts]
    return "\n".join(f"- {part}{';' if i < len(parts) else '.'}" for i, part in enumerate(parts, 1))


def uncapitalised(text):
    """For a list that ends a sentence: the first letter small, unless the word is an abbreviation."""
    return text[0].lower() + text[1:] if text[1:2].islower() else text


def needs_of_assignment(name):
    """The chapters that the first cell of an assignment links to."""
    first = nbformat.read(frame.HERE / "masters" / f"{name}.ipynb", 4).cells[0].source
    return [target for target in re.findall(r"\{doc\}`(?:[^`<]*<)?\.\./([\w/]+)>?`", first) if target in CHAPTERS]


def title_of_assignment(name):
    first = nbformat.read(frame.HERE / "masters" / f"{name}.ipynb", 4).cells[0].source
    number, title = re.search(r"^# Assignment (\d+): (.+)$", first, re.M).groups()
    return f"{number} {title[0].upper()}{title[1:]}"


def assignment_link(name):
    return f"{{doc}}`{title_of_assignment(name)} <{name}>`" if f"book/assignments/{name}" in toc() else title_of_assignment(name)


def toc():
    return frame.notebooks.toc_files()


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " :-- |" * len(head), *("| " + " | ".join(row) + " |" for row in rows)])


def chapters_page():
    measured = json.loads(TIMES.read_text())["seconds"] if TIMES.exists() else {}
    rows = []
    for name in chapters():
        needs = ", ".join(map(link, (n for n in CHAPTERS[name][0] if n in chapters()))) or "–"
        rows.append((link(name), needs, f"{measured[name]:.0f}" if name in measured else "–"))
    return table(("chapter", "needs", "seconds"), rows)


def outcomes_page():
    blocks = []
    for name in chapters():
        title, bullets = opening(name)
        blocks.append(f":::{{admonition}} {title}\n:class: dropdown tip\n\nAfter {link(name)} a student can\n\n{outcomes(bullets)}\n:::")
    return "\n\n".join(blocks)


def assignments_page():
    rows = []
    for name in frame.written():
        _, questions = frame.parse(frame.render(name, 0))
        by_hand = sum(q.points for q in questions if q.manual)
        rows.append((assignment_link(name), ", ".join(map(link, (n for n in needs_of_assignment(name) if n in chapters()))),
                     f"{sum(q.points for q in questions) - by_hand:g} + {by_hand:g}"))
    blocks = [table(("assignment", "chapters", "points by tests + by hand"), rows)]
    for name in frame.written():
        blocks.append(f":::{{admonition}} {title_of_assignment(name)}\n:class: dropdown tip\n\nAfter it a student can\n\n"
                      f"{outcomes(frame.about(name).OUTCOMES)}\n:::")
    return "\n\n".join(blocks)


def check_schedule(weeks):
    """ValueError where a chapter is taught, or an assignment is due, before what it needs."""
    taught, there = set(), set(chapters())
    for number, week in enumerate(weeks):
        for name in week:
            needs = needs_of_assignment(name[1:]) if name.startswith("=") else CHAPTERS[name][0]
            if missing := [n for n in needs if n in there and n not in taught]:
                raise ValueError(f"the schedule of {len(weeks) - 1} weeks has {name} in week {number}, before {missing}")
            taught.add(name)


def schedule_page(length):
    weeks, there, rows = SCHEDULES[length], set(chapters()), []
    check_schedule([[n for n in week if n in there or n.startswith("=") and n[1:] in frame.written()] for week in weeks])
    for number, week in enumerate(weeks):
        names = [link(n) for n in week if n in there]
        due = [assignment_link(n[1:]) for n in week if n.startswith("=") and n[1:] in frame.written()]
        if number or names:
            rows.append((str(number or "before"), "; ".join(names) or "–", "; ".join(due) or ""))
    left_out = [link(n) for n in chapters() if not any(n in week for week in weeks)]
    left_out += [f"assignment {assignment_link(n)}" for n in frame.written() if not any(f"={n}" in week for week in weeks)]
    text = table(("week", "chapters", "due at its end"), rows)
    return text + (f"\n\nNot in it: {'; '.join(left_out)}." if left_out else "\n\nNothing is left out.")


def symbols(text):
    """Names like x_t, h_{i+1}, V^(1−s) and tau as formulas; code and formulas stay what they are."""
    def formula(match):
        inner = match[0].replace("(", "{").replace(")", "}").replace("−", "-").replace("_<i", "_{<i}").replace("x̂", r"\hat x")
        return "$" + re.sub(r"^(sigma|tau|zeta)", r"\\\1", inner) + "$"
    parts = re.split(r"(`[^`]+`|\$[^$]+\$)", text)
    parts[::2] = [NAME.sub(formula, part) for part in parts[::2]]
    return "".join(parts)


def plain(text):
    """Text that no Markdown is read into, in the cell of a table; code and formulas stay what they are."""
    parts = re.split(r"(`[^`]+`|\$[^$]+\$)", symbols(text))
    parts[::2] = [re.sub(r"([*_|])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)


def headings(notebook):
    """Name of each question -> its heading, without the points, which stands in its prompt or in a cell before."""
    found, heading, name = {}, None, None
    for cell in notebook.cells:
        if cell.cell_type == "raw" and cell.source.startswith("# BEGIN QUESTION"):
            name = yaml.safe_load(cell.source)["name"]
        if title := re.search(r"^## (Question .+?)\s*(\([^)]*\))?$", cell.source, re.M):
            heading = title[1].rstrip(".")
        if cell.source.startswith("# END QUESTION"):
            found[name] = heading
    return found


def rubrics_page():
    blocks = []
    for name in frame.written():
        notebook = frame.render(name, 0)
        questions, titles = {q.name: q for q in frame.parse(notebook)[1] if q.manual}, headings(notebook)
        rubrics = frame.about(name).RUBRICS
        if set(rubrics) != set(questions):
            raise ValueError(f"{name}: rubrics for {sorted(rubrics)}, questions marked by hand are {sorted(questions)}")
        blocks.append(f"### {title_of_assignment(name)}")
        for question, rows in rubrics.items():
            points = sum(p for p, _ in rows)
            if points != questions[question].points:
                raise ValueError(f"{name}, {question}: the rubric gives {points} points, the question {questions[question].points}")
            blocks.append(f"**{titles[question]}**, {points:g} points\n\n"
                          + table(("points", "for"), [(f"{p:g}", plain(text)) for p, text in rows]))
    return "\n\n".join(blocks)


def picture():
    """The graph of prerequisites as SVG, 360 wide, so that a telephone shows it at its own size."""
    width, height, gap, step = 104, 38, 12, 64
    shown = chapters()
    corner = {name: (12 + CHAPTERS[name][2][1] * (width + gap), 6 + CHAPTERS[name][2][0] * step) for name in shown}
    total = max(y for _, y in corner.values()) + height + 6
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 {total}" width="360" height="{total}" role="img">',
           "<title>Which chapter needs which</title>",
           '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
           '<path d="M0 0.5L8 4L0 7.5z" fill="#444"/></marker></defs>',
           f'<rect width="360" height="{total}" rx="4" fill="#fff"/>', '<g fill="none" stroke="#444" stroke-width="1.3">']
    for name in shown:
        x, y = corner[name]
        for need in CHAPTERS[name][0]:
            if need not in corner:
                continue
            a, b = corner[need]
            rows = CHAPTERS[name][2][0] - CHAPTERS[need][2][0]
            start, end, sideways = (a + width / 2, b + height), (x + width / 2, y), (x > a) - (x < a)
            start, end = (start[0] + 22 * sideways, start[1]), (end[0] - 22 * sideways, end[1])
            bend = 18
            between = any(corner[n][0] == x and b < corner[n][1] < y for n in shown)
            if sideways == 0 and between:  # round it
                first, last = b + height / 2, y + height / 2
                line = f"M{a} {first}C{a - 13} {first} {a - 10} {first + 10} {a - 10} {first + 24}" \
                       f"L{a - 10} {last - 24}C{a - 10} {last - 10} {a - 13} {last} {a} {last}"
            elif sideways and rows > 1:  # down the gutter beside the column it comes from
                gutter = a + width + gap / 2 if sideways > 0 else a - gap / 2
                line = (f"M{start[0]} {start[1]}C{start[0]} {start[1] + bend} {gutter} {start[1] + 2} {gutter} {start[1] + 26}"
                        f"L{gutter} {end[1] - 24}C{gutter} {end[1] - 6} {end[0]} {end[1] - bend} {end[0]} {end[1]}")
            else:
                line = f"M{start[0]} {start[1]}C{start[0]} {start[1] + bend} {end[0]} {end[1] - bend} {end[0]} {end[1]}"
            out.append(f'<path d="{line}" marker-end="url(#a)"/>')
    out.append('</g>\n<g font-family="Helvetica, Arial, sans-serif" font-size="11.5" text-anchor="middle" fill="#111">')
    for name in shown:
        x, y = corner[name]
        lines = CHAPTERS[name][1]
        colour = COLOURS[name.split("/")[0]]
        out.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{colour}" stroke="#777" stroke-width="0.8"/>')
        for i, text in enumerate(lines):
            out.append(f'<text x="{x + width / 2}" y="{y + height / 2 + 4 + 14 * (i - (len(lines) - 1) / 2)}">{text}</text>')
    return "\n".join([*out, "</g>", "</svg>", ""])


def files():
    """Path -> text of everything this writes."""
    pages = {"chapters": chapters_page(), "outcomes": outcomes_page(), "assignments": assignments_page(), "rubrics": rubrics_page(),
             **{f"weeks_{length}": schedule_page(length) for length in SCHEDULES}}
    head = "% Written by book/assignments/guide.py: change it there, or in the chapters and masters.\n\n"
    return {PICTURE: picture(), **{FOLDER / f"{name}.md": head + text + "\n" for name, text in pages.items()}}


def measure(names):
    """Processor seconds, of one thread, that executing each chapter takes; kept with those measured before."""
    import torch
    from nbclient import NotebookClient

    from dpmlib import provenance
    kept = json.loads(TIMES.read_text())["seconds"] if TIMES.exists() else {}
    for name in names:
        path = frame.ROOT / "book" / f"{name}.ipynb"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with tempfile.TemporaryDirectory() as scratch:
            NotebookClient(nbformat.read(path, 4), timeout=900, resources={"metadata": {"path": scratch}}).execute()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        kept[name] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
        print(f"{name}: {kept[name]} s", flush=True)
        TIMES.write_text(json.dumps({
            "command": "OMP_NUM_THREADS=1 python book/assignments/guide.py --times", "commit": provenance.commit(),
            "device": provenance.device(torch.device("cpu")), "seconds": {n: kept[n] for n in CHAPTERS if n in kept}}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", nargs="*", metavar="chapter")
    args = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if args.times is not None:
        measure(args.times or chapters())
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
