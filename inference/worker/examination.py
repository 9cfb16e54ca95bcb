"""A loaded model looked into, for `check`: what it is, how it answers its example, which requests may share a call.

It has passed all that a server asks of it before this, so nothing here changes the verdict.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tidegate.inference.layout import model_root
from tidegate.inference.load_report import AnsweredExample, Batches, Caution, LoadReport, Sharing
from tidegate.inference.memory_use import private_bytes
from tidegate.inference.protocol import Answer, Done, ModelSpec, Request
from tidegate.inference.worker import artifact, model_faults
from tidegate.inference.worker.artifact import Example
from tidegate.inference.worker.asking import answer
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import TEXT_TYPES, split_media_type
from tidegate.inference.worker.deviation import largest_difference
from tidegate.inference.worker.forms.served_form import ServedForm
from tidegate.inference.worker.heard_warnings import Heard
from tidegate.inference.worker.joining import Signatures
from tidegate.inference.worker.proving_ahead import MAX_ANSWER_S, MAX_COMPANY, disturbed, prove_ahead

MOST_CALLS = 30
LONGEST_S = 0.3
"""How long the example is asked again for the sake of the times."""
LEAST_CALLS = 3
TOGETHER = 8
"""Requests of the largest batch that is tried where no larger one is asked for."""
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One time that the example was asked."""

    body: bytes
    content_type: str
    data: str
    prediction: str
    account: Done


def examine(
    computation: Computation, spec: ModelSpec, *, load_s: float, cautions: Sequence[Caution] = ()
) -> LoadReport:
    """Look into what was loaded in `load_s`; `cautions` are known already."""
    memory_bytes, gpu_bytes = private_bytes([os.getpid()]), computation.gpu_memory.held_bytes()
    steps = computation.steps
    example = artifact.read_example(model_root(Path(spec.model_dir).resolve()), computation.context.manifest)
    found = list(cautions)
    answered = None
    if example is None:
        found.append(_NO_EXAMPLE)
    elif spec.repeatable:
        asked = _ask(computation, example)
        answered = _answered(example, asked)
        if (unsteady := _unsteady(example, asked)) is not None:
            found.append(unsteady)
    modules = [each for each in model_faults.modules_of(steps.model) if not isinstance(each, ServedForm)]
    for module in modules:
        looked = [model_faults.not_a_number(module), model_faults.in_training_mode(module) if example else None]
        found += [caution for caution in looked if caution is not None]
    tensors = {id(tensor): tensor for module in modules for _, tensor in model_faults.tensors_of(module)}
    parameters = {id(each): each for module in modules for each in module.parameters()}
    return LoadReport(
        loaded_by=steps.functions.model_maker if steps.functions.model_fn is not None else "default",
        functions=tuple(steps.functions.found),
        kind=_kind(steps.model, modules),
        device=", ".join(sorted({str(tensor.device) for tensor in tensors.values()})) or "cpu",
        parameters=sum(each.numel() for each in parameters.values()) if modules else None,
        parameter_bytes=sum(each.nbytes for each in tensors.values()) if modules else None,
        dtypes=tuple(sorted({str(each.dtype).removeprefix("torch.") for each in parameters.values()})),
        tensors=computation.tensors,
        load_s=load_s,
        memory_bytes=memory_bytes,
        gpus=len(spec.gpu_ids),
        gpu_bytes=gpu_bytes,
        threads=spec.threads,
        example=answered,
        batches=replace(_batches(computation, spec, example), size_found_on_traffic=spec.finds_batch_size),
        cautions=tuple(found),
        form=computation.form,
    )


def _kind(model: Any, modules: Sequence[torch.nn.Module]) -> str:
    kind = type(model).__name__
    inner = [type(module).__name__ for module in modules if module is not model]
    return f"{kind} with {', '.join(inner)}" if inner else kind


_NO_EXAMPLE = Caution(
    code="no_example",
    message="the archive carries no example, so nothing was asked: a wrong answer would only be seen by its clients",
    way_out="save_model(example=…) puts one into it, and every start of a server asks it",
)


# --- the example


def _ask(computation: Computation, example: Example) -> list[_Asked]:
    """Ask it several times, and once where that takes long."""
    asked: list[_Asked] = []
    until_s = time.perf_counter() + LONGEST_S
    while len(asked) < MOST_CALLS and (not asked or time.perf_counter() < until_s or 0 < len(asked) < LEAST_CALLS):
        batch = computation.begin([Request(0, example.content_type, example.accept, b"", example.body)])
        (outcome,), account = answer(computation, batch)
        if not isinstance(outcome, Answer):
            break  # a rehearsal is no place for another verdict; `unsteady` says it
        request = batch.requests[0]
        asked.append(
            _Asked(
                body=outcome.body,
                content_type=outcome.content_type,
                data=described(request.data),
                prediction=described(request.prediction),
                account=account,
            )
        )
        if account.decode_s + account.predict_s + account.encode_s > LONGEST_S:
            break
    return asked


def _answered(example: Example, asked: Sequence[_Asked]) -> AnsweredExample | None:
    if not asked:
        return None
    first = asked[0]
    apart = [largest_difference(example.expected, each.body, each.content_type) for each in asked]
    known = [each for each in apart if each is not None]
    accounts = [each.account for each in asked]
    return AnsweredExample(
        request_type=example.content_type,
        request_bytes=len(example.body),
        answer_type=first.content_type,
        answer_bytes=len(first.body),
        answer=_shown(first.body, first.content_type),
        data=first.data,
        prediction=first.prediction,
        largest_difference=max(known) if known else None,
        rtol=example.rtol,
        atol=example.atol,
        calls=len(asked),
        predict_ms=1000 * statistics.median(each.predict_s for each in accounts),
        answer_ms=1000 * statistics.median(each.decode_s + each.predict_s + each.encode_s for each in accounts),
    )


def _unsteady(example: Example, asked: Sequence[_Asked]) -> Caution | None:
    """A warning of an example that is only sometimes answered as expected."""
    found = [artifact.difference(example, each.body, each.content_type) for each in asked]
    wrong = [each for each in found if each is not None]
    if asked and not wrong:
        return None
    what = f"{len(wrong)} of {len(asked)} times otherwise: {wrong[0]}" if wrong else "with an error the second time"
    return Caution(
        code="unsteady_answers",
        message=f"the example was answered as expected once, and then {what}",
        way_out="a server starts only where it is answered as expected: call model.eval(), or fix the seed in "
        "predict_fn, or leave out of the example what is drawn at random",
    )


def _shown(body: bytes, content_type: str) -> str:
    kind = split_media_type(content_type)[0]
    if kind not in TEXT_TYPES and not kind.startswith("text/"):
        return ""
    text = " ".join(body[: 4 * SHOWN_CHARACTERS].decode(errors="replace").split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def described(value: Any) -> str:
    """A value as a reader of the report knows it again: type and shape of what has them."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, Mapping):
        members = [f"{key}: {described(member)}" for key, member in list(value.items())[:8]]
        return _bounded(f"{{{', '.join(members)}{', …' if len(value) > len(members) else ''}}}")
    if isinstance(value, list | tuple) and value:
        return _bounded(f"{type(value).__name__} of {len(value)}: {described(value[0])}")
    return type(value).__name__


def _bounded(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


# --- requests that share a call


def _batches(computation: Computation, spec: ModelSpec, example: Example | None) -> Batches:
    calls, functions = computation.joined_calls, computation.steps.functions
    if (never := calls.ruled_out) is not None:
        return Batches(sharing=Sharing.NEVER, why=never)
    if calls.declared:
        by = [name for name in ("collate_fn", "split_fn") if getattr(functions, name) is not None]
        why = f"the script has {' and '.join(by)}" if by else "the manifest says so"
        return Batches(sharing=Sharing.DECLARED, why=why)
    if not spec.repeatable:
        return Batches(sharing=Sharing.NEVER, why="TIDEGATE_RETRY is off, so nothing is called twice to prove anything")
    if example is None:
        return Batches(sharing=Sharing.UNDECIDED, why="without an example there is nothing to test batching with")
    size = spec.max_batch_size if spec.max_batch_size > 1 else TOGETHER
    calls.prove, calls.signatures = True, Signatures()
    with Heard() as heard:
        started_s = time.perf_counter()
        proved = prove_ahead(computation, example, lambda: None, max_batch_size=size)
        took_s = time.perf_counter() - started_s
    if proved:
        why = "requests like the example were answered together as alone"
        return Batches(sharing=Sharing.PROVED, why=why, tried_together=min(size, MAX_COMPANY))
    if (refusal := next((each for each in heard.messages if "are not joined" in each), None)) is not None:
        reason = refusal.partition("answered as alone: ")[2].partition("; ")[0]
        return Batches(sharing=Sharing.REFUSED, why=reason or refusal)
    return Batches(sharing=Sharing.UNDECIDED, why=_undecided(example, took_s))


def _undecided(example: Example, took_s: float) -> str:
    if disturbed(example.body, example.content_type, 1) == example.body:
        return f"no others can be made of the example, which is {split_media_type(example.content_type)[0]}"
    if took_s > MAX_ANSWER_S:
        return "the example takes too long for it to be asked so often"
    return "copies of the example with other numbers are refused, or answered too much alike"
