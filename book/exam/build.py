"""The exam: python book/exam/build.py [questions|answers] [chapter …]   (make exam, make exam N="ddpm sdes")

Builds _build/exam/questions, for the students, and _build/exam/answers, with the answers, from book/exam/<chapter>.md.
Neither is a part of the book: no page of it links here, and `make book` does not build them.

A file holds the title of its chapter, one ```python block that is run before those of the answers, and pairs of

    :::{question} Title            :::{answer}
    :points: 4                     …, with ```python blocks that assert
    :kind: derivation              every number of it
    …                              :::
    :::
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))
import notebooks  # noqa: E402  (lies beside this folder)

KINDS = ("short answer", "derivation", "computation", "find the error", "interpretation")
PAIR = re.compile(r"^:::\{question\} ([^\n]+)\n:points: (\d+)\n:kind: ([\w ]+)\n\n(.+?)\n:::\n\n:::\{answer\}\n(.+?)\n:::$", re.M | re.S)
CODE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
DOCUMENTS = {"questions": "Exam questions", "answers": "Exam questions and answers"}


class Question(NamedTuple):
    title: str
    points: int
    kind: str
    text: str
    answer: str

    @property
    def code(self):
        return "\n".join(CODE.findall(self.answer))


class Exam(NamedTuple):
    title: str
    setup: str
    questions: list


def files():
    """The exam files of the chapters of _toc.yml, in its order, whether they exist or not."""
    return {path.stem: ROOT / "book" / "exam" / f"{path.stem}.md" for path in notebooks.notebooks() if path.parent != ROOT / "book"}


def read(path):
    """ValueError where something is neither a question nor an answer."""
    text = path.read_text()
    head, *_ = text.split(":::{question}", 1)
    title = re.match(r"# (.+)\n", head)
    rest = PAIR.sub("", text[len(head):]).strip()
    if not title or rest:
        raise ValueError(f"{path.name}: not a title, a block of code and pairs of question and answer, but\n{rest or head}")
    pairs = [Question(match[1], int(match[2]), match[3], match[4], match[5]) for match in PAIR.finditer(text)]
    if wrong := {one.kind for one in pairs} - set(KINDS):
        raise ValueError(f"{path.name}: kind must be one of {KINDS}, not {wrong}")
    return Exam(title[1], "\n".join(CODE.findall(head)), pairs)


def page(exam, answers):
    """One chapter as MyST. What only proves the numbers is folded."""
    parts = [f"# {exam.title}", f"{len(exam.questions)} questions, {sum(one.points for one in exam.questions)} points."]
    for number, one in enumerate(exam.questions, 1):
        points = f"{one.points} point" + "s" * (one.points > 1)
        parts += [f"## {number}. {one.title}", f"*{one.kind[0].upper()}{one.kind[1:]}, {points}.*", one.text]
        if answers:
            shown = CODE.sub("", one.answer).strip()
            parts.append(f"::::{{admonition}} Answer\n:class: tip\n\n{shown}\n::::")
            if one.code:
                parts.append(f"::::{{admonition}} The numbers\n:class: note dropdown\n\n```python\n{one.code}```\n::::")
    return "\n\n".join(parts) + "\n"


def write(document, exams, folder):
    """The sources of one document: pages, table of contents, and the book's own settings with paths that lead back to it."""
    folder.mkdir(parents=True)
    for name, exam in exams.items():
        (folder / f"{name}.md").write_text(page(exam, answers=document == "answers"))
    rows = "\n".join(f"| [{exam.title}]({name}.md) | {len(exam.questions)} | {sum(one.points for one in exam.questions)} |"
                     for name, exam in exams.items())
    (folder / "index.md").write_text(f"# {DOCUMENTS[document]}\n\n| chapter | questions | points |\n| :-- | --: | --: |\n{rows}\n")
    (folder / "_toc.yml").write_text(yaml.safe_dump({"format": "jb-book", "root": "index", "chapters": [{"file": n} for n in exams]}))
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    sphinx = config["sphinx"]
    sphinx["local_extensions"] = {name: str(ROOT / path) for name, path in sphinx["local_extensions"].items()}
    for key in ("html_extra_path", "html_static_path"):
        sphinx["config"][key] = [str(ROOT / path) for path in sphinx["config"][key]]
    config["title"] = f"{DOCUMENTS[document]}: {config['title']}"
    config["bibtex_bibfiles"] = [str(ROOT / path) for path in config["bibtex_bibfiles"]]
    config["html"] = {"favicon": str(ROOT / config["html"]["favicon"]), "home_page_in_navbar": True}
    config.pop("repository")
    config.pop("launch_buttons")
    (folder / "_config.yml").write_text(yaml.safe_dump(config))


def build(document, chosen=(), folder=None):
    """Write and build one document; returns its folder of HTML."""
    if unknown := set(chosen) - set(files()):
        raise ValueError(f"no exam for {sorted(unknown)}; there is one for {list(files())}")
    exams = {name: read(path) for name, path in files().items() if not chosen or name in chosen}
    folder = folder or ROOT / "_build" / "exam" / document
    shutil.rmtree(folder, ignore_errors=True)  # pages of an earlier choice
    write(document, exams, folder)
    command = [Path(sys.executable).parent / "jupyter-book", "build", "-W", "-n", "--keep-going", folder]
    subprocess.run(command, check=True, cwd=folder)
    return folder / "_build" / "html"


def main(*given):
    chosen = [name for name in given if name not in DOCUMENTS]
    for document in [name for name in given if name in DOCUMENTS] or DOCUMENTS:
        print(f"Open {build(document, chosen) / 'index.html'}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
