"""The models of the repository that this worker's script has got by `context.get_model`.

    get_model ─▶ held and asked for a moment ago: at once
              ─▶ Want ─▶ [Load: loaded here, in the thread that waits ─▶ Held] ─▶ Granted | Refused
    Drop ─▶ it goes (`going_models`) ─▶ Dropped

The frontend counts what is held here against the server's limits, so a model is gone only when its memory is.

A thread that waits reads the socket itself where no other does: user code may be the only thread of the process.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from tidegate.inference import model_frames as frames
from tidegate.inference.errors import (
    DeploymentError,
    InvalidVersion,
    ModelDoesNotFit,
    ModelLoadFailed,
    ModelLoading,
    ModelNotFound,
    ModelRequired,
    ModelTooLarge,
    NotReady,
    Overloaded,
    RequestError,
    VersionNotFound,
    one_line,
)
from tidegate.inference.memory_use import private_bytes
from tidegate.inference.protocol import Kind, Payload
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.worker import defaults
from tidegate.inference.worker.channel import Channel, HungUp
from tidegate.inference.worker.going_models import GoingModels, Held, free
from tidegate.inference.worker.gpu_memory import GpuMemory

log = logging.getLogger("tidegate.worker")

Load = Callable[[Revision, Path], Any]
"""Makes the model of a revision from its directory. Raises `DeploymentError`."""

ANSWERS_LAST_S = 1.0
"""How long an answer is taken for what the frontend would say again: no longer is a new version overlooked."""
LOOK_S = 0.05
"""How long a thread waits at one time before it looks around."""
WAIT_SHARE = 0.8
"""Of the time limit of a call: who waits longer is told so before the worker counts as hung."""
OWN_WAY_S = 1.0
"""How long a call waits for room that it takes up itself."""
_ERRORS = {
    error.code: error
    for error in (
        InvalidVersion,
        ModelLoadFailed,
        ModelNotFound,
        ModelRequired,
        ModelTooLarge,
        NotReady,
        Overloaded,
        VersionNotFound,
    )
}


@dataclass(slots=True, eq=False)
class _Ask:
    """A call that waits for the frontend."""

    granted: Revision | None = None
    refused: RequestError | None = None

    @property
    def over(self) -> bool:
        return self.granted is not None or self.refused is not None


class HeldModels:
    """One for each worker of a server that has a repository. `get` may be called from any thread of user code."""

    def __init__(self, channel: Channel, *, timeout_s: float) -> None:
        """`timeout_s` is what one call of user code may take. `prepare` comes before the first `get`."""
        self.going = GoingModels(self._tell, self._bytes)
        self._channel = channel
        self._timeout_s = timeout_s
        self._load: Load | None = None
        self._gpu_memory = GpuMemory()
        self._pid = os.getpid()
        self._news = threading.Condition()
        self._loading = threading.RLock()
        self._here = threading.local()
        self._ids = count(1)
        self._held: dict[Revision, Held] = {}
        self._answers: dict[tuple[str | None, str], tuple[Revision, float]] = {}
        """What selectors mean, and until when that is believed."""
        self._used: dict[Revision, None] = {}
        self._asks: dict[int, _Ask] = {}
        self._orders: deque[frames.Load] = deque()
        self._being_loaded: set[Revision] = set()
        self._unwanted: set[Revision] = set()
        """What was to go while it was still being loaded."""

    def prepare(self, load: Load, gpu_memory: GpuMemory) -> None:
        """Say how models are loaded."""
        self._load, self._gpu_memory = load, gpu_memory

    # --- for the script

    def get(self, name: str | None, version: str) -> Any:
        """The model that a selector means now. Raises `RequestError`."""
        with self._news:
            answer = self._answers.get((name, version))
            if answer is not None and monotonic() < answer[1] and answer[0] in self._held:
                self._used.pop(answer[0], None)
                self._used[answer[0]] = None
                return self._held[answer[0]].model
        if os.getpid() != self._pid:
            raise RuntimeError("context.get_model loads nothing in a process that the script has forked.")
        if name in self._loads_here():
            raise RuntimeError(f"The model '{name}' asks for itself while it is loaded.")
        try:
            return self._ask(name, version)
        except HungUp:
            raise NotReady("The server is stopping.") from None

    def _ask(self, name: str | None, version: str) -> Any:
        ask, wait_s = _Ask(), self._timeout_s * WAIT_SHARE
        with self._news:
            id_ = next(self._ids)
            self._asks[id_] = ask
            used, self._used = tuple(self._used), {}
        try:
            self._tell(frames.Want(id=id_, name=name, version=version, wait_s=wait_s, used=used))
            # The frontend refuses in time; where it says nothing, this does.
            loaded = self._await(ask, name, monotonic() + wait_s + LOOK_S)
        finally:
            with self._news:
                del self._asks[id_]
            if not ask.over:
                self._tell(frames.Leave(id=id_))
        if ask.refused is not None:
            if loaded and isinstance(ask.refused, ModelLoading):
                return self._ask(name, version)  # it came too late for the frontend, and not for the call
            raise ask.refused
        revision = ask.granted
        assert revision is not None  # noqa: S101 - it is over
        with self._news:
            held = self._held.get(revision)
            if held is not None:
                self._answers[name, version] = revision, monotonic() + ANSWERS_LAST_S
                return held.model
        return self._ask(name, version)  # it was dropped before this thread had its turn

    def _await(self, ask: _Ask, name: str | None, deadline_s: float) -> bool:
        """Wait for the answer; whether something was loaded meanwhile."""
        began_s, loaded = monotonic(), False
        while not ask.over:
            if self._loading.acquire(blocking=False):
                try:
                    order = self._next_order()
                    if order is not None:
                        self._carry_out(order)
                        loaded = True
                        continue
                finally:
                    self._loading.release()
            now_s = monotonic()
            if now_s > began_s + OWN_WAY_S and (kept := self._kept_by_this_call()):
                raise ModelTooLarge(
                    f"The model '{name}' does not fit beside {kept}, which the same call has got and still uses: let "
                    "go of it before (del), or raise TIDEGATE_MAX_LOADED_MODELS and TIDEGATE_MAX_LOADED_BYTES."
                )
            if now_s > deadline_s:
                raise ModelLoading(f"The model '{name}' is on its way to memory, which takes too long for this call.")
            if not self._channel.listen(LOOK_S):  # another thread reads
                with self._news:
                    if not ask.over:
                        self._news.wait(LOOK_S)
        return loaded

    def _next_order(self) -> frames.Load | None:
        with self._news:
            order = self._orders.popleft() if self._orders else None
            if order is not None:
                self._being_loaded.add(order.revision)
            return order

    def _kept_by_this_call(self) -> str:
        """What is to go and cannot, because the one thread of user code has it, in words; empty where nothing is."""
        if threading.current_thread() is not threading.main_thread() or self.going.others_at_work():
            return ""
        return " and ".join(f"'{revision.name}' (version {revision.version})" for revision in self.going.in_use())

    # --- loading

    def _loads_here(self) -> list[str]:
        """What this thread is loading."""
        found: list[str] | None = getattr(self._here, "names", None)
        if found is None:
            found = self._here.names = []
        return found

    def _carry_out(self, order: frames.Load) -> None:
        revision, stack = order.revision, self._loads_here()
        before = self._bytes()
        stack.append(revision.name)
        try:
            assert self._load is not None  # noqa: S101 - `prepare` came before
            held = Held(self._load(revision, Path(order.directory)))
        except DeploymentError as error:
            if error.__cause__ is not None:
                log.error("loading '%s' failed", revision.name, exc_info=error.__cause__)
            reason, too_large = str(error), isinstance(error, ModelDoesNotFit)
        except BaseException as error:
            log.exception("loading '%s' failed", revision.name)
            reason, too_large = f"{type(error).__name__}: {one_line(error)}", False
        else:
            held.size_bytes = max(self._bytes() - before, _tensor_bytes(held.model), 0)
            with self._news:
                self._held[revision] = held
                self._being_loaded.discard(revision)
                unwanted = revision in self._unwanted
                self._unwanted.discard(revision)
            self._tell(frames.Held(revision=revision, size_bytes=held.size_bytes))
            if unwanted:
                self._drop(revision)
            return
        finally:
            stack.pop()
        free()
        with self._news:
            self._being_loaded.discard(revision)
            unwanted = revision in self._unwanted
            self._unwanted.discard(revision)
        gone = frames.Dropped(revision=revision)
        failed = frames.NotHeld(revision=revision, reason=reason, too_large=too_large)
        self._tell(gone if unwanted else failed)

    def _bytes(self) -> int:
        return private_bytes([self._pid]) + self._gpu_memory.held_bytes()

    # --- what the frontend says, in whichever thread reads

    def take(self, kind: int, payload: Payload) -> bool:
        """Obey a frame that is about models; whether it was one."""
        if kind != Kind.MODEL:
            return False
        message = frames.message_of(payload)
        unwanted = False
        with self._news:
            if isinstance(message, frames.Load):
                unwanted = not self._asks
                if not unwanted:
                    self._orders.append(message)
            elif isinstance(message, frames.Granted) and message.id in self._asks:
                self._asks[message.id].granted = message.revision
            elif isinstance(message, frames.Refused) and message.id in self._asks:
                self._asks[message.id].refused = _error(message)
            self._news.notify_all()
        if isinstance(message, frames.Load) and unwanted:  # whoever waited for it has given up
            self._tell(frames.NotHeld(revision=message.revision, tried=False))
        if isinstance(message, frames.Drop):
            self._drop(message.revision)
        return True

    def _drop(self, revision: Revision) -> None:
        with self._news:
            self._used.pop(revision, None)
            ordered = [order for order in self._orders if order.revision == revision]
            for order in ordered:
                self._orders.remove(order)
            if revision in self._being_loaded:  # in another thread, which says so itself
                self._unwanted.add(revision)
                return
            held = self._held.pop(revision, None)
        if held is None:
            self._tell(frames.Dropped(revision=revision))
            return
        defaults.forget_models()
        self.going.let_go(revision, held)

    def _tell(self, message: frames.ToFrontend) -> None:
        self._channel.send_frame(frames.frame_of(message))


def _tensor_bytes(model: Any) -> int:
    """What a module's own tensors take: the least that it can."""
    if not isinstance(model, torch.nn.Module):
        return 0
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensors.values())


def _error(refused: frames.Refused) -> RequestError:
    kind = _ERRORS.get(refused.code)
    if kind is None:
        return ModelLoading(refused.message, refused.retry_after_s)
    return kind(refused.message)
