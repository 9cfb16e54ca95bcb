"""Which of the forms that were built and checked are kept. Pure: of what was measured, nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .options import LEAST_RATIO, Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one candidate.

    Attributes:
        name: of the candidate.
        refused: one line that says why it is not kept; None where it is.
        form: its entry in the manifest; None where it could not be built, or was out of bounds.
    """

    name: str
    refused: str | None = None
    form: dict[str, Any] | None = None


def why_refused(form: dict[str, Any], options: Options) -> str | None:
    """Say why a form that answers as eager does is not worth keeping, or None."""
    batches = form["measured"]["batches"]
    largest = max(batches, key=int)
    measured = batches[largest]
    budget = options.latency_budget_ms
    if budget is not None and measured["latency_ms"] > budget:
        return f"it takes {measured['latency_ms']:.1f} ms for a batch of {largest}, above the budget of {budget:g} ms"
    if options.force:
        return None
    if measured["ratio"] < LEAST_RATIO:
        return f"it is {measured['ratio']:.2f} times as fast as eager for a batch of {largest}, less than {LEAST_RATIO}"
    smallest = min(batches, key=int)
    if options.automatic and batches[smallest]["ratio"] < 1:
        return f"it is slower than eager for a batch of {smallest}: {batches[smallest]['ratio']:.2f} times"
    return None


def chosen(trials: Sequence[Trial], options: Options) -> list[Trial]:
    """Return the trials with `refused` filled in, those that are kept first and in the order of preference.

    With `auto` the fastest is kept, and behind it what a server can take that cannot take that one: a form that needs
    fewer instruction sets, or no trust in compiled code.
    """
    judged = [
        each if each.form is None else Trial(name=each.name, form=each.form, refused=why_refused(each.form, options))
        for each in trials
    ]
    kept = sorted(
        (each for each in judged if each.refused is None), key=lambda each: preference(each.form or {}), reverse=True
    )
    lost = [each for each in judged if each.refused is not None]
    if options.automatic and kept:
        best, *others = kept
        kept, demands = [best], _demands(best)
        for each in others:
            if _demands(each) < demands:
                kept.append(each)
                demands = _demands(each)
            else:
                lost.append(Trial(name=each.name, form=each.form, refused=f"{best.name} is faster"))
    return [*kept, *lost]


def preference(form: Mapping[str, Any]) -> tuple[bool, float]:
    """What is greater of the form that is to be served first: one that makes no request slower, then a faster one."""
    return slower(form) is None, speed(form)


def speed(form: Mapping[str, Any]) -> float:
    """How many times as fast as eager it is at the largest batch; 0 where what stands there says nothing."""
    return _ratio(form, max)[1]


def slower(form: Mapping[str, Any]) -> str | None:
    """Say that a form, kept because somebody wanted it, makes the smallest batch slower than eager; or None."""
    rows, ratio = _ratio(form, min)
    if not 0 < ratio < 1:
        return None
    return (
        f"{form['name']} is {ratio:.2f} times as fast as eager for a batch of {rows}, and is served all the same where "
        "no form stands before it: TIDEGATE_FORM=eager serves the network itself"
    )


def _ratio(form: Mapping[str, Any], of_sizes: Callable[..., str]) -> tuple[str, float]:
    try:
        batches = form["measured"]["batches"]
        rows = of_sizes(batches, key=int)
        return rows, float(batches[rows]["ratio"])
    except (KeyError, TypeError, ValueError):
        return "", 0.0


def _demands(trial: Trial) -> frozenset[str]:
    form = trial.form or {}
    trusted = {"trust"} if form["kind"] in ("pt2", "aoti") else set()
    packages = set(form["requires"].get("packages", {})) - {"onnxruntime"}  # the server has that one
    return frozenset({*trusted, *packages, *form["requires"].get("processor", [])})
