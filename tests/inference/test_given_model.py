"""What `serve` and `check` are given, made a directory: by rules on names and first bytes, and in this process."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.inference.repository.files import archive_of
from tidegate.inference import given_model
from tidegate.inference.errors import DeploymentError
from tidegate.inference.given_model import PREFIX, archive_fault, directory_of
from tidegate.inference.own_folder import own_folder, remove_left_over
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.one_model import archive_among, no_model_fault

TAR = tarfile.TarInfo("a").tobuf()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# --- by names and first bytes


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("model.tar.gz", b"\x1f\x8b\x08", None),
        ("model.pth", b"\x1f\x8b\x08", None),
        ("model.tar", TAR, "is a tar archive without gzip"),
        ("model.tar.gz", TAR, "is a tar archive without gzip"),
        ("model.tar.gz", b"BZh91AY", "is compressed by bzip2"),
        ("model.tar.zst", b"\x28\xb5\x2f\xfd", "is compressed by zstd"),
        (
            "model.tar.gz",
            b"version https://git-lfs.github.com/spec/v1",
            "is a pointer of Git LFS, whose file was not fetched, not a gzipped tar archive.",
        ),
        ("model.tar.gz", b"<html>404", "is an HTML page, not a gzipped tar archive."),
        ("model.tar.gz", b"some text", "is not a gzipped tar archive."),
        ("model.zip", b"PK\3\4", "is a zip, and SageMaker takes a gzipped tar archive alone"),
        ("model.mar", b"PK\3\4", "is a zip, and SageMaker takes a gzipped tar archive alone"),
        ("model.tgz", b"", "is empty."),
        ("model.pth", b"PK\3\4", "is a file; name the directory that holds it, or an archive"),
        ("inference.py", b"import", "is a file; name the directory"),
    ],
)
def test_a_file_is_known_by_its_first_bytes(name: str, head: bytes, said: str | None) -> None:
    fault = archive_fault(name, head)
    assert (fault is None) == (said is None)
    assert (fault or "").startswith(said or "")


@pytest.mark.parametrize(
    ("files", "archive", "fault"),
    [
        (["model.tar.gz"], "model.tar.gz", ""),
        (["digits-7.tar.gz"], "digits-7.tar.gz", ""),
        (["output/model.tar.gz"], "output/model.tar.gz", ""),
        (["output/model.tar.gz", "profiler-output/a.json"], "output/model.tar.gz", ""),
        (["output/model.tar.gz", "code/inference.py"], "", ""),
        (["output/model.tar.gz", "model.pth"], "", ""),
        (["model.pth", "code/inference.py"], "", ""),
        (["manifest.json", "1/x"], "", ""),
        ([], "", "holds nothing."),
        (["1/model.pth", "10/model.pth"], "", "holds versions, not one model"),
        (["1/model.pth", "labels.json"], "", "holds versions, not one model"),
        (["1/weights", "code/inference.py"], "", ""),
        (["a.tar.gz", "b.tar.gz"], "", "holds several archives: name one of them (a.tar.gz, b.tar.gz)"),
        (["a", "a/b"], "", "cannot be brought here: a is a file and a folder at the same time."),
        (["a/../b"], "", "cannot be brought here: 'a/../b' cannot be a file"),
    ],
)
def test_a_prefix_is_a_model_an_archive_or_neither(files: list[str], archive: str, fault: str) -> None:
    entries = {name: Entry(name, 1, "tag", 0.0) for name in files}
    assert archive_among(entries) == archive
    if not archive:
        found = no_model_fault(entries)
        assert bool(found) == bool(fault)
        assert found.startswith(fault)


# --- here


@pytest.mark.parametrize("argument", ["", " "])
def test_an_empty_text_is_not_the_directory_that_the_shell_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeploymentError, match="empty text"), directory_of(argument):
        pass


def test_a_directory_is_what_it_is_and_nothing_is_made_for_it(tmp_path: Path, temporary: Path) -> None:
    with directory_of(str(tmp_path)) as found:
        assert found == tmp_path
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk of {temporary} is full; set TMPDIR to a "),
        (OSError(errno.EIO, "Input/output error"), "{archive} cannot be unpacked into {temporary}/"),
    ],
)
def test_a_disk_that_fails_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(archive_of({"model.pth": b"x"}))

    def fail(_: Path, directory: Path, **__: object) -> None:
        (directory / "half").touch()
        raise error

    monkeypatch.setattr(given_model, "unpack", fail)
    with pytest.raises(DeploymentError) as refused, directory_of(str(archive)):
        pass
    assert str(refused.value).startswith(said.format(archive=archive, temporary=temporary))
    assert list(temporary.iterdir()) == []


def test_without_boto3_the_sentence_says_what_to_install(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(DeploymentError) as refused, directory_of("s3://models/model.tar.gz"):
        pass
    assert "needs boto3, which is not installed: pip install 'tidegate[repository]'." in str(refused.value)
    assert list(temporary.iterdir()) == []


def test_a_server_of_a_directory_imports_nothing_of_s3() -> None:
    program = (
        "import sys\nfrom tidegate.inference.given_model import directory_of\n"
        "with directory_of('/'):\n    print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    loaded = done.stdout.split()
    assert "tidegate.inference.given_model" in loaded
    assert not [name for name in loaded if name.startswith(("boto", "tidegate.inference.repository.s3_store", "torch"))]


def test_what_takes_long_is_told_of_every_ten_seconds(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(archive_of({f"{number}": b"x" for number in range(10)}))
    seconds, told = itertools.count(0, 4), []
    monkeypatch.setattr(given_model, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(given_model.log, "info", lambda what, extra: told.append((what, extra["model"])))
    with directory_of(str(archive)):
        looks = next(seconds) // 4 - 1
    assert looks > 10
    assert told.count(("unpacking the model", str(archive))) == looks // 3


# --- the folder that it is put into


def test_many_that_start_at_once_keep_their_folders(temporary: Path) -> None:
    """Each looks for what others left while the others make theirs."""

    def live(number: int) -> bool:
        with own_folder(PREFIX) as folder:
            (folder / "mine").write_text(str(number))
            remove_left_over(PREFIX)
            return (folder / "mine").read_text() == str(number)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(live, range(400)))
    assert list(temporary.iterdir()) == []


def test_a_disk_without_locks_has_room_for_a_model_too(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", none)
    with own_folder(PREFIX) as one, own_folder(PREFIX):
        assert one.is_dir(), "what may be another's is left alone"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to(path.parent.parent), os.mkfifo])
def test_what_is_no_folder_of_ours_is_left_alone(temporary: Path, make: Callable[[Path], Any]) -> None:
    make(temporary / f"{PREFIX}x")
    (temporary / "other").mkdir()
    left = temporary / f"{PREFIX}left"
    (left / "model").mkdir(parents=True)
    with own_folder(PREFIX):
        assert not left.exists()
    assert sorted(path.name for path in temporary.iterdir()) == ["other", f"{PREFIX}x"]
