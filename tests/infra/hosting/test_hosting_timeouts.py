"""How long a start and a roll-out may take: plain functions of the model's size."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.infra.conftest import ROOT
from tidegate.infra.configuration.value import ConfigurationError
from tidegate.infra.hosting.timeouts import model_download_timeout_s, rollout_timeout_s, startup_timeout_s

SIZES = st.floats(min_value=0.001, max_value=500)


@pytest.mark.parametrize(
    ("size_gib", "download_s", "startup_s"),
    [
        (None, 600, 600),
        # 120 + 32 and 300 + 16, to the next minute.
        (1, 180, 360),
        (15, 600, 540),
        (40, 1440, 960),
        (500, 3600, 3600),
    ],
)
def test_time_outs_grow_with_the_model_up_to_what_the_api_takes(
    size_gib: float | None, download_s: int, startup_s: int
) -> None:
    assert model_download_timeout_s(size_gib) == download_s
    assert startup_timeout_s(size_gib) == startup_s


@given(SIZES, SIZES)
def test_a_larger_model_never_gets_less_time(one: float, other: float) -> None:
    small, large = sorted((one, other))
    for timeout_s in (model_download_timeout_s, startup_timeout_s):
        assert 60 <= timeout_s(small) <= timeout_s(large) <= 3600


@given(SIZES)
def test_a_few_more_bytes_are_hardly_ever_another_configuration(size_gib: float) -> None:
    assert model_download_timeout_s(size_gib) % 60 == 0
    assert startup_timeout_s(size_gib) % 60 == 0


def test_a_roll_out_may_take_its_waits_a_start_and_the_time_to_get_instances() -> None:
    assert rollout_timeout_s(waits_s=1200, download_s=600, startup_s=600) == 1200 + 600 + 600 + 1800


def test_a_roll_out_never_gets_more_or_less_than_the_api_takes() -> None:
    assert rollout_timeout_s(waits_s=25_000, download_s=1800, startup_s=1800) == 28_800
    assert rollout_timeout_s(waits_s=0, download_s=60, startup_s=60) == 1920


def test_waits_that_leave_no_time_for_a_start_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"hosting\.rollout waits 32400 s .* lower wait_s or bake_s"):
        rollout_timeout_s(waits_s=32_400, download_s=600, startup_s=600)


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) s \| (\d+) s \|$", (ROOT / "docs/hosting.md").read_text(), re.M)

    assert len(rows) >= 5
    for size_gib, download_s, startup_s in rows:
        assert model_download_timeout_s(float(size_gib)) == int(download_s)
        assert startup_timeout_s(float(size_gib)) == int(startup_s)
