"""What of an archive reaches the disk, and what never does."""

from __future__ import annotations

import gzip
import io
import itertools
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.inference.repository.files import archive_of, read
from tidegate.inference.repository.unpacking import ArchiveRefused, TooLarge, unpack


def unpacked(tmp_path: Path, archive: bytes, *, max_bytes: int | None = None) -> Path:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(archive)
    target = tmp_path / "target" / "inside"
    target.mkdir(parents=True)
    unpack(path, target, max_bytes=max_bytes, check=lambda: None)
    return target


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0, mode: int = 0o644) -> bytes:
    """An archive of a good file and another member."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("good.txt"), io.BytesIO())
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode, info.size = kind, link, mode, size
        tar.addfile(info, io.BytesIO(bytes(size)))
    return content.getvalue()


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    files = {"model.pth": bytes(range(256)) * 9000, "code/a/b/c.py": b"x", "empty": b"", "./code/inference.py": b"y"}
    wanted = {name.removeprefix("./"): content for name, content in files.items()}
    assert read(unpacked(tmp_path, archive_of(files), max_bytes=sum(map(len, files.values())))) == dict(
        sorted(wanted.items())
    )


def test_a_program_stays_one_and_every_other_mode_is_ours(tmp_path: Path) -> None:
    target = unpacked(tmp_path, member("run.sh", mode=0o4711))
    assert (target / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (target / "good.txt").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (member("/etc/x"), "an absolute path"),
        (member("../x"), "leads out of its directory"),
        (member("a/../../x"), "leads out of its directory"),
        (member("link", kind=tarfile.SYMTYPE, link="/etc/passwd"), "holds the link 'link' to '/etc/passwd'"),
        (member("link", kind=tarfile.LNKTYPE, link="good.txt"), "holds the link 'link' to 'good.txt'"),
        (member("pipe", kind=tarfile.FIFOTYPE), "neither a file nor a directory"),
        (member("disk", kind=tarfile.BLKTYPE), "neither a file nor a directory"),
        (member("a\x01b"), "control character"),
        (member("a" * 256), "more than 255 bytes"),
        (member("good.txt/below"), "below a file"),
        (member("good.txt", kind=tarfile.DIRTYPE), "below a file, or in its place"),
        (b"no archive", "no readable gzipped tar archive"),
        (b"", "no readable gzipped tar archive"),
        (gzip.compress(b"no tar" * 500), "no readable gzipped tar archive"),
    ],
    ids=map(str, itertools.count()),
)
def test_what_is_refused_says_why_and_writes_nothing_outside(tmp_path: Path, archive: bytes, sentence: str) -> None:
    with pytest.raises(ArchiveRefused, match=sentence):
        unpacked(tmp_path, archive)
    outside = [path.name for path in tmp_path.iterdir()] + [path.name for path in (tmp_path / "target").iterdir()]
    assert sorted(outside) == ["archive.tar.gz", "inside", "target"]


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.999])
def test_half_an_archive_is_refused(tmp_path: Path, cut: float) -> None:
    archive = archive_of({f"{number}.bin": bytes([number]) * 100_000 for number in range(20)})
    with pytest.raises(ArchiveRefused, match="no readable gzipped tar archive"):
        unpacked(tmp_path, archive[: int(len(archive) * cut)])


def test_a_header_that_wants_all_memory_is_refused(tmp_path: Path) -> None:
    """A long name is read at once, and its size is whatever the archive says."""
    with pytest.raises(ArchiveRefused, match="a header of"):
        unpacked(tmp_path, member("x", kind=tarfile.GNUTYPE_LONGNAME, size=64 << 20))


def test_the_limit_is_kept_while_it_unpacks_and_what_is_needed_is_told(tmp_path: Path) -> None:
    archive = archive_of({f"{number}.bin": bytes([number]) * 1000 for number in range(10)})
    with pytest.raises(TooLarge) as refused:
        unpacked(tmp_path, archive, max_bytes=4500)
    assert refused.value.needed_bytes == 10_000
    assert sum(map(len, read(tmp_path / "target").values())) == 4000


def test_a_bomb_is_not_measured_to_its_end(tmp_path: Path) -> None:
    """A thousandfold, as zeros pack."""
    archive = archive_of({f"{number}.bin": bytes(10 << 20) for number in range(20)})
    with pytest.raises(TooLarge) as refused:
        unpacked(tmp_path, archive, max_bytes=1000)
    assert 100 * len(archive) < refused.value.needed_bytes < 200 * (1 << 20)
    assert not read(tmp_path / "target")


def test_it_stops_when_it_is_told(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop_at(left: list[int]) -> Callable[[], None]:
        def check() -> None:
            left[0] -= 1
            if not left[0]:
                raise Stopped

        return check

    path = tmp_path / "archive.tar.gz"
    path.write_bytes(archive_of({"a": bytes(5 << 20)}))
    with pytest.raises(Stopped):
        unpack(path, tmp_path, max_bytes=None, check=stop_at([4]))
    assert (tmp_path / "a").stat().st_size < 5 << 20
