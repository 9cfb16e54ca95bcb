"""`tidegate serve` and `check` of an archive, with a script of one's own, and what they leave behind: nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.models import DOUBLE
from tests.contract.running import Server, free_port, wait_until, write_files
from tests.contract.test_command_line import ENVIRONMENT, TIDEGATE, refusal, serving
from tests.inference.repository.files import archive_of, published
from tidegate.inference.given_model import PREFIX

FILES = {"code/inference.py": DOUBLE.encode()}


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The TMPDIR of the servers."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def served(*arguments: str, cwd: Path, temporary: Path, **environment: str) -> Iterator[Server]:
    port = free_port()
    with serving(*arguments, f"--port={port}", cwd=cwd, port=port, TMPDIR=str(temporary), **environment) as server:
        yield server


def unpacked(temporary: Path) -> list[Path]:
    return list(temporary.glob(f"{PREFIX}*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_archive_is_served_and_nothing_of_it_is_left(
    tmp_path: Path, temporary: Path, number: signal.Signals
) -> None:
    (tmp_path / "model.tar.gz").write_bytes(archive_of(published(FILES)))
    with served("model.tar.gz", cwd=tmp_path, temporary=temporary) as server:
        assert server.post(b"[[1]]").json() == [[2.0]]
        assert '"host": "127.0.0.1"' in server.log()
        assert '"1 files match the manifest"' in server.log()
        assert len(unpacked(temporary)) == 1
        server.process.send_signal(number)
        assert server.ended() == 0
    assert list(temporary.iterdir()) == []


def test_a_port_that_is_taken_is_said_before_anything_is_unpacked(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"\x1f\x8b no archive")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = refusal("serve", "model.tar.gz", f"--port={port}", cwd=tmp_path, TMPDIR=str(temporary))
    assert status == 1
    assert line.startswith(f"tidegate: error: Port {port} on 127.0.0.1 is in use already; ")


def test_an_archive_with_its_folder_around_it_is_served(tmp_path: Path, temporary: Path) -> None:
    write_files(tmp_path, {"mine/code/inference.py": DOUBLE})
    with tarfile.open(tmp_path / "archive", "w:gz") as tar:  # nor does its name matter
        tar.add(tmp_path / "mine", arcname="mine")
    with served("archive", cwd=tmp_path, temporary=temporary) as server:
        assert server.post(b"[[1]]").json() == [[2.0]]


def test_an_archive_is_checked_and_nothing_of_it_is_left(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(archive_of(FILES))
    done = subprocess.run(
        [*TIDEGATE, "check", "model.tar.gz"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "this model may take traffic"
    assert list(temporary.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next_and_what_a_living_one_has_is_not(
    tmp_path: Path, temporary: Path
) -> None:
    (tmp_path / "model.tar.gz").write_bytes(archive_of(FILES))
    others = temporary / f"{PREFIX}is-a-file"
    others.touch()
    with (
        served("model.tar.gz", cwd=tmp_path, temporary=temporary) as living,
        served("model.tar.gz", cwd=tmp_path, temporary=temporary) as killed,
    ):
        assert len(unpacked(temporary)) == 3
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait()
        assert len(unpacked(temporary)) == 3
        with served("model.tar.gz", cwd=tmp_path, temporary=temporary) as next_one:
            assert len(unpacked(temporary)) == 3
            assert next_one.post(b"[[1]]").json() == [[2.0]]
            assert living.post(b"[[1]]").json() == [[2.0]]
    assert list(temporary.iterdir()) == [others]


def test_a_signal_while_it_is_unpacked_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    """`serve` ends as it does while a model loads, `check` with the status of its signal."""
    with (
        gzip.open(tmp_path / "model.tar.gz", "wb", compresslevel=1) as file,
        tarfile.open(fileobj=file, mode="w|") as tar,
    ):
        member = tarfile.TarInfo("model.pth")
        member.size = 1 << 30
        tar.addfile(member, Zeros())
    for command, status in (("serve", 0), ("check", 128 + signal.SIGTERM)):
        process = subprocess.Popen(
            [*TIDEGATE, command, "model.tar.gz"],
            cwd=tmp_path,
            env={**ENVIRONMENT, "SAGEMAKER_BIND_TO_PORT": str(free_port()), "TMPDIR": str(temporary)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: list(temporary.glob("*/model/*")), "it unpacks")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == status
        assert list(temporary.iterdir()) == []


class Zeros(io.RawIOBase):
    """As many as are asked for."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def tar_of(*members: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as tar:  # type: ignore[call-overload]
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return content.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, link
    return made


def claiming(size: int) -> bytes:
    """An archive whose header promises more than any disk has."""
    return gzip.compress(member("model.pth", size=size).tobuf(tarfile.GNU_FORMAT) + bytes(1024))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tar_of(member("../outside", size=3)), "holds '../outside', which leads out of its directory."),
        (tar_of(member("/outside", size=3)), "holds '/outside', an absolute path."),
        (
            tar_of(member("model.pth", tarfile.SYMTYPE, link="/etc/passwd")),
            "holds the link 'model.pth' to '/etc/passwd'; pack the file itself (tar -h).",
        ),
        (tar_of(member("pipe", tarfile.FIFOTYPE)), "holds 'pipe', which is neither a file nor a directory."),
        (tar_of(), "holds no file."),
        (
            tar_of(member("model.pth", size=3), mode="w"),
            "is a tar archive without gzip, which SageMaker does not take: gzip it.",
        ),
        (
            tar_of(member("model.pth", size=3), mode="w:xz"),
            "is compressed by xz, and SageMaker takes gzip alone: pack it as model.tar.gz (tar -czf).",
        ),
        (
            tar_of(member("model.pth", size=3), mode="w:bz2"),
            "is compressed by bzip2, and SageMaker takes gzip alone: pack it as model.tar.gz (tar -czf).",
        ),
        (b"<html>Please sign in.</html>", "is an HTML page, not a gzipped tar archive."),
        (b"", "is empty."),
        (gzip.compress(b"not a tar"), "is no readable gzipped tar archive: "),
        (archive_of({"model.pth": b"x" * 1000})[:-20], "is no readable gzipped tar archive: "),
        (claiming(1 << 60), "needs 1152921504606846976 bytes on the disk or more, and "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_unpacked_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, temporary: Path, content: bytes, said: str
) -> None:
    (tmp_path / "model.tar.gz").write_bytes(content)
    status, line = refusal("check", "model.tar.gz", cwd=tmp_path, TMPDIR=str(temporary))
    assert status == 1
    assert line.startswith(f"tidegate: error: model.tar.gz {said}")
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_a_bomb_is_measured_and_not_unpacked(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(tar_of(member("model.pth", size=50_000_000)))
    status, line = refusal(
        "serve", "model.tar.gz", cwd=tmp_path, TMPDIR=str(temporary), TIDEGATE_MAX_DISK_BYTES="1000000"
    )
    assert (status, line) == (
        1,
        "tidegate: error: model.tar.gz needs 50000000 bytes on the disk or more, and 1000000 are left for it in "
        f"{temporary}; set TMPDIR to a directory with more room, or raise TIDEGATE_MAX_DISK_BYTES where that is what "
        "limits it.",
    )
    assert list(temporary.iterdir()) == []


def test_where_nothing_can_be_written_the_sentence_names_tmpdir(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(archive_of(FILES))
    # Python takes another directory where the named one cannot be written, so all files are limited to no byte.
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *TIDEGATE, "serve", "model.tar.gz"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "SAGEMAKER_BIND_TO_PORT": str(free_port())},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tidegate: error: model.tar.gz can be unpacked nowhere (")
    assert last.endswith("); set TMPDIR to a directory that can be written.")


# --- a script of one's own

WRAPPER = """
import json, beside

def model_fn(model_dir):
    return json.load(open(model_dir + "/factor.json"))

def predict_fn(data, model):
    return [beside.times(each, model) for each in data]

def input_fn(data, content_type):
    return json.loads(data)

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "directory"])
def test_a_wrapper_is_used_in_place_of_the_models_script_with_what_lies_beside_it(
    tmp_path: Path, temporary: Path, packed: bool
) -> None:
    files = {"factor.json": b"3", "code/inference.py": b"raise OSError", "code/beside.py": b"raise OSError"}
    write_files(tmp_path / "model", files)
    (tmp_path / "model.tar.gz").write_bytes(archive_of(files))
    write_files(tmp_path, {"mine/wrapper.py": WRAPPER, "mine/beside.py": "def times(a, b):\n    return a * b\n"})
    model = "model.tar.gz" if packed else "model"
    arguments = (model, "--wrapper", "mine/wrapper.py", "--kill-after", "5")
    with served(*arguments, cwd=tmp_path, temporary=temporary) as server:
        assert server.post(json.dumps([1, 2])).json() == [3, 6]
        assert server.ended() == 0
    assert list(temporary.iterdir()) == []


INCREMENTS = """
def create_model(modeldir):
    def model(data):
        return {key: value + 1 for key, value in data.items()}
    return model
"""


def test_a_wrapper_of_studio_ml_is_served_as_it_was_there_also_without_any_model(
    tmp_path: Path, temporary: Path
) -> None:
    write_files(tmp_path, {"increment.py": INCREMENTS})
    (tmp_path / "model").mkdir()
    with served("model", "--wrapper", "increment.py", cwd=tmp_path, temporary=temporary) as server:
        assert server.post(b'{"a": 1, "b": [1, 2]}').json() == {"a": 2, "b": [2, 3]}
    status, line = refusal("check", "model", cwd=tmp_path)
    assert (status, line) == (1, f"tidegate: error: The model directory {tmp_path}/model is empty.")


def test_a_wrapper_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"model/code/inference.py": DOUBLE, "wrapper.txt": ""})
    for command in ("serve", "check"):
        for file, said in (
            ("nowhere.py", "there is no file nowhere.py"),
            ("wrapper.txt", "wrapper.txt is no Python file: its name must end in .py"),
            ("model", "there is no file model"),
        ):
            status, line = refusal(command, "model", "--wrapper", file, cwd=tmp_path)
            assert (status, line) == (2, f"tidegate {command}: error: argument --wrapper: {said}")
    (tmp_path / "wrapper.py").touch()
    for many in ({"SAGEMAKER_MULTI_MODEL": "on"}, {"TIDEGATE_MODEL_REPOSITORY": "models"}):
        status, line = refusal("serve", "--wrapper", "wrapper.py", cwd=tmp_path, **many)
        assert (status, line) == (
            1,
            "tidegate: error: --wrapper is the script of one model, and the environment asks for many.",
        )


def test_the_help_says_what_may_be_served(capfd: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([*TIDEGATE, "serve", "--help"], capture_output=True, text=True, check=True, timeout=300)
    for word in ("MODEL", "model.tar.gz", "s3://BUCKET/PREFIX/", "--wrapper FILE", "--kill-after SECONDS", "--port"):
        assert word in done.stdout
