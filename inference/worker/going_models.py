"""The models of the repository that a worker is to let go of: nothing of ours refers to them, but user code may.

    let_go ─▶ nobody refers to it: its memory is freed ─▶ Dropped; else as soon as that is so, which a thread watches

Where user code keeps one for ever, or parts of it, the worker says that it has overgrown, and is replaced.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from tidegate.inference import model_frames as frames
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.worker.allocator import give_back_freed_memory
from tidegate.inference.worker.channel import HungUp
from tidegate.inference.worker.device_errors import empty_cache

log = logging.getLogger("tidegate.worker")

LOOK_S = 0.05
"""How often it is looked for what nobody refers to any more."""
COLLECT_S = 0.5
"""How often it is looked for models that only refer to themselves."""
STUCK_S = 1.0
"""How long a model may be referred to while no user code is at work."""
RETURNED_SHARE = 0.5
"""Of what a model took: where less comes back when it is gone, the script has kept parts of it."""
NOTICED_BYTES = 32 * 1024 * 1024
"""What a smaller model leaves behind is no reason to replace a worker."""
_OWN_REFERENCES = 2
"""Of `_Going` and of the function that counts."""


@dataclass(slots=True, eq=False)
class Held:
    """A model that is loaded here, and what the worker grew by."""

    model: Any
    size_bytes: int = 0


class _Going:
    """A model that is to go."""

    def __init__(self, held: Held, breaks: int) -> None:
        """Takes the model out of `held`."""
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


class GoingModels:
    """Those of one worker; `tell` sends the frontend a message, `taken_bytes` is what the process takes now.

    Its methods may be called from any thread.
    """

    def __init__(self, tell: Callable[[frames.ToFrontend], None], taken_bytes: Callable[[], int]) -> None:
        self.at_work = True
        """Whether a function of the script is running, or a stream is open: it may refer to any model."""
        self.others_at_work: Callable[[], bool] = lambda: False
        """Whether user code runs in other threads, or streams are open."""
        self._tell = tell
        self._taken_bytes = taken_bytes
        self._lock = threading.Lock()
        self._going: dict[Revision, _Going] = {}
        self._breaks = 0
        self._watch: threading.Thread | None = None
        self._overgrown = False

    def let_go(self, revision: Revision, held: Held) -> None:
        """Free a model as soon as nobody refers to it; `held` has the only reference of ours. Raises `HungUp`."""
        before = self._taken_bytes()
        with self._lock:
            self._going[revision] = _Going(held, self._breaks)
        gc.collect()
        if self._is_free(revision):
            returned = before - self._taken_bytes()
            if held.size_bytes > NOTICED_BYTES and returned < held.size_bytes * RETURNED_SHARE:
                self._overgrow(revision, f"of {held.size_bytes:,} bytes only {max(returned, 0):,} came back")
            return
        with self._lock:
            if self._watch is None:
                self._watch = threading.Thread(target=self._watch_them, name="models-watch", daemon=True)
                self._watch.start()

    def in_use(self) -> list[Revision]:
        """Those that user code still refers to."""
        with self._lock:
            return [revision for revision, going in self._going.items() if going.in_use]

    def have_break(self, *, quiet: bool) -> None:
        """Between two batches; `quiet` where no stream is open: what is still referred to is referred to for ever."""
        self.at_work = not quiet
        if self._going and quiet:
            gc.collect()
            for revision in list(self._going):
                self._is_free(revision)
            self._breaks += 1

    def _is_free(self, revision: Revision) -> bool:
        """Free what nobody refers to any more; whether it is free."""
        with self._lock:
            going = self._going.get(revision)
            if going is None:
                return True
            if going.in_use:
                return False
            del self._going[revision]
        del going
        free()
        self._tell(frames.Dropped(revision=revision))
        return True

    def _watch_them(self) -> None:
        collected_s = monotonic()
        while True:
            with self._lock:
                going = dict(self._going)
                if not going:
                    self._watch = None
                    return
            sleep(LOOK_S)
            if monotonic() > collected_s + COLLECT_S:
                gc.collect()
                collected_s = monotonic()
            try:
                for revision, each in going.items():
                    self._look_at(revision, each)
            except HungUp:  # the worker ends, and they with it
                return

    def _look_at(self, revision: Revision, going: _Going) -> None:
        over = not self.at_work or self._breaks > going.breaks
        if self._is_free(revision) or not over or self.others_at_work():
            return
        if monotonic() > going.since_s + STUCK_S:
            self._overgrow(revision, "a reference is left though no function of it runs")

    def _overgrow(self, revision: Revision, reason: str) -> None:
        with self._lock:
            said, self._overgrown = self._overgrown, True
        if not said:
            what = f"the script keeps '{revision.name}' (version {revision.version}) or parts of it: {reason}"
            log.warning("a model cannot be freed, and the worker is replaced: %s", what)
            self._tell(frames.Overgrown(reason=what))


def free() -> None:
    """Give back what nobody refers to, and what the allocators keep of it."""
    gc.collect()
    empty_cache()
    give_back_freed_memory()
