"""`python -m website`, or `make docs`: the documentation as pages that are searched without a server or a network.

The Markdown of the repository is what is written; this reads it where it lies, so that the same links lead somewhere on
the site as in a checkout.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tidegate import command_line
from website.pages import write_pages

ROOT = Path(__file__).parents[1]
CONFIGURATION = Path(__file__).with_name("zensical.toml")
SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the generator has the pages fetch, so that their search works where they are files: without a network, never."""
OUR_SHIM = Path("assets", "iframe-worker.js")


def build(target: Path) -> Path:
    """Make the site anew below ``target``; return its first page.

    Raises :class:`subprocess.CalledProcessError` where the generator finds fault, and
    :class:`FileNotFoundError` for a link that leads nowhere.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_pages(ROOT, target / "pages")
    configuration = shutil.copy(CONFIGURATION, target / "zensical.toml")
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(configuration)]
    subprocess.run(words, check=True, cwd=target)
    _bring_the_shim(target / "site")
    return target / "site" / "index.html"


def _bring_the_shim(site: Path) -> None:
    """Lay the shim beside the pages, and have each fetch it from there."""
    shutil.copy(ROOT / "node_modules" / "iframe-worker" / "shim" / "index.js", site / OUR_SHIM)
    for page in site.rglob("*.html"):
        ours = "/".join([".."] * (len(page.relative_to(site).parts) - 1) + list(OUR_SHIM.parts))
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(SHIM, ours), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m website", description=__doc__)
    parser.add_argument("--target", type=Path, default=ROOT / "build" / "website", help="default: build/website")
    try:
        print(build(parser.parse_args().target))  # noqa: T201 - a command prints
    except subprocess.CalledProcessError as error:
        return int(error.returncode) or 1
    return 0


if __name__ == "__main__":
    sys.exit(command_line.run(main))
