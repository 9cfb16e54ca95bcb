"""A headless Chromium for tests. Without one they are skipped; with REQUIRE_BROWSER=1, as in CI, they fail."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.polling import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with the block."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None or importlib.util.find_spec("playwright") is None:
        reason = "chromium is not installed (apt-get install chromium), or playwright is not (make env)"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1 is set, and {reason}")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    # A home of its own: what this machine's user has set for browsers is not read, and nothing is left there.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            # As root, and where there is no GPU and a small /dev/shm: in a container.
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
            env={**os.environ, "HOME": home},
            timeout=1000 * PATIENCE_S,
        )
        try:
            yield browser
        finally:
            browser.close()
