"""`python -m benchmarks.pipeline`: what a Pipeline costs, what it holds in memory, and what it is worth.

* **waits**: 10,000 items that each wait, 32 workers, beside `ThreadPoolExecutor.map` on the same waits, several rounds
  in random order, with a second run of each as the control.
* **memory**: a million items, lazily, each figure from a process of its own; the peak of what is resident beyond what
  was before.
* **pictures**: the benchmark of Studio.ML's ModelPipe: download, decode, predict, from a stand-in on this machine that
  delays each answer, beside one by one, `ThreadPoolExecutor.map` and torch's `DataLoader`.
* **accelerator**: the same, where a call of the network takes as long as one on a GPU would, with any batch.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import io
import os
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks import machine
from tidegate.pipeline import Pipeline, Stage

RESULTS = Path(__file__).parent / "results" / "pipeline.md"
WORKERS = 32
GOAL_OF_WAITS = 0.9
FLAT_MIB = 8.0
BATCH = 64
MEAN_WAIT_S = 0.004
CALL_S = 0.01
"""What a call takes on the stand-in for an accelerator."""
ALL = ("waits", "memory", "pictures", "accelerator")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", type=lambda text: text.split(","), default=ALL, help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=10_000, help="that wait")
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--many", type=int, default=1_000_000, help="items whose memory is measured")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--hold", choices=(*HOLDERS, "nothing"), help=argparse.SUPPRESS)
    parser.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stand_in:
        asyncio.run(_answer())
        return 0
    if options.hold:
        print(_peak_mib(HOLDERS[options.hold], options.many))
        return 0
    parts: dict[str, Callable[[], str]] = {
        "waits": lambda: waits_section(waits(options.items, options.rounds), options.items),
        "memory": lambda: memory_section({name: _held_by(name, options.many) for name in HOLDERS}, options.many),
        "pictures": lambda: pictures_section(pictures(options.pictures, options.rounds, 0), options.pictures, 0),
        "accelerator": lambda: pictures_section(
            pictures(options.pictures, options.rounds, CALL_S), options.pictures, CALL_S
        ),
    }
    for name in options.parts:
        about = machine.describe()
        section = f"{parts[name]()}\n\n{measured(about)}"
        before = options.output.read_text(encoding="utf-8") if options.output.exists() else ""
        options.output.write_text(page(before, section), encoding="utf-8")
        print(section, flush=True)
    return 0


# Waits


def waits(items: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Seconds of each contestant in each round, for equal waits and for very unequal ones."""
    generator = random.Random(12)
    kinds = {
        "equal": [MEAN_WAIT_S] * items,
        "unequal": [generator.expovariate(1 / MEAN_WAIT_S) for _ in range(items)],
    }
    contestants: dict[str, Callable[[Sequence[float]], object]] = {
        "executor": _with_executor,
        "executor, again": _with_executor,
        "pipeline": _with_pipeline,
        "pipeline, again": _with_pipeline,
    }
    return {kind: _rounds(contestants, each, rounds) for kind, each in kinds.items()}


def _rounds(contestants: Mapping[str, Callable[[Any], object]], work: Any, rounds: int) -> list[dict[str, float]]:
    found = []
    for _ in range(rounds):
        one = {}
        for name in random.sample(list(contestants), len(contestants)):
            started_s = time.perf_counter()
            contestants[name](work)
            one[name] = time.perf_counter() - started_s
        found.append({name: one[name] for name in contestants})
    return found


def _wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def _with_executor(work: Sequence[float]) -> None:
    with ThreadPoolExecutor(WORKERS) as executor:
        assert list(executor.map(_wait, work)) == work


def _with_pipeline(work: Sequence[float]) -> None:
    assert list(Pipeline(Stage(_wait, workers=WORKERS))(work)) == work


def waits_section(found: Mapping[str, Sequence[Mapping[str, float]]], items: int) -> str:
    """Medians, and of the speed beside the executor's in the same round the median and the extremes."""
    lines = [
        "## Waits",
        "",
        f"{items:,} items, {WORKERS} workers. Goal: at least {GOAL_OF_WAITS} of the speed of `ThreadPoolExecutor.map` "
        f"on the same waits, of {MEAN_WAIT_S * 1000:g} ms each or on average (exponentially distributed).",
        "",
        "| waits | contestant | seconds | speed beside the executor's | lowest, highest | reached |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, rounds in found.items():
        for name in rounds[0]:
            ratios = sorted(one["executor"] / one[name] for one in rounds)
            middle = statistics.median(ratios)
            reached = ("yes" if middle >= GOAL_OF_WAITS else "no") if name.startswith("pipeline") else ""
            seconds = statistics.median(one[name] for one in rounds)
            lines.append(
                f"| {kind} | {name} | {seconds:.2f} | {middle:.2f} | {ratios[0]:.2f}, {ratios[-1]:.2f} | {reached} |"
            )
    return "\n".join(lines)


# Memory


def _kilobyte(number: int) -> bytes:
    return number.to_bytes(8, "big") * 128


def _first_bytes(batch: Sequence[bytes]) -> list[int]:
    return [item[0] for item in batch]


def _pipeline_of(count: int) -> Iterable[object]:
    return Pipeline(Stage(_kilobyte, workers=4))(range(count))


def _pipeline_of_batches(count: int) -> Iterable[object]:
    return Pipeline(Stage(_kilobyte, workers=4), Stage(_first_bytes, batch_size=32))(range(count))


def _executor_map(count: int) -> Iterable[object]:
    with ThreadPoolExecutor(4) as executor:
        yield from executor.map(_kilobyte, range(count))


HOLDERS: dict[str, Callable[[int], Iterable[object]]] = {
    "pipeline": _pipeline_of,
    "pipeline of batches": _pipeline_of_batches,
    "executor": _executor_map,
}


def _peak_mib(results: Callable[[int], Iterable[object]], count: int) -> str:
    for _ in results(1000):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.perf_counter()
    assert sum(1 for _ in results(count)) == count
    seconds = time.perf_counter() - started_s
    return f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024} {seconds}"


def _held_by(name: str, count: int) -> tuple[float, float]:
    """MiB beyond the start, seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pipeline", "--hold", name, "--many", str(count)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    mib, seconds = done.stdout.split()
    return float(mib), float(seconds)


def memory_section(found: Mapping[str, tuple[float, float]], count: int) -> str:
    lines = [
        "## Memory",
        "",
        f"{count:,} items, one after the other taken from the results. "
        "Each result is 1 KiB, or a number where they go on in batches of 32. Goal: flat, which is less than "
        f"{FLAT_MIB:g} MiB beyond what the process held after a thousand.",
        "",
        "| contestant | peak beyond the start | seconds | reached |",
        "| --- | --- | --- | --- |",
    ]
    for name, (mib, seconds) in found.items():
        reached = ("yes" if mib < FLAT_MIB else "no") if name.startswith("pipeline") else ""
        lines.append(f"| {name} | {mib:,.1f} MiB | {seconds:.0f} | {reached} |")
    return "\n".join(lines)


# Pictures: download, decode, predict


class Network(torch.nn.Module):
    """Small, so that the download is what one waits for, as in the original."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 3, stride=2),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, stride=2),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(32, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, 64, 64) float32 to (N, 10)."""
        return self.layers(images)  # type: ignore[no-any-return]


def fetch(address: tuple[int, int]) -> bytes:
    """The picture of a number, from the port of the stand-in."""
    port, number = address
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/{number}")
        return connection.getresponse().read()


def decode(data: bytes) -> torch.Tensor:
    """JPEG to float32 (3, 64, 64)."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((64, 64))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


class Predict:
    """Classes of a batch or of one picture."""

    def __init__(self, call_s: float) -> None:
        self.network = Network().eval()
        self._call_s = call_s
        self._accelerator = threading.Lock()

    def __call__(self, images: torch.Tensor) -> list[int]:
        """(N, 3, 64, 64) to N classes."""
        if self._call_s:
            with self._accelerator:
                time.sleep(self._call_s)
        with torch.inference_mode():  # of this thread: it is no other's
            return self.network(images).argmax(1).tolist()  # type: ignore[no-any-return]

    def one(self, image: torch.Tensor) -> int:
        return self(image[None])[0]


class Pictures(Dataset[torch.Tensor]):
    """What a `DataLoader` asks."""

    def __init__(self, addresses: Sequence[tuple[int, int]]) -> None:
        self.addresses = addresses

    def __len__(self) -> int:
        return len(self.addresses)

    def __getitem__(self, index: int) -> torch.Tensor:
        return decode(fetch(self.addresses[index]))


def pictures(count: int, rounds: int, call_s: float) -> list[dict[str, float]]:
    """Seconds of each contestant in each round, of the one by one in the first; all give the same classes."""
    torch.set_num_threads(1)
    # The workers wait for downloads, so that there may be more of them than cores.
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    predict = Predict(call_s)
    wanted: list[int] = []

    def checked(run: Callable[[Any], list[int]]) -> Callable[[Any], None]:
        def check(addresses: Any) -> None:
            found = run(addresses)
            if not wanted:
                wanted.extend(found)
            assert found == wanted

        return check

    def one_by_one(addresses: Any) -> list[int]:
        return [predict.one(decode(fetch(address))) for address in addresses]

    def executor(addresses: Any) -> list[int]:
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(lambda address: predict.one(decode(fetch(address))), addresses))

    def loader(workers: int) -> Callable[[Any], list[int]]:
        def run(addresses: Any) -> list[int]:
            batches = DataLoader(Pictures(addresses), batch_size=BATCH, num_workers=workers)
            return [label for batch in batches for label in predict(batch)]

        return run

    def pipeline(addresses: Any) -> list[int]:
        stages = Pipeline(
            Stage(fetch, workers=WORKERS, timeout_s=30),
            decode,
            Stage(predict, workers=1, batch_size=BATCH, collate=torch.stack),
        )
        return list(stages(addresses))

    contestants = {
        f"executor, {WORKERS} threads": executor,
        "DataLoader, 8 processes": loader(8),
        f"DataLoader, {WORKERS} processes": loader(WORKERS),
        "pipeline": pipeline,
        "pipeline, again": pipeline,
    }
    with _stand_in() as port:
        addresses = [(port, number) for number in range(count)]
        [first] = _rounds({"one by one": checked(one_by_one)}, addresses, 1)
        found = _rounds({name: checked(run) for name, run in contestants.items()}, addresses, rounds)
        return [first | found[0], *found[1:]]


def pictures_section(found: Sequence[Mapping[str, float]], count: int, call_s: float) -> str:
    """Medians; the one by one, which takes long, is measured once."""
    first = next(iter(found[0]))
    accelerator = (
        " The network stands for one on an accelerator: one call at a time, "
        f"{call_s * 1000:g} ms each whatever is in it."
        if call_s
        else ""
    )
    lines = [
        "## Pictures and an accelerator" if call_s else "## Pictures",
        "",
        f"{count:,} pictures: download, decode, predict. "
        "JPEGs of 224 x 224 from a process on this machine that answers each after "
        f"{_LEAST_S * 1000:g} to {_MOST_S * 1000:g} ms; {WORKERS} downloads at once; a small network on the CPU, with "
        f"one thread, in batches of {BATCH} where the contestant has batches (the executor's threads compute one "
        "picture each). All give the same classes. A DataLoader's seconds include the start of its processes."
        f"{accelerator}",
        "",
        "| contestant | seconds | pictures/s | beside one by one | lowest, highest |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in found[0]:
        seconds = statistics.median(one[name] for one in found if name in one)
        ratios = sorted(found[0][first] / one[name] for one in found if name in one)
        middle = statistics.median(ratios)
        lines.append(
            f"| {name} | {seconds:.1f} | {count / seconds:,.0f} | {middle:.1f} x | {ratios[0]:.1f}, {ratios[-1]:.1f} |"
        )
    return "\n".join(lines)


_LEAST_S, _MOST_S = 0.03, 0.09


@contextlib.contextmanager
def _stand_in() -> Iterator[int]:
    """The port of a server of pictures in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.pipeline", "--stand-in"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _answer() -> None:
    images = [_jpeg(number) for number in range(16)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        number = int(head.split()[1][1:])
        await asyncio.sleep(random.Random(number).uniform(_LEAST_S, _MOST_S))
        image = images[number % len(images)]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(image) + image)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    await server.serve_forever()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((224, 224)).save(file, "JPEG")
    return file.getvalue()


HEADINGS = ("## Waits", "## Memory", "## Pictures", "## Pictures and an accelerator")


def page(before: str, section: str) -> str:
    """`before` with `section` in its place: each part may be measured by itself."""
    sections = {part.partition("\n")[0]: part.strip() for part in before.split("\n\n## ")[1:]}
    sections = {f"## {heading}": f"## {part}" for heading, part in sections.items()}
    sections[section.partition("\n")[0]] = section
    lines = [
        "# Pipeline",
        "`python -m benchmarks.pipeline`: contestants of a table take turns in random order within each round, and a "
        "figure is\nthe median of the rounds. `again` is the same once more: what noise alone makes.",
        *(sections[heading] for heading in HEADINGS if heading in sections),
    ]
    return "\n\n".join(lines) + "\n"


def measured(about: Mapping[str, str]) -> str:
    """On what, when, and beside what."""
    return (
        f"Measured {about['date']} at revision {about['revision']}: {about['cores']} cores of {about['CPU']}, "
        f"{about['memory']}, Python {about['Python']}; load average at the start {about['load average at the start']}."
    )


if __name__ == "__main__":
    sys.exit(main())
