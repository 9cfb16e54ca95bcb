"""Workers, threads, devices and limits of a model, from the settings and the machine."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.inference.batching import Batching
from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.models.placement import (
    Machine,
    Placement,
    first_worker_only,
    least_used_gpus,
    place,
    refuse_gpus,
)
from tidegate.inference.settings import MIB, Settings

GIB = 1024 * MIB


def placed(
    machine: Machine,
    *,
    batching: Batching | None = None,
    model_bytes: int = 0,
    gpus_taken: tuple[int, ...] = (),
    **settings: Any,
) -> Placement:
    return place(
        Settings(**settings),
        machine,
        batching=batching or Batching(),
        model_bytes=model_bytes,
        gpus_taken=gpus_taken,
    )


EIGHT_CORES = Machine(cores=8, gpus=0, free_bytes=64 * GIB)
FOUR_GPUS = Machine(cores=8, gpus=4, free_bytes=64 * GIB)


@pytest.mark.parametrize(
    ("machine", "settings", "model_bytes", "workers", "threads"),
    [
        pytest.param(EIGHT_CORES, {}, 0, 8, 1, id="one for each core"),
        pytest.param(EIGHT_CORES, {}, 20 * GIB, 3, 2, id="as many as the memory holds"),
        pytest.param(EIGHT_CORES, {}, 100 * GIB, 1, 8, id="one where it holds none"),
        pytest.param(EIGHT_CORES, {"workers": 2}, 100 * GIB, 2, 4, id="as many as are asked for, whatever the memory"),
        pytest.param(EIGHT_CORES, {"workers": 16}, 0, 16, 1, id="a thread at least"),
        pytest.param(EIGHT_CORES, {"threads_per_worker": 3}, 0, 8, 3, id="as many threads as are asked for"),
        pytest.param(EIGHT_CORES, {"multi_model": True}, 0, 1, 8, id="of many models one each"),
        pytest.param(EIGHT_CORES, {"multi_model": True, "workers": 2}, 0, 2, 4, id="of many as many as are asked for"),
        pytest.param(FOUR_GPUS, {}, 100 * GIB, 4, 2, id="one for each GPU"),
        pytest.param(FOUR_GPUS, {"workers": 6}, 0, 6, 1, id="more than GPUs where they are asked for"),
        pytest.param(FOUR_GPUS, {"multi_model": True}, 0, 1, 8, id="of many models one each, GPUs or not"),
        pytest.param(FOUR_GPUS, {"gpus_per_worker": 2}, 100 * GIB, 2, 4, id="one for each two GPUs"),
        pytest.param(FOUR_GPUS, {"gpus_per_worker": 4}, 100 * GIB, 1, 8, id="one for all GPUs"),
        pytest.param(FOUR_GPUS, {"gpus_per_worker": 2, "workers": 1}, 0, 1, 8, id="fewer where fewer are asked for"),
    ],
)
def test_workers_and_threads_follow_from_the_settings_and_the_machine(
    machine, settings, model_bytes, workers, threads
) -> None:
    placement = placed(machine, model_bytes=model_bytes, **settings)
    assert (placement.limits.workers, placement.threads) == (workers, threads)
    assert placement.limits.gpus == machine.gpus


@pytest.mark.parametrize(
    ("gpus", "taken", "chosen"),
    [(0, [], 0), (1, [0, 0], 0), (4, [], 0), (4, [0, 1], 2), (4, [1, 2, 3], 0), (2, [1], 0)],
)
def test_a_model_starts_at_the_gpu_that_the_fewest_others_have_also_after_some_were_unloaded(
    gpus, taken, chosen
) -> None:
    assert least_used_gpus(gpus, 1, taken) == chosen
    assert placed(Machine(cores=1, gpus=gpus, free_bytes=0), gpus_taken=tuple(taken)).limits.first_gpu == chosen


@pytest.mark.parametrize(("taken", "chosen"), [([], 0), ([0], 4), ([4], 0), ([0, 4], 0), ([0, 4, 0], 4)])
def test_a_model_of_several_gpus_starts_at_those_that_the_fewest_others_have(taken, chosen) -> None:
    eight = Machine(cores=1, gpus=8, free_bytes=0)
    limits = placed(eight, gpus_taken=tuple(taken), gpus_per_worker=4).limits
    assert (limits.first_gpu, limits.gpus_per_worker) == (chosen, 4)


@pytest.mark.parametrize(
    ("gpus", "settings", "sentence"),
    [
        (2, {"gpus_per_worker": 4}, "TIDEGATE_GPUS_PER_WORKER=4 is more than the 2 GPUs that this container sees; "),
        (1, {"gpus_per_worker": 2}, "TIDEGATE_GPUS_PER_WORKER=2 is more than the 1 GPU that this container sees; "),
        (0, {"gpus_per_worker": 2}, "TIDEGATE_GPUS_PER_WORKER=2 is more than the 0 GPUs that this container sees; "),
        (
            8,
            {"gpus_per_worker": 3},
            "TIDEGATE_GPUS_PER_WORKER=3 does not divide the 8 GPUs .* choose one of 1, 2, 4, 8, ",
        ),
        (
            8,
            {"gpus_per_worker": 4, "workers": 3},
            r"3 workers \(TIDEGATE_WORKERS\) of 4 GPUs \(TIDEGATE_GPUS_PER_WORKER\) need 12, and this .* sees 8; ",
        ),
    ],
)
def test_gpus_that_cannot_be_shared_out_are_refused_with_both_numbers(gpus, settings, sentence) -> None:
    with pytest.raises(DeploymentError, match=f"^{sentence}"):
        refuse_gpus(Settings(**settings), gpus)


@pytest.mark.parametrize(
    ("gpus", "settings"),
    [
        (0, {}),
        (3, {"workers": 7}),
        (8, {"gpus_per_worker": 8}),
        (8, {"gpus_per_worker": 2, "workers": 4}),
        (8, {"gpus_per_worker": 2, "workers": 1}),
    ],
)
def test_gpus_that_can_be_shared_out_are_not_refused(gpus, settings) -> None:
    refuse_gpus(Settings(**settings), gpus)


@pytest.mark.parametrize(
    ("batching", "settings", "size", "wait_s"),
    [
        (Batching(), {}, 1, 0.005),
        (Batching(), {"max_batch_size": 8, "max_wait_ms": 20.0}, 8, 0.02),
        (Batching(joins=True, max_batch_size=16, max_wait_ms=2.0), {}, 16, 0.002),
        (Batching(joins=True, max_batch_size=16, max_wait_ms=2.0), {"max_batch_size": 4, "max_wait_ms": 0.0}, 4, 0.0),
        (Batching(joins=False), {"max_batch_size": 8}, 1, 0.005),
    ],
)
def test_batches_are_as_the_deployer_asks_else_as_the_archive_declares(batching, settings, size, wait_s) -> None:
    limits = placed(EIGHT_CORES, batching=batching, **settings).limits
    assert (limits.max_batch_size, limits.max_wait_s) == (size, wait_s)


@pytest.mark.parametrize(
    ("batching", "settings", "expected"),
    [
        (Batching(), {"max_batch_size": "auto"}, (64, 0.05, 0.05)),
        (Batching(), {"max_batch_size": "auto", "batch_latency_ms": 20.0}, (64, 0.02, 0.02)),
        (Batching(), {"max_batch_size": "auto", "max_wait_ms": 3.0}, (64, 0.003, 0.05)),
        (Batching(joins=True, max_batch_size="auto", max_wait_ms=2.0), {}, (64, 0.002, 0.05)),
        (Batching(joins=True, max_batch_size="auto"), {"max_batch_size": 8}, (8, 0.005, None)),
        (Batching(joins=False), {"max_batch_size": "auto"}, (1, 0.05, 0.05)),
    ],
)
def test_a_size_that_is_to_be_found_comes_with_a_bound_on_what_it_may_add(batching, settings, expected) -> None:
    limits = placed(EIGHT_CORES, batching=batching, **settings).limits
    assert (limits.max_batch_size, limits.max_wait_s, limits.batch_latency_s) == expected


def test_a_transform_job_is_told_of_a_usual_batch_for_each_worker_where_the_size_is_to_be_found() -> None:
    assert placed(EIGHT_CORES, workers=2, max_batch_size=32).limits.slots == 64
    assert placed(EIGHT_CORES, workers=2, max_batch_size="auto").limits.slots == 16
    assert placed(EIGHT_CORES, workers=2, max_batch_size="auto", batching=Batching(joins=False)).limits.slots == 2


@pytest.mark.parametrize(
    ("settings", "wait_s"),
    [({"timeout_s": 2.0}, 60.0), ({"timeout_s": 600.0}, 600.0), ({"timeout_s": 2.0, "max_queue_wait_s": 3.0}, 3.0)],
)
def test_a_request_may_wait_as_long_as_the_deadline_of_user_code_but_at_least_a_minute(settings, wait_s) -> None:
    assert placed(EIGHT_CORES, **settings).limits.max_queue_wait_s == wait_s


def test_a_rehearsal_has_one_worker_with_the_threads_of_one_among_all() -> None:
    placement = placed(EIGHT_CORES, workers=4)
    rehearsal = first_worker_only(placement)
    assert (rehearsal.limits.workers, rehearsal.threads) == (1, placement.threads)
