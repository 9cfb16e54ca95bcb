"""The site of `make docs`: everything on it is on it, and it asks nobody."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from website.__main__ import CONFIGURATION, ROOT, build
from website.pages import write_pages


class Page(HTMLParser):
    """What a page names itself, what it links to, and what a browser fetches for it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in found:
            self.fetched.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.fetched.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("website")).parent


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_page_of_the_repository_is_there(site: Path, pages: dict[Path, Page]) -> None:
    written = {file.relative_to(ROOT / "docs") for file in (ROOT / "docs").rglob("*.md")}
    assert {site / "docs" / file.with_suffix(".html") for file in written} <= pages.keys()
    assert {site / name for name in ("index.html", "CHANGELOG.html", "benchmarks/index.html")} <= pages.keys()


def test_every_link_leads_to_a_page_and_a_heading_of_it(pages: dict[Path, Page]) -> None:
    astray = []
    for file, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme:
                continue
            place = (file.parent / unquote(address.path)).resolve() if address.path else file
            place = place / "index.html" if place.is_dir() else place
            if not place.is_file() or (address.fragment and unquote(address.fragment) not in pages[place].anchors):
                astray.append(f"{file.name}: {link}")
    assert not astray


def test_a_reader_without_a_network_misses_nothing(pages: dict[Path, Page]) -> None:
    elsewhere = {link for page in pages.values() for link in page.fetched if urlsplit(link).scheme not in ("", "data")}
    missing = [
        link
        for file, page in pages.items()
        for link in page.fetched
        if not urlsplit(link).scheme and not (file.parent / unquote(urlsplit(link).path)).is_file()
    ]
    assert (elsewhere, missing) == (set(), [])


def test_the_search_knows_every_page_that_is_written_and_no_listing_of_code(site: Path) -> None:
    text = (site / "search.js").read_text(encoding="utf-8")
    found = {
        entry["location"].partition("#")[0]
        for entry in json.loads(text[text.index("{") : text.rindex("}") + 1])["items"]
    }
    named = set(_named(tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))["project"]["nav"]))
    assert {name.removesuffix(".md") + ".html" for name in named if not name.endswith("README.md")} <= found
    assert not [location for location in found if location.endswith(".py.html")]


def test_every_page_of_the_documentation_has_a_place_in_the_navigation() -> None:
    """Decisions aside, and the parts of a page: they are linked from the page that they belong to."""
    named = set(_named(tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))["project"]["nav"]))
    written = {f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")}
    written |= {f"docs/guides/{file.name}" for file in (ROOT / "docs" / "guides").glob("*.md")}
    assert written <= named


def test_a_link_to_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository_at(repository)
    (repository / "README.md").write_text("See [the guide](docs/guide.md#begin).\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"a page links to docs/guide\.md, which the repository does not have"):
        write_pages(repository, tmp_path / "pages")


def test_links_in_examples_of_code_stay_as_they_are(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository_at(repository)
    (repository / "docs").mkdir()
    text = "```markdown\n[a](b.md)\n```\n[code](../run.py) and [first](../README.md)\n"
    (repository / "docs" / "page.md").write_text(text, encoding="utf-8")
    (repository / "run.py").write_text("print('```')\n", encoding="utf-8")
    (repository / "README.md").write_text("# First\n", encoding="utf-8")
    write_pages(repository, tmp_path / "pages")
    written = (tmp_path / "pages" / "docs" / "page.md").read_text(encoding="utf-8")
    assert written == "```markdown\n[a](b.md)\n```\n[code](../run.py.md) and [first](../index.md)\n"
    assert "````python\nprint('```')\n\n````" in (tmp_path / "pages" / "run.py.md").read_text(encoding="utf-8")


def repository_at(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)  # noqa: S607 - the one on PATH


def _named(entries: Any) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from _named(value)
