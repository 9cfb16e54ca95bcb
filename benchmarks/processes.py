"""Servers as trees of processes: started, watched, measured and ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import socket
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType

import psutil

from benchmarks.contestants import Start

START_TIMEOUT_S = 60.0
GRACE_S, STOP_TIMEOUT_S = 1.5, 10.0
"""Until a server that was asked to end is killed; until what was killed has to be gone."""
REST_TIMEOUT_S, REST_S, REST_CORES = 5.0, 0.25, 0.4
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PORTS = (20_000, 30_000)
_PR_SET_CHILD_SUBREAPER = 36


class DidNotStart(Exception):
    """A server that cannot be measured; the text is what it said last."""


def adopt_orphans() -> None:
    """Make this process the parent of whatever its servers leave behind, so that it can be ended."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def free_ports(count: int) -> int:
    """The first of `count` free consecutive loopback ports (TorchServe takes three).

    They are below the ports that the kernel gives to outgoing connections: a load of short ones leaves those busy.
    """
    for _ in range(100):
        first = random.randrange(*PORTS)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", port))
            return first
    raise DidNotStart("no free ports")


class Server:
    """One running server. A context manager: whatever happens inside, nothing of it is left."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self._others: frozenset[psutil.Process] = frozenset()
        self.started_s = 0.0
        self.health_s = 0.0
        self.answer_s = 0.0
        self._log = start.folder / "server.log"

    def __enter__(self) -> Server:
        self._others = frozenset(_descendants())
        self._log.unlink(missing_ok=True)
        self._begin()
        return self

    def start_again(self) -> None:
        """Start it once more, after it has been killed; what it has left behind goes on, as on a machine."""
        self._process.wait(STOP_TIMEOUT_S)
        self._begin()

    def _begin(self) -> None:
        with self._log.open("ab") as log:
            self.started_s = time.monotonic()
            self._process = subprocess.Popen(
                self.start.command,
                cwd=self.start.folder,
                env=dict(self.start.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_tree(self._process, self._others)

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def wait_for_answer(self, body: bytes, content_type: str) -> None:
        """Until the health path says 200, then until a request is answered; notes both times. Raises `DidNotStart`."""
        self.health_s = self._poll("GET", self.start.health, None, {})
        self.answer_s = self._poll("POST", self.start.path, body, {"Content-Type": content_type})

    def _poll(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> float:
        status = 0
        while (waited := time.monotonic() - self.started_s) < START_TIMEOUT_S:
            if self._process.poll() is not None:
                raise DidNotStart(f"it exited with {self._process.returncode}: {self.last_words()}")
            with contextlib.suppress(OSError, HTTPException):
                connection = HTTPConnection("127.0.0.1", self.start.port, timeout=START_TIMEOUT_S - waited)
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                response.read()
                connection.close()
                status = response.status
                if status == 200:
                    return time.monotonic() - self.started_s
            time.sleep(0.01)
        raise DidNotStart(f"{path} answered {status or 'nothing'} for {START_TIMEOUT_S:g} s: {self.last_words()}")

    def last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-600:]

    def wait_for_rest(self) -> None:
        """Until its processes compute no more, as those do that load their model after another has answered."""
        before = self.cpu_by_pid()
        for _ in range(int(REST_TIMEOUT_S / REST_S)):
            time.sleep(REST_S)
            after = self.cpu_by_pid()
            if after.keys() == before.keys() and sum(after.values()) - sum(before.values()) < REST_CORES * REST_S:
                return
            before = after

    # --- what it uses

    def tree(self) -> list[psutil.Process]:
        """Every process of the server. One server runs at a time, and what it leaves behind comes to this process
        (TorchServe's command ends and leaves its Java server), so that is everything below this process that was not
        there before."""
        return [each for each in _descendants() if each not in self._others]

    def cpu_by_pid(self) -> dict[int, float]:
        """CPU seconds of every live process of the tree."""
        used = {}
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
        return used

    def first_process_cpu_s(self) -> float:
        """CPU seconds of the process that was started: with our server, the one that answers HTTP."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def other_processes_cpu_s(self) -> float:
        """CPU seconds of all that it has started: with our server, the workers. Ours alone beside other servers."""
        used_s = 0.0
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used_s += times.user + times.system
        return used_s

    def busiest_pid(self, seconds: float) -> int:
        """The process that used most CPU in the next `seconds`: under load on a model, a worker."""
        before = self.cpu_by_pid()
        time.sleep(seconds)
        after = self.cpu_by_pid()
        return max(after, key=lambda pid: after[pid] - before.get(pid, 0.0))

    def held(self) -> tuple[frozenset[int], int]:
        """The processes of the tree, and how many descriptors they have open."""
        pids, count = set(), 0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                count += process.num_fds()
                pids.add(process.pid)
        return frozenset(pids), count

    def pss_mib(self) -> tuple[float, int]:
        """Proportional set size of the tree in MiB (shared pages divided among their users), and its processes."""
        total_kib, count = 0, 0
        for process in self.tree():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total_kib += int(line.split()[1])
                        count += 1
        return total_kib / 1024, count


def end_tree(process: subprocess.Popen[bytes], others: Collection[psutil.Process]) -> None:
    """SIGTERM to the server, then SIGKILL to everything below this process that is still there, and reap it.

    `others` are processes below this one that have nothing to do with the server: they are left alone.
    """

    def ours(*, recursive: bool) -> list[psutil.Process]:
        return [each for each in _descendants(recursive=recursive) if each not in others]

    known = ours(recursive=True)
    for child in ours(recursive=False):  # the server, and what it has left behind
        with contextlib.suppress(psutil.Error):
            child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    _, alive = psutil.wait_procs(known, timeout=0.5)
    killed = {*alive, *ours(recursive=True)}
    for each in killed:
        with contextlib.suppress(psutil.Error):
            each.kill()
    process.wait(STOP_TIMEOUT_S)
    _wait_until_dead(killed)
    for orphan in ours(recursive=False):
        with contextlib.suppress(ChildProcessError, psutil.Error):
            os.waitpid(orphan.pid, 0)


def _descendants(*, recursive: bool = True) -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process().children(recursive=recursive)
    return children


def _wait_until_dead(processes: set[psutil.Process]) -> None:
    """SIGKILL takes effect a little later than `kill` returns; a zombie is dead, whoever has to reap it."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline and any(_runs(each) for each in processes):
        time.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@dataclass(slots=True)
class Usage:
    """What was used between `watch_cpu`'s entry and its exit."""

    elapsed_s: float = 0.0
    server_cpu_s: float = 0.0
    foreign_cores: float = 0.0
    stolen_cores: float = 0.0


@contextlib.contextmanager
def watch_cpu(server: Server) -> Iterator[Usage]:
    """CPU of the server, of everybody who is neither it nor the load generator, and what the hypervisor took."""
    usage = Usage()
    before, busy, stolen, own = server.cpu_by_pid(), *_machine_s(), _own_s()
    started = time.monotonic()
    yield usage
    usage.elapsed_s = time.monotonic() - started
    after, busy_after, stolen_after, own_after = server.cpu_by_pid(), *_machine_s(), _own_s()
    usage.server_cpu_s = sum(used - before.get(pid, 0.0) for pid, used in after.items())
    foreign_s = busy_after - busy - usage.server_cpu_s - (own_after - own)
    usage.foreign_cores = max(0.0, foreign_s / usage.elapsed_s)
    usage.stolen_cores = (stolen_after - stolen) / usage.elapsed_s


def _machine_s() -> tuple[float, float]:
    # user nice system idle iowait irq softirq steal …
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(ticks[0:3]) + sum(ticks[5:7])) * TICK_S, ticks[7] * TICK_S


def _own_s() -> float:
    # Ours and that of the load generators that ended; servers are not waited for inside a watch.
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
