"""The book, rendered once per run of pytest, whatever number of workers ask for it."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))  # notebooks.py


class Site(NamedTuple):
    html: Path
    status: int
    log: str


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    """From nothing: a second, incremental build would not repeat the warnings of the first."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    log, status = shared / "build.log", shared / "build.status"
    with FileLock(shared / "build.lock"):
        if not status.exists():
            with open(log, "w") as file:
                run = subprocess.run([Path(sys.executable).parent / "jupyter-book", "build", "-W", "-n", "--keep-going", "--path-output",
                                      shared, ROOT], stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT)
            status.write_text(str(run.returncode))
    return Site(shared / "_build" / "html", int(status.read_text()), log.read_text())


@pytest.fixture
def record_property(record_property):
    """As pytest's own, for numbers of numpy and torch too: a worker can send home nothing but plain ones."""
    return lambda name, value: record_property(name, value.item() if hasattr(value, "item") else value)
