"""`/docs` in a real browser: the description of a server, read by people."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest

from tests.contract.running import Server, running
from tests.playground.chromium import chromium
from tests.playground.test_playground import AXE, page
from tests.polling import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["page"]  # a fixture: the page that must report no error and ask nobody else

TITLE = "<img src=x onerror=alert(1)>"
HANDLER = """
import json

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return json.loads(body)["numbers"]

def predict_fn(data, model):
    return {"sum": sum(data)}

def output_fn(prediction, accept):
    return json.dumps(prediction)

def chat_fn(request, model):
    return "Good day"
"""
REQUEST = {"numbers": [1, 2], "text": "</script><b>it's</b> \u202e\U0001f408"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A model whose names and example hold markup."""
    manifest = {
        "format_version": 1,
        "files": {},
        "name": TITLE,
        "lineage": {"git": {"revision": "<b>0123456"}},
        "example": {
            "request": {"file": "request.json", "content_type": "application/json", "accept": "application/json"},
            "response": {"file": "response.json", "content_type": "application/json"},
        },
    }
    files = {
        "code/inference.py": HANDLER,
        "manifest.json": json.dumps(manifest),
        "request.json": json.dumps(REQUEST),
        "response.json": '{"sum": 3}',
    }
    with running(files, TIDEGATE_PAGES="on") as server:
        yield server


def open_at(page: Page, server: Server) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/docs")
    page.wait_for_selector("#operations:not([aria-busy])")


def test_every_operation_is_shown_with_its_example_as_text(page: Page, server: Server) -> None:
    """What the archive says is never markup; a word filters; each operation has an address of its own."""
    open_at(page, server)
    described = server.request("GET", "/openapi.json").json()
    wanted = {f"{verb.upper()} {path}" for path, verbs in described["paths"].items() for verb in verbs}
    assert set(page.locator("#list a").all_inner_texts()) == wanted
    assert {" ".join(each.split()) for each in page.locator("article h3").all_inner_texts()} == wanted
    assert page.locator("img, article b b").count() == 0
    example = page.locator("#invoke pre").first.text_content() or ""
    assert json.loads(example) == REQUEST
    assert "413" in page.inner_text("#invoke summary")
    page.fill("#filter", "post chat")
    assert page.locator("article:visible").count() == 2
    assert page.inner_text("#found") == "2 operations"
    page.fill("#filter", "")
    page.click("#list a[href='#chat']")
    assert page.url.endswith("/docs#chat")


def test_the_example_is_copied_as_code_and_tried_in_the_playground(page: Page, server: Server) -> None:
    """curl sends it as it stands; the link leads to the model in the playground, and from there back."""
    open_at(page, server)
    page.click("#invoke [data-copy=curl]")
    page.wait_for_selector("#invoke .row [role=status]:not(:empty)")
    code = page.text_content("#invoke pre[aria-label^='Request as code']") or ""
    assert "/invocations" in code
    words = shlex.split(code)
    assert json.loads(words[words.index("%s") + 1]) == REQUEST
    for name, part in (("boto3", "invoke_endpoint("), ("aws", "aws sagemaker-runtime invoke-endpoint")):
        page.click(f"#invoke [data-copy={name}]")
        shown = page.locator("#invoke pre[aria-label^='Request as code']")
        shown.filter(has_text=part).wait_for()
    page.click("#invoke a:has-text('Try it')")
    page.wait_for_selector("#request:not([aria-busy])")
    assert json.loads(page.input_value("#text")) == REQUEST
    page.click("#send")
    page.wait_for_selector("#outcome.good")
    page.click("#pages a")
    page.wait_for_selector("#operations:not([aria-busy])")
    assert page.url.endswith("/docs")


def test_curl_sends_what_was_copied(page: Page, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Markup, quotes and characters of every plane go through a shell unchanged."""
    open_at(page, server)
    page.click("#invoke [data-copy=curl]")
    code = page.locator("#invoke pre[aria-label^='Request as code']")
    code.filter(has_text="/invocations").wait_for()
    folder = tmp_path_factory.mktemp("curl")
    done = subprocess.run(
        ["/bin/bash", "-c", code.text_content() or ""], cwd=folder, capture_output=True, check=False, timeout=120
    )
    assert json.loads(done.stdout) == {"sum": 3}, done.stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_description_has_no_fault_that_axe_knows_and_fits_into_320_pixels(
    browser: Browser, server: Server, scheme: Literal["light", "dark"]
) -> None:
    """In both colour schemes, everything unfolded, with a request as code; and all of it by keyboard."""
    with browser.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme, bypass_csp=True) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        open_at(page, server)
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert re.search(r"#operations$", page.url)
        for folded in page.locator("details > summary").all():
            folded.click()
        page.click("#invoke [data-copy=boto3]")
        page.wait_for_selector("#invoke pre[aria-label^='Request as code']")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
        page.add_script_tag(path=AXE)
        found = page.evaluate("() => axe.run()")
        assert [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found["violations"]] == []
        assert len(found["passes"]) > 15
