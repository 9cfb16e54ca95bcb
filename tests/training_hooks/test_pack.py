"""What pack puts into model.tar.gz, that the bytes are reproducible, and what it refuses."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate.training_hooks import ArtifactError, Example, pack, save_model
from tidegate.training_hooks.__main__ import main
from tidegate.training_hooks.stored_gzip import StoredGzipWriter

from .artifacts import manifest_of, mismatches, unpacked


@pytest.fixture
def model_dir(tmp_path: Path, code_dir: Path) -> Path:
    torch.manual_seed(0)
    return save_model(
        torch.nn.Linear(300, 200),  # more than one gzip block
        model_dir=tmp_path / "model",
        labels=["a", "b"],
        code_dir=code_dir,
        example=Example(request=[1]),
    )


def test_the_archive_is_a_verified_model_directory(tmp_path: Path, model_dir: Path) -> None:
    """Unpacked, the archive is the directory that was saved: same files, same hashes, code/ inside."""
    archive = pack(model_dir, tmp_path / "model.tar.gz")
    copy = unpacked(archive.path, tmp_path / "copy")
    assert mismatches(copy) == []
    assert manifest_of(copy) == manifest_of(model_dir)
    assert (copy / "manifest.json").read_bytes() == (model_dir / "manifest.json").read_bytes()
    assert "code/inference.py" in archive.files
    data = archive.path.read_bytes()
    assert (archive.size_bytes, archive.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert archive.warnings == ()


def test_the_bytes_depend_on_the_content_alone(tmp_path: Path, model_dir: Path) -> None:
    """Another place, order of creation, mode, time, umask, time zone and process give the same archive."""
    first = pack(model_dir, tmp_path / "first.tar.gz")
    moved = tmp_path / "elsewhere" / "other-name"
    for path in sorted(model_dir.rglob("*"), reverse=True):
        if path.is_file():
            target = moved / path.relative_to(model_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o755)
            os.utime(target, (1, 1))
    (moved / "code" / "__pycache__").mkdir()
    (moved / "code" / "__pycache__" / "inference.cpython-311.pyc").write_bytes(b"stale")
    command = "import os, sys; os.umask(0o077); from tidegate.training_hooks.__main__ import main; sys.exit(main())"
    subprocess.run(
        [sys.executable, "-c", command, "pack", str(moved), "--output", str(tmp_path / "second.tar.gz")],
        check=True,
        capture_output=True,
        env=os.environ | {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"},
    )
    assert (tmp_path / "second.tar.gz").read_bytes() == first.path.read_bytes()


WITHOUT_TORCH = """
import sys
from tidegate.training_hooks.__main__ import main

_, model_dir, archive, repository = sys.argv
assert main(["pack", model_dir, "--output", archive]) == 0
assert main(["publish", model_dir, repository, "net"]) == 0
assert main(["list", repository]) == 0
assert "torch" not in sys.modules
from tidegate.training_hooks import Example, save_model
"""


def test_a_command_that_computes_nothing_does_not_wait_for_torch(tmp_path: Path, model_dir: Path) -> None:
    """Its import takes a second or more; what needs it is there all the same."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(model_dir), str(tmp_path / "model.tar.gz"), str(tmp_path / "r")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/r" in done.stdout


def test_the_format_is_fixed(tmp_path: Path) -> None:
    """A directory with known bytes gives a known archive, on every machine and with every zlib."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.pth").write_bytes(b"weights")
    entry = {"sha256": hashlib.sha256(b"weights").hexdigest(), "size_bytes": 7}
    manifest = {"format_version": 1, "files": {"model.pth": entry}}
    (tmp_path / "m" / "manifest.json").write_text(json.dumps(manifest))
    archive = pack(tmp_path / "m", tmp_path / "model.tar.gz")
    assert archive.sha256 == "8f21cb880e7c60a30afb8ec42959611a31c7ebfb051385117b879a4677f4901a"


def test_members_carry_nothing_of_the_machine(tmp_path: Path, model_dir: Path) -> None:
    """Owner, mode, time and the gzip header are fixed; members are sorted after the manifest."""
    archive = pack(model_dir, tmp_path / "model.tar.gz")
    header = archive.path.read_bytes()[:10]
    assert header == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    with tarfile.open(archive.path) as tar:
        members = tar.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mode, m.mtime, m.type) for m in members} == {
        (0, 0, "", "", 0o644, 0, tarfile.REGTYPE)
    }
    names = [member.name for member in members]
    assert names[0] == "manifest.json"
    assert names[1:] == sorted(names[1:])


def test_code_dir_replaces_the_saved_code(tmp_path: Path, model_dir: Path) -> None:
    """--code packs another directory as code/; the archive's manifest lists those files and no others."""
    (tmp_path / "newer" / "parts").mkdir(parents=True)
    (tmp_path / "newer" / "inference.py").write_text("# newer\n")
    (tmp_path / "newer" / "parts" / "layers.py").write_text("# part\n")
    archive = pack(model_dir, tmp_path / "model.tar.gz", code_dir=tmp_path / "newer")
    copy = unpacked(archive.path, tmp_path / "copy")
    assert mismatches(copy) == []
    assert [name for name in manifest_of(copy)["files"] if name.startswith("code/")] == [
        "code/inference.py",
        "code/parts/layers.py",
    ]
    assert (copy / "code" / "inference.py").read_text() == "# newer\n"


def test_unlisted_files_are_packed_and_listed(tmp_path: Path, model_dir: Path) -> None:
    """What a training script puts beside the model goes along; editor junk and caches do not."""
    (model_dir / "confusion.csv").write_text("1,0\n0,1\n")
    for junk in (".DS_Store", "._model.pth", "labels.json~", ".labels.json.swp", "code/.ipynb_checkpoints"):
        (model_dir / junk).write_text("junk")
    (model_dir / "code" / ".#inference.py").symlink_to("user@host.1234")
    copy = unpacked(pack(model_dir, tmp_path / "model.tar.gz").path, tmp_path / "copy")
    assert set(manifest_of(copy)["files"]) == {*manifest_of(model_dir)["files"], "confusion.csv"}
    assert mismatches(copy) == []


def test_long_and_foreign_names_survive(tmp_path: Path, model_dir: Path) -> None:
    """Names beyond the limits of old tar formats come back as they were."""
    names = ["data/" + "n" * 200 + ".txt", "data/größe-数.txt"]
    (model_dir / "data").mkdir()
    for name in names:
        (model_dir / name).write_text(name)
    copy = unpacked(pack(model_dir, tmp_path / "model.tar.gz").path, tmp_path / "copy")
    assert [(copy / name).read_text() for name in names] == names


def test_missing_code_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive without inference.py can be meant, so it is packed, and said."""
    save_model(torch.nn.Linear(1, 1), model_dir=tmp_path / "m")
    assert main(["pack", str(tmp_path / "m"), "--output", str(tmp_path / "model.tar.gz")]) == 0
    printed = capsys.readouterr()
    assert "tidegate: warning: the archive has no code/inference.py" in printed.err
    size_bytes = (tmp_path / "model.tar.gz").stat().st_size
    digest = hashlib.sha256((tmp_path / "model.tar.gz").read_bytes()).hexdigest()
    assert printed.out == f"{tmp_path}/model.tar.gz  {size_bytes} bytes  sha256:{digest}\n"


def refusal(model_dir: Path, output: Path, **options: Path) -> str:
    """Return the sentence with which pack refuses; nothing may be left where the archive would be."""
    with pytest.raises(ArtifactError) as caught:
        pack(model_dir, output, **options)
    assert not output.is_file()
    assert not list(output.parent.glob(".*.tmp"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_differ_from_the_manifest_are_refused(tmp_path: Path, model_dir: Path) -> None:
    """A changed, truncated or missing file is found before it is uploaded."""
    labels = model_dir / "labels.json"
    original = labels.read_bytes()
    labels.write_bytes(original.replace(b"a", b"c"))
    assert "labels.json has changed since it was saved" in refusal(model_dir, tmp_path / "a.tar.gz")
    labels.write_bytes(original[:-1])
    sentence = refusal(model_dir, tmp_path / "a.tar.gz")
    assert f"has {len(original) - 1} bytes, but manifest.json says {len(original)}" in sentence
    labels.unlink()
    assert "'labels.json' is listed in manifest.json but missing" in refusal(model_dir, tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is a list; a manifest is an object"),
        ("{}", 'has no "format_version"; write "format_version": 1 into it, or give the file another name'),
        ('{"format_version": null}', "has the format version None; this release knows 1"),
        ('{"format_version": 2}', "has the format version 2; this release knows 1"),
        ('{"format_version": 1, "files": []}', "'files' is a list; it must be an object"),
        ('{"format_version": 1, "weights": {"file": "absent.pth"}}', "names 'absent.pth' as weights.file, and"),
        ('{"format_version": 1, "files": {"../x": {"sha256": "0", "size_bytes": 1}}}', "not a plain relative path"),
        ('{"format_version": 1, "files": {"/x": {"sha256": "0", "size_bytes": 1}}}', "not a plain relative path"),
        ('{"format_version": 1, "files": {"a\\\\b": 1}}', "control character or a backslash"),
        ('{"format_version": 1, "files": {"x": {"sha256": "zz", "size_bytes": 1}}}', "gives no SHA-256 for 'x'"),
        ('{"format_version": 1, "files": {"x": {"sha256": "%s", "size_bytes": -1}}}' % ("0" * 64), "gives no size"),
    ],
)
def test_odd_manifests_are_refused(tmp_path: Path, model_dir: Path, text: str, sentence: str) -> None:
    """A manifest is input like any other."""
    (model_dir / "manifest.json").write_text(text)
    assert sentence in refusal(model_dir, tmp_path / "a.tar.gz")


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    """A directory whose save was killed before anything was complete holds nothing, once that has been removed."""
    (tmp_path / "m/.save-1").mkdir(parents=True)
    (tmp_path / "m/.save-1/model.pth").write_bytes(b"half")
    assert "holds no files that could be packed" in refusal(tmp_path / "m", tmp_path / "a.tar.gz")


def test_links_are_refused(tmp_path: Path, model_dir: Path) -> None:
    """A link would arrive as something else, or bring a file that nobody meant to publish."""
    (model_dir / "secret").symlink_to("/etc/hostname")
    assert "secret is a symbolic link to /etc/hostname" in refusal(model_dir, tmp_path / "a.tar.gz")


def test_odd_names_are_refused(tmp_path: Path, model_dir: Path) -> None:
    """Tools disagree about such names."""
    (model_dir / "a\nb").write_text("")
    assert "holds a control character" in refusal(model_dir, tmp_path / "a.tar.gz")


def test_odd_places_are_refused(tmp_path: Path, model_dir: Path) -> None:
    """An archive inside the directory it is made of, a missing directory, a directory as output."""
    assert "lies inside" in refusal(model_dir, model_dir / "model.tar.gz")
    assert "is not a directory" in refusal(tmp_path / "nothing", tmp_path / "a.tar.gz")
    assert "is a directory; name a file" in refusal(model_dir, tmp_path)
    sentence = refusal(model_dir, tmp_path / "a.tar.gz", code_dir=tmp_path / "no_code")
    assert "no_code does not exist" in sentence
    script = model_dir / "code/inference.py"
    assert "inference.py is a file; give the directory" in refusal(model_dir, tmp_path / "a.tar.gz", code_dir=script)


def test_a_refusal_keeps_the_earlier_archive(tmp_path: Path, model_dir: Path) -> None:
    """The archive of yesterday is only replaced by a whole new one."""
    earlier = pack(model_dir, tmp_path / "model.tar.gz")
    (model_dir / "labels.json").write_text("[]")
    with pytest.raises(ArtifactError):
        pack(model_dir, tmp_path / "model.tar.gz")
    assert hashlib.sha256(earlier.path.read_bytes()).hexdigest() == earlier.sha256


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, one line on standard error, nothing on standard output."""
    assert main(["pack", str(tmp_path / "nothing"), "--output", str(tmp_path / "a.tar.gz")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"tidegate: error: {tmp_path}/nothing is not a directory\n"


@given(pieces=st.lists(st.integers(0, 200_000), max_size=4))
def test_the_gzip_stream_is_valid_for_any_pieces(pieces: list[int]) -> None:
    """Python's gzip reads back what was written, whatever the sizes of the writes, and they leave no trace."""
    content = b"".join(bytes([index + 1]) * size for index, size in enumerate(pieces))
    in_pieces, at_once = io.BytesIO(), io.BytesIO()
    stream = StoredGzipWriter(in_pieces)
    for index, size in enumerate(pieces):
        stream.write(bytes([index + 1]) * size)
    stream.close()
    whole = StoredGzipWriter(at_once)
    whole.write(content)
    whole.close()
    assert gzip.decompress(in_pieces.getvalue()) == content
    assert in_pieces.getvalue() == at_once.getvalue()
    assert stream.size_bytes == len(in_pieces.getvalue())
