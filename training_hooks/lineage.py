"""Where a model comes from: the job, the revision of its code, its data and the packages, as the manifest records it.

What could tell strangers more than that stays out: variables and hyperparameters (which may hold passwords), names of
users and hosts, account numbers, remotes of git, and absolute paths.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .arguments import kind_of, shown
from .errors import ArtifactError
from .git_revision import revision_of
from .imported_packages import imported_packages
from .plain_values import to_plain

_JOB_VARIABLES = ("TRAINING_JOB_NAME", "SAGEMAKER_JOB_NAME")
_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")  # the pattern of SageMaker
_CHANNEL = "SM_CHANNEL_"
_REVISION = re.compile(r"[0-9a-fA-F]{7,64}")
_SIGNATURES = re.compile(r"signature|token|credential|password|secret|accesskeyid|api-?key|^sig$", re.IGNORECASE)
_OPENS_A_DOOR = "is a URL with a password or a signature in it; give the URL without"
_KEYS = "training_job, git, data, channels, packages and image"


def checked_lineage(given: object) -> dict[str, Any]:
    """Return what the manifest says under `lineage`: what is known here, and in its place what is given.

    Args:
        given: None for what is known here; False for nothing; or a mapping: `training_job`, `data` and `image` are
            text, `data` may also be a mapping of names to text, `git` a revision or {"revision": …, "dirty": …}; any
            other key holds a plain value. None under a key leaves it out.

    Raises:
        ArtifactError: one sentence naming the key and what is wrong with it.
    """
    if given is False:
        return {}
    if given is not None and not isinstance(given, Mapping):
        raise ArtifactError(
            f'lineage is {shown(given)}; give a mapping such as {{"data": "s3://bucket/train"}}, or False'
        )
    chosen = {} if given is None else {key: _checked(key, value) for key, value in _plain(given).items()}
    known: dict[str, Any] = {}
    for key, look in (
        ("training_job", _training_job),
        ("channels", _channels),
        ("git", _git),
        ("packages", imported_packages),
    ):
        if key not in chosen and (found := look()):
            known[key] = found
    return {key: value for key, value in sorted((known | chosen).items()) if value is not None}


def _plain(given: Mapping[Any, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(given, "lineage")
    return plain


def _checked(key: str, value: Any) -> Any:
    where = f"lineage[{key!r}]"
    if not key:
        raise ArtifactError(f"lineage has an empty key; there are {_KEYS}, and any name of yours")
    _refuse_secret_keys(key, "lineage")
    if value is None:
        return None
    _refuse_secrets(value, where)
    if key == "git":
        return _checked_git(value, where)
    if key in ("training_job", "image") and not (isinstance(value, str) and value):
        raise ArtifactError(f"{where} is {shown(value)}; give its name as text")
    if key == "data" and not (isinstance(value, str) and value) and not _is_text_by_name(value):
        raise ArtifactError(f"{where} is {shown(value)}; give its location as text, or a mapping of names to locations")
    if key == "packages" and not _is_text_by_name(value):
        raise ArtifactError(f"{where} is {shown(value)}; give a mapping of names to versions")
    if key == "channels" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise ArtifactError(f"{where} is {shown(value)}; give a list of names")
    return value


def _checked_git(value: object, where: str) -> dict[str, Any]:
    git: object = {"revision": value} if isinstance(value, str) else value
    if not isinstance(git, dict) or not git.keys() <= {"revision", "dirty", "script"}:
        raise ArtifactError(f'{where} is {shown(value)}; give a revision, or {{"revision": …, "dirty": False}}')
    revision = git.get("revision")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        raise ArtifactError(f"{where}'s revision is {shown(revision)}; it is 7 to 64 hexadecimal digits")
    if not isinstance(git.get("dirty", False), bool):
        raise ArtifactError(f"{where}'s dirty is {kind_of(git['dirty'])}; it must be True or False")
    if not isinstance(git.get("script", ""), str):
        raise ArtifactError(f"{where}'s script is {kind_of(git['script'])}; give its name in the repository")
    return git


def _is_text_by_name(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(item, str) and item for item in value.values())


def _refuse_secrets(value: object, where: str) -> None:
    """A presigned URL or one with a password in it is a key for whoever reads the manifest."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_secret_keys(key, where)
            _refuse_secrets(item, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_secrets(item, f"{where}[{index}]")
    elif isinstance(value, str) and _opens(value):
        raise ArtifactError(f"{where} {_OPENS_A_DOOR}")


def _refuse_secret_keys(key: str, where: str) -> None:
    """The sentence leaves the key out: it may come into a log."""
    if _opens(key):
        raise ArtifactError(f"a key of {where} {_OPENS_A_DOOR}")


def _opens(text: str) -> bool:
    """Whether there is such a URL in a text, between other words too."""
    for word in text.split() if "://" in text else ():
        scheme, *rest = word.split("://")
        # The whole of it as one URL, which another may be in the query of, and each alone.
        if any(_is_key("://".join(("s", each))) for each in ("://".join(rest), *rest) if scheme and rest):
            return True
    return False


def _is_key(address: str) -> bool:
    try:
        url = urlsplit(address)
        return url.password is not None or any(_SIGNATURES.search(name) for name, _ in parse_qsl(url.query, True))
    except ValueError:
        return False


def _training_job() -> str | None:
    names = [os.environ.get(variable, "") for variable in _JOB_VARIABLES]
    try:
        described = json.loads(os.environ.get("SM_TRAINING_ENV", "{}"))
        names.append(str(described.get("job_name")) if isinstance(described, dict) else "")
    except (ValueError, RecursionError):
        pass  # not the toolkit's
    return next((name for name in names if name != "None" and _JOB_NAME.fullmatch(name)), None)


def _channels() -> list[str]:
    """The names of the input channels: where their data came from, the container is not told."""
    try:
        listed = json.loads(os.environ.get("SM_CHANNELS", "[]"))
    except (ValueError, RecursionError):
        listed = []
    if isinstance(listed, list) and listed and all(isinstance(name, str) for name in listed):
        return sorted(listed)
    return sorted(name.removeprefix(_CHANNEL).lower() for name in os.environ if name.startswith(_CHANNEL))


def _git() -> dict[str, Any] | None:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return revision_of(Path(main) if isinstance(main, str) else Path.cwd())
    except OSError:  # a working directory that was removed
        return None
