"""Files that are not what their names say, that got into the archive by accident, or that should stay at home."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from tidegate.inference.errors import some_of
from tidegate.inference.frontend.check.listing import Listed, Listing
from tidegate.inference.layout import CODE
from tidegate.inference.load_report import Caution

MODEL_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".safetensors", ".onnx", ".ckpt", ".pkl", ".pt2", ".h5"})
_LFS = b"version https://git-lfs.github.com/spec/"
_LFS_BYTES = 1024
_SHOWN_CHARACTERS = 120
_SECRET_NAMES = frozenset(
    {".env", ".netrc", ".pypirc", ".git-credentials", ".pgpass", "id_rsa", "id_ed25519", "kaggle.json", ".npmrc"}
)
_SECRETS = re.compile(
    r"\b(?:A(?:KIA|SIA)(?!\w*EXAMPLE)[0-9A-Z]{16}|hf_[A-Za-z0-9]{34}|gh[pousr]_[A-Za-z0-9]{36}|sk-[A-Za-z0-9]{40,})\b"
    r"|-----BEGIN (?:RSA |EC |OPENSSH |)PRIVATE KEY-----"
)
_READ = frozenset({".py", ".txt", ".json", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh"})
_LEFT_FOLDERS = frozenset(
    {".git", ".ipynb_checkpoints", "wandb", "mlruns", "lightning_logs", ".venv", "venv", "node_modules", ".cache"}
)
_LEFT_FILES = re.compile(r"(?:optimizer|scheduler)\.(?:pt|bin)|rng_state(?:_\d+)?\.pth|events\.out\.tfevents\..*")
_PACKED = re.compile(r"model(?:s)?\.(?:tar\.gz|tgz|tar|zip)")


def cautions(listing: Listing) -> Iterator[Caution]:
    """What is wrong with files, whatever the model is."""
    yield from _not_listed(listing)
    yield from _of_macos(listing)
    yield from _of_windows(listing)
    yield from _pointers(listing)
    yield from _empty(listing)
    yield from _left_over(listing)
    yield from _packed_twice(listing)
    yield from _secrets(listing)


def _not_listed(listing: Listing) -> Iterator[Caution]:
    if listing.unreadable:
        yield Caution(
            code="unreadable_folder",
            message=f"{some_of(listing.unreadable, limit=3)} cannot be looked into by this user",
            way_out="give it to the user who serves (chmod -R a+rX)",
        )
    if not listing.complete:
        yield Caution(
            code="too_many_files",
            message=f"there are more than {len(listing.files)} files, of which the rest were not looked at",
            way_out="leave out what the model does not read: each file is fetched and unpacked at every start",
        )


def _of_macos(listing: Listing) -> Iterator[Caution]:
    found = [each for each in listing.files if each.name.name.startswith("._") or "__MACOSX" in each.folders]
    if found:
        yield Caution(
            code="files_of_macos",
            message=f"{_named(found)} was added by macOS, and is taken for a file of the model by what lists a folder",
            way_out="pack by 'tidegate pack', or by COPYFILE_DISABLE=1 tar -czf",
        )


def _of_windows(listing: Listing) -> Iterator[Caution]:
    found = [each for each in listing.files if "\\" in each.name.name]
    if found:
        yield Caution(
            code="backslash_in_a_name",
            message=f"{_named(found)} is one name with a backslash, and no file in a folder",
            way_out="pack by 'tidegate pack', or by a program that writes / between folders",
        )


def _pointers(listing: Listing) -> Iterator[Caution]:
    short = [each for each in listing.files if 0 < each.size_bytes <= _LFS_BYTES]
    found = [each for each in short if listing.head(each.name, len(_LFS)) == _LFS]
    if found:
        yield Caution(
            code="git_lfs_pointer",
            message=f"{_named(found)} is a pointer of Git LFS, and not the file that it stands for",
            way_out="run 'git lfs pull' before you pack",
        )


def _empty(listing: Listing) -> Iterator[Caution]:
    found = [each for each in listing.files if not each.size_bytes and each.name.suffix in MODEL_SUFFIXES]
    if found:
        yield Caution(
            code="empty_model_file",
            message=f"{_named(found)} has no content",
            way_out="save the model again: the disk was full, or the program ended while it wrote",
        )


def _left_over(listing: Listing) -> Iterator[Caution]:
    found = [
        each for each in listing.files if _LEFT_FOLDERS & set(each.folders) or _LEFT_FILES.fullmatch(each.name.name)
    ]
    if found:
        size = sum(each.size_bytes for each in found)
        yield Caution(
            code="left_over",
            message=f"{_named(found)} is of the training, and takes {_megabytes(size)} of the archive",
            way_out="leave it out: every start of a server fetches and unpacks it",
        )


def _packed_twice(listing: Listing) -> Iterator[Caution]:
    found = [each for each in listing.files if not each.folders and _PACKED.fullmatch(each.name.name)]
    if found:
        yield Caution(
            code="archive_in_the_archive",
            message=f"{_named(found)} lies in the archive, and nothing unpacks it",
            way_out="pack the files themselves",
        )


def _secrets(listing: Listing) -> Iterator[Caution]:
    named = [each for each in listing.files if each.name.name in _SECRET_NAMES or each.folders[-1:] == (".aws",)]
    written = [
        f"{each.name}, line {text.count(chr(10), 0, found.start()) + 1}"
        for each in listing.files
        if each.name.suffix in _READ and (not each.folders or each.folders[0] == CODE)
        # Their place is told, and never what stands there.
        if (found := _SECRETS.search(text := listing.text(each.name))) is not None
    ]
    places = [*(str(each.name) for each in named), *written]
    if places:
        yield Caution(
            code="secret_in_the_archive",
            message=f"{some_of(places, limit=3)}: looks like a secret, which everybody who has the archive can read",
            way_out="take it out, and replace it where it is valid; a container gets secrets by its role",
        )


def _named(found: Iterable[Listed]) -> str:
    return some_of((_short(each.name) for each in found), limit=3)


def _short(name: PurePosixPath) -> str:
    text = str(name)
    return text if len(text) <= _SHOWN_CHARACTERS else f"…{text[-_SHOWN_CHARACTERS:]}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
