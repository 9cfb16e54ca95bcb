"""Addresses of objects in S3."""

from __future__ import annotations


def split_s3(address: str) -> tuple[str, str]:
    """`s3://bucket/key` as (bucket, key); the key may be a prefix or empty. Raises `ValueError` naming the address."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket:
        raise ValueError(f"{address!r} is not an address in S3; write s3://bucket/key")
    return bucket, key
