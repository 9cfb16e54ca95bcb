"""SageMaker's own local mode, driven by its own SDKs, trains, serves and transforms with our image."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ecosystem.local_mode.runs import LIMIT_S, Outcome, page_transcript, without_numbers

pytestmark = pytest.mark.timeout(2 * LIMIT_S)
"""The first run of each version also makes its environment; on a cold machine, the image as well."""

ARCHIVE = {"code/inference.py", "code/digit_net.py", "manifest.json", "model.pth"}


def test_training_makes_the_archive_that_an_endpoint_serves(outcome: Outcome) -> None:
    assert outcome.found["training"]["status"] == "Completed"
    assert set(outcome.found["training"]["members"]) >= ARCHIVE
    assert outcome.found["endpoint"] == "InService"


def test_the_endpoint_knows_the_digits(outcome: Outcome) -> None:
    assert [one["label"] for one in outcome.found["predictions"]] == outcome.labels
    for one in outcome.found["predictions"]:
        assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-4)


def test_batch_transform_writes_one_line_for_each_line_with_the_endpoints_answers(outcome: Outcome) -> None:
    assert len(outcome.found["batch"]) == len(outcome.found["predictions"])
    for line, asked in zip(outcome.found["batch"], outcome.found["predictions"], strict=True):
        assert line["label"] == asked["label"]
        assert line["probabilities"] == pytest.approx(asked["probabilities"], abs=1e-5)


def test_no_call_leaves_the_machine(outcome: Outcome) -> None:
    assert outcome.found["calls"] == []


@pytest.mark.parametrize("outcome", ["v3"], indirect=True)
def test_a_model_trainer_runs_a_source_folder_in_the_image(outcome: Outcome) -> None:
    assert outcome.found["model_trainer"] == ["manifest.json", "model.pth"]


def test_torchrun_starts_two_processes_of_a_job_as_the_sdk_asks(outcome: Outcome) -> None:
    """Version 3 asks for both on one instance, and starts torchrun by a driver of its own; version 2 has two hosts."""
    hosts = outcome.found["together"]
    assert len(hosts) == 2
    assert len(set(hosts)) == (2 if outcome.version == "v2" else 1)


@pytest.mark.parametrize("outcome", ["v3"], indirect=True)
def test_the_transcript_in_the_documentation_is_that_of_a_run(outcome: Outcome) -> None:
    assert without_numbers(page_transcript()) == without_numbers("\n".join(outcome.transcript))


REACHES_OUT = """
import sys
sys.path.insert(0, sys.argv[1])
import http.client, outgoing_calls, pathlib, socket, subprocess, urllib.request

outgoing_calls.refuse(pathlib.Path(sys.argv[2]))
for attempt in (
    lambda: http.client.HTTPConnection("example.invalid", timeout=5).connect(),
    lambda: socket.create_connection(("192.0.2.1", 443), timeout=5),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    lambda: urllib.request.urlopen("https://sts.us-east-1.amazonaws.com/", timeout=5),
):
    try:
        attempt()
    except (outgoing_calls.LeavesTheMachine, OSError):
        pass
child = "import os, urllib.request; urllib.request.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/who', timeout=5)"
subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL)
socket.create_connection(("127.0.0.1", int(sys.argv[3])), timeout=5).close()
print("\\n".join(outgoing_calls.calls))
"""


def test_the_watch_sees_names_addresses_datagrams_proxies_and_child_processes_and_leaves_loopback_alone(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [sys.executable, "-c", REACHES_OUT, str(Path(__file__).parents[1]), str(tmp_path)]
        done = subprocess.run(
            [*words, str(server.getsockname()[1])], capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout.splitlines() == [
        "socket.getaddrinfo: example.invalid",
        "socket.getaddrinfo: 192.0.2.1",
        "socket.sendto: 192.0.2.1",
        "by proxy or endpoint: CONNECT sts.us-east-1.amazonaws.com:443",
        "by proxy or endpoint: GET /who",
    ]
