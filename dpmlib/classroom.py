"""What the notebooks and the tests of the book's assignments need: otter-grader's, with names and limits. Needs otter-grader."""

import os
from pathlib import Path

import otter.test_files


def grader(name, seed):
    """otter's grader, pointed at the visible tests of assignment `name`."""
    tests = Path("tests", name)
    return otter.Notebook(tests_dir=str(tests))


class test_case(otter.test_files.test_case):
    """otter's decorator of a test."""
    __test__ = False

    def call_func(self, global_environment):
        missing = [name for name in self._get_func_params() if global_environment.get(name) is None]
        if missing:
            _raise(AssertionError(f"there is no {' and no '.join(missing)}: its cell is missing, was renamed or failed"), 0)
        super().call_func(global_environment)


def _raise(error, line):
    exec(compile("\n" * line + "raise error", "<test>", "exec"), {"error": error})


class Guard:
    """otter's plugin."""

    def __init__(self, submission_path, submission_metadata, plugin_config):
        pass
