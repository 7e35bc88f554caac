"""From a master notebook to what students and teachers get. `make assignments` runs make.py, authors run check.py; both call this.

A master (masters/NAME.ipynb) is in otter-grader's assign format, with placeholders {{name}} whose values `constants(seed)` in
masters/NAME.py gives. `render` fills them in and puts the configuration and the set-up cells in front; `write` lets otter make
the student notebook, the solution and the autograder out of that, and writes the test files itself: otter's own have neither
names nor guards.
"""

import ast
import contextlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))
import notebooks  # noqa: E402

HERE = ROOT / "book" / "assignments"
NAMES = ["autoregression", "ddpm", "score_and_sde", "analytic", "dpm_solver", "guidance"]
CONFIG = {"init_cell": False, "export_cell": False, "check_all_cell": False, "runs_on": "colab", "show_question_points": False,
          "tests": {"files": True, "ok_format": False}, "python_version": "3.11",
          "generate": {"show_stdout": False, "show_hidden": False, "plugins": ["dpmlib.classroom.Guard"]}}
SETUP = '''\
try:
    import otter
except ModuleNotFoundError:  # in Colab, say
    import subprocess, sys
    subprocess.run([sys.executable, "-m", "pip", "install", "-qq", "otter-grader=={otter}"], check=True)
from dpmlib import classroom
grader = classroom.grader("{name}", seed={seed})'''
HAND_IN = """\
## Handing it in

Restart the kernel, run all cells in order, save, and hand in this notebook alone (in Colab: *File → Download → Download .ipynb*).
Hidden tests, with other seeds, shapes and schedules, are run on what you hand in."""


@dataclass(frozen=True)
class Test:
    name: str
    points: float
    hidden: bool
    failure_message: str
    source: str  # the function alone


@dataclass(frozen=True)
class Question:
    name: str
    points: float
    manual: bool
    prompt: str
    solution: str  # of its one cell, with otter's marks
    tests: tuple[Test, ...]


def written():
    """The names of the assignments that have a master, in the book's order."""
    return [name for name in NAMES if (HERE / "masters" / f"{name}.ipynb").exists()]


def module(path):
    """A Python file as a module, whatever folder it lies in."""
    spec = importlib.util.spec_from_file_location(f"_{path.parent.name}_{path.stem}", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def about(name):
    """masters/NAME.py: constants, OUTCOMES, RUBRICS."""
    return module(HERE / "masters" / f"{name}.py")


def catalogue(name):
    """tests/assignments/NAME.py: WRONG and RIGHT."""
    return module(ROOT / "tests" / "assignments" / f"{name}.py")


def but(source, *changes):
    """For a catalogue: `source` with each (old, new) carried out. ValueError for a change that finds or changes nothing."""
    for old, new in changes:
        if old not in source or old == new:
            raise ValueError(f"{old!r} is not to be changed to {new!r} in\n{source}")
        source = source.replace(old, new)
    return source


def each_with(base, changes):
    """For a catalogue: label -> `base` with that label's one change (old, new)."""
    return {label: but(base, change) for label, change in changes.items()}


def fill(text, values):
    """Each {{name}} replaced by its value. ValueError where a name has none."""
    def value(match):
        if match[1] not in values:
            raise ValueError(f"no constant {match[1]!r} for the placeholder {match[0]}; there are {sorted(values)}")
        return str(values[match[1]])
    return re.sub(r"\{\{(\w+)\}\}", value, text)


def render(name, seed):
    """The master of one variant: placeholders filled in, configuration and set-up in front."""
    notebook = nbformat.read(HERE / "masters" / f"{name}.ipynb", as_version=4)
    values = about(name).constants(seed)
    for cell in notebook.cells:
        cell.source = fill(cell.source, values)
    pin = re.search(r"^otter-grader==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M)[1]
    new = nbformat.v4
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    version = git.stdout.strip() if git.returncode == 0 else "refs/heads/main"
    # an archive, since otter's containers have no git; of this commit, since the tests were written for it
    config = CONFIG | {"requirements": ["torch", f"dpmlib @ {notebooks.address()}/archive/{version}.zip"]}
    setup = new.new_code_cell(notebooks.setup_cell(), metadata=dict(notebooks.SETUP_METADATA))
    ours = new.new_code_cell(SETUP.format(otter=pin, name=name, seed=seed), metadata=dict(notebooks.SETUP_METADATA))
    notebook.cells = [new.new_raw_cell("# ASSIGNMENT CONFIG\n" + yaml.safe_dump(config, sort_keys=False)), notebook.cells[0], setup, ours,
                      *notebook.cells[1:], new.new_markdown_cell(HAND_IN)]
    return notebook


def parse(notebook):
    """A rendered master as (sources of the given code cells, questions)."""
    given, questions, config, part = [], [], None, None
    for cell in notebook.cells:
        mark = re.match(r"#\s*(BEGIN|END|ASSIGNMENT)\s+(\w+)", cell.source) if cell.cell_type == "raw" else None
        if mark and mark[2] == "QUESTION":
            if mark[1] == "BEGIN":
                config, prompt, solution, tests = yaml.safe_load(cell.source), [], [], []
            else:
                questions.append(Question(config["name"], config["points"], config.get("manual", False), "\n\n".join(prompt),
                                          "\n".join(solution), tuple(tests)))
                config = None
        elif mark:
            part = mark[2] if mark[1] == "BEGIN" else None
        elif config is None:
            given += [cell.source] if cell.cell_type == "code" else []
        elif part == "SOLUTION":
            solution.append(cell.source)
        elif part == "TESTS":
            tests.append(parse_test(cell.source))
        else:
            prompt.append(cell.source)
    return given, questions


def parse_test(source):
    """A test's cell: the configuration between its marks, then one function, then its call."""
    match = re.match(r'""" # BEGIN TEST CONFIG\n(.*?)\n""" # END TEST CONFIG\n(.*)', source, re.S)
    if not match:
        raise ValueError(f"a test begins with its configuration, not with\n{source[:200]}")
    config = yaml.safe_load(match[1])
    function = ast.parse(match[2]).body[0]
    lines = match[2].splitlines()[function.lineno - 1:function.end_lineno]
    return Test(config["name"], config["points"], config["hidden"], config.get("failure_message"), "\n".join(lines))


def test_file(question, hidden):
    """The text of a question's file of tests, the hidden ones among them or not."""
    lines = ["from dpmlib.classroom import test_case", "", "OK_FORMAT = False", "", f"name = {question.name!r}",
             f"points = {None if not hidden else question.points}", ""]
    for test in question.tests:
        if hidden or not test.hidden:
            lines += ["", f"@test_case(name={test.name!r}, points={test.points}, hidden={test.hidden}, "
                      f"failure_message={test.failure_message!r})", test.source, ""]
    return "\n".join(lines)


def untouched(source):
    """A solution's cell as the student finds it."""
    from otter.assign.solutions import replace_solutions
    return "\n".join(replace_solutions(source.split("\n"), "python"))


def write(name, seed, folder):
    """Make folder/NAME with student/, solution/ and autograder.zip in it, and return its path."""
    import otter.assign
    target = Path(folder) / name
    master = render(name, seed)
    questions = [question for question in parse(master)[1] if question.tests]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, f"{name}.ipynb")
        nbformat.write(master, path)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            otter.assign.main(str(path), f"{scratch}/made", no_run_tests=True)
        made = Path(scratch, "made")
        shutil.rmtree(target, ignore_errors=True)
        for folder, source, hidden in (("student", "student", False), ("solution", "autograder", True)):
            tests = target / folder / "tests" / name
            tests.mkdir(parents=True)
            (tests / "SEED").write_text(f"{seed}\n")
            for question in questions:
                (tests / f"{question.name}.py").write_text(test_file(question, hidden))
            notebook = nbformat.read(made / source / f"{name}.ipynb", as_version=4)
            nbformat.write(tidy(notebook, name), target / folder / f"{name}.ipynb")
        archive, = (made / "autograder").glob("*.zip")
        with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target / "autograder.zip", "w", zipfile.ZIP_DEFLATED) as new:
            for item in old.namelist():
                if not item.startswith("tests/"):
                    new.writestr(item, old.read(item))
            for question in questions:
                new.writestr(f"tests/{question.name}.py", test_file(question, hidden=True))
    return target


def tidy(notebook, name):
    """The same notebook from the same master: ids that count, no outputs, no empty cells."""
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{name}-{i:03d}"
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict({"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                                            "language_info": {"name": "python"}})
    return notebook


def publish(name, folder):
    """Copy what a student gets into the book: its page, and the visible tests beside it."""
    student = Path(folder) / name / "student"
    shutil.copy(student / f"{name}.ipynb", HERE)
    shutil.rmtree(HERE / "tests" / name, ignore_errors=True)
    shutil.copytree(student / "tests" / name, HERE / "tests" / name)
