"""What the benchmark of the model repository makes of what it sees."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.repository import many, scan, warm
from benchmarks.repository.clients import Ledger, Reply
from benchmarks.repository.many import Idle
from benchmarks.repository.models import fill, fill_with_copies, mark_of
from benchmarks.repository.sampling import Samples, on_disk
from benchmarks.repository.scan import Limits
from benchmarks.repository.warm import Block
from tests.contract.repositories import serving


def reply(status: int = 200, chosen: str = "model=m;version=1", **content: object) -> Reply:
    return Reply(status=status, chosen=chosen, content=content, seconds=0.1)


def test_an_answer_counts_only_where_its_header_and_its_weights_name_the_same_version() -> None:
    ledger, marks = Ledger(), {1: 10, 2: 20}
    assert ledger.note(reply(mark=10, at=5), "m", 5, marks) == 1
    assert ledger.note(reply(chosen="model=m;version=2", mark=10, at=5), "m", 5, marks) is None
    assert ledger.note(reply(mark=10, at=6), "m", 5, marks) is None
    assert len(ledger.wrong) == 2
    assert ledger.failed == 0


def test_an_error_is_counted_by_its_code() -> None:
    ledger = Ledger()
    ledger.note(reply(503, error={"code": "model_loading"}), "m", 1, {1: 10})
    assert ledger.outcomes == Counter({"503 model_loading": 1})
    assert ledger.failed == 1


def test_directories_count_wherever_they_are_and_empty_ones_do_not(tmp_path: Path) -> None:
    for place, size in (
        ("a/1-00", 10),
        (".partial/b/2-11/content", 20),
        (".trash/3", 30),
        (".partial/c/1-22", 0),
        (".whole/a", 99),
    ):
        (tmp_path / place).mkdir(parents=True)
        if size:
            (tmp_path / place / "file").write_bytes(bytes(size))
    assert on_disk(tmp_path) == {"directories": 3, "disk_bytes": 60}


def test_each_limit_that_was_exceeded_is_named() -> None:
    limits = Limits(models=2, directories=4, memory_bytes=100, disk_bytes=50)
    samples = Samples(most=Counter(workers=3, directories=4, disk_bytes=51))
    assert scan.excesses(samples, limits) == ["workers 3 of 2", "disk_bytes 51 of 50"]


def test_ways_are_compared_within_a_round_and_the_control_is_not_judged() -> None:
    rounds = [
        {
            way: Block(per_s=per_s * round_, frontend_us=50.0, failed=0)
            for way, per_s in (("a", 100), ("b", 80), ("c", 90))
        }
        for round_ in (1, 2, 3)
    ]
    assert [figure.reached for figure in warm.figures(rounds, ["a", "b", "c"], goal=0.95)] == [None, None, False]
    assert [figure.reached for figure in warm.figures(rounds, ["a", "b", "c"], goal=0.9)] == [None, None, True]


def test_a_listing_too_many_or_a_busy_process_misses_the_goal() -> None:
    def reached(cores: float, listings: int | None) -> bool | None:
        idle = Idle(seconds=100.0, cores=cores, by_process="", interval_s=10.0, note="", listings=listings)
        return many.idle_figure("idle", idle).reached

    assert reached(0.01, None)
    assert reached(0.02, 11)
    assert not reached(0.021, 11)
    assert not reached(0.01, 12)


def test_a_server_takes_the_models_that_are_written_for_it(tmp_path: Path) -> None:
    """Those with weights of their own, and those that are links to others."""
    fill(tmp_path / "few", 1)
    known = fill_with_copies(tmp_path / "repository", 4, own=2)
    with serving(tmp_path) as here:
        here.until_known(known[-1])
        for name, mark in ((known[0], mark_of(known[0], 1)), (known[3], mark_of(known[1], 1))):
            assert here.ask(name, body={"at": 300}).json() == {"mark": mark, "at": 300}
