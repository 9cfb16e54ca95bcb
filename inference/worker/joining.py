"""Whether requests of equal signature share one call: a rule on plain data.

    PROVING ─ three equal batches ─▶ OPEN ─ 16, 32, … 1000 batches ─▶ proved once more, stays OPEN
       └───────── a difference ─────────┴──────────────────────────────▶ CLOSED

Nothing but a signature's own batches opens it. A batch that can prove nothing, because its requests or its answers are
all alike, does not count, and the more of them there were, the longer it takes until the next is tried.

What is open is open for what the proofs had: so many requests in a call, and these members that differed between them.
A batch that goes beyond this is kept within it, and the next one is proved as a whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum, auto

from tidegate.inference.batching import MAX_BATCH_SIZE
from tidegate.inference.worker.comparing import Evidence
from tidegate.inference.worker.members import Path

PROOFS = 3
"""Equal batches with different contents that open a signature."""
REPEAT_FIRST_AFTER = 16
"""Joined batches until the proof is repeated; doubled with each that agrees, because what it may miss is rarer then."""
REPEAT_AFTER = 1000
"""The most that it is doubled to."""
LONGEST_PAUSE = 1024
"""Batches, at most, between two attempts that prove nothing."""
MAX_VARIED = 1000
"""Members that are remembered to vary; clients choose the keys."""
MAX_SIGNATURES = 1000
"""Signatures that are remembered; clients choose the shapes."""
HOPELESS = 8
"""Signatures that may be closed, with none opened, until the model is believed to join nothing."""


class Decision(Enum):
    """What becomes of a request with company."""

    JOIN = auto()
    PROVE = auto()
    """Answered by itself, then computed once more with the others, to compare."""
    WAIT = auto()
    """Answered by itself; a later batch may prove what this one would not."""
    SINGLE = auto()
    """Answered by itself, now and later."""


class Finding(Enum):
    """How an attempt ended."""

    PROVED = auto()
    REFUSED = auto()
    INCONCLUSIVE = auto()


@dataclass(slots=True, kw_only=True)
class _Known:
    """What is known of one signature. All counts are of batches."""

    open: bool = False
    closed: bool = False
    proofs: int = 0
    seen: set[tuple[int, ...]] = field(default_factory=set)
    """The batches that have counted, each as its contents by hash."""
    requests: int = 0
    """How many requests one call had, at most, in the proofs."""
    varied: set[Path] = field(default_factory=set)
    """The members of the inputs that differed between the requests of a proof."""
    widening_pause: int = 0
    """Batches between two proofs that are tried because something goes beyond the earlier ones."""
    pause: int = 0
    """How long the last pause was."""
    due_in: int = 0
    most: int = MAX_BATCH_SIZE
    """How many requests one call may have, going by the time that they take."""
    repeat_after: int = 0


class Signatures:
    """The signatures of one model, and what is known of each."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, _Known] = OrderedDict()
        self._closed = 0
        self._opened = False

    def decide(self, signature: Hashable) -> Decision:
        """What becomes of the next requests of `signature`, where there are several."""
        known = self._look_up(signature)
        if known.closed or (self._closed >= HOPELESS and not self._opened):
            return Decision.SINGLE
        if known.due_in > 0:
            return Decision.JOIN if known.open else Decision.WAIT
        return Decision.PROVE

    def promising(self, contents: Sequence[int]) -> bool:
        """Whether a batch of these contents, by hash, can prove anything: not if one request is repeated."""
        return len(set(contents)) > 1

    def most(self, signature: Hashable) -> int:
        """How many requests of `signature` may share one call."""
        known = self._look_up(signature)
        return max(1, min(known.most, known.requests))

    def varied(self, signature: Hashable) -> Set[Path]:
        """The members in which requests of `signature` that share a call may differ."""
        return self._look_up(signature).varied

    def came(self, signature: Hashable, requests: int, *, unlike: bool) -> None:
        """So many requests might have shared a call; `unlike` if some differ where those of the proofs did not."""
        known = self._look_up(signature)
        if unlike or known.requests < min(requests, known.most):
            known.due_in = min(known.due_in - 1, known.widening_pause)

    def limit(self, signature: Hashable, most: int) -> None:
        """No more than `most` requests would be done in time as one call."""
        known = self._look_up(signature)
        known.most = min(known.most, most)

    def passed(self, signature: Hashable) -> None:
        """A batch was joined, or passed over while waiting."""
        self._look_up(signature).due_in -= 1

    def agreed(
        self, signature: Hashable, contents: Sequence[int], evidence: Evidence, varied: Set[Path] = frozenset()
    ) -> Finding:
        """A batch was the same joined and one by one; `varied` are the members in which its requests differed.

        In the same batch, labels that agreed by chance would do so again, so it does not count again for them.
        """
        known = self._look_up(signature)
        again = evidence is Evidence.WEAK and tuple(contents) in known.seen
        if evidence is Evidence.NONE or again:
            self.undecided(signature)
            return Finding.INCONCLUSIVE
        known.pause = 0
        wider = len(contents) > known.requests or not varied <= known.varied
        known.widening_pause = 0 if wider or not known.open else min(max(1, 2 * known.widening_pause), LONGEST_PAUSE)
        known.requests = max(known.requests, len(contents))
        if len(known.varied) < MAX_VARIED:
            known.varied |= varied
        if not known.open:
            known.proofs += 1
            known.seen.add(tuple(contents))
            if known.proofs < PROOFS:
                return Finding.PROVED
            known.open = self._opened = True
            known.seen = set()
            known.repeat_after = min(REPEAT_FIRST_AFTER, REPEAT_AFTER)
        elif not wider:
            known.repeat_after = min(2 * known.repeat_after, REPEAT_AFTER)
        known.due_in = known.repeat_after
        return Finding.PROVED

    def unpromising(self, signature: Hashable) -> None:
        """A batch that was to prove something was not tried. That costs only an open signature anything."""
        if self._look_up(signature).open:
            self.undecided(signature)

    def undecided(self, signature: Hashable) -> None:
        """A batch was tried and proved nothing: the next one is tried after a pause."""
        known = self._look_up(signature)
        known.pause = min(max(1, 2 * known.pause), LONGEST_PAUSE)
        known.due_in = known.pause
        known.widening_pause = max(known.widening_pause, known.pause)

    def doubt(self, signature: Hashable) -> None:
        """A joined call failed where each request alone did not: begin again."""
        known = self._look_up(signature)
        if not known.closed:
            self._known[signature] = _Known()

    def refuse(self, signature: Hashable) -> bool:
        """A difference was found; returns whether to warn: at the model's first one, and where answers were joined."""
        known = self._look_up(signature)
        worth_a_warning = not self._closed or known.open
        if not known.closed:
            known.closed, known.open, known.seen = True, False, set()
            self._closed += 1
        return worth_a_warning

    def _look_up(self, signature: Hashable) -> _Known:
        known = self._known.get(signature)
        if known is None:
            known = self._known[signature] = _Known()
            if len(self._known) > MAX_SIGNATURES:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(signature)
        return known
