"""The teacher's guide says what the chapters, the masters and the table of contents say."""

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "assignments"))
guide = pytest.importorskip("guide")

SOURCE = (guide.frame.HERE / "guide.md").read_text()


def test_what_is_generated_is_up_to_date():
    for path, text in guide.files().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)} is out of date: run python book/assignments/guide.py"
    included = set(re.findall(r"\{include\} guide/(\w+)\.md", SOURCE))
    assert included == {path.stem for path in guide.files() if path.suffix == ".md"}


def test_the_graph_follows_the_order_of_the_book_and_its_picture_shows_every_chapter():
    seen = []
    for name in guide.chapters():
        assert not [need for need in guide.CHAPTERS[name][0] if need in guide.chapters() and need not in seen], name
        seen.append(name)
    boxes = [guide.CHAPTERS[name][2] for name in guide.CHAPTERS]
    assert len(set(boxes)) == len(boxes)
    picture = ElementTree.fromstring(guide.picture())
    words = " ".join(element.text for element in picture.iter("{http://www.w3.org/2000/svg}text"))
    assert all(" ".join(guide.CHAPTERS[name][1]) in words for name in guide.chapters())


def test_a_schedule_teaches_nothing_before_what_it_needs():
    with pytest.raises(ValueError, match="before"):
        guide.check_schedule([("denoising/ddpm",), ("denoising/forward",)])
    for weeks in guide.SCHEDULES.values():
        names = [name for week in weeks for name in week]
        assert len(set(names)) == len(names)
        assert all(name.removeprefix("=") in (guide.frame.NAMES if name.startswith("=") else guide.CHAPTERS) for name in names)
    assert set(guide.chapters()) <= {name for week in guide.SCHEDULES[14] for name in week}


def test_every_chapter_measured_keeps_within_ninety_seconds():
    seconds = json.loads(guide.TIMES.read_text())["seconds"]
    assert set(seconds) <= set(guide.CHAPTERS) and max(seconds.values()) <= 90


def test_code_of_the_guide_is_python():
    blocks = re.findall(r"```python\n(.*?)```", SOURCE, re.S)
    assert len(blocks) >= 3
    for block in blocks:
        compile(block, "guide.md", "exec")
