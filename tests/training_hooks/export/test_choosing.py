"""Which forms are kept, decided from what was measured alone."""

from typing import Any

import pytest

from tidegate.training_hooks import ArtifactError
from tidegate.training_hooks.export.choosing import Trial, chosen, slower
from tidegate.training_hooks.export.options import Options, checked

GIVEN: dict[str, Any] = {
    "to": "auto",
    "batch_sizes": [1, 8],
    "rtol": None,
    "atol": None,
    "latency_budget_ms": None,
    "dynamic": [],
    "max_batch": 64,
    "threads": 1,
    "processor": "native",
    "force": False,
    "timeout_s": 60,
}


def options(**changed: Any) -> Options:
    return checked(**{**GIVEN, **changed})


def trial(name: str, one: float, eight: float, *, kind: str = "onnx", processor: tuple[str, ...] = ()) -> Trial:
    """A form that takes 10 ms, so many times as fast as eager."""
    batches = {
        rows: {"latency_ms": 10.0, "eager_latency_ms": 10 * ratio, "ratio": ratio}
        for rows, ratio in (("1", one), ("8", eight))
    }
    requires = {"device": "cpu", **({"processor": list(processor)} if processor else {})}
    return Trial(name=name, form={"name": name, "kind": kind, "requires": requires, "measured": {"batches": batches}})


def kept(*trials: Trial, **changed: Any) -> list[str]:
    return [each.name for each in chosen(trials, options(**changed)) if each.refused is None]


def test_auto_keeps_the_fastest_at_the_largest_batch() -> None:
    """And says of each other why it is not kept."""
    judged = chosen([trial("slow", 3, 1.5), trial("fast", 1.1, 2)], options())
    assert [(each.name, each.refused) for each in judged] == [("fast", None), ("slow", "fast is faster")]


def test_auto_keeps_behind_it_what_asks_less_of_a_server() -> None:
    """One that trusts no compiled code, or has no bfloat16, has a form, too."""
    compiled = trial("aoti-bfloat16", 2, 4, kind="aoti", processor=("avx512f", "avx512_bf16"))
    half = trial("bfloat16", 2, 3, kind="eager", processor=("avx512_bf16",))
    other = trial("bfloat16-channels_last", 2, 2.9, kind="eager", processor=("avx512_bf16",))
    assert kept(trial("onnx", 2, 2), half, other, compiled) == ["aoti-bfloat16", "bfloat16", "onnx"]


def test_what_is_slower_than_eager_for_the_smallest_batch_is_not_kept_by_auto() -> None:
    """But it is where it was asked for by name."""
    assert kept(trial("onnx", 0.9, 2)) == []
    assert kept(trial("onnx", 0.9, 2), to="onnx") == ["onnx"]


def test_what_is_slower_for_the_smallest_batch_and_kept_by_force_stands_behind_what_is_not() -> None:
    """The server takes the first: it would make single requests slower than the network itself does."""
    late, even = trial("late", 0.8, 3), trial("even", 1.1, 1.2)
    assert kept(late, even, to=["onnx", "pt2"], force=True) == ["even", "late"]
    assert kept(late, even, force=True)[0] == "even"
    assert late.form is not None
    assert even.form is not None
    assert str(slower(late.form)).startswith("late is 0.80 times as fast as eager for a batch of 1, and is served")
    assert slower(even.form) is None
    assert slower({"name": "odd", "measured": []}) is None


def test_less_than_1_05_times_eager_is_kept_by_force_alone() -> None:
    """Noise would be kept otherwise."""
    assert kept(trial("onnx", 2, 1.04), to="onnx") == []
    assert kept(trial("onnx", 2, 1.04), to="onnx", force=True) == ["onnx"]
    assert kept(trial("onnx", 2, 1.05), to="onnx") == ["onnx"]


def test_the_latency_budget_holds_for_the_largest_batch_even_by_force() -> None:
    """What takes longer is of no use to who gave the budget."""
    assert kept(trial("onnx", 2, 2), latency_budget_ms=9.9, force=True) == []
    assert kept(trial("onnx", 2, 2), latency_budget_ms=10) == ["onnx"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"to": 3}, "to is 3; give the name of a form"),
        ({"to": ["onnx", "tensorrt"]}, "to is 'tensorrt'; it is one of onnx, "),
        ({"batch_sizes": []}, "batch_sizes is a list; give numbers of rows"),
        ({"batch_sizes": [0]}, "batch_sizes is 0; it must be a whole number from 1"),
        ({"batch_sizes": "1,8"}, "batch_sizes is '1,8'; give numbers of rows"),
        ({"atol": -1}, "atol is -1; it must be a finite number that is not negative"),
        ({"rtol": float("nan")}, "rtol is nan; it must be a finite number"),
        ({"dynamic": ["input_ids"]}, "dynamic: 'input_ids' names no axis; write NAME:AXIS"),
        ({"dynamic": [3]}, "dynamic: '3' names no axis"),
        ({"dynamic": 3}, "dynamic is an int; give axes such as"),
        ({"batch_sizes": [1, 65]}, "batch_sizes has 65, and max_batch, the most rows of a form, is 64; raise it, or"),
        ({"dynamic": ["x:1=1"]}, "dynamic: 'x:1=1' leaves the axis no other size than 1; give at least 2, or"),
        ({"dynamic": ["x:1=0"]}, "dynamic: 'x:1=0' leaves the axis no other size than 0"),
        ({"threads": 1_000_000}, "threads is 1000000, and this process has "),
        ({"threads": 0}, "threads is 0; it must be a whole number from 1"),
        ({"processor": "arm"}, "processor is 'arm'; it is 'native', or 'x86-64-v3' for machines of several kinds"),
        ({"force": "yes"}, "force is 'yes'; it is True or False"),
        ({"timeout_s": "x"}, "timeout_s is 'x'; it must be a finite number"),
    ],
)
def test_an_argument_of_a_wrong_kind_is_refused_by_its_name(changed: dict[str, Any], sentence: str) -> None:
    """In one sentence with the way out."""
    with pytest.raises(ArtifactError) as refused:
        options(**changed)
    assert str(refused.value).startswith(sentence)


def test_the_usual_batch_sizes_are_those_that_the_largest_batch_allows() -> None:
    """Who asks for forms of one row need not say what is timed."""
    assert [options(batch_sizes=None, max_batch=most).batch_sizes for most in (1, 7, 8)] == [(1,), (1,), (1, 8)]
