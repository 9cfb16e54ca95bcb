"""What things are called in a model repository, and what nothing may be called.

REPOSITORY/NAME/VERSION/manifest.json and the files that it lists; REPOSITORY/NAME/labels.json. Names that begin with a
dot, in the repository or in a model's folder, are the marks of whoever publishes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from tidegate.training_hooks.arguments import as_path, as_whole_number, kind_of, shown
from tidegate.training_hooks.errors import ArtifactError

LABELS_NAME = "labels.json"
ARCHIVE_SUFFIX = ".tar.gz"
UNFINISHED = ".unfinished"
"""In a version of a bucket: until the manifest is there, what lies beside this mark is no version."""
LAST_VERSION = ".last-version"
"""In a model: the highest number that was retired, so that it is not given a second time."""

MAX_VERSION = 10**15 - 1

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"0|[1-9][0-9]{0,14}")
_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)


class BucketAddress(NamedTuple):
    """Where in S3 a repository is: what its keys begin with is empty, or ends with a slash."""

    bucket: str
    prefix: str


def repository_address(value: object) -> Path | BucketAddress:
    """Return the folder, absolute, or the place in a bucket. Raises `ArtifactError` for anything else."""
    text = value.__fspath__() if isinstance(value, os.PathLike) else value
    if isinstance(text, str) and text.startswith("s3:"):
        found = _BUCKET.fullmatch(text)
        prefix = (found[2] or "").strip("/") if found else ""
        if found is None or "//" in prefix or re.search(r"[\x00-\x1f\x7f\\]", prefix):
            raise ArtifactError(f"the repository is {shown(text)}; give a folder, or s3://bucket/prefix")
        return BucketAddress(found[1], f"{prefix}/" if prefix else "")
    if isinstance(text, str) and "://" in text:
        raise ArtifactError(f"the repository is {shown(text)}; give a folder, or s3://bucket/prefix")
    path = as_path(value, "the repository")
    if path.exists() and not path.is_dir():
        raise ArtifactError(f"the repository {path} is a file; give a folder, or s3://bucket/prefix")
    return path


def model_name(value: object) -> str:
    """Return the name of a model, which can stand in a path and in a header."""
    if not isinstance(value, str):
        raise ArtifactError(f"the model's name is {kind_of(value)}; give a text")
    if not _MODEL.fullmatch(value):
        raise ArtifactError(
            f"the model's name is {shown(value)}; it is made of letters, digits, '.', '_' and '-', begins with a "
            "letter or a digit and has at most 128 characters"
        )
    if value.isdecimal() or value == "code" or value.endswith(ARCHIVE_SUFFIX):
        raise ArtifactError(
            f"the model's name is {value!r}, which means something else in a repository: digits alone are a version, "
            "code is shared code, and *.tar.gz is an archive"
        )
    return value


def version_number(value: object) -> int:
    """Return the number of a version, given as a number or as its text."""
    if isinstance(value, str) and _VERSION.fullmatch(value):
        return int(value)
    if isinstance(value, str):
        raise ArtifactError(
            f"the version is {shown(value)}; it must be a whole number from 0 on, without leading zeros"
        )
    return as_whole_number(value, "the version", least=0, most=MAX_VERSION)


def label_name(value: object) -> str:
    """Return the name of a label, which is no number and not `latest`."""
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise ArtifactError(
            f"the label is {shown(value)}; it is made of letters, digits, '.', '_' and '-', begins with a letter and "
            "has at most 64 characters"
        )
    if value == "latest":
        raise ArtifactError("the label is 'latest', which always is the highest number; choose another")
    return value


def version_of(part: str) -> int | None:
    """The number that a folder of this name is the version of, if it is one."""
    return int(part) if _VERSION.fullmatch(part) else None


def is_hidden(top_name: str) -> bool:
    """Whether a name directly in the repository, or in a model's folder, is a mark and no part of a model."""
    return top_name.startswith(".")
