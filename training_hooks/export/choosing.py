"""Which of the forms that were built and checked are kept. Pure: of what was measured, nothing else."""

from collections.abc import Sequence
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
    kept = sorted((each for each in judged if each.refused is None), key=_speed, reverse=True)
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


def _speed(trial: Trial) -> float:
    batches = (trial.form or {})["measured"]["batches"]
    return float(batches[max(batches, key=int)]["ratio"])


def _demands(trial: Trial) -> frozenset[str]:
    form = trial.form or {}
    trusted = {"trust"} if form["kind"] in ("pt2", "aoti") else set()
    packages = set(form["requires"].get("packages", {})) - {"onnxruntime"}  # the server has that one
    return frozenset({*trusted, *packages, *form["requires"].get("processor", [])})
