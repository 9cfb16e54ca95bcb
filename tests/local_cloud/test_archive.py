"""Model archives: what is unpacked, and what is refused before anything is written."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.local_cloud.conftest import model_archive
from tidegate.local_cloud.sagemaker.archive import ModelDataError, split_s3_uri, unpack


def crafted(path: Path, member: tarfile.TarInfo) -> Path:
    """An archive with an innocent file and then ``member``."""
    with tarfile.open(path, "w:gz") as tar:
        innocent = tarfile.TarInfo("code/inference.py")
        tar.addfile(innocent, io.BytesIO())
        tar.addfile(member, io.BytesIO())
    return path


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def device() -> tarfile.TarInfo:
    member = tarfile.TarInfo("null")
    member.type = tarfile.CHRTYPE
    return member


def test_an_archive_is_unpacked_with_its_folders(tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(model_archive({"model.pth": "weights", "code/inference.py": "functions"}))
    unpack(archive, tmp_path / "model", name="s3://b/model.tar.gz")
    assert (tmp_path / "model" / "code" / "inference.py").read_text() == "functions"


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../outside"),
        tarfile.TarInfo("code/../../outside"),
        tarfile.TarInfo("/tmp/outside"),
        link("inside", "/etc/passwd", tarfile.SYMTYPE),
        link("inside", "../outside", tarfile.SYMTYPE),
        link("inside", "../outside", tarfile.LNKTYPE),
        device(),
    ],
    ids=["parent", "hidden parent", "absolute", "absolute link", "escaping link", "escaping hard link", "device"],
)
def test_an_archive_that_would_leave_its_directory_is_refused_as_a_whole(
    tmp_path: Path, member: tarfile.TarInfo
) -> None:
    target = tmp_path / "model"
    target.mkdir()
    with pytest.raises(ModelDataError, match=r"^s3://b/evil\.tar\.gz is refused: .+\.$"):
        unpack(crafted(tmp_path / "evil.tar.gz", member), target, name="s3://b/evil.tar.gz")
    assert list(target.iterdir()) == [], "even the innocent file must not be there"
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("target", ["inference.py", "../model.pth", ".", "no-such-file"])
def test_a_symbolic_link_is_refused_by_its_name_as_sagemaker_does(tmp_path: Path, target: str) -> None:
    archive = crafted(tmp_path / "linked.tar.gz", link("code/latest.py", target, tarfile.SYMTYPE))
    with pytest.raises(ModelDataError) as caught:
        unpack(archive, tmp_path / "model", name="s3://b/linked.tar.gz")
    assert str(caught.value) == (
        f"s3://b/linked.tar.gz is refused: member 'code/latest.py' is a symbolic link to {target!r}; pack the file "
        "that it leads to (tar -h)."
    )


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    through = tmp_path / "through.tar.gz"
    with tarfile.open(through, "w:gz") as tar:
        for member in (link("here", ".", tarfile.SYMTYPE), link("here/up", "..", tarfile.SYMTYPE)):
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo("up/outside"), io.BytesIO())
    with pytest.raises(ModelDataError, match="member 'here' is a symbolic link"):
        unpack(through, tmp_path / "through", name="s3://b/through.tar.gz")
    assert not (tmp_path / "outside").exists()


def test_one_file_under_two_names_is_no_link_to_the_reader(tmp_path: Path) -> None:
    """What tar makes of a hard link, and of a file that is named twice on its command line."""
    (tmp_path / "weights").write_text("weights")
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "weights", "model.pth")
        tar.addfile(link("best.pth", "model.pth", tarfile.LNKTYPE))
    unpack(archive, tmp_path / "model", name="s3://b/model.tar.gz")
    assert (tmp_path / "model" / "best.pth").read_text() == "weights"


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", model_archive({"a": "x" * 5000})[:-40]],
    ids=["empty", "not gzip", "cut short"],
)
def test_a_damaged_archive_is_said_to_be_unreadable(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(ModelDataError, match="is not a readable gzipped tar archive"):
        unpack(archive, tmp_path / "model", name="s3://b/model.tar.gz")


def test_only_s3_addresses_are_taken() -> None:
    assert split_s3_uri("s3://bucket/a/b") == ("bucket", "a/b")
    with pytest.raises(ModelDataError, match="https://host/key is not an s3:// address"):
        split_s3_uri("https://host/key")
