"""Whether requests of equal signature share one call: a rule on plain data.

    PROVING ─ three equal batches ─▶ OPEN ─ about a thousand batches ─▶ proved once more, stays OPEN
       └───────── a difference ─────────┴──────────────────────────────▶ CLOSED

Nothing but a signature's own batches opens it. A batch that can prove nothing, because its requests or its answers are
all alike, does not count, and the more of them there were, the longer it takes until the next is tried.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from inference.batching import MAX_BATCH_SIZE
from inference.worker.comparing import Evidence

PROOFS = 3
"""Equal batches with different contents that open a signature."""
REPEAT_AFTER = 1000
"""Joined batches until the proof is repeated."""
REPEAT_WEAK_AFTER = 16
"""The same after proofs by labels alone, which a wrong batch may give by chance; doubled with each that agrees."""
LONGEST_PAUSE = 1024
"""Batches, at most, between two attempts that prove nothing."""
MAX_SIGNATURES = 1000
"""Signatures that are remembered; clients choose the shapes."""
HOPELESS = 8
"""Signatures that may be closed, with none opened, until the model is believed to join nothing."""


class Decision(Enum):
    """What becomes of a request with company."""

    JOIN = auto()
    PROVE = auto()
    """Answered alone, then computed once more with the others, to compare."""
    WAIT = auto()
    """Answered alone; a later batch may prove what this one would not."""
    ALONE = auto()


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
    weak: bool = False
    pause: int = 0
    """How long the last pause was."""
    due_in: int = 0
    most: int = MAX_BATCH_SIZE
    """How many requests one call may have, going by the time that they take."""
    repeat_after: int = REPEAT_AFTER


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
            return Decision.ALONE
        if known.due_in > 0:
            return Decision.JOIN if known.open else Decision.WAIT
        return Decision.PROVE

    def promising(self, contents: Sequence[int]) -> bool:
        """Whether a batch of these contents, by hash, can prove anything: not if one request is repeated."""
        return len(set(contents)) > 1

    def most(self, signature: Hashable) -> int:
        """How many requests of `signature` may share one call."""
        return self._look_up(signature).most

    def limit(self, signature: Hashable, most: int) -> None:
        """No more than `most` requests would be done in time as one call."""
        known = self._look_up(signature)
        known.most = min(known.most, most)

    def passed(self, signature: Hashable) -> None:
        """A batch was joined, or passed over while waiting."""
        self._look_up(signature).due_in -= 1

    def agreed(self, signature: Hashable, contents: Sequence[int], evidence: Evidence) -> Finding:
        """A batch was the same joined and one by one.

        In the same batch, labels that agreed by chance would do so again, so it does not count again for them.
        """
        known = self._look_up(signature)
        again = evidence is Evidence.WEAK and tuple(contents) in known.seen
        if evidence is Evidence.NONE or again:
            self.undecided(signature)
            return Finding.INCONCLUSIVE
        known.pause = 0
        known.weak = known.weak or evidence is Evidence.WEAK
        if not known.open:
            known.proofs += 1
            known.seen.add(tuple(contents))
            if known.proofs < PROOFS:
                return Finding.PROVED
            known.open = self._opened = True
            known.seen = set()
            known.repeat_after = REPEAT_WEAK_AFTER if known.weak else REPEAT_AFTER
        elif known.weak:
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
