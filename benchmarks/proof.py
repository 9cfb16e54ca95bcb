"""`python -m benchmarks.proof`: what it costs to prove that requests may share a call, and what sharing one is worth.

One process, no sockets: the worker's own computation answers batches of eight different requests, (1) one by one, as
where nothing is joined, (2) as a batch that proves, (3) joined, (4) one by one again: the ratio to (1) is what noise
alone makes. Each round measures all four in random order, with one torch thread.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from benchmarks import work
from tidegate.inference.batching import Batching
from tidegate.inference.protocol import Request
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.handler import Functions
from tidegate.inference.worker.joining import REPEAT_AFTER, Signatures

BATCH = 8
KINDS = ("one by one", "proving", "joined", "one by one, again")


def computation(name: str, *, joins: bool | None) -> Computation:
    """The work `name` behind its four functions."""
    torch.manual_seed(0)
    kind = (work.Mlp if name == "W1" else work.Classifier)(work.NETWORKS[name]().eval())
    return Computation(
        model=kind,
        functions=Functions(
            input_fn=lambda body, _: kind.decode(body),
            predict_fn=lambda data, _: kind.forward(data),
            output_fn=lambda prediction, _: kind.encode(prediction),
        ),
        context=Context(model_name=name, manifest={}, system_properties={}),
        default_accept="application/json",
        reading=Reading(max_decoded_bytes=1 << 30),
        max_response_bytes=1 << 30,
        batching=Batching(joins=joins),
    )


def batches(name: str) -> Iterator[list[Request]]:
    """Batches of requests that nobody has sent before."""
    source = np.random.default_rng(0)
    make: Callable[[], bytes] = {"W1": lambda: _array(source), "W2": lambda: _image(source)}[name]
    while True:
        yield [Request(number, "application/octet-stream", "", b"", make()) for number in range(BATCH)]


def measure(kind: str, name: str, seconds: float) -> float:
    """CPU seconds a request."""
    toy = computation(name, joins={"joined": True, "proving": None}.get(kind, False))
    offered = batches(name)
    used_s, answered, end_s = 0.0, 0, time.monotonic() + seconds
    for turn, items in enumerate(offered):
        toy.joined_calls.signatures = Signatures()  # so that a batch that is to prove something always does
        started_s = time.process_time()
        _, done = ask(toy, items)
        if turn:  # the first warms up
            used_s += time.process_time() - started_s
            answered += BATCH
        if (done.proved, done.joined) != {"joined": (0, 1), "proving": (1, 0)}.get(kind, (0, 0)):
            raise SystemExit(f"a batch that was to be '{kind}' was not: {done}")
        if turn > 1 and time.monotonic() > end_s:
            return used_s / answered
    raise AssertionError("the batches do not end")


def summary(name: str, rounds: Sequence[Mapping[str, float]]) -> str:
    """The medians, the medians of the ratios within a round, and what a thousand joined batches pay for one proof."""
    base = KINDS[0]
    ratios = {kind: statistics.median(one[kind] / one[base] for one in rounds) for kind in KINDS}
    lines = [
        f"{name} {kind:<18} {statistics.median(one[kind] for one in rounds) * 1e6:9.0f} us of CPU a request   "
        f"{ratios[kind]:.3f} x"
        for kind in KINDS
    ]
    share = (ratios["proving"] - ratios["joined"]) / (REPEAT_AFTER * ratios["joined"])
    return "\n".join([*lines, f"{name} repeated once in {REPEAT_AFTER} batches: {share:.2%} of the joined ones"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--workloads", default="W1,W2", help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.workloads.split(","):
        rounds = []
        for number in range(options.rounds):
            rounds.append({kind: measure(kind, name, options.seconds) for kind in random.sample(KINDS, len(KINDS))})
            print(f"{name}: round {number + 1} of {options.rounds}", file=sys.stderr)
        print(summary(name, rounds))


def _array(source: np.random.Generator) -> bytes:
    file = io.BytesIO()
    np.save(file, source.standard_normal(256, dtype=np.float32), allow_pickle=False)
    return file.getvalue()


def _image(source: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(source.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


if __name__ == "__main__":
    main()
