"""A model whose requests misbehave on demand, and somebody who kills and stops processes at random."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter

import psutil

from tests.contract.running import Server

MODEL = """
import asyncio, json, os, signal, time
import torch

def model_fn(model_dir):
    return torch.nn.Identity()

def input_fn(input_data, content_type):
    order = json.loads(input_data)
    if order["deed"] == "refuse":
        raise ValueError("as asked")
    deeds = ["answer", "slow", "fail", "die", "hang", "large", "memory", "unencodable", "exit"]
    return torch.tensor([[order["id"], deeds.index(order["deed"])]], dtype=torch.float64)

def predict_fn(data, model):
    deeds = set(data[:, 1].tolist())
    if 1 in deeds:
        time.sleep(0.02)
    if 2 in deeds:
        raise RuntimeError("as asked")
    if 3 in deeds:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    while 4 in deeds:
        pass
    if 6 in deeds:
        raise MemoryError
    if 8 in deeds:
        raise SystemExit(3)
    return model(data)

def output_fn(prediction, accept):
    ((number, deed),) = prediction.tolist()
    if deed == 7:
        raise KeyError("as asked")
    return json.dumps({"id": int(number), "padding": "x" * (300_000 if deed == 5 else 0)})

def stream_fn(incoming, context):
    yield from incoming

def chat_fn(request, model):
    return (on_the_loop if request["asynchronous"] else in_turn)(request["number"], request["length"])

def in_turn(number, length):
    for word in range(length):
        time.sleep(0.0005)
        yield f"{number}:{word} "

async def on_the_loop(number, length):
    for word in range(length):
        await asyncio.sleep(0.002)
        yield f"{number}:{word} "
"""

DEEDS = {
    "answer": 600,
    "slow": 150,
    "large": 40,
    "refuse": 30,
    "fail": 30,
    "unencodable": 20,
    "memory": 20,
    "exit": 10,
    "die": 12,
    "hang": 4,
}
"""What requests ask for, and how often in a thousand or so."""

OWN_ANSWERS = {
    "answer": (200, None),
    "slow": (200, None),
    "large": (200, None),
    "refuse": (400, "bad_request"),
    "fail": (500, "handler_failed"),
    "unencodable": (500, "handler_failed"),
    "exit": (500, "handler_failed"),
    "memory": (507, "out_of_memory"),
    "die": (500, "worker_died"),
    "hang": (504, "handler_timed_out"),
}
"""What each gets where nothing from outside interferes."""

INTERFERENCE = {(503, "overloaded"), (500, "worker_died"), (504, "handler_timed_out")}
"""What any may get instead: shed, or alone with workers that were killed or stopped."""

STRIKES = {"kill": 20, "stop": 4, "pause": 6, "kill parent": 2, "pause parent": 2, "stop parent": 1}
"""What is done to workers and to their parent, and how often. A process that is stopped stays so; a pause ends."""


def processes_of(server: Server) -> list[psutil.Process]:
    """Every process of this server that lives, also the workers whose parent was killed."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            mine = environment.get("SAGEMAKER_BIND_TO_PORT") == str(server.port)
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


class Mayhem:
    """Kills and stops the server's processes; `done` counts what it did."""

    def __init__(self, server: Server, source: random.Random) -> None:
        self.server = server
        self.source = source
        self.done: Counter[str] = Counter()

    async def go_on(self) -> None:
        """Until cancelled; then every process that only was stopped goes on."""
        stopped: list[psutil.Process] = []
        try:
            while True:
                await asyncio.sleep(self.source.uniform(0.05, 0.8))
                with contextlib.suppress(psutil.NoSuchProcess):
                    await self._strike(stopped)
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    async def _strike(self, stopped: list[psutil.Process]) -> None:
        deed = self.source.choices(list(STRIKES), list(STRIKES.values()))[0]
        parents = psutil.Process(self.server.process.pid).children()
        workers = [p for p in processes_of(self.server) if p not in parents and p.pid != self.server.process.pid]
        candidates = parents if "parent" in deed else workers
        if not candidates:
            return
        victim = self.source.choice(candidates)
        self.done[deed] += 1
        if "kill" in deed:
            victim.kill()
            return
        victim.send_signal(signal.SIGSTOP)
        stopped.append(victim)
        if "pause" in deed:
            await asyncio.sleep(self.source.uniform(0.05, 1.0))
            victim.send_signal(signal.SIGCONT)
            stopped.remove(victim)
