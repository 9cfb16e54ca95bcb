"""A store of bytes that fails when it is told to."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from tidegate.inference.repository.assessment import Source
from tidegate.inference.repository.listing import Entry, Listing
from tidegate.inference.repository.manifest import manifest_of
from tidegate.inference.repository.store import StoreFailed


@dataclass
class MemoryStore:
    """A store of bytes; `faults` are raised by the next reads, after so many bytes."""

    files: Mapping[str, bytes]
    faults: list[tuple[int, StoreFailed]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    whole_objects: bool = True

    def list_all(self) -> Listing:
        raise NotImplementedError

    def address(self, path: str) -> str:
        return f"memory:{path}"

    def read(self, entry: Entry, offset: int = 0) -> Generator[bytes, None, None]:
        self.offsets.append(offset)
        content = self.files[entry.path][offset:]
        if self.faults:
            after, fault = self.faults.pop(0)
            yield content[:after]
            raise fault
        yield content

    def source(self, *, with_manifest: bool = False) -> Source:
        entries = {name: Entry(name, len(content), "", 0.0) for name, content in self.files.items()}
        manifest = manifest_of(self.files["manifest.json"]) if with_manifest else None
        if "archive" in entries:
            return Source(files={}, archive=entries["archive"])
        return Source(files=entries, manifest=manifest)
