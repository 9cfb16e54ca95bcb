"""Whether a model is served by another release of Python or torch than it was saved by: what to look at first when
its answers are not the ones that they were.

Releases count by their first two numbers: what comes after them mends, and changes no meaning.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

_RELEASE = re.compile(r"(\d+)\.(\d+)(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRelease:
    """A framework of which the manifest names another release than the one here; both versions are given in full."""

    name: str
    saved: str
    here: str


def versions_here() -> dict[str, str]:
    """The versions of this process, by the names that the manifest has for them."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}


def other_releases(manifest: Mapping[str, Any], here: Mapping[str, str]) -> list[OtherRelease]:
    """The frameworks of the manifest's `frameworks` whose release is another one here.

    What the manifest does not say, or says in no version's form, is not compared: a person may have written it.
    """
    saved = manifest.get("frameworks")
    if not isinstance(saved, Mapping):
        return []
    found = []
    for name, version in here.items():
        before, now = (_release(each) for each in (saved.get(name), version))
        if None not in (before, now) and before != now:
            found.append(OtherRelease(name=name, saved=str(saved[name]), here=version))
    return found


def _release(version: object) -> tuple[int, int] | None:
    found = _RELEASE.match(version) if isinstance(version, str) else None
    return (int(found[1]), int(found[2])) if found else None


def sentence(others: Sequence[OtherRelease], *, asked: bool) -> str:
    """What the log says of them. `asked` where the archive's example is compared with the answer that was recorded."""
    said = " and ".join(f"{each.name} {each.saved} (here {each.here})" for each in others)
    what_then = "its example shows whether it answers as it did" if asked else "it has no example that would show more"
    return f"the model was saved by {said}: {what_then}"
