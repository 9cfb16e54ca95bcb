"""`python -m benchmarks.table`: a job of a million lines of CSV as a table, beside pyarrow's own CSV to Parquet.

Each run is a process of its own. Ours reads input and output as two objects, puts line beside line and adds `job`,
`input_file` and `record`; pyarrow reads one file in which they are joined already, by `open_csv`, and writes each of
its batches, as its documentation shows. All read the same local files, with the same compression, through the cache
of the system; S3 itself is left out, as the network would hide both. pyarrow runs a second time in each round as the
control. Memory is the peak of the resident set (VmHWM, reset first) beyond what the process has after its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import csv, parquet

from benchmarks import machine
from benchmarks.environments import BUILD
from tidegate.client import table

RESULTS = Path(__file__).parent / "results" / "table.md"
FOLDER = BUILD / "table"
OURS = FOLDER / "ours.parquet"
IN, OUT, JOINED = (FOLDER / name for name in ("in.csv", "in.csv.out", "joined.csv.out"))
CELLS = 8
MIB = 1024 * 1024
GOAL_MIB, GOAL_RATIO = 300, 0.7
WAYS = {
    "ours": "ours, two objects side by side",
    "joined": "ours, an output that is joined",
    "pyarrow": "pyarrow's CSV to Parquet",
    "control": "pyarrow again (control)",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(_run(options.run)))
        return 0
    sizes = _make(options.lines)
    rounds = []
    for number in range(options.repetitions):
        order = list(WAYS) if number % 2 == 0 else list(WAYS)[::-1]
        rounds.append({way: _measured(way) for way in order})
        print(json.dumps(rounds[-1]), file=sys.stderr)
    options.output.write_text(_page(options.lines, sizes, rounds, machine.describe()), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))
    return int(not _reached(rounds))


def _make(lines: int) -> dict[str, int]:
    """Input: an identifier and eight numbers. Output: a label and a score. Joined: both."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    with IN.open("w") as records, OUT.open("w") as answers, JOINED.open("w") as joined:
        for begin in range(0, lines, 100_000):
            count = min(100_000, lines - begin)
            numbers = random.normal(size=(count, CELLS))
            scores = random.random(count)
            for index in range(count):
                record = f"id{begin + index:09}," + ",".join(f"{cell:.4f}" for cell in numbers[index])
                answer = f"{index % 10},{scores[index]:.6f}"
                records.write(record + "\n")
                answers.write(answer + "\n")
                joined.write(f"{record},{answer}\n")
    for name in ("in", "joined"):
        (FOLDER / f"{name}.list").write_text(json.dumps([{"prefix": "s3://files/"}, f"{name}.csv"]))
    return {file.name: file.stat().st_size for file in (IN, OUT, JOINED)}


def _measured(way: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.table", "--run", way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _run(way: str) -> dict[str, float]:
    before_kib = _resident_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began_s, cpu_s = time.monotonic(), _cpu_s()
    size = _pyarrow() if way in ("pyarrow", "control") else _ours(joined=way == "joined")
    seconds, cpu_s = time.monotonic() - began_s, _cpu_s() - cpu_s
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "mib": (_resident_kib("VmHWM") - before_kib) / 1024,
        "written_mib": size / MIB,
    }


def _names() -> list[str]:
    return ["id", *(f"x{cell}" for cell in range(CELLS)), "label", "score"]


def _pyarrow() -> int:
    target = FOLDER / "pyarrow.parquet"
    with (
        csv.open_csv(JOINED, read_options=csv.ReadOptions(column_names=_names())) as reader,
        parquet.ParquetWriter(target, reader.schema, compression="snappy") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
    return target.stat().st_size


class _Files:
    """S3's calls that a table needs, over the files of the benchmark."""

    def __init__(self) -> None:
        self._file: Any = None

    def get_object(self, **asked: Any) -> dict[str, Any]:
        file = FOLDER / asked["Key"]
        found = file.stat()
        modified = datetime.fromtimestamp(found.st_mtime, UTC)
        return {"ContentLength": found.st_size, "ETag": "1", "LastModified": modified, "Body": file.open("rb")}

    def create_multipart_upload(self, **_: object) -> dict[str, Any]:
        self._file = OURS.open("wb")
        return {"UploadId": "1"}

    def upload_part(self, **asked: Any) -> dict[str, Any]:
        self._file.write(asked["Body"])
        return {"ETag": "1"}

    def complete_multipart_upload(self, **_: object) -> None:
        self._file.close()

    def put_object(self, **asked: Any) -> None:
        OURS.write_bytes(asked["Body"])


class _Jobs:
    """A completed job."""

    def __init__(self, *, joined: bool) -> None:
        self._joined = joined

    def describe_transform_job(self, **_: object) -> Mapping[str, Any]:
        address = f"s3://files/{'joined' if self._joined else 'in'}.list"
        return {
            "TransformJobStatus": "Completed",
            "CreationTime": datetime.fromtimestamp(IN.stat().st_mtime, UTC),
            "TransformInput": {
                "DataSource": {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": address}},
                "ContentType": "text/csv",
                "SplitType": "Line",
            },
            "TransformOutput": {"S3OutputPath": "s3://files/", "Accept": "text/csv"},
            "DataProcessing": {"JoinSource": "Input" if self._joined else "None"},
        }


class _Session:
    """A session whose clients are these."""

    def __init__(self, *, joined: bool) -> None:
        self._joined = joined

    def client(self, name: str, **_: object) -> Any:
        return _Files() if name == "s3" else _Jobs(joined=self._joined)


def _ours(*, joined: bool) -> int:
    session: Any = _Session(joined=joined)
    columns = table.columns_of(",".join(_names()))
    written = table.write(session, "job", to="s3://tables/table/", columns=columns)
    assert written.size_bytes == OURS.stat().st_size
    return written.size_bytes


def _resident_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def _cpu_s() -> float:
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime + found.ru_stime


def _ratio(rounds: list[dict[str, dict[str, float]]], way: str, of: str) -> float:
    return statistics.median(each["pyarrow"][of] / each[way][of] for each in rounds)


def _reached(rounds: list[dict[str, dict[str, float]]]) -> bool:
    memory = max(each[way]["mib"] for each in rounds for way in ("ours", "joined"))
    return memory <= GOAL_MIB and min(_ratio(rounds, way, "seconds") for way in ("ours", "joined")) >= GOAL_RATIO


def _page(
    lines: int, sizes: dict[str, int], rounds: list[dict[str, dict[str, float]]], described: dict[str, str]
) -> str:
    rows = [
        (
            words,
            f"{statistics.median(each[way]['seconds'] for each in rounds):.2f} s",
            f"{_ratio(rounds, way, 'seconds'):.2f}",
            f"{statistics.median(each[way]['cpu_s'] for each in rounds):.2f} s",
            f"{_ratio(rounds, way, 'cpu_s'):.2f}",
            f"{max(each[way]['mib'] for each in rounds):.0f} MiB",
            f"{rounds[0][way]['written_mib']:.0f} MiB",
        )
        for way, words in WAYS.items()
    ]
    head = ("", "time", "pyarrow's time by it", "CPU", "pyarrow's CPU by it", "peak beyond the imports", "file")
    return "\n".join(
        [
            "# Tables",
            "",
            *(line.strip() for line in (__doc__ or "").splitlines()),
            "",
            f"{lines:,} lines: an input of {sizes[IN.name] / MIB:.0f} MiB (an identifier and {CELLS} numbers), an",
            f"output of {sizes[OUT.name] / MIB:.0f} MiB (a label and a score). CPU is of both cores together.",
            f"Medians of {len(rounds)} rounds, ratios formed within a round, the highest peak of all.",
            f"Goals: at most {GOAL_MIB} MiB, at least {GOAL_RATIO} of pyarrow's speed: "
            f"{'reached' if _reached(rounds) else '**not reached**'}.",
            "",
            *(f"* {name}: {value}" for name, value in described.items() if name not in ("load", "Java")),
            "",
            *("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
