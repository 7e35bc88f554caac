"""A notebook as Colab opens it: an environment with torch, numpy, matplotlib and ipywidgets but without dpmlib, an empty folder.

Runs the shortest chapter and the shortest assignment; COLAB=all runs each.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path

import nbformat
import notebooks
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from packaging.requirements import Requirement

ROOT = notebooks.ROOT
THERE = ["torch", "numpy", "matplotlib", "ipywidgets", "ipykernel", "pip"]  # the last two are what Colab runs cells with
ALL = [sorted(paths, key=lambda path: path.stat().st_size) for paths in (notebooks.notebooks(), notebooks.assignments())]
CHOSEN = [path for paths in ALL for path in (paths if os.environ.get("COLAB") == "all" else paths[:1])]


def link_with_requirements(names, site_packages):
    """Symlinks into our own environment in place of a download."""
    ours, done = Path(sysconfig.get_paths()["purelib"]), set()
    while names:
        found = distribution(names.pop())
        if found.name in done:
            continue
        done.add(found.name)
        needs = [Requirement(text) for text in found.requires or []]
        names += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (site_packages / top).exists():
                (site_packages / top).symlink_to(ours / top)


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """The environment's folder, and the variables with which its kernel is found and the book's address leads here."""
    base = tmp_path_factory.mktemp("colab")
    venv.create(base / "venv", symlinks=True)
    link_with_requirements(THERE.copy(), next((base / "venv" / "lib").glob("python*/site-packages")))

    # What would be on the server: the tree as it is now, uncommitted changes included.
    server = base / "server"
    shutil.copytree(ROOT / "dpmlib", server / "dpmlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(notebooks.ASSIGNMENTS / "tests", server / "book" / "assignments" / "tests")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, server)
    for command in ("init", "add .", "-c user.name=test -c user.email=test@localhost commit -m test"):
        subprocess.run(["git", *command.split()], cwd=server, check=True, capture_output=True)

    kernel = base / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    python = str(base / "venv" / "bin" / "python")
    (kernel / "kernel.json").write_text(json.dumps(
        {"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "colab", "language": "python"}))
    return base, {"JUPYTER_PATH": str(base / "jupyter"), "PIP_CONSTRAINT": str(ROOT / "requirements.txt"), "GIT_CONFIG_COUNT": "1",
                  "GIT_CONFIG_KEY_0": f"url.{server.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": notebooks.address()}


@pytest.mark.parametrize("path", CHOSEN, ids=[path.stem for path in CHOSEN])
def test_notebook_runs_as_in_colab(path, colab, tmp_path, monkeypatch):
    base, variables = colab
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="colab", resources={"metadata": {"path": str(tmp_path)}})
    try:
        client.execute()
    except CellExecutionError as error:
        setup = [out for cell in [cell for cell in notebook.cells if cell.cell_type == "code"][:2] for out in cell.outputs]
        reach = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path), "setuptools", "accelerate", "tqdm"]
        if any(out.output_type == "error" for out in setup) and subprocess.run(reach, capture_output=True).returncode:
            pytest.skip(f"no package index: what dpmlib needs cannot be installed ({error.evalue})")
        raise
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert not first.outputs
    if path.parent == notebooks.ASSIGNMENTS:  # the visible tests came from the server, and ran
        assert (tmp_path / "tests" / path.stem / "SEED").exists()
        assert all("failed" in str(cell.outputs) for cell in notebook.cells if cell.source.startswith("grader.check"))
    site_packages = next((base / "venv" / "lib").glob("python*/site-packages"))
    for name in ("torch", "numpy", "matplotlib", "ipywidgets"):
        assert (site_packages / name).is_symlink(), f"{name} was replaced"
    tree = {file.relative_to(ROOT) for file in (ROOT / "dpmlib").rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert not [file for file in tree if not (site_packages / file).exists()], "not in the package"
