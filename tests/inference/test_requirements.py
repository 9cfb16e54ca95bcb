"""What `code/requirements.txt` names is what is installed, with pip itself and sources on this machine alone."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from tests.contract.running import wait_until
from tests.inference import package_sources
from tests.inference.package_sources import BACKEND, git, index, project, repository, sdist, wheel
from tests.polling import until_in_loop
from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.packages import requirements
from tidegate.inference.package_layer import PackageLayer

TORCH = metadata.version("torch")


@pytest.fixture(autouse=True)
def pip_of_no_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip's configuration is the test's own."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "GIT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{tmp_path}/no-index")


class Model:
    """A model directory, and what is installed for it."""

    def __init__(self, folder: Path) -> None:
        self.code = folder / "model/code"
        self.code.mkdir(parents=True)
        self.home = folder / "packages/0"
        self.home.parent.mkdir()

    def install(self, wanted: str, timeout_s: float = 300) -> Path | None:
        (self.code / "requirements.txt").write_text(wanted)
        return asyncio.run(requirements.install(self.code.parent, lambda: self.home, timeout_s))

    def says(self, module: str, attribute: str = "ORIGIN") -> str:
        """What an interpreter of the layer finds in `module`."""
        program = f"import {module}; print({module}.{attribute})"
        words = [PackageLayer(self.home).interpreter, "-c", program]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=300).stdout.strip()

    def refusal(self, wanted: str, timeout_s: float = 300) -> str:
        """Why it cannot be installed."""
        with pytest.raises(DeploymentError) as failure:
            self.install(wanted, timeout_s)
        assert not self.home.exists()
        assert "\n" not in str(failure.value)
        return str(failure.value).removeprefix(f"{self.code}/requirements.txt cannot be installed: ")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tmp_path)


@pytest.mark.parametrize("reference", ["v1", "commit", "branch"])
def test_a_git_reference_is_what_is_installed_and_not_the_head(model: Model, tmp_path: Path, reference: str) -> None:
    origin = repository(tmp_path / "origin")
    git(origin, "branch", "branch", "v1")
    named = git(origin, "rev-parse", "v1") if reference == "commit" else reference
    assert model.install(f"git+file://{origin}@{named}\n") == model.home
    assert model.says("tg_flat") == "commit 1"


def test_the_subdirectory_of_a_git_reference_is_what_is_installed(model: Model, tmp_path: Path) -> None:
    model.install(f"git+file://{repository(tmp_path / 'origin')}@v1#subdirectory=python\n")
    assert model.says("tg_deep") == "commit 1"
    assert not list(PackageLayer(model.home).site.glob("tg_flat*"))


def test_a_git_reference_over_http_is_cloned_from_the_repository_that_it_names(model: Model, tmp_path: Path) -> None:
    bare = tmp_path / "web/origin.git"
    origin = repository(tmp_path / "origin")
    git(origin, "clone", "--quiet", "--bare", str(origin), str(bare))
    git(bare, "update-server-info")
    with index(directory=tmp_path / "web") as web:
        model.install(f"tg_flat @ git+{web.url}/origin.git@v1\n")
    assert model.says("tg_flat") == "commit 1"


def test_a_nested_files_index_and_hash_decide_though_another_index_is_configured(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same name and version on two indexes: dependency confusion."""
    with index() as configured, index() as named:
        configured.add(wheel("tg_asked", "1.0", "the configured index"))
        sha256 = named.add(wheel("tg_asked", "1.0", "the index of the file"))
        monkeypatch.setenv("PIP_INDEX_URL", f"{configured.url}/simple")
        (model.code / "base.txt").write_text(f"--index-url {named.url}/simple\ntg_asked==1.0 --hash=sha256:{sha256}\n")
        model.install("-r base.txt\n")
        assert configured.asked == []
    assert model.says("tg_asked") == "the index of the file"


def test_a_file_that_has_not_the_hash_of_the_requirement_is_not_installed(model: Model) -> None:
    with index() as named:
        sha256 = named.add(wheel("tg_asked", "1.0", "somebody else"))
        said = model.refusal(f"--index-url {named.url}/simple\ntg_asked==1.0 --hash=sha256:{'0' * 64}\n")
    assert said == f"tg_asked==1.0 has the hash {sha256}, and the requirements want {'0' * 64}."


@pytest.mark.parametrize(
    ("option", "origin"), [("", "a wheel"), ("--no-binary tg_asked\n", "a build"), ("--no-binary=:all:\n", "a build")]
)
def test_no_binary_is_obeyed_in_a_nested_file_too(model: Model, option: str, origin: str) -> None:
    with index() as named:
        named.add(wheel("tg_asked", "1.0", "a wheel"))
        named.add(sdist("tg_asked", "1.0", "a build"))
        (model.code / "base.txt").write_text(f"{option}--index-url {named.url}/simple\ntg_asked\n")
        model.install("-r ./base.txt\n")
    assert model.says("tg_asked") == origin


@pytest.mark.parametrize("form", ["file", "index", "variable"])
def test_credentials_in_a_url_reach_its_server(model: Model, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    with index(credentials="somebody:secret") as closed:
        closed.add(wheel("tg_asked", "1.0", "behind a password"))
        file = "/files/tg_asked-1.0-py3-none-any.whl"
        monkeypatch.setenv("TG_SECRET", "somebody:secret")
        wanted = {
            "file": f"tg_asked @ {closed.address(file, with_credentials=True)}\n",
            "index": f"--extra-index-url {closed.address('/simple', with_credentials=True)}\ntg_asked==1.0\n",
            "variable": f"tg_asked @ {closed.url.replace('://', '://${TG_SECRET}@')}{file}\n",
        }[form]
        model.install(wanted)
    assert model.says("tg_asked") == "behind a password"


def test_the_credentials_of_a_url_are_not_in_what_is_said_of_a_failure(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with index(credentials="somebody:right") as closed:
        place = closed.address("/origin.git").replace("://", "://somebody:wrong@")
        said = model.refusal(f"git+{place}@v1\n")
    assert "git clone" in said
    assert "wrong" not in said
    assert all("wrong" not in str(record.__dict__) for record in caplog.records)


def test_an_editable_checkout_lies_in_the_layer_and_is_imported_from_there(model: Model, tmp_path: Path) -> None:
    before = set(Path(sys.prefix).iterdir())
    model.install(f"-e git+file://{repository(tmp_path / 'origin')}@v1#egg=tg_flat\n")
    assert model.says("tg_flat") == "commit 1"
    assert Path(model.says("tg_flat", "__file__")).is_relative_to(model.home / "src")
    assert set(Path(sys.prefix).iterdir()) == before


@pytest.mark.parametrize("line", ["./local\n", "-e ./local\n"])
def test_a_project_in_the_archive_is_built_without_a_trace_in_the_archive(model: Model, line: str) -> None:
    place = model.code / line.removeprefix("-e ").strip()
    package_sources.write(place, project("tg_local", "1.0", "the archive"))
    package_sources.write(model.code / "another", project("tg_another", "1.0", "not asked for"))
    (model.code / "wheels").mkdir()
    model.code.chmod(0o500)
    model.install(line)
    model.code.chmod(0o700)
    assert model.says("tg_local") == "the archive"
    assert not list(model.code.rglob("left-by-the-build"))


def test_a_build_does_not_see_the_packages_of_the_server(model: Model) -> None:
    """Else it would take the server's setuptools in place of the one that its project names."""
    package_sources.write(model.code / "local", project("tg_local", "1.0", "the archive"))
    model.install("./local\n")
    assert model.says("tg_local_built", "SAW_NUMPY") == "False"
    assert model.says("numpy", "__version__") == metadata.version("numpy")


def test_whatever_pips_configuration_says_of_where_to_install_it_is_the_layer(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    options = {"user": "true", "target": elsewhere, "prefix": elsewhere, "root": elsewhere, "src": elsewhere}
    configuration = tmp_path / "pip.conf"
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    configuration.write_text(f"[global]\nrequire-virtualenv = true\n[install]\n{lines}")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    with index() as offered:
        offered.add(wheel("tg_asked", "1.0", "an index"))
        origin = repository(tmp_path / "origin")
        model.install(f"--index-url {offered.url}/simple\ntg_asked\n-e git+file://{origin}@v1#egg=tg_flat\n")
    assert model.says("tg_asked") == "an index"
    assert model.says("tg_flat") == "commit 1"
    assert not elsewhere.exists()


@pytest.mark.parametrize(
    ("bound", "wish", "said"),
    [
        ("<=99", "torch==1.0", f"it wants torch==1.0, but torch stays at the installed version, {TORCH}."),
        (">=2,<99", "torch>=98", f"it wants torch>=98, but torch stays at the installed version, {TORCH}."),
        ("==2.1", "torch", f"pip's own configuration (PIP_CONSTRAINT, pip.conf) wants torch==2.1, but torch stays at "
         f"the installed version, {TORCH}."),
    ],
)  # fmt: skip
def test_who_wants_another_torch_is_named_beside_a_constraint_of_the_machine(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, wish: str, said: str
) -> None:
    (tmp_path / "constraints.txt").write_text(f"torch{bound}\n")
    (tmp_path / "pip.conf").write_text(f"[global]\nconstraint = {tmp_path / 'constraints.txt'}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert model.refusal(f"{wish}\n").endswith(said)


def test_a_torch_of_the_same_version_is_refused_too_where_pip_would_take_it(model: Model) -> None:
    """pip takes a project that is named by its place for another one than what is installed."""
    package_sources.write(model.code / "local", project("torch", TORCH, "another build"))
    said = model.refusal("./local\n")
    assert said == f"it brings torch {TORCH} of its own, but torch stays at the installed version, {TORCH}."


def test_a_package_older_than_the_server_needs_is_refused_with_the_version_that_it_needs(model: Model) -> None:
    package_sources.write(model.code / "local", project("Pillow", "8.4.0", "of another time"))
    assert model.refusal("./local\n") == (
        "it brings Pillow 8.4.0, and the server needs Pillow 9.3 or later; raise its version, or leave it out to use "
        "the one that is here."
    )


def test_a_git_that_is_not_there_is_named_in_one_line_with_the_way_out(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = model.refusal("git+http://127.0.0.1:9/repo@v1\n")
    assert said == "it needs git, which is not installed; put the package as a wheel into code/wheels/."


def test_the_reason_of_a_failed_step_is_the_steps_own(model: Model, tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin")
    said = model.refusal(f"git+file://{origin}@v9\n")
    assert said == "git checkout -q v9 failed: error: pathspec 'v9' did not match any file(s) known to git."
    said = model.refusal(f"git+file://{tmp_path}/nowhere@v1\n")
    assert f"failed: fatal: '{tmp_path}/nowhere' does not appear to be a git repository" in said
    backend = BACKEND.replace("return []", "import no_such_module_of_ours")
    broken = project("tg_local", "1.0", "", backend=backend)
    package_sources.write(model.code / "local", broken)
    said = model.refusal("./local\n")
    assert said.startswith("./local: ")
    assert said.endswith(" failed: ModuleNotFoundError: No module named 'no_such_module_of_ours'.")


def test_a_build_that_does_not_end_is_ended_with_all_that_it_started(model: Model, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    hanging = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(f'{{child.pid}}\\n')\n"
        "child.wait()\n"
    )
    package_sources.write(model.code / "local", project("tg_local", "1.0", "", backend=hanging))
    (model.code / "requirements.txt").write_text("./local\n")

    async def stop_when_it_builds() -> None:
        installing = asyncio.ensure_future(requirements.install(model.code.parent, lambda: model.home, 600))
        await until_in_loop(lambda: installing.done() or (pid_file.exists() and pid_file.read_text()), "it builds")
        assert not installing.done()
        installing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await installing

    asyncio.run(stop_when_it_builds())
    child = int(pid_file.read_text())
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", "the child is gone")
    assert not model.home.exists()


def test_what_takes_too_long_is_said_and_leaves_nothing(model: Model) -> None:
    package_sources.write(
        model.code / "local", project("tg_local", "1.0", "", backend="import time\ntime.sleep(600)\n")
    )
    assert model.refusal("./local\n", timeout_s=0.5) == f"{model.code}/requirements.txt was not installed within 0.5 s."
    gc.collect()  # which finds no process that was left to it: that would fail this test, or one that comes later


def test_nothing_is_left_where_nothing_is_lacking(model: Model) -> None:
    assert model.install("numpy\n") is None
    assert not model.home.exists()


def test_what_lies_in_the_layer_goes_with_it(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Temporary files of pip and of builds too."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    package_sources.write(model.code / "local", project("tg_local", "1.0", "the archive"))
    home = model.install("./local\n")
    assert home is not None
    asyncio.run(requirements.remove(home))
    assert list(model.home.parent.iterdir()) == []
    assert list(scratch.iterdir()) == []


def test_without_pip_that_is_what_is_said(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "site-packages" not in place])
    assert model.refusal("numpy\n").endswith("No module named pip.")


def test_packages_below_are_found_whatever_the_locale_and_the_name_of_their_folder(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    below = tmp_path / "müller" / "site-packages"
    package_sources.write(below, {"tg_below.py": "ORIGIN = 'below'\n"})
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    program = (
        "import pathlib, sys; from tidegate.inference.package_layer import PackageLayer; "
        "sys.path.append(sys.argv[1]); PackageLayer(pathlib.Path(sys.argv[2])).create()"
    )
    subprocess.run([sys.executable, "-c", program, below, model.home], check=True, timeout=300)
    assert model.says("tg_below") == "below"


def test_a_layer_that_cannot_be_written_is_said_in_one_line(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model.home = tmp_path / "file/0"
    said = model.refusal("numpy\n")
    assert "Not a directory" in said
    assert str(model.home) in said
