"""The playground in a real browser: that of a server, and that of the local cloud with three examples deployed.

    PLAYGROUND_PICTURES=docs/pictures python -m pytest tests/playground

makes the pictures of the documentation anew.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.contract.running import Server, running
from tests.playground.chromium import chromium
from tests.polling import PATIENCE_S, until
from tidegate.local_cloud import LocalCloud
from tidegate.training_hooks.archive import pack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
ROLE = "arn:aws:iam::123456789012:role/playground"
MADE = {
    # Short trainings: a digit is read, and how well the others tell and paint is not asked here.
    "digits": ("--epochs", "8"),
    "stories": ("--stories", "100", "--epochs", "1"),
    "paint": ("--scenes", "4", "--epochs", "1", "--batch-size", "4", "--threads", "1"),
}
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"


def train(name: str, work_dir: Path) -> Path:
    """The model directory of an example after its training."""
    model_dir = work_dir / "model"
    work_dir.mkdir()
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name / "train.py"), *MADE[name]],
        env=os.environ
        | {
            "SM_MODEL_DIR": str(model_dir),
            "SM_OUTPUT_DIR": str(work_dir / "output"),
            "SM_OUTPUT_DATA_DIR": str(work_dir / "output" / "data"),
        },
        cwd=work_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return model_dir


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model directories of the three examples."""
    work_dir = tmp_path_factory.mktemp("playground")
    with ThreadPoolExecutor(max_workers=len(MADE)) as pool:
        trained = {name: pool.submit(train, name, work_dir / name) for name in MADE}
    return {name: future.result() for name, future in trained.items()}


@pytest.fixture(scope="module")
def server(models: dict[str, Path]) -> Iterator[Server]:
    """The teller of stories, with the page."""
    directory = models["stories"]
    files = {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }
    with running(files, TIDEGATE_PAGES="on") as server:
        yield server


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A local cloud with ``digits``, ``stories``, ``many`` (one model, the painter), and ``later``, of digits."""

    runtime: Any
    url: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def cloud(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("cloud")
    with LocalCloud(directory / "state") as local:
        s3, sagemaker = local.client("s3"), local.client("sagemaker")
        s3.create_bucket(Bucket="models")
        for name, model_dir in models.items():
            archive = directory / f"{name}.tar.gz"
            pack(model_dir, archive)
            s3.upload_file(str(archive), "models", f"{name}/{name}.tar.gz")
        for name, container in {
            "digits": {"ModelDataUrl": "s3://models/digits/digits.tar.gz"},
            "stories": {"ModelDataUrl": "s3://models/stories/stories.tar.gz"},
            "many": {"ModelDataUrl": "s3://models/paint/", "Mode": "MultiModel"},
        }.items():
            image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tidegate:1"
            sagemaker.create_model(
                ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": image, **container}
            )
            variant = {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
            sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        sagemaker.create_endpoint_config(
            EndpointConfigName="later",
            ProductionVariants=[{**variant, "ModelName": "digits"}],
            AsyncInferenceConfig={
                "OutputConfig": {"S3OutputPath": "s3://models/answers", "S3FailurePath": "s3://models/failures"}
            },
        )
        sagemaker.create_endpoint(EndpointName="later", EndpointConfigName="later")

        def in_service() -> bool:
            found = [sagemaker.describe_endpoint(EndpointName=name) for name in ("digits", "stories", "many", "later")]
            assert all(each["EndpointStatus"] in ("Creating", "InService") for each in found), found
            return all(each["EndpointStatus"] == "InService" for each in found)

        until(in_service, "the endpoints are in service", timeout_s=300)
        record = local.record()
        assert record is not None
        yield Cloud(
            runtime=local.client("sagemaker-runtime"), url=record.playground_url, environment=dict(local.environment)
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must report no error, break no rule of its policy, and ask nobody but its own server."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    said: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    # What an error's status is, Chromium writes to the console by itself.
    page.on(
        "console",
        lambda line: (
            said.append(line.text)
            if line.type in ("error", "warning") and "Failed to load resource" not in line.text
            else None
        ),
    )
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.unroute_all(behavior="wait")
    origin = re.match(r"https?://[^/]+", page.url)
    context.close()
    assert said == []
    assert origin is not None
    strangers = [url for url in asked if not url.startswith((f"{origin[0]}/", "data:", "blob:"))]
    assert strangers == []


def open_at(page: Page, url: str, target: str | None = None) -> None:
    """Open the page, choose a model or endpoint, and wait until it proposes a request."""
    page.goto(url)
    page.wait_for_selector("#request:not([aria-busy])")
    if target is not None:
        page.select_option("#target", target)
        page.wait_for_selector("#request:not([aria-busy])")


def answered(page: Page) -> str:
    """Press Send; what the page says of the answer."""
    page.click("#send")
    page.wait_for_selector("#outcome.good, #outcome.bad")
    page.wait_for_selector("#send:enabled")  # the answer is laid out
    return page.inner_text("#outcome")


def picture(page: Page, name: str) -> None:
    """A picture for the documentation, where somebody has asked for them."""
    if folder := os.environ.get("PLAYGROUND_PICTURES"):
        with Image.open(io.BytesIO(page.screenshot(full_page=True))) as shown:
            shown.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(
                Path(folder) / f"{name}.png", optimize=True
            )


def local_page(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/playground"


def test_the_page_of_a_server_sends_the_models_own_example_at_the_first_click(page: Page, server: Server) -> None:
    """Body, type and Accept are those of the manifest; the raw exchange is beside the answer."""
    open_at(page, local_page(server))
    example = json.loads((server.model_dir / "example" / "request.json").read_text())
    assert json.loads(page.input_value("#text")) == example
    assert page.input_value("#content-type") == "application/json"
    assert answered(page).startswith("200 OK in ")
    told = server.post(json.dumps(example)).json()["text"]
    assert page.inner_text("#shown").strip() == told.strip()
    raw = page.text_content("#raw-request") or ""
    assert raw.startswith("POST /invocations HTTP/1.1\nhost: 127.0.0.1")
    assert json.loads(raw.partition("\n\n")[2]) == example
    assert (page.text_content("#raw-response") or "").startswith("HTTP/1.1 200 OK\n")
    assert "p95" in page.inner_text("#latency-words")


def test_tokens_are_shown_as_they_come(page: Page, server: Server) -> None:
    """A stream is on the page in parts, and whole in the end: greedily told, it is the story that anybody is told."""
    open_at(page, local_page(server))
    request = json.dumps({"prompt": "Once upon a time", "max_characters": 200, "temperature": 0})
    page.fill("#text", request)
    page.fill("#accept", "text/plain")
    assert re.search(r"the first part after [\d.]+ m?s$", answered(page))
    assert page.text_content("#shown") == server.post(request, accept="text/plain").body.decode()


def test_a_chat_is_held_with_a_model_that_has_a_chat_function(page: Page, server: Server) -> None:
    """Question and answer stay, and the next request has both."""
    open_at(page, local_page(server))
    page.check("input[name=input][value=chat]")
    page.fill("#chat-text", "A story of a fox, please")
    assert answered(page).startswith("200 OK")
    openings = json.loads((server.model_dir / "preprocessing.json").read_text())["openings"]
    you, model = page.locator("#chat-log p").all_inner_texts()
    assert you.splitlines() == ["You", "A story of a fox, please"]
    assert model.splitlines()[0] == "Model"
    assert openings["fox"] in model
    page.fill("#chat-text", "And of a bear")
    answered(page)
    sent = json.loads((page.text_content("#raw-request") or "").partition("\n\n")[2])
    assert [each["role"] for each in sent["messages"]] == ["user", "assistant", "user"]
    assert page.locator("#chat-log p").count() == 4


def test_a_drawn_seven_is_seen_as_a_seven(page: Page, cloud: Cloud) -> None:
    """The example's four digits at the first click; then one that is drawn, with bars for all ten classes."""
    open_at(page, cloud.url, "digits")
    assert page.locator("#input-example img").count() == 4
    assert answered(page).startswith("200 OK")
    assert page.locator("#shown .guess").count() == 4
    page.check("input[name=input][value=draw]")
    box = page.locator("#canvas").bounding_box()
    assert box is not None

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.25, 0.15))
    page.mouse.down()
    for x, y in ((0.75, 0.15), (0.6, 0.45), (0.45, 0.85)):
        page.mouse.move(*at(x, y), steps=8)
    page.mouse.up()
    assert answered(page).startswith("200 OK")
    picture(page, "playground-digits")
    assert page.inner_text("#shown .guess") == "7"
    assert page.locator("#shown .bars svg").count() == 10
    assert page.inner_text("#shown .bars .best >> nth=0") == "7"


def test_a_chosen_file_is_sent_with_the_type_that_its_name_says(page: Page, cloud: Cloud, tmp_path: Path) -> None:
    """A picture is shown before it is sent; what the model does not take is refused in its own words."""
    open_at(page, cloud.url, "digits")
    assert answered(page).startswith("200 OK")
    assert page.locator("#shown .guess").count() == 4
    page.check("input[name=input][value=file]")
    page.click("#send")
    page.wait_for_selector("#outcome.bad:has-text('Choose a file first.')")
    assert page.text_content("#shown") == ""  # the answer before is none to this
    Image.new("L", (32, 32)).save(tmp_path / "black.png")
    page.set_input_files("#file", tmp_path / "black.png")
    page.wait_for_selector("#file-shown img")
    assert page.input_value("#content-type") == "image/png"
    assert answered(page).startswith("200 OK")
    assert page.locator("#shown .guess").count() == 1
    (tmp_path / "table.csv").write_text("1,2\n", encoding="utf-8")
    page.set_input_files("#file", tmp_path / "table.csv")
    page.wait_for_selector("#file-shown p:has-text('table.csv, 4 bytes')")
    assert page.input_value("#content-type") == "text/csv"
    assert "content type 'text/csv' is not one of" in answered(page)


def test_an_array_is_offered_as_json_to_whoever_wants_to_change_it(page: Page, cloud: Cloud) -> None:
    """Each input has its own content type: npy for the example, JSON for its numbers as text."""
    open_at(page, cloud.url, "digits")
    assert page.input_value("#content-type") == "application/x-npy"
    page.check("input[name=input][value=text]")
    assert page.input_value("#content-type") == "application/json"
    images = json.loads(page.input_value("#text"))
    assert np.shape(images) == (4, 8, 8)
    page.fill("#text", json.dumps(images[:1]))
    assert answered(page).startswith("200 OK")
    assert page.locator("#shown .guess").count() == 1
    page.check("input[name=input][value=example]")
    assert page.input_value("#content-type") == "application/x-npy"
    assert answered(page).startswith("200 OK")
    assert page.locator("#shown .one").count() == 4


def list_targets(page: Page, targets: list[dict[str, Any]]) -> None:
    """From now on the page is told that there are these."""
    page.unroute("**/playground/targets")
    page.route("**/playground/targets", lambda route: route.fulfill(json={"targets": targets}))


def test_an_endpoint_that_is_gone_stays_chosen_with_what_was_typed(page: Page, cloud: Cloud) -> None:
    """No other one is asked in its place; the text is there for the one that somebody chooses."""
    with page.expect_response("**/playground/targets") as listed:
        open_at(page, cloud.url, "stories")
    targets = listed.value.json()["targets"]
    others = [each for each in targets if each["name"] != "stories"]
    (ours,) = (each for each in targets if each["name"] == "stories")
    typed = '{"prompt": "typed"}'
    page.fill("#text", typed)
    list_targets(page, [{**ours, "ways": [], "status": "Deleting", "reason": "It is Deleting."}, *others])
    page.wait_for_selector("#about:has-text('It is Deleting.')")
    assert page.is_disabled("#send")
    assert page.input_value("#text") == typed
    page.unroute("**/playground/targets")
    page.wait_for_selector("#send:enabled")
    assert page.input_value("#target") == "stories"
    assert page.input_value("#text") == typed
    list_targets(page, others)
    page.wait_for_selector("#about:has-text('stories is gone. Choose another one.')")
    assert page.is_disabled("#send")
    assert page.input_value("#target") == "stories"
    assert page.input_value("#text") == typed
    page.select_option("#target", "digits")
    page.wait_for_selector("#send:enabled")
    assert page.input_value("#text") == typed
    assert page.locator("#target option").all_inner_texts() == [each["name"] for each in others]


def test_the_first_model_that_can_be_asked_is_chosen_and_nothing_empty_is_sent(page: Page, server: Server) -> None:
    """An example that is a picture leaves the text empty; a chat is offered only where the archive has a chat_fn."""
    way = {"label": "1", "model": "good", "headers": {}, "invoke": "/invocations", "chat": "/chat", "about": "/about"}
    targets = [{"name": "broken", "ways": [], "reason": "It has no version."}, {"name": "good", "ways": [way]}]
    picture = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    )
    example = {"content_type": "image/png", "accept": "text/csv", "body": base64.b64encode(picture).decode()}
    about = {"name": "good", "example": example, "reason": "", "labels": [], "colours": {}, "chat": False}
    sent: list[str] = []
    list_targets(page, targets)
    page.route("**/about", lambda route: route.fulfill(json=about))
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    open_at(page, local_page(server))
    assert page.input_value("#target") == "good"
    assert page.input_value("#content-type") == "image/png"
    assert page.is_visible("#input-example img")
    assert page.is_hidden("input[name=input][value=chat]")
    page.check("input[name=input][value=text]")
    assert (page.input_value("#text"), page.input_value("#content-type")) == ("", "application/json")
    assert "Write a body first" in answered(page)
    assert page.evaluate("() => document.activeElement.id") == "text"
    assert sent == []


def npy(array: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_answers_are_shown_with_the_numbers_that_were_sent_and_those_of_each_input_apart(
    page: Page, server: Server
) -> None:
    """Whole numbers that are none of JavaScript's, shares next to 1, and what is no picture."""
    answers: list[tuple[str, bytes]] = []
    page.route("**/invocations", lambda route: route.fulfill(content_type=answers[-1][0], body=answers[-1][1]))
    open_at(page, local_page(server))
    page.click("#copies summary")
    page.wait_for_selector("[data-copy=curl]")
    assert not page.is_visible("#copy-text")  # an empty box would look like one to write in

    def shown(content_type: str, body: bytes) -> str:
        answers.append((content_type, body))
        assert answered(page).startswith("200 ")
        return page.inner_text("#shown")

    assert '{"id": 12345678901234567890}' in shown("application/json", b'{"id": 12345678901234567890}')
    assert "9007199254740993" in shown("application/json", b'[{"id": 9007199254740993, "name": "\\"1"}]')
    assert "-12345678901234567890" in shown("application/jsonlines", b"1\n-12345678901234567890\n")
    assert shown("text/csv", b"12345678901234567890,007\n").split()[-2:] == ["12345678901234567890", "007"]
    assert "9007199254740993" in shown("application/x-npy", npy(np.array([1, 2**53 + 1])))
    assert "An array of float32, shape (2, 2)" in shown("application/x-npy", npy(np.ones((2, 2), np.float32)))
    assert page.locator("#shown td").count() == 4
    wide = shown("application/json", json.dumps([[1] * 5000] * 2).encode())
    assert "the first 100 of 5000 columns" in wide
    assert page.locator("#shown td").count() == 200
    assert shown("application/json", b'""') == "The answer is an empty string."
    shown("image/png", b"no picture")
    page.wait_for_selector("#shown p:has-text('cannot show this picture')")
    two = [{"label": "upper", "probability": 0.9997}, {"label": "lower", "probability": 0.985}]
    shown("application/json", json.dumps(two).encode())
    first, second = page.locator("#shown .one").all_inner_texts()
    assert first.split() == ["Answer", "1", "of", "2", "upper", "upper", "99.97", "%"]
    assert second.split() == ["Answer", "2", "of", "2", "lower", "lower", "98.5", "%"]
    shown("application/json", json.dumps([[1e-8, 0.00004, 0.0004, 0.99995999]]).encode())
    assert re.findall(r"\S* ?[\d.]+ %", page.inner_text("#shown")) == ["> 99.99 %", "0.04 %", "< 0.01 %", "< 0.01 %"]
    page.click("[data-copy=curl]")
    page.wait_for_selector("#copy-text:has-text('/invocations')")
    numbered = "The classes have no names in the archive: these are their places, from 0."
    assert numbered in shown("application/json", json.dumps([0.1] * 10).encode())
    named = {"probabilities": [0.25, 0.75], "labels": ["lower", "upper"]}
    assert numbered not in shown("application/json", json.dumps(named).encode())
    error = {"code": "handler_failed", "message": "The log has it under this request id.", "request_id": "02114942-69"}
    page.unroute("**/invocations")
    page.route("**/invocations", lambda route: route.fulfill(status=500, json={"error": error}))
    page.click("#send")
    page.wait_for_selector("#outcome.bad:has-text('under this request id. (request id 02114942-69)')")


def test_of_a_huge_answer_the_beginning_is_shown_and_the_whole_is_a_download(page: Page, server: Server) -> None:
    """It is neither parsed nor laid out, whatever its type."""
    huge = json.dumps({"a": "é" * (5 << 20)}, ensure_ascii=False).encode()
    page.route("**/invocations", lambda route: route.fulfill(content_type="application/json", body=huge))
    open_at(page, local_page(server))
    assert answered(page).startswith("200 OK")
    assert page.inner_text("#shown p").startswith("The answer has 10.0 MiB, more than the page reads (4.0 MiB).")
    beginning = page.text_content("#shown pre") or ""
    assert huge.decode().startswith(beginning)
    assert 5000 < len(beginning) <= 20000
    assert len(page.text_content("#raw-response") or "") < 30000
    with page.expect_download() as download:
        page.click("#shown a")
    assert download.value.suggested_filename == "answer.json"
    assert download.value.path().read_bytes() == huge


def test_a_link_on_another_site_opens_the_page(page: Page, cloud: Cloud) -> None:
    """In a tab of its own; what else another site may not is below."""
    page.set_content(f'<a href="{cloud.url}">playground</a>')
    with page.expect_response("**/playground") as opened:
        page.click("a")
    assert opened.value.request.all_headers()["sec-fetch-site"] == "cross-site"
    page.wait_for_selector("#request:not([aria-busy])")
    assert page.locator("#target option").count() == 4


def test_a_label_map_is_painted_and_becomes_a_picture(page: Page, cloud: Cloud) -> None:
    """Of a model of many: the example's own map first; then one with an area in a colour of the model's palette."""
    open_at(page, cloud.url, "many")
    assert page.input_value("#content-type") == "application/json"
    assert answered(page).startswith("200 OK")
    example = json.loads((page.text_content("#raw-request") or "").partition("\n\n")[2])
    page.check("#palette input[value='#b0705a']")
    assert "brick" in page.inner_text("#palette label:has(:checked)")
    page.locator("#canvas").click()
    page.keyboard.press("Shift+ArrowLeft")  # the canvas has the focus: by keyboard as well
    assert answered(page).startswith("200 OK")
    request = page.text_content("#raw-request") or ""
    assert "x-amzn-sagemaker-target-model: paint.tar.gz" in request.lower()
    before, after = (pixels(each["segmap"]) for each in (example, json.loads(request.partition("\n\n")[2])))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed
    assert {new for _, new in changed} == {(0xB0, 0x70, 0x5A)}
    shown = page.locator("#shown img")
    assert len(pixels(shown.get_attribute("src") or "")) == len(after)


def pixels(uri: str) -> list[tuple[int, ...]]:
    """The colours of a picture in a data URI, row by row."""
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        assert image.mode == "RGB"
        return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def test_a_streamed_answer_of_the_cloud_is_put_together_from_its_events(page: Page, cloud: Cloud) -> None:
    """What InvokeEndpointWithResponseStream sends is AWS's event stream; people read its payload."""
    open_at(page, cloud.url, "stories")
    page.fill("#accept", "text/plain")
    page.check("#stream")
    assert answered(page).startswith("200 OK")
    body = json.loads(page.input_value("#text"))
    told = cloud.runtime.invoke_endpoint(
        EndpointName="stories", ContentType="application/json", Accept="text/plain", Body=json.dumps(body)
    )
    assert page.text_content("#shown") == told["Body"].read().decode()


def test_an_asynchronous_request_is_waited_for_and_its_object_shown(page: Page, cloud: Cloud) -> None:
    open_at(page, cloud.url, "later")
    assert page.is_hidden("#stream-row")
    said = answered(page)
    assert said.startswith("Answered after ")
    assert "The object is s3://models/answers/" in said
    assert page.locator("#shown .guess").count() == 4
    assert "HTTP/1.1 202 Accepted" in (page.text_content("#raw-response") or "")
    page.click("#copies summary")
    assert "invoke_endpoint_async(" in copied(page, "boto3")
    assert "aws sagemaker-runtime invoke-endpoint-async " in copied(page, "aws")
    page.check("input[value=text]")
    page.fill("#text", "no JSON")
    said = answered(page)
    assert said.startswith("It failed after ")
    assert "Received client error (400)" in said
    assert "The object is s3://models/failures/" in said
    assert page.inner_text("#shown") == ""


def test_a_wrong_body_is_answered_with_the_servers_sentence_and_status(page: Page, cloud: Cloud) -> None:
    """What the container says, not what SageMaker wraps around it; the wrapping is in the raw exchange."""
    open_at(page, cloud.url, "stories")
    page.fill("#text", "[1, 2")
    said = answered(page)
    assert said.startswith("424 ")
    assert "the container's 400" in said
    assert "Expecting ',' delimiter" in said
    assert "OriginalMessage" in (page.text_content("#raw-response") or "")
    page.fill("#text", '{"prompt": "Once upon a time", "max_characters": 0}')
    assert "the longest answer must be a whole number" in answered(page)


def test_a_worker_that_is_killed_is_seen_to_go_and_another_one_to_come(page: Page, cloud: Cloud) -> None:
    """By the page's own words, and by the process in its table."""
    open_at(page, cloud.url, "digits")
    first = page.inner_text("#workers td >> nth=0")
    os.kill(int(first.split()[-1]), signal.SIGKILL)
    page.wait_for_selector(f"#events li:has-text('Worker {first} has ended')")
    page.wait_for_selector("#events li:has-text('has loaded the model and takes requests')")
    page.wait_for_selector("#workers-words:has-text('1 replaced since the start')")
    assert page.locator(f"#workers tr:has-text('{first}') td >> nth=1").inner_text() == "ended"
    assert answered(page).startswith("200 OK")
    picture(page, "playground-worker")


class Recorder(ThreadingHTTPServer):
    """Answers everything with an empty object, and keeps what came: path, headers and body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RecordedRequest)
        self.came: list[tuple[str, dict[str, str], bytes]] = []


class RecordedRequest(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Recorder)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing: what came is kept."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_is_copied_as_code_that_sends_the_same(
    page: Page, cloud: Cloud, recorder: Recorder, tmp_path: Path
) -> None:
    """boto3, curl and AWS's command line, with a text that a shell would take apart; and curl with bytes."""
    open_at(page, cloud.url, "stories")
    page.click("#copies summary")
    text = json.dumps({'it\'s "$HOME" `é` \\n % 😀': [1, "a\nb"]}, ensure_ascii=False)
    page.fill("#text", text)
    answered(page)
    wanted = [copied(page, name) for name in ("boto3", "curl", "aws")]
    page.select_option("#target", "digits")
    page.wait_for_selector("#request:not([aria-busy])")
    answered(page)
    wanted.append(copied(page, "curl"))
    environment = {
        **os.environ,
        **cloud.environment,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": f"http://127.0.0.1:{recorder.server_port}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for place, code in enumerate(wanted):
        command = [sys.executable, "-c", code] if place == 0 else ["bash", "-c", code]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, (code, done.stderr)
        path, headers, body = recorder.came[-1]
        assert len(recorder.came) == place + 1
        assert headers["accept"] == "application/json"
        if place < len(wanted) - 1:
            assert path == "/endpoints/stories/invocations"
            assert headers["content-type"] == "application/json"
            assert body == text.encode()
        else:
            assert path == "/endpoints/digits/invocations"
            assert headers["content-type"] == "application/x-npy"
            assert np.load(io.BytesIO(body), allow_pickle=False).shape == (4, 8, 8)


def copied(page: Page, name: str) -> str:
    """The last request as code."""
    page.click(f"[data-copy={name}]")
    page.wait_for_selector("#copied:not(:empty)")
    return page.text_content("#copy-text") or ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_no_fault_that_axe_knows_and_fits_into_320_pixels(
    browser: Browser, cloud: Cloud, scheme: Literal["light", "dark"]
) -> None:
    """In both colour schemes, with an answer and everything unfolded, and on the narrowest screen of WCAG's reflow."""
    # Past the page's policy, which lets axe in as little as any other script.
    with browser.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme, bypass_csp=True) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        open_at(page, cloud.url, "digits")
        answered(page)
        for folded in page.locator("details > summary").all():
            folded.click()
        page.check("input[name=input][value=draw]")
        page.wait_for_selector("#workers td")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
        page.add_script_tag(path=AXE)
        found = page.evaluate("() => axe.run()")
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
        assert len(found["passes"]) > 20


def status_of(url: str, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
    """What comes back for a request that no browser makes for the page."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
    with contextlib.closing(connection):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, b"{}" if method == "POST" else None, sent)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_nobody_but_the_page_itself_may_ask_below_its_path(server: Server, cloud: Cloud) -> None:
    """Not by another name (DNS rebinding), not from another page, and in the cloud not without the page's token."""
    own = {"Host": urlsplit(cloud.url).netloc}
    status, document = status_of(cloud.url, "/playground", **own)
    facts = re.search(r'id="facts">(.*?)</script>', document)
    assert status == 200
    assert facts is not None
    token = {"X_Tidegate_Playground": json.loads(facts[1])["token"]}
    asked = "/playground/targets"
    assert status_of(cloud.url, asked, **own, **token)[0] == 200
    assert "digits" in status_of(cloud.url, asked, **own, **token)[1]
    invoke = "/playground/endpoints/digits/invocations"
    for path, method in ((asked, "GET"), (invoke, "POST"), ("/playground", "GET")):
        for headers in (
            {"Host": "evil.example"},
            {**own, "Origin": "http://evil.example"},
            {**own, "Sec_Fetch_Site": "cross-site"},
        ):
            status, said = status_of(cloud.url, path, method=method, **token, **headers)
            assert (status, "This page answers" in said) == (403, True), (path, headers, said)
    for wrong in ({}, {"X_Tidegate_Playground": "0" * 32}):
        status, said = status_of(cloud.url, invoke, method="POST", **own, **wrong)
        assert (status, "token" in said) == (403, True)
    page = local_page(server)
    for path, method in (
        ("/playground", "GET"),
        ("/playground/targets", "GET"),
        ("/metrics", "GET"),
        ("/invocations", "POST"),
    ):
        assert status_of(page, path, method=method, Host="evil.example")[0] == 403
        assert status_of(page, path, method=method, Origin="http://evil.example")[0] == 403
    assert status_of(page, "/ping")[0] == 200
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert status_of(page, "/playground", **linked)[0] == 200
    for path, headers in (
        ("/playground", {**linked, "Sec_Fetch_Dest": "iframe"}),
        ("/playground", {**linked, "Sec_Fetch_Mode": "no-cors"}),
        ("/playground", {**linked, "Host": "evil.example"}),
        ("/playground/targets", linked),
        ("/metrics", linked),
    ):
        assert status_of(page, path, **headers)[0] == 403, (path, headers)
