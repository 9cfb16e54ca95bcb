"""Which requests of a batch share a predict_fn call, and the call.

Requests share one where the archive declares that they may, or where that has been proved (`joining` has the rule).
A shared call that fails, for whatever reason, is halved until the request that fails is by itself; running out of
memory is the same way, with the cache emptied first.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tidegate.inference.batching import Batching
from tidegate.inference.errors import one_line
from tidegate.inference.worker import collate, comparing, members
from tidegate.inference.worker.device_errors import empty_cache, give_up_if_device_is_lost, is_out_of_memory
from tidegate.inference.worker.joining import Decision, Signatures
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.shared_state import shared_name
from tidegate.inference.worker.steps import Steps

log = logging.getLogger("tidegate.worker")

_WAY_OUT = (
    "define collate_fn and split_fn in the script, or say by save_model(batching=True) that joining is right, "
    "or by save_model(batching=False) that it is not"
)


@dataclass(kw_only=True)
class JoinedCalls:
    """What is known about joining the requests of one model.

    `prove` is off where calling a function twice may do harm; `timeout_s` is what one call may take.
    """

    steps: Steps
    batching: Batching
    prove: bool
    timeout_s: float
    signatures: Signatures = field(default_factory=Signatures)
    splittable: bool = True
    """False from the first prediction of a declared batch on that has no part for each request."""
    form_tolerance: comparing.Tolerance | None = None
    """Where a form of the model is served: how far apart two answers of it may be."""
    cut_checked: bool = False
    """Whether a request once got of a declared batch what it gets by itself, as far as its outline goes."""

    @property
    def possible(self) -> bool:
        """Whether requests may ever share a call, so that sending several together is of use."""
        return self.ruled_out is None and (self.declared or self.prove)

    @property
    def ruled_out(self) -> str | None:
        """Why requests never share a call, whatever is proved: what the archive or its script has against it."""
        if self.batching.joins is False:
            return "the manifest says batching: false"
        if self.steps.functions.transform_fn is not None:
            return "transform_fn takes one request as a whole"
        if self.steps.functions.takes_names and not self.declared:
            # No proof by examples rules that out.
            return "a function's result for a dictionary may depend on all of it"
        return None

    @property
    def why_alone(self) -> str | None:
        """Why requests never share a call; None where they may."""
        if self.possible:
            return None
        unproved = "nothing is called twice to prove that they may share one (TIDEGATE_RETRY=off, or a worker was lost)"
        return self.ruled_out or unproved

    @cached_property
    def declared(self) -> bool:
        """Whether the archive or its script says that joining is right."""
        functions = self.steps.functions
        return self.batching.joins is True or functions.collate_fn is not None or functions.split_fn is not None

    @cached_property
    def tolerance(self) -> comparing.Tolerance:
        """How far apart predictions may be that count as the same."""
        own = comparing.tolerance_of(self.steps.model)
        form = self.form_tolerance or own
        return comparing.Tolerance(rtol=max(own.rtol, form.rtol), atol=max(own.atol, form.atol))

    # --- before a call

    def decide(self, request: Request) -> tuple[Hashable, Decision]:
        """Which other requests `request` may share a call with, and whether it does."""
        key, decision = self._look_up(request)
        if decision is Decision.PROVE:
            request.compared, request.members = True, members.digests(request.data)
        if decision is Decision.SINGLE:
            self.steps.tally.hopeless += 1
        else:
            self.steps.tally.promising = True
        return key, decision

    def _look_up(self, request: Request) -> tuple[Hashable, Decision]:
        by_declaration = Decision.JOIN if self.splittable else Decision.SINGLE
        if self.steps.functions.collate_fn is not None:
            return None, by_declaration
        found = collate.signature(request.data)
        if found is None:
            return None, Decision.SINGLE
        key, request.records = found
        if self.declared:
            return key, by_declaration
        if (reason := self._state_between_functions) is not None:
            if self.signatures.decide(found) is not Decision.SINGLE:
                self.refuse(found, reason)
            return found, Decision.SINGLE
        # A script may treat one record otherwise than two, so what is proved is proved for as many as a request has.
        return found, self.signatures.decide(found)

    @property
    def _state_between_functions(self) -> str | None:
        """What the functions tell each other besides their arguments, which would be that of another request."""
        if (name := self.steps.context.kept) is not None:
            return f"the script sets the attribute {name!r} of the context while it answers a request"
        return self._shared_name

    @cached_property
    def _shared_name(self) -> str | None:
        functions = self.steps.functions
        chain = {"input_fn": functions.input_fn, "predict_fn": functions.predict_fn, "output_fn": functions.output_fn}
        return shared_name(chain)

    def alike(self, key: Hashable, request: Request) -> Hashable:
        """What must be equal, besides the signature, for requests to share a call: what no proof has seen to vary."""
        if self.declared:
            return None
        return frozenset(members.digests(request.data, without=self.signatures.varied(key)).items())

    def portions(
        self, to_join: Mapping[tuple[Hashable, Hashable], list[Request]]
    ) -> Iterator[tuple[Hashable, list[Request]]]:
        """What is joined, in as many calls as it takes for each to be done in time and to be as the proofs were."""
        if not self.declared and self._state_between_functions is not None:
            # One of these is the first for which input_fn leaves something to the functions that follow.
            for (key, _), requests in to_join.items():
                for request in requests:
                    request.decoded = False
                    self.steps.attempt_to_decode(request)
                    yield key, [request]
            return
        if not self.declared:
            groups = Counter(key for key, _ in to_join)
            for key, number in groups.items():
                came = sum(len(requests) for (other, _), requests in to_join.items() if other == key)
                self.signatures.came(key, came, unlike=number > 1)
        for (key, _), requests in to_join.items():
            most = len(requests) if self.declared else self.signatures.most(key)
            yield from ((key, requests[at : at + most]) for at in range(0, len(requests), most))

    # --- the call

    def predict(self, requests: list[Request], key: Hashable) -> None:
        """Predict `requests` with one call; where that fails, each half with one call, down to the one that fails."""
        steps = self.steps
        if len(requests) == 1:
            steps.attempt(requests[0], "predict_fn", steps.predict)
            return
        splittable, out_of_memory = True, False
        decided = [None if request.told is None else request.told.decisions for request in requests]
        try:
            self.predict_together(requests)
        except collate.NotSplittable as error:
            self._join_no_more(key, str(error))
            splittable = False
        except BaseException as error:
            give_up_if_device_is_lost(error)
            log.warning(
                "a batch of %d is halved, because predicting it failed: %s: %s",
                len(requests),
                type(error).__name__,
                one_line(error),
            )
            out_of_memory = is_out_of_memory(error)
        else:
            steps.tally.joined += 1
            if not self.declared:
                self.signatures.passed(key)
            return
        # Outside the handler: until it is left, the traceback holds the batch's tensors.
        if out_of_memory:
            empty_cache()
        # Forget what the failed call decided about responses: the error may have been another request's.
        for request, before in zip(requests, decided, strict=True):
            if before is not None:
                request.processor.decisions = before
            else:
                request.told = None
        middle = len(requests) // 2
        parts = [requests[:middle], requests[middle:]] if splittable else [[request] for request in requests]
        for part in parts:
            self.predict(part, key)
        if splittable and all(request.outcome is None for request in requests):
            steps.tally.halved += 1
            if not (self.declared or out_of_memory):
                self.signatures.doubt(key)

    def predict_together(self, requests: Sequence[Request]) -> None:
        """Predict with one call. Raises what user code raises, or `NotSplittable`."""
        context = self.steps.context
        context.asked = False
        prediction = self.steps.predict_together(requests)
        if self.declared:
            self._check_cut(prediction, requests)
        elif context.asked:
            raise collate.NotSplittable("predict_fn asks the context about its requests")

    def _check_cut(self, prediction: Any, requests: Sequence[Request]) -> None:
        """Raise `NotSplittable` where a request by itself has a prediction of another outline than its part.

        Three names of classes beside three records look like a name for each.
        """
        several_members = isinstance(prediction, Mapping | tuple) and self.steps.functions.split_fn is None
        if self.cut_checked or not (several_members and self.prove and len(requests) > 1):
            return
        first = requests[0]
        single = Request(received=first.received, accept=first.accept, data=first.data)
        single.records = first.records
        self.steps.predict(single)
        if collate.outline(single.prediction) != collate.outline(first.prediction):
            raise collate.NotSplittable("a prediction has something that is not one for each record; define split_fn")
        self.cut_checked = True

    # --- after it

    def _join_no_more(self, key: Hashable, reason: str) -> None:
        if not self.declared:
            self.refuse(key, reason)
        elif self.splittable:
            self.splittable = False
            log.warning("requests are predicted one by one from now on: %s", reason)

    def streams(self, key: Hashable) -> None:
        """Join requests of this signature no more, because they are answered by streams."""
        if key is not None:
            self.signatures.refuse(key)

    def refuse(self, key: Hashable, reason: str) -> None:
        """Join requests of this signature no more; the log says so once for the model."""
        self.steps.tally.refused += 1
        log.log(
            logging.WARNING if self.signatures.refuse(key) else logging.DEBUG,
            "requests are not joined into one call from now on, because joined they are not answered as alone: %s; %s",
            reason,
            _WAY_OUT,
            extra={"signature": str(key)[:300]},
        )
