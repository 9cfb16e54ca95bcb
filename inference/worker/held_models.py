"""The models of the repository that this worker's script has got by `context.get_model`.

    get_model ─▶ held and asked for a moment ago: at once
              ─▶ Want ─▶ [Load: loaded here, in the thread that waits ─▶ Held] ─▶ Granted | Refused
    Drop ─▶ nobody else refers to it: its memory is freed ─▶ Dropped; else as soon as that is so

The frontend counts what is held here against the server's limits, so a model is gone only when its memory is. Where
user code keeps one for ever, the worker says that it has overgrown, and is replaced.

A thread that waits reads the socket itself where no other does: user code may be the only thread of the process.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic, sleep
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
)
from tidegate.inference.memory_use import private_bytes
from tidegate.inference.protocol import Kind, Payload
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.worker import defaults
from tidegate.inference.worker.allocator import give_back_freed_memory
from tidegate.inference.worker.channel import Channel, HungUp
from tidegate.inference.worker.device_errors import empty_cache
from tidegate.inference.worker.gpu_memory import GpuMemory
from tidegate.inference.worker.user_code import one_line

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
_OWN_REFERENCES = 2
"""Of `_Going` and of the function that counts."""
COLLECT_S = 0.5
"""How often it is looked for models that only refer to themselves."""
RETURNED_SHARE = 0.5
"""Of what a model took: where less comes back when it is gone, the script has kept parts of it."""
NOTICED_BYTES = 32 * 1024 * 1024
"""What a smaller model leaves behind is no reason to replace a worker."""
STUCK_S = 1.0
"""How long a model may be referred to while no user code is at work."""
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
class _Held:
    """A model that is loaded here, and what the worker grew by."""

    model: Any
    size_bytes: int = 0


@dataclass(slots=True, eq=False)
class _Ask:
    """A call that waits for the frontend."""

    granted: Revision | None = None
    refused: RequestError | None = None

    @property
    def over(self) -> bool:
        return self.granted is not None or self.refused is not None


class _Going:
    """A model that is to go: nothing here refers to it any more, but user code may."""

    def __init__(self, held: _Held, breaks: int) -> None:
        self.size_bytes = held.size_bytes
        self.since_s = monotonic()
        self.breaks = breaks
        """Of those between two batches, how many there had been."""
        self._model: Any = None
        self._alive: Callable[[], Any] | None = None
        try:
            self._alive = weakref.ref(held.model)
        except TypeError:  # a dict, a list: the references to it are counted
            # What the collector does not track (None, a number, a text) is shared by the whole process.
            self._model = held.model if gc.is_tracked(held.model) else None
        held.model = None

    @property
    def in_use(self) -> bool:
        """Whether somebody refers to it; one that refers to itself is there until it is collected."""
        if self._alive is not None:
            return self._alive() is not None
        return self._model is not None and sys.getrefcount(self._model) > _OWN_REFERENCES


class HeldModels:
    """One for each worker of a server that has a repository. `get` may be called from any thread of user code."""

    def __init__(self, channel: Channel, *, timeout_s: float) -> None:
        """`timeout_s` is what one call of user code may take. `prepare` comes before the first `get`."""
        self.at_work = True
        """Whether a function of the script is running, or a stream is open: it may refer to any model."""
        self.others_at_work: Callable[[], bool] = lambda: False
        """Whether user code runs in other threads, or streams are open."""
        self._channel = channel
        self._timeout_s = timeout_s
        self._load: Load | None = None
        self._gpu_memory = GpuMemory(None)
        self._pid = os.getpid()
        self._news = threading.Condition()
        self._loading = threading.RLock()
        self._here = threading.local()
        self._ids = count(1)
        self._held: dict[Revision, _Held] = {}
        self._going: dict[Revision, _Going] = {}
        self._answers: dict[tuple[str | None, str], tuple[Revision, float]] = {}
        """What selectors mean, and until when that is believed."""
        self._used: dict[Revision, None] = {}
        self._asks: dict[int, _Ask] = {}
        self._orders: deque[frames.Load] = deque()
        self._breaks = 0
        self._being_loaded: set[Revision] = set()
        self._unwanted: set[Revision] = set()
        """What was to go while it was still being loaded."""
        self._watch: threading.Thread | None = None
        self._overgrown = False

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
        return self._ask(name, version)

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
        if threading.current_thread() is not threading.main_thread() or self.others_at_work():
            return ""
        with self._news:
            going = [revision for revision, going in self._going.items() if going.in_use]
        return " and ".join(f"'{revision.name}' (version {revision.version})" for revision in going)

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
            held = _Held(self._load(revision, Path(order.directory)))
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
        _free()
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
        before = self._bytes()
        with self._news:
            held = self._held.pop(revision, None)
            if held is not None:
                self._going[revision] = _Going(held, self._breaks)
        if held is None:
            self._tell(frames.Dropped(revision=revision))
            return
        defaults.forget_models()
        gc.collect()
        if self._let_go(revision):
            returned = before - self._bytes()
            if held.size_bytes > NOTICED_BYTES and returned < held.size_bytes * RETURNED_SHARE:
                self._overgrow(revision, f"of {held.size_bytes:,} bytes only {max(returned, 0):,} came back")
        elif self._watch is None:
            self._watch = threading.Thread(target=self._watch_what_goes, name="models-watch", daemon=True)
            self._watch.start()

    def _let_go(self, revision: Revision) -> bool:
        """Free what nobody refers to any more; whether it is free."""
        with self._news:
            going = self._going.get(revision)
            if going is None:
                return True
            if going.in_use:
                return False
            del self._going[revision]
        del going
        _free()
        self._tell(frames.Dropped(revision=revision))
        return True

    def _overgrow(self, revision: Revision, reason: str) -> None:
        with self._news:
            said, self._overgrown = self._overgrown, True
        if not said:
            what = f"the script keeps '{revision.name}' (version {revision.version}) or parts of it: {reason}"
            log.warning("a model cannot be freed, and the worker is replaced: %s", what)
            self._tell(frames.Overgrown(reason=what))

    # --- what does not go

    def have_break(self, *, quiet: bool) -> None:
        """Between two batches; `quiet` where no stream is open: what is still referred to is referred to for ever."""
        self.at_work = not quiet
        if self._going and quiet:
            gc.collect()
            for revision in list(self._going):
                self._let_go(revision)
            self._breaks += 1

    def _watch_what_goes(self) -> None:
        collected_s = monotonic()
        while True:
            with self._news:
                going = dict(self._going)
                if not going:
                    self._watch = None
                    return
            sleep(LOOK_S)
            if monotonic() > collected_s + COLLECT_S:
                gc.collect()
                collected_s = monotonic()
            for revision, each in going.items():
                over = not self.at_work or self._breaks > each.breaks
                if self._let_go(revision) or not over or self.others_at_work():
                    continue
                if monotonic() > each.since_s + STUCK_S:
                    self._overgrow(revision, "a reference is left though no function of it runs")

    def _tell(self, message: frames.ToFrontend) -> None:
        try:
            self._channel.send_frame(frames.frame_of(message))
        except HungUp:
            raise NotReady("The server is stopping.") from None


def _free() -> None:
    """Give back what nobody refers to, and what the allocators keep of it."""
    gc.collect()
    empty_cache()
    give_back_freed_memory()


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
