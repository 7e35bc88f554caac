"""Grade the graders, in this process and fast: python book/assignments/check.py NAME [--seed S] [--question q1_name] [--messages]

Executes the given cells of the master once; then, for every autograded question, its tests with the solution, with each RIGHT and
each WRONG of tests/assignments/NAME.py and with the untouched cell, and prints the points each gets. What is not as it must be is
listed at the end (a wrong one with full marks, a right one or the solution without, an untouched cell with any points) and makes
the exit status 1. --messages also prints what a student is told.

The code of a solution, RIGHT or WRONG runs in a copy of the namespace that the given cells left, with every other question
untouched: so no question can lean on the answer to another.
"""

import argparse
import contextlib
import io
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import frame  # noqa: E402
import matplotlib  # noqa: E402

matplotlib.use("Agg")


def execute(source, scope):
    """Run one cell. Nothing that it prints or draws is kept."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(source, "<cell>", "exec"), scope)


def given_scope(name, seed):
    """(namespace after the given cells with every answer untouched, questions)."""
    _, questions = parsed = frame.parse(frame.render(name, seed))
    scope = {"__name__": "__main__"}
    for source in parsed[0]:
        if "classroom.grader(" not in source:
            execute(source, scope)
    for question in questions:
        if question.tests:
            execute(frame.untouched(question.solution), scope)
    return scope, questions


def grade(question, code, scope):
    """(points, what the student is told) for one piece of code in place of the question's cell."""
    from otter.test_files import ExceptionTestFile
    scope, told = dict(scope), []
    try:
        execute(code, scope)
    except BaseException as error:
        told.append(f"the cell: {type(error).__name__}: {error}")
    file = ExceptionTestFile.from_string(frame.test_file(question, hidden=True))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        file.run(scope)
    told += [f"{result.test_case.name}: {result.message}" for result in file.test_case_results if not result.passed]
    return sum(result.test_case.points for result in file.test_case_results if result.passed), told


def variants(question, catalogue, values):
    """(kind, label, code) of everything that is graded for a question."""
    yield "solution", "", question.solution
    yield "untouched", "", frame.untouched(question.solution)
    for kind in ("RIGHT", "WRONG"):
        for label, code in getattr(catalogue, kind).get(question.name, {}).items():
            yield kind, label, frame.fill(code, values)


def complaints(name, seed, only=None, report=lambda *row: None):
    """Everything that is not as it must be, one line each."""
    scope, questions = given_scope(name, seed)
    catalogue, values = frame.catalogue(name), frame.about(name).constants(seed)
    wrong = []
    for question in questions:
        if question.manual or only not in (None, question.name):
            continue
        full = sum(test.points for test in question.tests)
        if full != question.points:
            wrong.append(f"{question.name}: its tests give {full} points, it says {question.points}")
        if not any(test.hidden for test in question.tests) or all(test.hidden for test in question.tests):
            wrong.append(f"{question.name}: at least one visible and one hidden test")
        for kind, least in (("WRONG", 8), ("RIGHT", 3)):
            if len(getattr(catalogue, kind).get(question.name, {})) < least:
                wrong.append(f"{question.name}: fewer than {least} {kind}")
        for kind, label, code in variants(question, catalogue, values):
            start = time.perf_counter()
            points, told = grade(question, code, scope)
            report(question, kind, label, points, told, time.perf_counter() - start)
            good = {"solution": points == full, "RIGHT": points == full, "untouched": points == 0, "WRONG": points < full}[kind]
            if kind in ("RIGHT", "WRONG") and any("the cell: " in line or "is not defined" in line for line in told):
                wrong.append(f"{question.name}: {kind} {label!r} does not run: {told[0]}")
            if not good:
                wrong.append(f"{question.name}: {kind} {label!r} gets {points} of {full}" + "".join(f"\n    {line}" for line in told))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--question")
    parser.add_argument("--messages", action="store_true")
    args = parser.parse_args()

    def report(question, kind, label, points, told, seconds):
        print(f"{question.name:24} {kind:9} {points:4g}/{question.points:<3g} {seconds:5.2f} s  {label}", flush=True)
        if args.messages and told:
            print(*("    " + line.replace("\n", "\n    ") for line in told), sep="\n")

    wrong = complaints(args.name, args.seed, args.question, report)
    print("\nall as it must be" if not wrong else "\nNOT AS IT MUST BE\n" + "\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
