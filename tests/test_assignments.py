"""The graders, graded: what each question's tests say to right and wrong answers, and what otter makes of mishaps."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import notebooks
import pytest
from nbclient import NotebookClient

sys.path.insert(0, str(notebooks.ASSIGNMENTS))
import check  # noqa: E402
import frame  # noqa: E402

each_assignment = pytest.mark.parametrize("name", frame.written())


def replaced(notebook, **changes):
    """The student's notebook with cells replaced: `function`="code" for the cell that defines `function`; None deletes it."""
    cells = []
    for cell in notebook.cells:
        found = [new for function, new in changes.items() if re.match(rf"def {function}\(", cell.source)]
        if found:
            cell.source = found[0]
        if found != [None]:
            cells.append(cell)
    notebook.cells = cells
    return notebook


class TestBook:
    """Two classes, so that the two variants are graded on two cores."""
    seed = 0

    @each_assignment
    def test_solution_and_right_ones_get_all_points_untouched_ones_none_and_wrong_ones_lose_some(self, name, record_property):
        counts = {}
        found = check.complaints(name, self.seed, report=lambda question, kind, *_: counts.update({kind: counts.get(kind, 0) + 1}))
        for kind, count in counts.items():
            record_property(kind, float(count))
        assert not found, "\n".join(found)

    @each_assignment
    def test_every_constant_is_used_and_seeds_differ(self, name):
        master = (frame.HERE / "masters" / f"{name}.ipynb").read_text() + (frame.ROOT / "tests" / "assignments" / f"{name}.py").read_text()
        values, others = (frame.about(name).constants(seed) for seed in (self.seed, self.seed + 1))
        assert values.keys() == others.keys() and values == frame.about(name).constants(self.seed)
        assert not [key for key in values if f"{{{{{key}}}}}" not in master], "constants without a placeholder"
        assert sum(values[key] != others[key] for key in values) >= 3, "two variants that hardly differ"


class TestVariant(TestBook):
    seed = 5


class TestPages:
    @each_assignment
    def test_committed_is_what_make_assignments_makes(self, name, tmp_path):
        seed = int((frame.HERE / "tests" / name / "SEED").read_text())
        student = frame.write(name, seed, tmp_path) / "student"
        advice = f"run make assignments SEED={seed}"
        assert (student / f"{name}.ipynb").read_text() == (frame.HERE / f"{name}.ipynb").read_text(), advice
        made, there = (sorted((file.name, file.read_text()) for file in folder.iterdir() if file.is_file())
                       for folder in (student / "tests" / name, frame.HERE / "tests" / name))
        assert made == there, advice

    @each_assignment
    def test_nothing_hidden_and_no_solution_is_in_what_students_get(self, name, tmp_path):
        _, questions = frame.parse(frame.render(name, 0))
        published = "\n".join(file.read_text() for file in [frame.HERE / f"{name}.ipynb", *(frame.HERE / "tests" / name).iterdir()])
        assert "BEGIN SOLUTION" not in published and "hidden=True" not in published
        library = "\n".join(file.read_text() for file in (frame.ROOT / "dpmlib").rglob("*.py"))
        for question in questions:
            for test in question.tests:
                if test.hidden:
                    assert test.source not in published + library
            code = re.search(r"# BEGIN SOLUTION\n(.*?)# END SOLUTION", question.solution, re.S)
            longest = max((question.solution if question.manual else code[1]).splitlines(), key=len)
            assert json.dumps(longest)[1:-1] not in published

    @each_assignment
    def test_form(self, name):
        _, questions = frame.parse(frame.render(name, 0))
        about = frame.about(name)
        assert 4 <= len(questions) <= 8 and 1 <= sum(question.manual for question in questions) <= 3
        assert len(about.OUTCOMES) >= 3
        for question in questions:
            if question.manual:
                assert sum(points for points, _ in about.RUBRICS[question.name]) == question.points
        assert about.RUBRICS.keys() == {question.name for question in questions if question.manual}
        catalogue = frame.catalogue(name)
        asked = {question.name for question in questions if not question.manual}
        assert catalogue.WRONG.keys() == catalogue.RIGHT.keys() == asked

    @each_assignment
    def test_untouched_notebook_runs_to_its_end(self, name, tmp_path):
        student = frame.write(name, 3, tmp_path) / "student"
        notebook = nbformat.read(student / f"{name}.ipynb", as_version=4)
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(student)}}).execute()
        for cell in notebook.cells:
            if cell.source.startswith("grader.check"):
                shown = str(cell.outputs)
                assert "failed" in shown and "passed!" not in shown
            elif cell.cell_type == "code":
                assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell.source


# Through otter itself

def graded(notebook, archive, folder):
    """{question: (score, what the student is told)} of `otter run`."""
    nbformat.write(notebook, folder / "submission.ipynb")
    run = subprocess.run([sys.executable, "-m", "otter", "run", "-a", str(archive), "-o", str(folder), "submission.ipynb"],
                         cwd=folder, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    results = json.loads((folder / "results.json").read_text())["tests"]
    return {test["name"]: (test["score"], test["output"]) for test in results if "score" in test}


@pytest.fixture(scope="class")
def ddpm(tmp_path_factory):
    return frame.write("ddpm", 0, tmp_path_factory.mktemp("ddpm"))


class TestOtter:
    def test_the_solution_gets_full_marks(self, ddpm, tmp_path):
        found = graded(nbformat.read(ddpm / "solution" / "ddpm.ipynb", as_version=4), ddpm / "autograder.zip", tmp_path)
        _, questions = frame.parse(frame.render("ddpm", 0))
        assert {name: score for name, (score, _) in found.items()} == {each.name: each.points for each in questions if each.tests}


MISHAPS = {
    "endless": ("marginal", "q1_marginal", "not done in time", "def marginal(betas, n):\n    while True:\n        try:\n"
                "            while True: pass\n        except BaseException: pass"),
    "10 GB": ("posterior", "q2_posterior", "llocate", "def posterior(betas, *args):\n    x = torch.ones(10 * 2**28)\n    return x, x"),
    "exit": ("bound_term", "q4_bound_term", "exit() was called", "def bound_term(*args):\n    exit()"),
    "os._exit": ("simple_loss", "q5_loss", "ended the whole process", "import os\nos._exit(0)\n\nsimple_loss = 1"),
    "syntax": ("sample", "q6_sample", "not Python", "def sample(model, betas, variances, shape, generator)\n    return 1"),
    "renamed": ("gaussian_bound", "q7_gaussian_bound", "gausian_bound", "def gausian_bound(betas, variances, S2):\n    return 1.0"),
    "missing": ("marginal", "q1_marginal", "cell is missing", None),
}


class TestMishaps:
    """Each costs its own question, and the student is told why. Four in one notebook, three in another."""

    @pytest.mark.parametrize("labels", [("endless", "exit", "syntax", "renamed"), ("10 GB", "os._exit", "missing")], ids=["four", "three"])
    def test_mishap_costs_its_question_only(self, labels, ddpm, tmp_path, record_property):
        notebook = nbformat.read(ddpm / "student" / "ddpm.ipynb", as_version=4)
        _, questions = frame.parse(frame.render("ddpm", 0))
        mishaps = {MISHAPS[label][0]: MISHAPS[label][3] for label in labels}
        solved = {re.match(r"def (\w+)", each.solution)[1]: each.solution for each in questions if each.tests}
        found = graded(replaced(notebook, **(solved | mishaps)), ddpm / "autograder.zip", tmp_path)
        for each in questions:
            hit = [label for label in labels if MISHAPS[label][1] == each.name]
            if hit:
                score, told = found[each.name]
                assert score == 0 and MISHAPS[hit[0]][2] in told, told
            elif each.tests:
                assert found[each.name][0] == each.points, found[each.name][1]

    def test_cells_that_do_not_come_back(self, tmp_path):
        """At the top of a cell the same mishaps; its definitions and the cells after it stand."""
        (tmp_path / "run.py").write_text("""
import os
os.environ["DPMLIB_GRADING"] = "1"
from dpmlib import classroom
classroom.SECONDS_PER_CELL = 2
scope = {"__name__": "__main__"}
for source in ("import math\\ndef f(): return math.pi\\nwhile True: pass", "x = 1\\nexit()\\nx = 2", "import numpy\\ny = numpy.ones(2**31)",
               "def g(: pass", "z = 1\\nimport os\\nos.kill(os.getpid(), 9)", "%pip install nothing", "last = f() + x"):
    classroom.cell(source, scope)
assert scope["last"] == math.pi + 1 if (math := scope["math"]) else 0
assert not {"y", "z", "g"} & scope.keys()
print(classroom.absent(["g"], scope))
""")
        run = subprocess.run([sys.executable, "run.py"], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        for what in ("not done after 2 s", "exit() was called", "MemoryError", "is not Python", "signal 9"):
            assert what in run.stdout, run.stdout


def test_the_archive_holds_guard_and_tests(tmp_path):
    with zipfile.ZipFile(frame.write(frame.written()[0], 1, tmp_path) / "autograder.zip") as archive:
        names = archive.namelist()
        config = json.loads(archive.read("otter_config.json"))
    assert config["plugins"] == ["dpmlib.classroom.Guard"] and not config["show_hidden"]
    assert {"setup.sh", "run_autograder", "environment.yml"} <= set(names) and any(name.startswith("tests/q1_") for name in names)


def test_tests_of_another_variant_are_refused(tmp_path, monkeypatch):
    from dpmlib import classroom
    name = frame.written()[0]
    student = frame.write(name, 4, tmp_path) / "student"
    monkeypatch.chdir(student)
    assert classroom.grader(name, seed=4)._tests_dir == str(Path("tests", name))
    with pytest.raises(ValueError, match="seed must be 4"):
        classroom.grader(name, seed=0)
    with pytest.raises(ValueError, match="nothing"):
        classroom.grader("nothing", seed=0)


def test_in_place_a_test_has_a_time_limit_and_leaves_no_trace():
    import torch

    from dpmlib import limits
    before = torch.get_rng_state()

    def work():
        torch.set_default_dtype(torch.float64)
        torch.randn(3)
        while True:
            pass

    ended, seconds = limits.in_here(work, 0.3, "nowhere")
    assert ended.kind == "TimeLimit" and 0.2 < seconds < 60
    assert torch.get_default_dtype() == torch.float32 and torch.equal(torch.get_rng_state(), before)
    assert limits.in_here(lambda: None, 1, "nowhere")[0] is None
    ended, _ = limits.in_here(lambda: {}["x"], 1, __file__)
    assert ended.kind == "KeyError" and "ended, _ = limits" in Path(__file__).read_text().splitlines()[ended.line - 1]


def test_a_child_reaches_nothing_of_its_parent():
    from dpmlib import limits
    box = []
    assert limits.in_child(lambda: box.append(1), 60, "nowhere")[0] is None and not box
    for work, kind, fatal in ((lambda: 1 / 0, "ZeroDivisionError", False), (lambda: [0] * 2**30, "MemoryError", True)):
        ended, _ = limits.in_child(work, 60, "nowhere")
        assert (ended.kind, ended.fatal) == (kind, fatal)
