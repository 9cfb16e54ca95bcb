"""The checksum of a whole object, as S3 keeps it, piece by piece."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest
from awscrt import checksums

from tidegate.inference.repository.object_checksums import ObjectChecksum

CONTENT = bytes(range(256)) * 100
OF = {
    "ChecksumCRC32": checksums.crc32(CONTENT).to_bytes(4, "big"),
    "ChecksumCRC32C": checksums.crc32c(CONTENT).to_bytes(4, "big"),
    "ChecksumCRC64NVME": checksums.crc64nvme(CONTENT).to_bytes(8, "big"),
}


def added(head: Mapping[str, str], content: bytes) -> bool:
    checksum = ObjectChecksum.of(head)
    assert checksum is not None
    for at in range(0, len(content), 999):
        checksum.add(content[at : at + 999])
    return checksum.agrees


@pytest.mark.parametrize("key", OF)
def test_every_kind_agrees_with_its_content_alone(key: str) -> None:
    head = {key: base64.b64encode(OF[key]).decode(), "ChecksumType": "FULL_OBJECT"}
    assert added(head, CONTENT)
    assert not added(head, CONTENT[:-1] + b"x")
    assert not added(head, CONTENT[:-1])


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"ChecksumCRC32": "AAAAAA==", "ETag": '"9a0364b9e99bb480dd25e1f0284c8555-3"'},
        {"ChecksumCRC32": "AAAAAA==", "ChecksumType": "COMPOSITE"},
        {"ChecksumSHA1": "x"},
    ],
)
def test_what_is_none_of_the_whole_object_is_not_compared(head: Mapping[str, str]) -> None:
    assert ObjectChecksum.of(head) is None
