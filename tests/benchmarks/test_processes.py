"""Servers as trees of processes, with a small real one."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.contestants import Start
from benchmarks.processes import DidNotStart, Server, free_ports, watch_cpu
from tests.processes import started

SERVER = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        sum(range(3_000_000))
        self.do_GET()

stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def start(folder: Path, code: str) -> Start:
    port = free_ports(1)
    return Start(command=[sys.executable, "-c", code, str(port)], environment={}, folder=folder, port=port)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_nothing_of_a_server_is_left_not_even_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    with Server(start(tmp_path, SERVER)) as server:
        server.wait_for_answer(b"{}", "application/json")
        tree = server.tree()
        assert len(tree) == 2
    assert not [each for each in tree if is_alive(each)]


def test_what_else_runs_below_this_process_is_neither_counted_nor_ended(tmp_path: Path) -> None:
    with started([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        with Server(start(tmp_path, SERVER)) as server:
            server.wait_for_answer(b"{}", "application/json")
            assert other.pid not in {each.pid for each in server.tree()}
            _, count = server.pss_mib()
            assert count == 2
        assert other.poll() is None
        other.communicate(b"\n")
    assert other.returncode == 0


def test_nothing_is_left_either_when_the_measurement_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Server(start(tmp_path, SERVER)) as server:  # noqa: PT012
        server.wait_for_answer(b"{}", "application/json")
        tree = server.tree()
        _ = 1 / 0
    assert not [each for each in tree if is_alive(each)]


def test_cpu_and_memory_are_those_of_the_whole_tree(tmp_path: Path) -> None:
    with Server(start(tmp_path, SERVER)) as server:
        server.wait_for_answer(b"{}", "application/json")
        with watch_cpu(server) as usage:
            for _ in range(3):
                server.wait_for_answer(b"{}", "application/json")
        pss, count = server.pss_mib()
    assert usage.server_cpu_s > 0
    assert count == 2
    assert pss > 1


def test_a_server_that_exits_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(DidNotStart, match="exited with 3: no such model"),
        Server(start(tmp_path, "import sys; print('no such model'); sys.exit(3)")) as server,
    ):
        server.wait_for_answer(b"{}", "application/json")


def test_free_ports_are_consecutive_and_can_be_bound() -> None:
    first = free_ports(3)
    for port in range(first, first + 3):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
