"""The repository's Markdown, laid out for the site: every page where it lies in a checkout, and what they link to."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

LINK = re.compile(r"(?P<before>!?\[[^\]]*\]\()(?P<target>[^)\s#:]+)(?P<after>(?:#[^)\s]*)?\))")
"""A link to a file: addresses with a scheme and links within the page are left as they are."""
FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
IMAGES = {".png", ".svg"}
LANGUAGES = {
    ".py": "python",
    ".toml": "toml",
    ".json": "json",
    ".yml": "yaml",
    ".yaml": "yaml",
    ".lua": "lua",
    ".md": "",
}
FIRST_PAGE = PurePosixPath("README.md")


def write_pages(root: Path, target: Path) -> None:
    """Copy every tracked Markdown file of ``root`` to its place below ``target``, and all that these link to.

    README.md becomes the first page, index.md. A file of code becomes a page that shows it, a folder one that lists its
    files; neither is found by the search. Raises :class:`FileNotFoundError` for a link to a file that is not tracked.
    """
    tracked = _tracked(root)
    asked: set[PurePosixPath] = set()
    pages = [each for each in tracked if each.suffix == ".md"]
    for page in pages:
        text = (root / page).read_text(encoding="utf-8")
        place = target / _as_page(page)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_with_links(text, page, asked), encoding="utf-8")
    for each in sorted(asked - set(pages)):
        _write_asked(root, target, each, tracked)


def _tracked(root: Path) -> list[PurePosixPath]:
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(PurePosixPath(each) for each in listed.split("\0") if each and (root / each).exists())


def _as_page(file: PurePosixPath) -> PurePosixPath:
    if file == FIRST_PAGE:
        return PurePosixPath("index.md")
    return file if file.suffix == ".md" else file.with_name(f"{file.name}.md")


def _with_links(text: str, page: PurePosixPath, asked: set[PurePosixPath]) -> str:
    """``text`` with links that lead to pages of the site; adds the files that they lead to, to ``asked``."""

    def led(match: re.Match[str]) -> str:
        file = _joined(page.parent, match["target"])
        asked.add(file)
        place = file if file.suffix in IMAGES else _as_page(file)
        return f"{match['before']}{_relative(place, _as_page(page).parent)}{match['after']}"

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(led, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(led, text[end:])])


def _joined(folder: PurePosixPath, target: str) -> PurePosixPath:
    steps: list[str] = []
    for step in (folder / target).parts:
        if step == "..":
            steps.pop()
        else:
            steps.append(step)
    return PurePosixPath(*steps)


def _relative(place: PurePosixPath, folder: PurePosixPath) -> str:
    """How a page in ``folder`` names ``place``."""
    shared = 0
    for ours, theirs in zip(folder.parts, place.parts, strict=False):
        if ours != theirs:
            break
        shared += 1
    return "/".join([".."] * (len(folder.parts) - shared) + list(place.parts[shared:]))


def _write_asked(root: Path, target: Path, file: PurePosixPath, tracked: Iterable[PurePosixPath]) -> None:
    place = target / (file if file.suffix in IMAGES else _as_page(file))
    place.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix in IMAGES and file in tracked:
        shutil.copy(root / file, place)
    elif file in tracked:
        text = (root / file).read_text(encoding="utf-8")
        place.write_text(_shown(file, _fenced(text, LANGUAGES.get(file.suffix, "text"))), encoding="utf-8")
    elif below := [each for each in tracked if file in each.parents]:
        place.write_text(_shown(file, "\n".join(_entry(file, each) for each in below)), encoding="utf-8")
    else:
        raise FileNotFoundError(f"a page links to {file}, which the repository does not have")


def _entry(folder: PurePosixPath, file: PurePosixPath) -> str:
    name = file.relative_to(folder)
    return f"- [{name}]({folder.name}/{name})" if file.suffix == ".md" else f"- `{name}`"


def _shown(file: PurePosixPath, content: str) -> str:
    return f"---\ntitle: {file.name}\nsearch:\n  exclude: true\n---\n\n# `{file}`\n\n{content}\n"


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
