"""Whether one more model fits, by number and by memory."""

from __future__ import annotations

import contextlib

import pytest

from tidegate.inference.errors import ModelDoesNotFit
from tidegate.inference.frontend.models.capacity import demand_memory, demand_place

MIB = 1024 * 1024


def test_there_may_be_as_many_models_as_the_limit_says() -> None:
    demand_place(models=1, max_models=2)
    with pytest.raises(
        ModelDoesNotFit, match=r"^2 models are loaded, which is the limit \(TIDEGATE_MAX_LOADED_MODELS\)\.$"
    ):
        demand_place(models=2, max_models=2)


@pytest.mark.parametrize(
    ("needed", "promised", "free", "kept", "fits"),
    [
        (10, 0, 10, 0, True),
        (11, 0, 10, 0, False),
        (10, 0, 19, 10, False),
        (10, 1, 10, 0, False),
        (10, 10, 30, 10, True),
        (0, 0, 10, 10, True),
        (1, 0, 10, 100, False),
    ],
)
def test_a_model_fits_into_what_is_free_and_not_promised_to_one_that_is_loading(
    needed, promised, free, kept, fits
) -> None:
    refused = contextlib.nullcontext() if fits else pytest.raises(ModelDoesNotFit)
    with refused:
        demand_memory(
            "m",
            needed_bytes=needed * MIB,
            promised_bytes=promised * MIB,
            free_bytes=free * MIB,
            min_free_bytes=kept * MIB,
        )


def test_the_sentence_says_what_is_needed_and_what_is_left() -> None:
    with pytest.raises(ModelDoesNotFit) as refused:
        demand_memory("m", needed_bytes=9 * MIB, promised_bytes=0, free_bytes=MIB, min_free_bytes=5 * MIB)
    assert str(refused.value) == "The model 'm' needs about 9 MiB, and 0 MiB are left for models."
