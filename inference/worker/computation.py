"""One batch of requests to one batch of answers.

Requests share a predict_fn call where the archive declares that they may, or where that has been proved (`joining`).
All others are no batch: each is decoded, predicted and encoded before the next is looked at, and its answer leaves at
once. One item's error is that item's error; SystemExit, KeyboardInterrupt and CancelledError are errors like any other.
A shared call that fails, for whatever reason, is halved until the item that fails is alone; running out of memory is
the same road, with the cache emptied first.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from tidegate.inference.batching import Batching
from tidegate.inference.errors import OutOfMemory, RequestError
from tidegate.inference.protocol import Answer, Done, Error, Event, Progress, Request
from tidegate.inference.worker import collate, comparing, defaults, members, proof
from tidegate.inference.worker.accept import preferred_type
from tidegate.inference.worker.content import TEXT_TYPES, WRITABLE, Reading, decode_text, split_media_type
from tidegate.inference.worker.content_codings import unpack
from tidegate.inference.worker.context import Context, RequestProcessor
from tidegate.inference.worker.device_errors import empty_cache, give_up_if_device_is_lost, is_out_of_memory
from tidegate.inference.worker.handler import Functions
from tidegate.inference.worker.job import Job
from tidegate.inference.worker.joining import Decision, Signatures
from tidegate.inference.worker.refusal import refusal_of
from tidegate.inference.worker.response import answer_of
from tidegate.inference.worker.shared_state import shared_name
from tidegate.inference.worker.tally import Tally
from tidegate.inference.worker.user_code import one_line

log = logging.getLogger("tidegate.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests on their way, decoded already where other threads do that."""

    jobs: list[Job]
    decode_s: float


@dataclass(kw_only=True)
class Computation:
    """A loaded model with its functions. Shapes and types of what flows between them are the user's own.

    `prove` is off where calling a function twice may do harm; `timeout_s` is what one call may take.
    """

    model: Any
    functions: Functions
    context: Context
    default_accept: str
    reading: Reading
    max_response_bytes: int
    batching: Batching = field(default_factory=Batching)
    prove: bool = True
    timeout_s: float = 60.0
    splittable: bool = True
    """False from the first prediction of a declared batch on that has no part for each request."""
    cut_checked: bool = False
    """Whether a request was once found to get of a declared batch what it gets alone, as far as its outline goes."""
    signatures: Signatures = field(default_factory=Signatures)
    tally: Tally = field(default_factory=Tally)

    @property
    def may_join(self) -> bool:
        """Whether requests may ever share a call, so that sending several together is of use."""
        if self.functions.transform_fn is not None or self.batching.joins is False:
            return False
        return self.prove or self.declared

    @cached_property
    def declared(self) -> bool:
        """Whether somebody who knows the model has said that joining is right."""
        functions = self.functions
        return self.batching.joins is True or functions.collate_fn is not None or functions.split_fn is not None

    @cached_property
    def tolerance(self) -> comparing.Tolerance:
        """How far apart predictions may be that count as the same."""
        return comparing.tolerance_of(self.model)

    def answer(self, items: Sequence[Request]) -> tuple[list[Answer | Error], Done]:
        """Answer every item; returns the answers in the order of the items."""
        batch = self.begin(items)
        *_, done = (event for events in self.finish(batch) for event in events)
        assert isinstance(done, Done)  # noqa: S101 - the last event is
        return [job.outcome for job in batch.jobs if job.outcome is not None], done

    def begin(self, items: Sequence[Request], decoders: Executor | None = None) -> Batch:
        """Take in a batch. Its requests are decoded by `decoders`, or later, in the thread that scripts rely on."""
        jobs = [self.job(item) for item in items]
        started = time.perf_counter()
        if decoders is not None:
            for _ in decoders.map(self._decode_once, jobs):
                pass
        return Batch(jobs=jobs, decode_s=time.perf_counter() - started)

    def finish(self, batch: Batch) -> Iterator[list[Event]]:
        """Answer the requests of `batch`: yields what is ready as soon as it is; the last list ends with `Done`."""
        tally = self.tally = Tally(decode_s=batch.decode_s)
        company = len(batch.jobs) > 1 and self.may_join
        to_join: dict[tuple[Hashable, Hashable], list[Job]] = {}
        to_prove: dict[Hashable, list[Job]] = {}
        waiting = len(batch.jobs)
        ready: list[Event] = []
        # 1. What is no batch, or not yet: one request after the other, to its answer.
        for job in batch.jobs:
            started = time.perf_counter()
            self._decode_once(job)
            tally.decode_s += time.perf_counter() - started
            key, decision = self._decide(job) if company and job.outcome is None else (None, Decision.ALONE)
            if decision is Decision.JOIN:
                to_join.setdefault((key, self._alike(key, job)), []).append(job)
                if tally.slow():
                    yield [Progress(proving=False)]
                continue
            self._answer_alone(job)
            if decision in {Decision.PROVE, Decision.WAIT}:
                to_prove.setdefault(key, []).append(job)
            waiting -= 1
            ready.append(job.answer)
            if waiting or to_prove:
                tally.sent()
                yield ready
                ready = []
        # 2. What shares a call.
        for key, jobs in self._portions(to_join):
            started = time.perf_counter()
            self._predict_group(jobs, key)
            tally.predict_s += time.perf_counter() - started
            for job in jobs:
                self._encode_once(job)
                waiting -= 1
                ready.append(job.answer)
                if waiting and tally.slow():
                    yield ready
                    ready = []
            if ready and (waiting or to_prove):
                tally.sent()
                yield ready
                ready = []
        # 3. What might share one. The clients have their answers.
        for key, jobs in to_prove.items():
            answered = [job for job in jobs if isinstance(job.outcome, Answer)]
            for progress in proof.prove(self, key, answered):
                yield [progress]
        yield [*ready, tally.done(_gpu_bytes())]

    # --- the three phases

    def _decode_once(self, job: Job) -> None:
        if not job.decoded:
            job.decoded = True
            self._attempt(job, "input_fn", self._decode)

    def _decode(self, job: Job) -> None:
        media_type, charset = split_media_type(job.item.content_type)
        packed = job.request.take_content_encoding()
        data = unpack(job.item.body, packed, self.reading.max_decoded_bytes) if packed else job.item.body
        body: str | bytearray
        if media_type in TEXT_TYPES:
            body = decode_text(data, charset)
        else:
            body = data if isinstance(data, bytearray) else bytearray(data)
        content_type = media_type if media_type in TEXT_TYPES else job.item.content_type or None
        if self.functions.transform_fn is not None:
            job.data = (body, content_type)
        elif self.functions.input_fn is not None:
            job.data = self.functions.input_fn(body, content_type)
        else:
            as_rows = self.functions.predict_fn is None
            job.data, job.sent = defaults.input_fn(body, content_type, self.reading, as_rows=as_rows)

    def _answer_alone(self, job: Job) -> None:
        """Lead one request to its answer, as if there were no others."""
        if job.outcome is None:
            started = time.perf_counter()
            self._attempt(job, "transform_fn" if self.functions.transform_fn else "predict_fn", self._predict_alone)
            job.predict_s = time.perf_counter() - started
            self.tally.predict_s += job.predict_s
        if job.compared and job.outcome is None:
            job.kept = comparing.copied(job.prediction)
        self._encode_once(job)

    def _encode_once(self, job: Job) -> None:
        if job.outcome is None:
            started = time.perf_counter()
            self._attempt(job, "output_fn", self._encode)
            self.tally.encode_s += time.perf_counter() - started

    def _encode(self, job: Job) -> None:
        if self.functions.transform_fn is not None:
            result = job.prediction
        elif self.functions.output_fn is not None:
            result = self.functions.output_fn(job.prediction, job.accept)
        else:
            by_record = self.functions.predict_fn is None
            result = defaults.output_fn(job.prediction, job.accept, records=job.sent, by_record=by_record)
        job.outcome = answer_of(result, job, self.max_response_bytes)

    # --- batches

    def _decide(self, job: Job) -> tuple[Hashable, Decision]:
        """Which other requests `job` may share a call with, and whether it does."""
        key, decision = self._look_up(job)
        if decision is Decision.PROVE:
            job.compared, job.members = True, members.digests(job.data)
        if decision is Decision.ALONE:
            self.tally.hopeless += 1
        else:
            self.tally.promising = True
        return key, decision

    def _look_up(self, job: Job) -> tuple[Hashable, Decision]:
        by_declaration = Decision.JOIN if self.splittable else Decision.ALONE
        if self.functions.collate_fn is not None:
            return None, by_declaration
        found = collate.signature(job.data)
        if found is None:
            return None, Decision.ALONE
        key, job.records = found
        if self.declared:
            return key, by_declaration
        if (reason := self._state_between_functions) is not None:
            if self.signatures.decide(found) is not Decision.ALONE:
                proof.refuse(self, found, reason)
            return found, Decision.ALONE
        # A script may treat one record otherwise than two, so what is proved is proved for as many as a request has.
        return found, self.signatures.decide(found)

    @property
    def _state_between_functions(self) -> str | None:
        """What the functions tell each other besides their arguments, which would be that of another request."""
        if self.context.kept is not None:
            return f"the script sets the attribute {self.context.kept!r} of the context while it answers a request"
        return self._shared_name

    @cached_property
    def _shared_name(self) -> str | None:
        functions = self.functions
        chain = {"input_fn": functions.input_fn, "predict_fn": functions.predict_fn, "output_fn": functions.output_fn}
        return shared_name(chain)

    def _alike(self, key: Hashable, job: Job) -> Hashable:
        """What must be equal, besides the signature, for requests to share a call: what no proof has seen to vary."""
        if self.declared:
            return None
        return frozenset(members.digests(job.data, without=self.signatures.varied(key)).items())

    def _portions(self, to_join: Mapping[tuple[Hashable, Hashable], list[Job]]) -> Iterator[tuple[Hashable, list[Job]]]:
        """What is joined, in as many calls as it takes for each to be done in time and to be as the proofs were."""
        if not self.declared and self._state_between_functions is not None:
            # One of these is the first for which input_fn leaves something to the functions that follow.
            for (key, _), jobs in to_join.items():
                for job in jobs:
                    job.decoded = False
                    self._decode_once(job)
                    yield key, [job]
            return
        if not self.declared:
            groups = Counter(key for key, _ in to_join)
            for key, number in groups.items():
                requests = sum(len(jobs) for (other, _), jobs in to_join.items() if other == key)
                self.signatures.came(key, requests, unlike=number > 1)
        for (key, _), jobs in to_join.items():
            most = len(jobs) if self.declared else self.signatures.most(key)
            yield from ((key, jobs[at : at + most]) for at in range(0, len(jobs), most))

    def _predict_group(self, jobs: list[Job], key: Hashable) -> None:
        """Predict `jobs` with one call; where that fails, each half with one call, down to the item that fails."""
        if len(jobs) == 1:
            self._attempt(jobs[0], "predict_fn", self._predict_alone)
            return
        splittable, out_of_memory = True, False
        said = [job.request.decisions for job in jobs]
        try:
            self._predict_together(jobs)
        except collate.NotSplittable as error:
            self._join_no_more(key, str(error))
            splittable = False
        except BaseException as error:
            give_up_if_device_is_lost(error)
            log.warning(
                "a batch of %d is halved, because predicting it failed: %s: %s",
                len(jobs),
                type(error).__name__,
                one_line(error),
            )
            out_of_memory = is_out_of_memory(error)
        else:
            self.tally.joined += 1
            if not self.declared:
                self.signatures.passed(key)
            return
        # Outside the handler: until it is left, the traceback holds the batch's tensors.
        if out_of_memory:
            empty_cache()
        # A status that the failed call set at some index is nobody's: the error may have been another request's.
        for job, before in zip(jobs, said, strict=True):
            job.request.decisions = before
        parts = [jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]] if splittable else [[job] for job in jobs]
        for part in parts:
            self._predict_group(part, key)
        if splittable and not (self.declared or out_of_memory) and all(job.outcome is None for job in jobs):
            self.signatures.doubt(key)

    def _join_no_more(self, key: Hashable, reason: str) -> None:
        if not self.declared:
            proof.refuse(self, key, reason)
        elif self.splittable:
            self.splittable = False
            log.warning("requests are predicted one by one from now on: %s", reason)

    # --- the steps one by one, for a comparison (`trial.Road`)

    def job(self, item: Request) -> Job:
        """A request at the beginning of its way."""
        ours = self.functions.output_fn is None and self.functions.transform_fn is None
        accept = preferred_type(item.accept, self.default_accept, WRITABLE if ours else None)
        return Job(item=item, request=RequestProcessor(item), accept=accept)

    def decode(self, job: Job) -> None:
        """Do what input_fn is there for. Raises what it raises."""
        self.context.request_processor = [job.request]
        self._decode(job)

    def predict_alone(self, job: Job) -> None:
        """Do what predict_fn is there for. Raises what it raises."""
        self.context.request_processor = [job.request]
        self._predict_alone(job)

    def predict_together(self, jobs: Sequence[Job]) -> None:
        """Do what predict_fn is there for, with one call. Raises what it raises, or `NotSplittable`."""
        self._predict_together(jobs)

    def encode(self, job: Job) -> None:
        """Do what output_fn is there for. Raises what it raises."""
        self.context.request_processor = [job.request]
        self._encode(job)

    # --- predictions

    def _predict_together(self, jobs: Sequence[Job]) -> None:
        self.context.request_processor = [job.request for job in jobs]
        inputs = [job.data for job in jobs]
        if self.functions.collate_fn is not None:
            joined = self.functions.collate_fn(inputs)
        else:
            joined = collate.join(inputs) if len(inputs) > 1 else inputs[0]
        self.context.asked = False
        prediction = self._call_predict(joined, len(jobs))
        if self.context.asked and not self.declared:
            raise collate.NotSplittable("predict_fn asks the context about its requests")
        if self.functions.split_fn is not None:
            parts = list(map(collate.owned, self.functions.split_fn(prediction, len(jobs))))
            if len(parts) != len(jobs):
                raise collate.NotSplittable(f"split_fn made {len(parts)} parts for {len(jobs)} requests")
        else:
            parts = self._split(prediction, jobs)
        for job, part in zip(jobs, parts, strict=True):
            job.prediction = part

    def _split(self, prediction: Any, jobs: Sequence[Job]) -> list[Any]:
        try:
            parts = collate.split(prediction, [job.records or _records(job.data) for job in jobs])
        except collate.NotSplittable as error:
            if len(jobs) == 1:  # nothing to split
                return [prediction]
            raise collate.NotSplittable(f"a prediction cannot be split: {error}") from None
        several_members = isinstance(prediction, Mapping | tuple)
        if several_members and self.declared and self.prove and len(jobs) > 1 and not self.cut_checked:
            self._check_cut(parts[0], jobs[0])
        return parts

    def _check_cut(self, part: Any, job: Job) -> None:
        """Raise `NotSplittable` where `job` alone has a prediction of another outline than its part of the batch's.

        Three names of classes beside three records look like a name for each.
        """
        alone = Job(item=job.item, request=RequestProcessor(job.item), accept=job.accept, data=job.data)
        alone.records = job.records
        self.context.request_processor = [alone.request]
        self._predict_alone(alone)
        if collate.outline(alone.prediction) != collate.outline(part):
            raise collate.NotSplittable("a prediction has something that is not one for each record; define split_fn")
        self.cut_checked = True

    def _predict_alone(self, job: Job) -> None:
        if self.functions.transform_fn is not None:
            body, content_type = job.data
            self.tally.sizes.append(1)
            job.prediction = self.functions.transform_fn(self.model, body, content_type, job.accept)
        elif self.functions.collate_fn is not None or self.functions.split_fn is not None:
            self._predict_together([job])  # so that output_fn is given the same whether the batch is of one or of many
        else:
            if job.compared:
                self.context.asked = False
            job.prediction = self._call_predict(job.data, 1)
            job.asked_context = job.compared and self.context.asked

    def _call_predict(self, data: Any, requests: int) -> Any:
        self.tally.sizes.append(requests)
        if self.functions.predict_fn is not None:
            return self.functions.predict_fn(data, self.model)
        return defaults.predict_fn(data, self.model)

    # --- one item's error is that item's error

    def _attempt(self, job: Job, function: str, step: Callable[[Job], None]) -> None:
        self.context.request_processor = [job.request]
        refusal: RequestError | None = None
        try:
            step(job)
        except BaseException as error:
            give_up_if_device_is_lost(error)
            refusal = refusal_of(error, function, job)
            if refusal.status >= 500:
                request_id = self.context.get_request_id(0)
                log.error("%s failed", function, exc_info=error, extra={"request_id": request_id})
            job.outcome = Error(job.item.id, refusal.status, refusal.code, refusal.message)
        if isinstance(refusal, OutOfMemory):
            empty_cache()


def _records(data: Any) -> int:
    found = collate.signature(data)
    return found[1] if found else 1


def _gpu_bytes() -> int:
    return torch.cuda.memory_reserved() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
