"""The exam: questions for every chapter, answers whose numbers are computed, and two documents that are built on request only."""

import re
import sys

import notebooks
import pytest
from bs4 import BeautifulSoup

ROOT = notebooks.ROOT
sys.path.insert(0, str(ROOT / "book" / "exam"))
import build  # noqa: E402  (book/exam/build.py)

FILES = build.files()
each_exam = pytest.mark.parametrize("name", FILES)


def run(exam, question):
    exec(compile(exam.setup, "<set-up>", "exec"), scope := {})
    exec(compile(question.code, f"<{question.title}>", "exec"), scope)


@each_exam
def test_each_chapter_has_five_questions_with_answers_and_points(name):
    exam = build.read(FILES[name])
    assert len(exam.questions) >= 5 and len({one.title for one in exam.questions}) == len(exam.questions)
    assert len({one.kind for one in exam.questions}) >= 3
    for one in exam.questions:
        assert 1 <= one.points <= 6 and len(one.text) > 100 and len(one.answer) > 100, one.title
        assert one.kind != "computation" or "assert " in one.code, f"{one.title}: a number that nothing computes"
        assert re.search(r"point", one.answer), f"{one.title}: which part of the answer earns what"
        assert "python" not in one.text, "the answers' code does not stand in the question"


@each_exam
def test_code_of_the_answers_runs(name):
    exam = build.read(FILES[name])
    for one in exam.questions:
        run(exam, one)


@pytest.mark.parametrize("name, old, new", [
    ("chain_rule", "- 0.368) < 1e-3", "- 0.386) < 1e-3"),
    ("dpm_solver", "(0.78694, -0.57387, 0.18041)".strip("()"), "0.78694, -0.57387, 0.17041"),
    ("sdes", "- 2 * t / (1 - t)", "- 2 * t"),
])
def test_a_wrong_answer_is_found(name, old, new, tmp_path):
    text = FILES[name].read_text()
    assert text.count(old) == 1
    (tmp_path / "doctored.md").write_text(text.replace(old, new))
    exam = build.read(tmp_path / "doctored.md")
    with pytest.raises(AssertionError):
        for one in exam.questions:
            run(exam, one)


def test_what_is_neither_question_nor_answer_is_refused(tmp_path):
    good = "# T\n\n```python\nx = 1\n```\n\n:::{question} A\n:points: 2\n:kind: derivation\n\nWhy?\n:::\n\n:::{answer}\nSo.\n:::\n"
    path = tmp_path / "exam.md"
    path.write_text(good)
    assert build.read(path).questions == [build.Question("A", 2, "derivation", "Why?", "So.")]
    for bad in (good.replace(":points: 2\n", ""), good.replace("{answer}", "{note}"), good + "\nMore.\n",
                good.replace("derivation", "riddle"), good.replace("# T", "T")):
        path.write_text(bad)
        with pytest.raises(ValueError):
            build.read(path)
    with pytest.raises(ValueError, match="no exam for"):
        build.build("questions", ["nothing"])


def test_no_page_of_the_book_is_an_exam(site):
    assert not [page for page in site.html.rglob("*") if "exam" in page.relative_to(site.html).parts]
    assert not [name for name in notebooks.toc_files() if "exam" in name]
    assert "book/exam" not in (site.html / "searchindex.js").read_text()
    pages = "".join(page.read_text() for page in site.html.rglob("*.html"))
    assert not re.search(r"""(href|src)=["'][^"']*\bexam/""", pages) and "Find the error, 3 points" not in pages
    assert not re.search(r"^(book|test|assignments|serve):.*\bexam\b", (ROOT / "Makefile").read_text(), re.M)
    assert re.search(r"^exam:.*\n\t.*book/exam/build\.py", (ROOT / "Makefile").read_text(), re.M)


def test_questions_are_printed_without_answers(tmp_path):
    exams = {name: build.read(path) for name, path in FILES.items()}
    for document in build.DOCUMENTS:
        build.write(document, exams, tmp_path / document)
    for name, exam in exams.items():
        questions, answers = ((tmp_path / document / f"{name}.md").read_text() for document in ("questions", "answers"))
        assert "```python" not in questions and "Answer" not in questions
        for one in exam.questions:
            last = build.CODE.sub("", one.answer).strip().splitlines()[-1]
            assert one.text in questions and one.text in answers and last in answers and last not in questions


def test_a_document_builds(tmp_path):
    html = build.build("answers", ["sdes"], tmp_path / "exam")
    assert not (html / "ddpm.html").exists()
    article = BeautifulSoup((html / "sdes.html").read_text(), "html.parser").find("article")
    exam = build.read(FILES["sdes"])
    assert len(article.find_all("h2")) == len(exam.questions)
    assert article.get_text().count("Answer") >= len(exam.questions) and not article.select(".problematic, .system-message")
