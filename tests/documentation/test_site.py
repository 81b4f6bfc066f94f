"""The site is built without a warning, has every public name, and sends its readers nowhere to fetch something."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import m3d
import pipeline
from docs import site_pages
from tests.documentation.pages import ROOT

FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "srcset"}
"""Attributes that a browser follows by itself."""


class Fetched(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if dict(attrs).get("rel") in ("canonical", "next", "prev"):
            return
        self.places += [value for name, value in attrs if name == FETCHED.get(tag) and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built as ``make docs`` builds it. Links and anchors that lead nowhere fail it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text())
        assert parser.places, page
        assert [place for place in parser.places if re.match(r"(?:[a-z]+:)?//", place)] == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import\s+)[\"']?(?:https?:)?//[^)\s]*", sheet.read_text()) == [], sheet


def test_every_public_name_is_described(site: Path) -> None:
    described = set(re.findall(r'id="((?:m3d|pipeline)\.\w+)"', (site / "api.html").read_text()))
    named = {f"{package.__name__}.{name}" for package in (m3d, pipeline) for name in package.__all__}
    assert named <= described


def test_pages_and_files_outside_of_docs_are_on_the_site(site: Path) -> None:
    home = (site / "index.html").read_text()
    assert 'src="images/digits-condensed.png"' in home
    assert 'href="contributing.html"' in home
    assert (site / "examples" / "tour.ipynb").read_bytes() == (ROOT / "examples" / "tour.ipynb").read_bytes()
    assert {path.parent.name for path in site.rglob("*.py")} == {"examples"}


@pytest.mark.parametrize(
    ("folder", "link", "place"),
    [
        ("", "docs/data.md", "data.md"),
        ("", "docs/images/flow.svg", "images/flow.svg"),
        ("", "CONTRIBUTING.md", "contributing.md"),
        ("docs", "../CONTRIBUTING.md", "contributing.md"),
        ("docs", "../README.md", "index.md"),
        ("docs", "../examples/space.yaml", "examples/space.yaml"),
        ("docs", "../examples/nothing.yaml", "../examples/nothing.yaml"),
        ("docs", "../tests/conftest.py", "../tests/conftest.py"),
        ("docs", "data.md", "data.md"),
        ("", "https://example.org/docs/x.md", "https://example.org/docs/x.md"),
    ],
)
def test_links_of_the_repository_become_those_of_the_site(folder: str, link: str, place: str) -> None:
    assert site_pages.site_path(link, folder) == place
