"""Where the weights of an epoch are, and which epoch is the latest. Pure: names go in, addresses come out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tidegate.inference.errors import DeploymentError

EPOCH, LATEST = "{epoch}", "latest"
_S3 = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[^\x00-\x1f\x7f]{0,1023}[^/\x00-\x1f\x7f])"
)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+=-]*"


class UnknownEpoch(DeploymentError):
    """There are no weights of this epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one file of weights is."""

    text: str
    """A whole path of this machine, or `s3://bucket/key`."""
    sha256: str | None = None
    epoch: str | None = None
    """None where the run has one file, which is of no epoch."""

    @property
    def bucket_and_key(self) -> tuple[str, str] | None:
        """Of an object in S3; None for a file."""
        found = _S3.fullmatch(self.text)
        return None if found is None else (found["bucket"], found["key"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a configuration says of them."""

    addresses: Mapping[str, str]
    """By epoch; that of the only file, which is of no epoch, is under the empty name."""
    template: str | None
    """An address with `{epoch}` in it."""
    sha256s: Mapping[str, str]
    """As `addresses`. Of a template it lists the epochs that there are."""

    def find(self, epoch_id: str, *, there: Callable[[str], Iterable[str]]) -> Address:
        """Where the weights of an epoch are; `latest` is the highest number. Raises `UnknownEpoch`.

        `there(template)` lists the addresses that there are, at least those that the template makes; it is asked only
        where the configuration does not list the epochs itself.
        """
        if "" in self.addresses:
            if epoch_id != LATEST:
                raise UnknownEpoch(
                    f"There is no epoch {epoch_id!r}: the run has one file of weights, {self.addresses['']}; leave the "
                    f"epoch out, or write {EPOCH} into the address."
                )
            return Address(text=self.addresses[""], sha256=self.sha256s.get(""))
        known = self.addresses
        if not known and self.template is not None:
            if epoch_id != LATEST and not epoch_fault(epoch_id):
                return Address(text=self.template.replace(EPOCH, epoch_id), epoch=epoch_id)
            known = _matching(self.template, there)
            if not known:
                raise UnknownEpoch(f"There are no weights at {self.template}.")
        epoch = _latest(known) if epoch_id == LATEST else epoch_id
        if epoch not in known:
            raise UnknownEpoch(f"There is no epoch {epoch_id!r} of these weights; there are {_some(known)}.")
        return Address(text=known[epoch], sha256=self.sha256s.get(epoch), epoch=epoch)


def address_fault(text: str) -> str:
    """What is wrong with an address as it is written in a configuration; empty if nothing."""
    if odd := re.search(r"\{(?!epoch\})[^}]*\}?", text):
        return f"has {odd.group()!r}; the one thing that is put in is {EPOCH}"
    if text.startswith("s3://"):
        return "" if _S3.fullmatch(text) else f"must be s3://bucket/key, it is {text!r}"
    if "://" in text or "\0" in text:
        return f"must be a path or s3://bucket/key, it is {text!r}"
    if text.startswith("~"):
        return f"is {text!r}: a path is relative to this file or whole, and '~' is not put in"
    return f"must be a file, {text!r} ends as a folder does" if text.endswith("/") else ""


def epoch_fault(name: str) -> str:
    """What is wrong with the name of an epoch; empty if nothing."""
    if name == LATEST:
        return "is not a name: it stands for the highest number among them"
    return "" if re.fullmatch(_NAME, name) else "must be letters, digits and . _ + = -"


def folder_of(template: str) -> str:
    """Below which folder or prefix all addresses of a template lie, up to the last `/` before its `{epoch}`."""
    return template[: template.index(EPOCH)].rpartition("/")[0] + "/"


def _matching(template: str, there: Callable[[str], Iterable[str]]) -> Mapping[str, str]:
    """The addresses that a template makes, of those that are there, by epoch."""
    head, *rest = (re.escape(part) for part in template.split(EPOCH))
    pattern = re.compile(head + rf"(?P<epoch>{_NAME})" + "(?P=epoch)".join(rest))
    found = (pattern.fullmatch(address) for address in there(template))
    return {each["epoch"]: each.string for each in found if each is not None and each["epoch"] != LATEST}


def _latest(known: Iterable[str]) -> str:
    """The highest number; the only one where there is one."""
    names = list(known)
    numbers = [name for name in names if name.isascii() and name.isdigit()]
    if len(names) == 1:
        return names[0]
    if not numbers:
        raise UnknownEpoch(f"'{LATEST}' is the highest number, and no epoch is one; there are {_some(names)}.")
    # Of 7 and 007, whichever way the listing is sorted, the same one.
    return max(numbers, key=lambda name: (int(name), name))


def _some(names: Iterable[str], limit: int = 20) -> str:
    ordered = sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    shown = ordered if len(ordered) <= limit else [*ordered[: limit // 2], "…", *ordered[-limit // 2 :]]
    return ", ".join(shown)
