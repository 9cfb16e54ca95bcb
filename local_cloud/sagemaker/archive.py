"""Fetches a model's data from S3 and lays it out as ``/opt/ml/model`` is; nothing may leave that directory."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed

if TYPE_CHECKING:
    from tidegate.local_cloud.sagemaker.state import Json


class ModelDataError(Exception):
    """The model's data cannot be had or may not be unpacked; the text is a failure reason of one sentence."""


def fetch_model_data(client: Callable[[], Any], container: Json, directory: Path, *, name: str = "container_1") -> None:
    """Fills ``directory`` with the data that a container definition names; leaves it empty when it names none.

    ``ModelDataUrl`` is one ``.tar.gz``; ``ModelDataSource.S3DataSource`` is one too (``S3Object``, ``Gzip``), or a
    single plain object (``S3Object``, ``None``), or all objects under a prefix (``S3Prefix``, ``None``), whose keys
    without the prefix become relative paths. ``name`` is the container's, and ``client`` gives one of S3 where there
    is something to fetch. Raises :class:`ModelDataError`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = container.get("ModelDataSource", {}).get("S3DataSource")
    url = container.get("ModelDataUrl")
    if source is None and not url:
        return
    try:
        s3 = client()
        if source is None:
            _fetch_archive(s3, str(url), directory)
        elif source["CompressionType"] == "Gzip":
            _fetch_archive(s3, source["S3Uri"], directory)
        elif source["S3DataType"] == "S3Object":
            bucket, key = split_s3_uri(source["S3Uri"])
            download(s3, bucket, key, directory / PurePosixPath(key).name)
        else:
            _fetch_prefix(s3, source["S3Uri"], directory)
    except (ClientError, BotoCoreError, RoleNotAssumed) as error:
        url = url or (source or {}).get("S3Uri")
        # The service's own sentence: https://github.com/aws-samples/cvat-on-aws-china/issues/3
        raise ModelDataError(
            f'Failed to download model data for container "{name}" from URL: "{url}". Please ensure that there is an'
            " object located at the URL and that the role passed to CreateModel has permissions to download the object."
            f" ({error})"
        ) from error


def download(s3: Any, bucket: str, key: str, target: Path) -> None:
    """An object as a file. Raises what boto3 raises; where access is denied, with the right that is missing."""
    try:
        s3.download_file(bucket, key, str(target))
    except ClientError as error:
        # boto3 asks for the object's head first, and the answer to that has no body which could say it.
        if error.response["Error"]["Code"] == "403":
            s3.get_object(Bucket=bucket, Key=key)["Body"].close()
        raise


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; raises :class:`ModelDataError` for other schemes."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme != "s3":
        raise ModelDataError(f"{uri} is not an s3:// address.")
    bucket, _, key = rest.partition("/")
    return bucket, key


def unpack(archive: Path, directory: Path, *, name: str) -> None:
    """Unpacks a gzipped tar under ``directory``; ``name`` is how a failure reason calls the archive.

    Refused as a whole, before anything is written: absolute names, names and hard links that lead out of the directory,
    symbolic links, devices and pipes. tarfile's own filter for this came with Python 3.11.4, and Debian 12 has 3.11.2.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = list(_accepted(tar, name))
            # What is there now is harmless; later Pythons want to be told so.
            tar.extraction_filter = lambda member, _: member
            tar.extractall(directory, members=members)  # noqa: S202 - see _accepted
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ModelDataError(f"{name} is not a readable gzipped tar archive: {error}.") from error


def _accepted(tar: tarfile.TarFile, name: str) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        if (fault := _fault(member, PurePosixPath(member.name))) is not None:
            raise ModelDataError(f"{name} is refused: member {member.name!r} {fault}.")
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        member.mode = (member.mode | (0o700 if member.isdir() else 0o600)) & 0o755
        yield member


def _fault(member: tarfile.TarInfo, path: PurePosixPath) -> str | None:
    """Why a member may not be unpacked, in words that follow its name."""
    if path.is_absolute():
        return "has an absolute path"
    if ".." in path.parts:
        return "leads out of the archive's directory"
    if member.issym():
        # The developer guide, "Deploy models": an archive with symbolic links is not unpacked.
        return f"is a symbolic link to {member.linkname!r}; pack the file that it leads to (tar -h)"
    if not (member.isfile() or member.isdir() or member.islnk()):
        return "is neither a file nor a directory"
    if member.islnk():
        target = os.path.normpath(member.linkname)  # seen from the archive's root
        if PurePosixPath(target).is_absolute() or target == ".." or target.startswith("../"):
            return f"links to {member.linkname!r}, outside of the archive's directory"
    return None


def _fetch_archive(s3: Any, url: str, directory: Path) -> None:
    bucket, key = split_s3_uri(url)
    # Beside the directory and not in it: only the archive's content is the container's to see.
    archive = directory.parent / f".{directory.name}.tar.gz"
    try:
        download(s3, bucket, key, archive)
        unpack(archive, directory, name=url)
    finally:
        archive.unlink(missing_ok=True)


def _fetch_prefix(s3: Any, url: str, directory: Path) -> None:
    bucket, prefix = split_s3_uri(url)
    if not prefix.endswith("/"):
        raise ModelDataError(f"The S3Prefix {url} must end with a slash.")
    found = False
    for listing in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in listing.get("Contents", []):
            found = True
            relative = item["Key"].removeprefix(prefix)
            # The names that the service forbids (CreateModel, S3ModelDataSource).
            if any(part in ("", ".", "..") or "\0" in part for part in relative.split("/")):
                raise ModelDataError(f"The object s3://{bucket}/{item['Key']} cannot be a file under {url}.")
            target = directory / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            download(s3, bucket, item["Key"], target)
    if not found:
        raise ModelDataError(f"There is no object under {url}.")
