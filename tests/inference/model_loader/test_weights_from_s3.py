"""A run whose weights are in S3, moto's, behind a proxy that refuses, cuts and spoils."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.inference.model_loader.runs import PAINTED_SKY, SKY, pixels_of, sha256_of, uri_of, weights, write_runs
from tests.inference.repository.s3_proxy import BROKEN, FORBIDDEN, S3, Asked, Fault, Proxy, always, once
from tests.polling import until
from tests.processes import started
from tidegate.model_loader import DeploymentError, ModelLoader, UnknownEpoch

BUCKET = "models"
CLASSES = 20_000
"""As many as make the weights several pieces of a download."""
WEIGHTS = weights(classes=CLASSES)
SHA256 = sha256_of(WEIGHTS)
PROGRAM = """
import json, sys
from tidegate.model_loader import ModelLoader
print(json.dumps(ModelLoader("62", configurations=sys.argv[1]).epoch_id))
"""
Put = Callable[..., str]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as running:
        running.client().create_bucket(Bucket=BUCKET)
        yield running


@pytest.fixture
def proxy(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(s3.port) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


_prefixes = itertools.count()


@pytest.fixture
def put(s3: S3) -> Put:
    """Puts objects below a prefix of the test's own, whose address it returns."""
    prefix = f"runs-{next(_prefixes)}"
    client = s3.client()

    def write(**objects: bytes) -> str:
        for name, content in objects.items():
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name.strip('_')}.pth", Body=content)
        return f"s3://{BUCKET}/{prefix}"

    return write


def runs_at(folder: Path, address: str, more: str = "") -> Path:
    path = write_runs(folder, _62=f'  weights: "{address}"\n{more}')
    path.write_text(path.read_text().replace("classes: 2}", f"classes: {CLASSES}}}"))
    return path


def reads(proxy: Proxy) -> list[Asked]:
    return [asked for asked in proxy.asked if asked.method == "GET" and asked.key]


def left_in(cache: Path) -> list[str]:
    """Files that an unfinished download left, and whole ones."""
    found = (path for path in cache.rglob("*") if path.is_file() and path.name != ".lock")
    return sorted(str(path.relative_to(cache)) for path in found)


def paints(loader: ModelLoader) -> bool:
    return bool(pixels_of(loader.get_prediction(uri_of([SKY]))) == [[list(PAINTED_SKY)]])


def test_weights_come_from_s3_once(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    """The second time S3 is asked only whether the object is still that one."""
    runs = runs_at(tmp_path, f"{put(net=WEIGHTS)}/net.pth")
    assert paints(ModelLoader("62", configurations=runs))
    assert paints(ModelLoader("62", configurations=runs))
    assert len(reads(proxy)) == 1
    assert f"whole/{SHA256}" in left_in(tmp_path / "cache")


def test_weights_whose_hash_is_declared_are_loaded_without_s3(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    runs = runs_at(tmp_path, f"{put(net=WEIGHTS)}/net.pth", f"  sha256: {SHA256}")
    assert paints(ModelLoader("62", configurations=runs))
    before = len(proxy.asked)
    proxy.fault = always(FORBIDDEN)
    assert paints(ModelLoader("62", configurations=runs))
    assert len(proxy.asked) == before


def test_an_object_that_was_replaced_is_loaded_anew(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    """An address is not an identity: what is cached under it is not used for what lies there now."""
    runs = runs_at(tmp_path, f"{put(net=weights((0.0, 0.0, 0.0), classes=CLASSES))}/net.pth")
    assert not paints(ModelLoader("62", configurations=runs))
    put(net=WEIGHTS)
    assert paints(ModelLoader("62", configurations=runs))


def test_latest_is_the_highest_epoch_there_and_is_cached_as_that(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    """A later epoch is found by the next start."""
    address = put(_9=WEIGHTS, latest=b"of no number", notes=b"no epoch")
    runs = runs_at(tmp_path, f"{address}/{{epoch}}.pth")
    assert ModelLoader("62", configurations=runs).epoch_id == "9"
    put(_10=weights((0.0, 0.0, 0.0), classes=CLASSES))
    later = ModelLoader("62", configurations=runs)
    assert (later.epoch_id, paints(later)) == ("10", False)
    assert paints(ModelLoader("62", 9, configurations=runs))


def test_epochs_whose_hashes_are_declared_need_no_listing(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    address = put(_9=b"old", _10=WEIGHTS, _11=b"of no hash")
    runs = runs_at(tmp_path, f"{address}/{{epoch}}.pth", f"  sha256: {{9: {sha256_of(b'old')}, 10: {SHA256}}}")
    assert ModelLoader("62", configurations=runs).epoch_id == "10"
    assert not [asked for asked in proxy.asked if asked.lists]
    with pytest.raises(UnknownEpoch, match=r"^There is no epoch '11' of these weights; there are 9, 10\.$"):
        ModelLoader("62", 11, configurations=runs)


def refused(runs: Path, sentence: str) -> None:
    with pytest.raises(DeploymentError, match=sentence) as raised:
        ModelLoader("62", configurations=runs)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (FORBIDDEN, r"net\.pth cannot be read: access is denied \(403: Forbidden\); the role needs .*s3:GetObject"),
        (BROKEN, r"net\.pth cannot be read: [^\n]*[^.]\.$"),
        (
            Fault(status=404, code="NoSuchKey"),
            r"net\.pth cannot be read: there is no such object, or no such bucket\.$",
        ),
        (Fault(status=301, code="PermanentRedirect"), r"net\.pth cannot be read: "),
        (Fault(status=200, body=b"<html>Please sign in.</html>"), r"net\.pth: the answer is no object's of S3\.$"),
    ],
    ids=["403", "500", "404", "redirect", "a web page"],
)
@pytest.mark.parametrize("template", [False, True], ids=["named", "listed"])
def test_an_s3_that_refuses_is_one_sentence_and_leaves_nothing(
    put: Put, proxy: Proxy, tmp_path: Path, fault: Fault, sentence: str, template: bool
) -> None:
    address = put(net=WEIGHTS)
    proxy.fault = always(fault)
    if template:
        refused(runs_at(tmp_path, f"{address}/{{epoch}}.pth"), rf"^{address}/[: ].*\.$")
    else:
        refused(runs_at(tmp_path, f"{address}/net.pth"), sentence)
    assert not left_in(tmp_path / "cache")


@pytest.mark.parametrize("fault", [FORBIDDEN, Fault(status=404, code="NoSuchKey")], ids=["403", "404"])
def test_an_object_that_is_listed_and_not_given_is_one_sentence_and_leaves_nothing(
    put: Put, proxy: Proxy, tmp_path: Path, fault: Fault
) -> None:
    address = put(net=WEIGHTS)
    proxy.fault = always(fault, lambda asked: asked.method == "GET" and bool(asked.key))
    refused(runs_at(tmp_path, f"{address}/net.pth"), rf"^{address}/net\.pth .*\.$")
    assert not left_in(tmp_path / "cache")


def test_a_sign_in_page_in_the_objects_place_is_not_taken_for_a_change_of_it(
    put: Put, proxy: Proxy, tmp_path: Path
) -> None:
    """Of any length, also the object's own."""
    address = put(net=WEIGHTS)
    for page in (b"<html>Please sign in.</html>", b" " * len(WEIGHTS)):
        proxy.fault = always(Fault(status=200, body=page), lambda asked: asked.method == "GET" and bool(asked.key))
        refused(
            runs_at(tmp_path, f"{address}/net.pth"),
            rf"^{address}/net\.pth: the answer is no object's of S3, but perhaps a proxy's or a sign-in page\.$",
        )
        assert not left_in(tmp_path / "cache")


def test_without_boto3_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    refused(
        runs_at(tmp_path, "s3://models/net.pth"), r"^s3://models needs boto3, which is not installed: pip install 'ti"
    )


def test_weights_of_another_hash_are_refused_and_not_kept(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    runs = runs_at(tmp_path, f"{put(net=WEIGHTS)}/net.pth", f"  sha256: {'ab' * 32}")
    refused(
        runs, rf"net\.pth is not what the configuration says: its SHA-256 is {SHA256}, and (ab){{32}} is declared; it"
    )
    assert not left_in(tmp_path / "cache")


def test_a_download_that_is_cut_goes_on_by_itself(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    proxy.fault = once(Fault(truncate_at=150_000), lambda asked: asked.method == "GET")
    assert paints(ModelLoader("62", configurations=runs_at(tmp_path, f"{put(net=WEIGHTS)}/net.pth")))
    assert [asked.range for asked in reads(proxy)] == [None, "bytes=150000-"]


def test_a_download_that_is_cut_for_ever_is_one_sentence_and_gone_on_from(
    put: Put, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come stays, under a name that no loader takes for whole weights."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    runs = runs_at(tmp_path, f"{put(net=WEIGHTS)}/net.pth", f"  sha256: {SHA256}")
    proxy.fault = lambda asked: (
        (Fault(truncate_at=150_000) if asked.range is None else Fault(truncate_at=0)) if asked.method == "GET" else None
    )
    refused(runs, r"net\.pth .* 150000 bytes were downloaded; the next attempt resumes there\.$")
    left = left_in(tmp_path / "cache")
    assert len(left) == 1
    assert left[0].startswith("partial/")
    proxy.fault = lambda _: None
    before = len(reads(proxy))
    assert paints(ModelLoader("62", configurations=runs))
    assert [asked.range for asked in reads(proxy)[before:]] == ["bytes=150000-"]
    assert left_in(tmp_path / "cache") == [f"whole/{SHA256}"]


def test_a_disk_that_is_full_is_one_sentence_and_leaves_nothing(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    """A limit of the process ends a write in its middle, as a quota and a full disk do."""
    runs = runs_at(tmp_path, f"{put(net=WEIGHTS)}/net.pth")
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, allowed[1]))
    try:
        refused(
            runs, r"/cache cannot be used for weights: File too large; set TIDEGATE_WEIGHT_CACHE_DIR to another place"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert not left_in(tmp_path / "cache")
    assert paints(ModelLoader("62", configurations=runs))


def loading(runs: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return started(
        [sys.executable, "-P", "-c", PROGRAM, str(runs)],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_is_killed_in_the_middle_is_gone_on_from(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    runs = runs_at(tmp_path, f"{put(net=WEIGHTS)}/net.pth")
    proxy.fault = once(Fault(stall_at=140_000), lambda asked: asked.method == "GET")
    with loading(runs) as process:
        partial = tmp_path / "cache" / "partial"
        until(lambda: [path for path in partial.glob("*") if path.suffix != ".lock" and path.stat().st_size], "a part")
        process.send_signal(signal.SIGKILL)
    assert paints(ModelLoader("62", configurations=runs))
    assert reads(proxy)[-1].range is not None
    assert not list(partial.iterdir())


def test_two_processes_at_once_fetch_once(put: Put, proxy: Proxy, tmp_path: Path) -> None:
    """The second one waits for the first one's download and uses it."""
    runs = runs_at(tmp_path, f"{put(net=WEIGHTS)}/net.pth")
    proxy.fault = once(Fault(stall_at=140_000), lambda asked: asked.method == "GET")
    with loading(runs) as one, loading(runs) as other:
        # Both have looked at the object, so that the second one is at the lock, or a moment from it.
        until(lambda: len([asked for asked in proxy.asked if asked.method == "HEAD"]) == 2, "both look")
        until(lambda: reads(proxy), "one reads")
        proxy.release()
        for process in (one, other):
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            assert json.loads(out) is None
    # The one that stalled, whose rest came by a second request of the same process.
    assert [asked.range for asked in reads(proxy) if asked.range is None] == [None]
