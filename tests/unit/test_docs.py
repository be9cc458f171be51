"""The pages of `docs/`: the reference is that of the commands, and no link leads nowhere."""

import re

import pytest
from support import PROJECT

from docs import reference

PAGES = [*PROJECT.glob("*.md"), *sorted((PROJECT / "docs").glob("*.md"))]


def test_the_reference_is_that_of_the_commands():
    shown = (PROJECT / "docs" / "reference.md").read_text()
    assert shown == reference.markdown(), "renew it: python -m docs.reference > docs/reference.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!http)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_every_page_is_linked_from_the_readme():
    readme = (PROJECT / "README.md").read_text()
    for page in PAGES[1:]:
        if page.name != "README.md":
            assert f"]({page.relative_to(PROJECT)})" in readme, page


def test_the_files_named_in_the_map_exist():
    text = (PROJECT / "docs" / "architecture.md").read_text()
    paths = re.findall(r"`((?:pipeline|models|benchmarks|tests|docs)/[\w/.]+)`", text)
    assert paths
    for path in paths:
        assert (PROJECT / path).exists(), path


def test_what_shows_a_promise_exists():
    text = (PROJECT / "docs" / "reliability.md").read_text()
    tests = "".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", text)
    assert named and [name for name in named if f"def {name}(" not in tests] == []
    assert [path for path in re.findall(r"`(tests/\S+)`", text) if not (PROJECT / path).is_file()] == []
