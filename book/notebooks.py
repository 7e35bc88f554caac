"""Work on the notebooks of the book: python book/notebooks.py {list,nbval,execute,address} [notebook …]

list      the chapters of _toc.yml, in its order
nbval     the arguments with which pytest runs them
execute   run them (all, or those given) in place, keep what a reader needs, drop what changes from run to run
address   copy the repository's address from _config.yml into the set-up cells
"""

import os
import re
import sys
import time
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
SETUP = ROOT / "book" / "_setup_cell.txt"
ASSIGNMENTS = ROOT / "book" / "assignments"
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
PROSE = re.compile(r"prf:|exercise|solution|admonition|note|tip|hint|important|warning|caution|seealso|margin|sidebar|dropdown")
NO_DATA = "CIFAR-10 is not on this machine"  # what dpmlib.data prints before it goes on with generated images
SETUP_METADATA = {"tags": ["hide-input", "remove-output"],
                  "mystnb": {"code_prompt_show": "Set-up cell", "code_prompt_hide": "Set-up cell"}}


def toc_files():
    """Every document of _toc.yml without its suffix, the root first."""
    def files(node):
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            for value in node.values():
                yield from files(value)
        elif isinstance(node, list):
            for value in node:
                yield from files(value)
    return list(files(yaml.safe_load((ROOT / "_toc.yml").read_text())))


def notebooks():
    """The chapters: executed, tested by nbval."""
    return [path for path in pages() if path.parent != ASSIGNMENTS]


def assignments():
    """The students' versions of the assignments, as `make assignments` writes them: not executed."""
    return [path for path in pages() if path.parent == ASSIGNMENTS]


def pages():
    return [path for name in toc_files() if (path := ROOT / f"{name}.ipynb").exists()]


def address():
    return yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]


def setup_cell():
    """The first code cell of every notebook."""
    return SETUP.read_text().strip()


def nbval_arguments():
    """Stored outputs are compared where CIFAR-10 is to be had; elsewhere chapters run on generated images, and only run."""
    from dpmlib.data import cifar10
    if not notebooks():
        return []
    try:
        cifar10("test")
        how = "--nbval"
    except ConnectionError as error:
        how = "--nbval-lax"
        print(f"{error}\nThe notebooks are run on generated images; their outputs are not compared.", file=sys.stderr)
    return [how, "--nbval-current-env", "--nbval-cell-timeout=300", "--nbval-sanitize-with=tests/nbval.cfg",
            *(str(path.relative_to(ROOT)) for path in notebooks())]


def execute(path):
    """Run a notebook in its folder and store the outputs. RuntimeError where a cell writes to stderr or lacks CIFAR-10."""
    from nbclient import NotebookClient
    notebook = nbformat.read(path, as_version=4)
    place_setup_cell(notebook)
    notebook.metadata.pop("widgets", None)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    tidy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{path}: this cell writes to stderr\n{cell.source}\n---\n{output.text}")
            if NO_DATA in output.get("text", ""):
                raise RuntimeError(f"{path}: what is committed is made from CIFAR-10; set DPMLIB_DATA to a folder that holds it")
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def place_setup_cell(notebook):
    """Bring the first code cell up to date."""
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if not first.source.startswith("try:\n    import dpmlib"):
        raise ValueError(f"the first code cell is not the set-up cell of {SETUP.name} but\n{first.source}")
    first.source = setup_cell()
    first.metadata.update(SETUP_METADATA)


def tidy(notebook):
    """Drop what changes from run to run or machine to machine (times, versions, the pieces of a stream); fence prose."""
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        **{key: notebook.metadata[key] for key in ("widgets", "mystnb") if key in notebook.metadata}})
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = colon_fences(cell.source)
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in ("tags", "mystnb") if key in cell.metadata})
        merged = []
        for output in cell.get("outputs", []):
            if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
                merged[-1].text += output.text
            else:
                merged.append(output)
        if "outputs" in cell:
            cell.outputs = merged


def colon_fences(text):
    """Directives of prose fenced by colons: within backticks, Jupyter and Colab would show their formulas as code."""
    lines, i = text.split("\n"), 0
    while i < len(lines):
        opening = re.match(r"\s*(`{3,})\{([\w:-]+)\}", lines[i])
        fence = opening or re.match(r"\s*(`{3,})", lines[i])
        if fence:
            closing = re.compile(rf"\s*{fence[1]}`*\s*$")
            end = next((j for j in range(i + 1, len(lines)) if closing.match(lines[j])), None)
            if end is None:
                break
            if opening and PROSE.match(opening[2]):
                for j in (i, end):
                    lines[j] = lines[j].replace("`" * len(fence[1]), ":" * len(fence[1]), 1)
            else:
                i = end  # code stays as it is
        i += 1
    return "\n".join(lines)


def spread_address():
    SETUP.write_text(ADDRESS.sub(address(), SETUP.read_text()))
    for path in pages():
        notebook = nbformat.read(path, as_version=4)
        place_setup_cell(notebook)
        nbformat.write(notebook, path)


def main(command="", *given):
    paths = [Path(name).resolve() for name in given] or notebooks()
    if command == "list":
        print(*(path.relative_to(ROOT) for path in paths), sep="\n")
    elif command == "nbval":
        print(*nbval_arguments())
    elif command == "execute":
        # As under test: one thread, so that the sums come out the same, and no progress bars.
        os.environ.update({"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"})
        for path in paths:
            start = time.perf_counter()
            execute(path)
            print(f"{path.relative_to(ROOT)}: {time.perf_counter() - start:.0f} s", flush=True)
    elif command == "address":
        spread_address()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
