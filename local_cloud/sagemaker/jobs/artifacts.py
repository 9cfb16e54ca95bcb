"""What a job leaves in its directories: packed into one archive, or file by file, and put into the local S3."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.archive import split_s3_uri

UPLOAD_ERRORS = (ClientError, BotoCoreError, S3UploadFailedError, OSError, tarfile.TarError)


def files_below(directory: Path) -> Iterator[Path]:
    """The files in a directory and its folders, sorted. A link is none: what it leads to is not taken along."""
    if directory.is_dir():
        yield from (path for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink())


def put_archive(s3: Any, directories: Sequence[Path], uri: str) -> bool:
    """Packs what lies in the directories into one ``.tar.gz``; returns False, and puts nothing, for empty ones.

    Of two entries of the same name the one of the earlier directory is taken. Raises :data:`UPLOAD_ERRORS`.
    """
    entries: dict[str, Path] = {}
    for directory in reversed(directories):
        if directory.is_dir():
            entries |= {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*"))}
    if not any(path.is_file() for path in entries.values()):
        return False
    with tempfile.TemporaryFile() as content:
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            for name, path in sorted(entries.items()):
                tar.add(path, arcname=name, recursive=False)
        content.seek(0)
        bucket, key = split_s3_uri(uri)
        s3.upload_fileobj(content, bucket, key)
    return True


def put_files(s3: Any, directory: Path, uri: str) -> None:
    """Puts each file of a directory below the address. Raises :data:`UPLOAD_ERRORS`."""
    bucket, prefix = split_s3_uri(uri)
    for path in files_below(directory):
        with suppress(FileNotFoundError):  # it went while the job goes on
            s3.upload_file(str(path), bucket, key_below(prefix, path.relative_to(directory).as_posix()))


def key_below(prefix: str, name: str) -> str:
    return f"{prefix.rstrip('/')}/{name}".lstrip("/")
