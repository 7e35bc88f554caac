"""The code in the solutions of exercises runs, and says by `assert` what the solution claims.

Under nbval a solution's cells run with the whole chapter, `assert` and all. Here each solution runs with no more of its chapter than it
needs, in seconds, and so do the ```python blocks that stand in a solution's Markdown. Left to nbval are the solutions that need a network
to be trained or loaded, or the images, and a few slow ones.
"""

import re
import time
from collections import Counter
from functools import cache

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import notebooks
import pytest
import solutions
import torch

ROOT = notebooks.ROOT
CHAPTERS = [path for path in notebooks.notebooks() if path.parent != ROOT / "book"]
HEAVY = re.compile(r"cifar10|pretrained\(|\bfit\(|train_\w+\(|checkpoint|\bload_\w+\(|optim\.")
SLOW = {  # they take more than a few seconds, or what they need of their chapter does
    "ddpm-ex-immse", "ddpm-ex-iwae", "par-ex-steps", "ex-sd-strong", "ex-sd-richardson"}
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=[path.stem for path in CHAPTERS])


def read(path):
    return nbformat.read(path, as_version=4)


@cache
def chapter(path):
    return solutions.statements(read(path))


def labels(every):
    return list(dict.fromkeys(one.label for one in every if one.label))


def light(every):
    """The labels of the solutions that run in seconds."""
    heavy = {i for i, one in enumerate(every) if HEAVY.search(one.source) and not one.source.startswith(("import ", "from "))}
    return [label for label in labels(every) if label not in SLOW and not heavy & set(solutions.needed(every, label))]


def run(every, chosen):
    """Run the statements that the chosen solutions consist of and need, in the order of the chapter, in one namespace."""
    numbers = sorted(set().union(*(solutions.needed(every, label) for label in chosen)))
    namespace = {"__name__": "__main__", "display": print}
    for i in numbers:
        try:
            exec(compile(every[i].source, f"<{every[i].label or 'chapter'}>", "exec"), namespace)
        except Exception as error:
            where = f"in the solution of {every[i].label}" if every[i].label else "in what the solutions need of the chapter"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}\n{every[i].source}") from error


@pytest.fixture
def as_in_a_notebook(monkeypatch):
    """Nothing that a chapter sets is left behind."""
    backend, dtype, threads = matplotlib.get_backend(), torch.get_default_dtype(), torch.get_num_threads()
    with plt.rc_context(), torch.enable_grad():
        yield monkeypatch.chdir
    plt.close("all")
    matplotlib.use(backend)
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@each_chapter
def test_code_in_solutions_runs(path, as_in_a_notebook, record_property):
    as_in_a_notebook(path.parent)
    every = chapter(path)
    chosen = light(every)
    start = time.process_time()
    run(every, chosen)
    record_property("solutions", len(chosen))
    record_property("seconds", time.process_time() - start)


@each_chapter
def test_code_in_solutions_asserts(path):
    every = chapter(path)
    asserts = Counter(one.label for one in every if one.label and "assert " in one.source)
    assert len(asserts) >= 2, "at least two exercises to be computed, whose solutions say by assert what came out"
    assert light(every), "at least one of them without training or loading anything"
    assert not set(labels(every)) - set(asserts), "a wrong solution must fail"


def test_solutions_that_wait_for_the_chapter_are_run_by_nbval():
    assert SLOW <= {label for path in CHAPTERS for label in labels(chapter(path))}
    arguments = " ".join(map(str, notebooks.nbval_arguments()))
    assert all(str(path.relative_to(ROOT)) in arguments for path in CHAPTERS)


# That it can fail

def doctored(stem, old, new):
    path = next(path for path in CHAPTERS if path.stem == stem)
    notebook = read(path)
    cells = [cell for cell in notebook.cells if old in cell.source]
    assert len(cells) == 1
    cells[0].source = cells[0].source.replace(old, new)
    return path, solutions.statements(notebook)


@pytest.mark.parametrize("stem, label, old, new", [
    ("forward", "fwd-ex-half-life", "== 259 - 1", "== 258 - 1"),                     # a wrong number
    ("forward", "fwd-ex-length", "2e-3 / 775", "1e-3 / 775"),                        # a factor of two
    ("exact_linear_part", "el-ex-steps", "(lam_end - lam_start) / 0.04", "(lam_end - lam_start) / 0.05"),
    ("forward", "fwd-ex-slope-four", "** 8 / 12", "** 8 / 48"),                      # a wrong constant
    ("chain_rule", "chain-ex-mlp", "delta = r * net.alpha[i] * h", "delta = r * h"),  # a factor left out of a gradient
    ("chain_rule", "chain-ex-count", "2**d - 1}", "2**d + 20_000}"),                 # in a block of Markdown
    ("forward", "fwd-ex-two-points", "weight, snr = ", "weight, ratio = "),          # a name that nobody has defined
])
def test_a_wrong_solution_is_found(stem, label, old, new, as_in_a_notebook):
    path, every = doctored(stem, old, new)
    as_in_a_notebook(path.parent)
    with pytest.raises(AssertionError, match=f"in the solution of {label}"):
        run(every, [label])


def new_notebook(*cells):
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    return nbformat.v4.new_notebook(cells=[make[kind](source) for kind, source in cells])


START, END = ":::{solution-start} ex-a\n:class: dropdown\n:::\n", ":::{solution-end}\n:::"


def test_what_belongs_to_a_solution():
    notebook = new_notebook(
        ("code", "x = 1"), ("markdown", "```python\nraise ValueError  # of the chapter\n```"),
        ("markdown", START + "```python\ny = x\n```"), ("code", "assert y == 1"), ("markdown", END), ("code", "z = 1"),
        ("markdown", "::::{solution} ex-b\n:class: dropdown\n:::{note}\n:::\n```python\nw = 2\n```\n::::\n```python\nno\n```"))
    found = [(one.label, one.source) for one in solutions.program(notebook)]
    assert found == [(None, "x = 1"), ("ex-a", "y = x"), ("ex-a", "assert y == 1"), (None, "z = 1"), ("ex-b", "w = 2")]
    for bad in ("```python\nx = 1", ":::{solution} ex-c\nno end"):
        with pytest.raises(ValueError, match="not closed"):
            solutions.program(new_notebook(("markdown", START), ("markdown", bad)))


def test_what_a_solution_needs():
    notebook = new_notebook(
        ("code", "import math\nused, unused, start = [], [], 1.0\nwidth = 2"),
        ("code", "def f(x, w=width):\n    return g(x) + w\n\nunused.append(math.nan)"),
        ("code", "def g(x):\n    return sum(math.sqrt(v) for v in x)\n\nslow = [i for i in range(3)]"),
        ("code", "for v in (4.0, 9.0):\n    used.append(v)\n    start += v"),
        ("markdown", START), ("code", "assert f(used) == 7 and start == 14"), ("markdown", END))
    every = solutions.statements(notebook)
    text = "\n".join(every[i].source for i in solutions.needed(every, "ex-a"))
    assert "slow" not in text and "unused.append" not in text
    assert all(part in text for part in ("import math", "used.append", "width = 2", "def g"))
    run(every, ["ex-a"])


def test_heavy_solutions_are_left_to_nbval():
    cells = [("code", "net = pretrained('cifar10')\ny = 1"), ("markdown", START), ("code", "assert net"), ("markdown", END),
             ("markdown", START.replace("ex-a", "ex-b")), ("code", "assert y == 1"), ("markdown", END)]
    assert light(solutions.statements(new_notebook(*cells))) == ["ex-b"]

