"""The benchmark of two checkouts."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.contestants import Start
from benchmarks.no_op_cpu import KINDS, summary
from benchmarks.processes import Server, free_ports

BUSY = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_POST = do_GET

if os.fork() == 0:
    while True: pass
while os.times().user < 0.2: pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_ratios_are_formed_within_a_round_and_the_control_is_shown() -> None:
    # The second half met a machine of half the speed.
    rounds = [
        dict(zip(KINDS, (50e-6, 51e-6, 40e-6), strict=True)),
        dict(zip(KINDS, (50e-6, 50e-6, 45e-6), strict=True)),
    ]
    rounds += [{kind: 2 * value for kind, value in each.items()} for each in rounds]
    lines = [line.split() for line in summary(rounds).splitlines()]
    assert [line[line.index("us") - 1] for line in lines] == ["75.0", "75.5", "62.5"]
    assert [line[line.index("x") - 1] for line in lines] == ["1.000", "1.010", "0.850"]
    assert lines[2][lines[2].index("x") + 1 :][:3] == ["(0.800", "to", "0.900)"]
    # Of the quiet half alone, one in four.
    assert [line[-2] for line in lines] == ["1.000", "1.005", "0.825"]


def test_only_the_first_process_counts(tmp_path: Path) -> None:
    """The workers compute beside it, and are none of the frontend's cost."""
    port = free_ports(1)
    command = [sys.executable, "-c", BUSY, str(port)]
    with Server(Start(command=command, environment=dict(os.environ), folder=tmp_path, port=port)) as server:
        server.wait_for_answer(b"{}", "application/json")
        deadline = time.monotonic() + 60
        while sum(server.cpu_by_pid().values()) < 2 * server.first_process_cpu_s() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert 0.2 <= server.first_process_cpu_s() < 0.75 * sum(server.cpu_by_pid().values())
