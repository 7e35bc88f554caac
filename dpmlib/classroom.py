"""The autograded assignments, on top of otter-grader: a student's mistake costs its own question, and the grader says why.

Needs otter-grader, and nothing else in dpmlib imports this. Four things:

- `grader(name, seed)`, in the set-up cell, finds or fetches the visible tests and returns `otter.Notebook`;
- `test_case`, in the files of tests, is otter's decorator with limits: fresh random numbers, missing names named, a time limit;
- `Guard`, otter's plugin in the autograder, has every cell of a submission run by `cell`;
- `cell` runs it in a forked child first, and in the kernel only if the child came back.

While grading (the variable DPMLIB_GRADING, which `Guard` sets) tests run in forked children with a limit of memory as well.
In Colab or on a laptop they run where the student works, with the limit of time alone.
"""

import ast
import contextlib
import difflib
import io
import json
import os
import re
import subprocess
import tempfile
from importlib.metadata import distribution
from pathlib import Path
from types import FunctionType

import otter
import otter.test_files

from dpmlib.limits import Ended, in_child, in_here, memory

GRADING = "DPMLIB_GRADING"
SECONDS_PER_QUESTION = 8   # all its tests together; they need some 0.5 s
SECONDS_PER_CELL = 20      # and 5 once a cell was stopped
KEPT = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
PIP = re.compile(r"^\s*[%!]\s*pip\b.*$", re.M)
CHECK = re.compile(r"\s*grader\.check\((['\"])\w+\1\)\s*")

_spent = {}      # seconds of each question
_stopped = []    # (source of a cell, why it did not run)


def grader(name: str, seed: int) -> "otter.Notebook":
    """otter's grader with the visible tests of assignment `name`, variant `seed`.

    They lie in tests/NAME beside the notebook. Where they do not (Colab), they are fetched from the repository and the commit
    that dpmlib was installed from. ValueError if they are there for another variant, or nowhere.
    """
    if os.environ.get(GRADING) or otter.Notebook._grading_mode:
        return otter.Notebook()  # otter has set the folder
    tests = Path("tests", name)
    if not tests.is_dir():
        fetch(name, tests)
    theirs = int((tests / "SEED").read_text())
    if theirs != seed:
        raise ValueError(f"seed must be {theirs}, the variant of the tests in {tests}, not {seed}: "
                         f"put the folder of tests that came with this notebook in its place")
    return otter.Notebook(tests_dir=str(tests))


def fetch(name: str, folder: Path):
    """Copy the visible tests of an assignment to `folder`, from where dpmlib came from. ValueError if that has none."""
    source = json.loads(distribution("dpmlib").read_text("direct_url.json") or "{}")
    path = f"book/assignments/tests/{name}"
    with tempfile.TemporaryDirectory() as scratch:
        if "vcs_info" in source:
            commit = source["vcs_info"]["commit_id"]
            for command in (["init", "-q"], ["remote", "add", "origin", source["url"]], ["sparse-checkout", "set", path],
                            ["fetch", "-q", "--depth=1", "--filter=blob:none", "origin", commit], ["checkout", "-q", "FETCH_HEAD"]):
                subprocess.run(["git", "-C", scratch, *command], check=True, capture_output=True)
            root = Path(scratch)
        else:
            root = Path(source.get("url", "").removeprefix("file://"))
        if not (root / path).is_dir():
            raise ValueError(f"name must be an assignment whose tests are in {folder} or in {source.get('url')}, not {name!r}")
        folder.mkdir(parents=True)
        for file in (root / path).iterdir():
            (folder / file.name).write_text(file.read_text())


class test_case(otter.test_files.test_case):
    """otter's decorator of a test function, with limits and with messages that name what is missing."""
    __test__ = False  # pytest

    def call_func(self, global_environment):
        name, code = self.test_func.__globals__["name"], self.test_func.__code__
        missing = [each for each in self._get_func_params() if global_environment.get(each) is None]
        if missing:
            problem = Ended("NameError", absent(missing, global_environment))
        else:
            run = in_child if os.environ.get(GRADING) else in_here
            left = max(SECONDS_PER_QUESTION - _spent.get(name, 0), 0.5)
            problem, seconds = run(lambda: super(test_case, self).call_func(global_environment), left, code.co_filename)
            _spent[name] = _spent.get(name, 0) + seconds if os.environ.get(GRADING) else 0
            if problem and problem.kind == "TimeLimit":
                problem = problem._replace(text=f"not done in time; the tests of a question have {SECONDS_PER_QUESTION} s together")
            elif problem and "NoneType" in problem.text:
                said = problem.text.replace("'NoneType'", "NoneType")  # otter takes a quote at the beginning for its own
                problem = problem._replace(text=f"{said}. Is an answer still `...`, or does a function end without `return`?")
        if problem:  # as otter expects it: raised two frames below its own, at the line of the test to be shown
            error = type(problem.kind, (Exception,), {})(problem.text)
            line = problem.line or code.co_firstlineno + 1  # its def: the decorator takes one line
            exec(compile("\n" * (line - 1) + "raise error", "<test>", "exec"), {"error": error})


def absent(names, scope):
    """Why these names are not in the notebook, as far as can be known."""
    text = f"there is no {' and no '.join(names)} in the notebook: its cell is missing or did not run, or the name was changed."
    for name in names:
        theirs = [why for source, why in _stopped if re.search(rf"\b{name}\b", source)]
        text += "".join(f" {why}" for why in theirs or [why for _, why in _stopped])
        own = [key for key, value in scope.items() if isinstance(value, FunctionType) and value.__module__ == "__main__"]
        text += "".join(f" Is it the one you call {other}?" for other in difflib.get_close_matches(name, own, 1))
    return text


def cell(source: str, scope: dict):
    """Run a cell of a submission in the namespace `scope`: on trial in a child, and then here.

    A cell that does not come back (an endless loop, too much memory, os._exit) is left out here but for its definitions and
    imports, one that does not parse altogether. Exceptions end the cell, as ever, and no more than that.
    """
    scope["exit"] = scope["quit"] = leave  # IPython's would end the kernel
    source = PIP.sub("pass", source)  # no network here
    with contextlib.suppress(ImportError):
        from IPython import get_ipython
        source = get_ipython().transform_cell(source) if get_ipython() else source
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return stop(source, f"A cell is not Python: {error.msg}, line {error.lineno}: {(error.text or '').strip()}")
    problem = None
    if not all(isinstance(node, ast.FunctionDef) and not node.decorator_list for node in tree.body):  # to define is harmless
        problem, _ = in_child(lambda: exec(compile(tree, "<cell>", "exec"), scope), 5 if _stopped else SECONDS_PER_CELL, "<cell>")
    if problem:
        stop(source, f"A cell was stopped{f' at its line {problem.line}' * bool(problem.line)}: {problem.kind}: {problem.text}")
    if problem and problem.fatal:
        tree.body = [node for node in tree.body if isinstance(node, KEPT)]
    with memory(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(BaseException):
            exec(compile(tree, "<cell>", "exec"), scope)


def stop(source, why):
    _stopped.append((source, why))
    print(why)


def leave(*args):
    raise SystemExit


class Guard:
    """otter's plugin that has each cell run by `cell`, with one thread, no pictures and no progress bars."""

    def __init__(self, submission_path, submission_metadata, plugin_config):
        pass

    def before_execution(self, submission):
        os.environ.update({GRADING: "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "TQDM_DISABLE": "1"})
        for each in submission.cells:
            if each.cell_type == "code" and not CHECK.fullmatch(each.source):
                each.source = f"from dpmlib import classroom\nclassroom.cell({each.source!r}, globals())"
        return submission
