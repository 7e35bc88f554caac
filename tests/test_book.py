"""What holds for every notebook and every page of the book, whatever it is about."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import notebooks
import pytest
from bs4 import BeautifulSoup
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = notebooks.ROOT
ALL = notebooks.notebooks()
CHAPTERS = [path for path in ALL if path.parent != ROOT / "book"]
PAGES = notebooks.pages()  # chapters, and the students' versions of the assignments, which are not executed
each_page = pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
each_notebook = pytest.mark.parametrize("path", ALL, ids=[path.stem for path in ALL])
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=[path.stem for path in CHAPTERS])


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path):
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def outputs(path):
    return [output for cell in code(path) for output in cell.outputs]


# The tree

def test_lint():
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."]
    run = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_toc_lists_each_document_once_and_no_notebook_is_left_out():
    listed = notebooks.toc_files()
    assert len(set(listed)) == len(listed)
    for name in listed:
        assert (ROOT / f"{name}.md").exists() != (ROOT / f"{name}.ipynb").exists(), name
    there = {path for path in (ROOT / "book").rglob("*.ipynb") if not any(part.startswith((".", "_")) for part in path.parts)}
    assert {path for path in there if path.parent.name != "masters"} == set(PAGES)


def test_requirements_pin_all_that_pyproject_asks_for():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert len(pins) == len(lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"].pop("fid")  # needs a torchvision built for the torch that is there, and no test needs it
    for text in sum(project["optional-dependencies"].values(), project["dependencies"]):
        need = Requirement(text)
        assert need.specifier.contains(pins[canonicalize_name(need.name)]), text
    for text in project["dependencies"]:  # whoever installs the library keeps the torch and numpy that are there
        assert {part.operator for part in Requirement(text).specifier} == {">="}, text


def test_the_address_is_edited_in_one_place():
    address, setup = notebooks.address(), notebooks.SETUP
    assert notebooks.ADDRESS.findall(setup.read_text()) == [address]
    # Whoever forks the book edits _config.yml; the set-up cells are written from it, and nothing else may know it.
    slug = address.removeprefix("https://github.com/")
    known = {ROOT / "_config.yml", setup, *PAGES}
    for name in subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0"):
        path = ROOT / name
        if path.is_file() and path not in known and path.suffix in {".md", ".toml", ".yml", ".txt", ".py", ".ipynb", ""}:
            assert slug not in path.read_text(errors="ignore"), f"{name} holds the repository's address"
    for path in PAGES:
        assert slug not in "".join(json.dumps(cell) for cell in read(path).cells if cell.source != notebooks.setup_cell()), path


def test_the_library_alone_does_what_the_readme_says(capsys):
    exec(re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1], scope := {})
    truth = scope["data"].log_prob(scope["x0"]).mean()
    assert abs(scope["data"].log_prob(scope["samples"]).mean() - truth) < 0.1
    assert len(capsys.readouterr().out.splitlines()) == 2


# Every notebook

@each_notebook
def test_notebook_is_executed_clean_and_small(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    ran = [cell.execution_count for cell in code(path) if cell.source.strip()]
    assert ran == list(range(1, len(ran) + 1)), "make notebooks runs all cells in order"
    assert not [output for output in outputs(path) if output.output_type == "error"]
    assert not [output.text for output in outputs(path) if output.get("name") == "stderr"]
    assert not re.findall(r"(?:/work|/root|/tmp|/home/\w+|/Users/\w+|site-packages)/[\w.-]+", json.dumps(notebook))
    assert not [output for output in outputs(path) if notebooks.NO_DATA in output.get("text", "")]
    assert path.stat().st_size <= 2e6


@each_page
def test_notebook_begins_with_the_setup_cell(path):
    first = code(path)[0]
    assert first.source == notebooks.setup_cell()
    assert first.metadata.tags == notebooks.SETUP_METADATA["tags"] and not first.outputs


@each_page
def test_prose_is_fenced_by_colons(path):
    text = prose(path)
    assert notebooks.colon_fences(text) == text, "make notebooks converts it"


@each_page
def test_nothing_in_it_comes_from_another_site(path):
    loads = re.compile(r"""(?:<(?:script|img|iframe|video|source)[^>]*\ssrc=|<link[^>]*\shref=|url\()\s*["']?(https?://[^"')\s>]+)""")
    html = [data for output in outputs(path) for data in output.get("data", {}).values() if isinstance(data, str)]
    assert not [address for text in [prose(path), *html] for address in loads.findall(text)]


@each_chapter
def test_chapter_asserts_exercises_and_cites(path):
    assert sum("assert " in cell.source for cell in code(path)) >= 6
    text = prose(path)
    exercises = re.findall(r"^:::+\{exercise(?:-start)?\}[^\n]*\n:label: ([\w:-]+)", text, re.M)
    solutions = re.findall(r"^:::+\{solution(?:-start)?\} ([\w:-]+)", text, re.M)
    assert len(set(exercises)) >= 5
    assert set(solutions) == set(exercises)
    assert text.count(":class: dropdown") >= len(solutions)
    assert re.search(r"\{cite(?::\w+)?\}`", text)


# The rendered book

def test_build_has_no_warning(site):
    assert site.status == 0, site.log[-4000:]
    assert "WARNING" not in site.log.replace("MdParserConfig", ""), site.log[-4000:]


@each_page
def test_page_has_captions_alternatives_and_a_way_to_colab(path, site):
    name = path.relative_to(ROOT)
    page = BeautifulSoup((site.html / name).with_suffix(".html").read_text(), "html.parser")
    article = page.find("article")
    for image in article.find_all("img"):
        figure = image.find_parent("figure")
        assert figure and figure.figcaption and len(figure.figcaption.get_text(strip=True)) > 20, f"no caption: {image}"
        alternative = image.get("alt", "")
        assert len(alternative) > 10 and not alternative.endswith((".png", ".svg", ".jpg")), f"no alt text: {image}"
    slug = notebooks.address().removeprefix("https://github.com/")
    assert page.find("a", href=f"https://colab.research.google.com/github/{slug}/blob/main/{name}")


def test_links_inside_the_book_lead_somewhere(site):
    for file in site.html.rglob("*.html"):
        page = BeautifulSoup(file.read_text(), "html.parser")
        for link in page.select("article a[href], nav a[href]"):
            target, _, anchor = link["href"].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            other = (file.parent / target).resolve() if target else file
            assert other.exists(), f"{file.name}: {link['href']}"
            if anchor and other.suffix == ".html" and other != file:
                assert re.search(rf"""id=["']{re.escape(anchor)}["']""", other.read_text()), f"{file.name}: {link['href']}"


# book/notebooks.py

def test_the_line_that_says_there_is_no_data_is_known():
    assert notebooks.NO_DATA in (ROOT / "dpmlib" / "data" / "cifar.py").read_text()


def test_colon_fences():
    before = "````{prf:theorem} Name\n:label: x\n\n```{note}\ny\n```\n```python\n```\n````\n\n```{figure} z\n```\n~~~"
    after = "::::{prf:theorem} Name\n:label: x\n\n:::{note}\ny\n:::\n```python\n```\n::::\n\n```{figure} z\n```\n~~~"
    assert notebooks.colon_fences(before) == after
    for same in ("```python\n```{note}\n```", "```{note} never closed", ":::{note}\n:::"):
        assert notebooks.colon_fences(same) == same


def test_execute_stores_what_a_reader_needs(tmp_path):
    new = nbformat.v4
    notebook = new.new_notebook(cells=[new.new_code_cell("try:\n    import dpmlib\nexcept: old"), new.new_code_cell("print(1)\nprint(2)")])
    path = tmp_path / "new.ipynb"
    nbformat.write(notebook, path)
    notebooks.execute(path)
    first, second = code(path)
    assert first.source == notebooks.setup_cell() and not first.outputs and "execution" not in second.metadata
    assert [output.text for output in second.outputs] == ["1\n2\n"] and second.execution_count == 2
    notebook.cells[1].source = "import sys; sys.stderr.write('no')"
    nbformat.write(notebook, path)
    with pytest.raises(RuntimeError, match="stderr"):
        notebooks.execute(path)
    notebook.cells[1].source = f"print({notebooks.NO_DATA!r})"
    nbformat.write(notebook, path)
    with pytest.raises(RuntimeError, match="DPMLIB_DATA"):
        notebooks.execute(path)
    notebook.cells[0].source = "import dpmlib"
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="set-up cell"):
        notebooks.execute(path)
    assert Path(path).read_text()  # refused, not emptied
