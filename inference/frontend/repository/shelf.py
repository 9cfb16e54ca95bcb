"""What the script of one worker was given for what it asked, and what could not be loaded there. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidegate.inference.frontend.repository.resolving import Key
from tidegate.inference.frontend.repository.switching import Failure, Fault, Switch, next_failure
from tidegate.inference.repository.catalogue import Revision


@dataclass(slots=True)
class Shelf:
    """One worker's. A load that fails there is no fault of the revision: the script may have done it."""

    _answers: dict[tuple[str, Key], Revision] = field(default_factory=dict)
    _given: set[Revision] = field(default_factory=set)
    _failures: dict[Revision, Failure] = field(default_factory=dict)

    def answered(self, name: str, key: Key, revision: Revision) -> None:
        """The script is given a revision for a key of a model."""
        self._answers[name, key] = revision
        self._given.add(revision)
        self._failures.pop(revision, None)

    def is_replaced(self, revision: Revision) -> bool:
        """Whether the script was given it, and is given another for each key now."""
        return revision in self._given and revision not in self._answers.values()

    def failed(self, revision: Revision, fault: Fault, reason: str, now_s: float, *, private: bool = False) -> Failure:
        """It could not be loaded: pass it over for a while."""
        failure = next_failure(self._failures.get(revision), fault, reason, now_s, private=private)
        self._failures[revision] = failure
        return failure

    def failure(self, revision: Revision, switch: Switch) -> Failure | None:
        """Why it is passed over for this script, if it is: it could not be loaded here, or not be fetched."""
        found = self._failures.get(revision)
        if found is not None:
            return found
        everywhere = switch.failures.get(revision)
        return everywhere if everywhere is not None and everywhere.on_disk else None

    def forget(self, name: str, switch: Switch) -> None:
        """Keep nothing of a model that the catalogue has no more."""
        self._answers = {
            key: revision for key, revision in self._answers.items() if key[0] != name or switch.knows(revision)
        }
        self._given = {each for each in self._given if each.name != name or switch.knows(each)}
        self._failures = {
            revision: failure
            for revision, failure in self._failures.items()
            if revision.name != name or switch.knows(revision)
        }
