"""What is in the image: declared packages, our own files, and nothing of the machine that built it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from container import inventory
from container.engine import LOCAL_BASE, ROOT, Engine, local_base
from tests.container.docker_runs import Docker

LARGEST_BYTES = 895_000_000

# Prints [every file, every file that a package declares], each by its real directory.
LISTING = """
import csv, json, os, sysconfig
from pathlib import Path
site = Path(sysconfig.get_path("purelib"))
def real(path):
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
files, declared = set(), set()
for directory, folders, names in os.walk("/"):
    if directory == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys", "dev")]
    links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
    files.update(real(os.path.join(directory, name)) for name in [*names, *links])
for listing in Path("/var/lib/dpkg/info").glob("*.list"):
    declared.update(real(line) for line in listing.read_text().splitlines())
for record in site.glob("*.dist-info/RECORD"):
    declared.update(os.path.normpath(site / row[0]) for row in csv.reader(record.open()))
print(json.dumps([sorted(files), sorted(declared)]))
"""

# Names the compiled files that are not of the kind "unchecked-hash" (PEP 552: the second word is 1).
CHECKED = """
from pathlib import Path
for path in Path("/opt/tidegate").rglob("*.pyc"):
    if path.open("rb").read(8)[4:] != bytes([1, 0, 0, 0]):
        print(path)
"""

# Files that no package lists, and what makes them.
MADE_BY = {
    "docker, when a container starts": r"/\.dockerenv|/etc/(hostname|hosts|resolv\.conf|mtab)",
    "python -m venv": (
        r"/opt/tidegate/venv/(lib64|pyvenv\.cfg"
        r"|bin/(python|python3|python3\.11|activate|activate\.csh|activate\.fish|Activate\.ps1))"
    ),
    "us": r"/opt/tidegate/(LICENSE|bin/start|venv/bin/tidegate|venv/lib/python3\.11/site-packages/tidegate\.pth)",
    "us, the sources": r"/opt/tidegate/(lib/tidegate|bin/container)/.+\.(py|pth|typed|html|css|js)",
    "base-files, base-passwd, passwd, login": (
        r"/etc/(\.pwd\.lock|environment|fstab|group-?|gshadow-?|inputrc|motd|nsswitch\.conf|passwd-?|profile|shadow-?"
        r"|shells|subgid|subuid|security/opasswd|dpkg/origins/default)|/root/\.(bashrc|profile)|/var/lib/shells\.state"
        r"|/var/spool/mail|/usr/local/man"
    ),
    "update-alternatives": r"/etc/alternatives/.+|/usr/s?bin/(awk|nawk|pager|which|rmt)",
    "update-ca-certificates": r"/etc/ca-certificates\.conf|/etc/ssl/certs/.+",
    "ldconfig": r"/etc/ld\.so\.cache",
    "pam-auth-update": r"/etc/pam\.d/common-.+|/var/lib/pam/.+",
    "python3": r"/etc/python3/debian_config|/var/lib/python/.+",
    "deb-systemd-helper, update-rc.d": r"/etc/systemd/system/.+|/var/lib/systemd/.+|/etc/rc[0-9S]\.d/.+",
    "apt, dpkg, debconf and install-info": (
        r"/etc/apt/sources\.list|/var/lib/(dpkg|apt)/.+|/var/cache/(apt|debconf)/.+|/usr/share/info/dir"
    ),
    "mmdebstrap: the path rules of the base": r"/etc/(apt/apt\.conf|dpkg/dpkg\.cfg)\.d/99mmdebstrap",
}


@pytest.fixture(scope="module")
def listing(docker: Docker) -> tuple[list[str], set[str]]:
    files, declared = json.loads(docker.run("python3", "-c", LISTING))
    return files, set(declared)


@pytest.fixture(scope="module")
def description(engine: Engine, image: str) -> dict[str, Any]:
    return dict(json.loads(engine.run("image", "inspect", image))[0])


def source_of(path: str) -> str:
    """A compiled file belongs to what its source belongs to."""
    return re.sub(r"/__pycache__/([^/]+)\.cpython-\d+(\.opt-\d)?\.pyc$", r"/\1.py", path)


def test_every_file_belongs_to_a_declared_package_or_to_us(engine: Engine, listing: tuple[list[str], set[str]]) -> None:
    files, declared = listing
    if local_base(engine) is None:
        declared |= {path for path in files if path.startswith("/usr/local/")}  # the official image's own Python
    makers = [re.compile(pattern) for pattern in MADE_BY.values()]
    unexplained = [
        path
        for path in files
        if source_of(path) not in declared and not any(maker.fullmatch(source_of(path)) for maker in makers)
    ]
    assert len(files) > 5000
    assert not unexplained, "\n".join(unexplained[:50])


def test_what_a_users_python_can_import_of_ours_is_tidegate_and_two_short_names(docker: Docker) -> None:
    program = (
        "import importlib.util, pkgutil\n"
        "print([module.name for module in pkgutil.iter_modules(['/opt/tidegate/lib'])])\n"
        "names = ('client', 'container', 'inference', 'infra', 'local_cloud', 'training_hooks')\n"
        "print([name for name in names if importlib.util.find_spec(name)])\n"
    )
    assert docker.run("python3", "-c", program).splitlines() == ["['tidegate']", "['inference', 'training_hooks']"]


def test_there_is_no_compiler_and_what_another_user_may_change_or_become_is_known(
    docker: Docker, listing: tuple[list[str], set[str]]
) -> None:
    programs = {Path(path).name for path in listing[0] if Path(path).parent.name in ("bin", "sbin")}
    assert {"bash", "python3"} <= programs
    assert not programs & {"cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "nvcc", "git", "curl", "wget", "ssh"}
    open_to_all = docker.run("find", "/", "-xdev", "-perm", "-0002", "!", "-type", "l", "!", "-perm", "-1000")
    assert docker.run("find", "/", "-xdev", "-type", "f", "-perm", "/6000") == ""
    assert set(open_to_all.split()) == {f"/opt/ml{folder}" for folder in ("", "/code", "/input", "/model", "/output")}


def test_every_certificate_is_one_that_debian_ships(docker: Docker) -> None:
    """A certificate authority of the machine that built the image would be one more."""
    bundle, shipping = "/etc/ssl/certs/ca-certificates.crt", "/usr/share/ca-certificates/mozilla/*.crt"
    count = f"cat {bundle} | grep -c BEGIN; cat {shipping} | grep -c BEGIN"
    bundled, shipped = docker.run("sh", "-c", count).split()
    assert bundled == shipped
    assert docker.run("find", "/usr/local/share/ca-certificates", "-type", "f") == ""


def test_neither_configuration_nor_history_holds_an_address_or_a_credential(
    engine: Engine, docker: Docker, image: str, description: dict[str, Any], listing: tuple[list[str], set[str]]
) -> None:
    variables = {entry.partition("=")[0] for entry in description["Config"]["Env"]}
    assert variables == {
        "LANG",
        "PATH",
        "PIP_DISABLE_PIP_VERSION_CHECK",
        "PIP_ROOT_USER_ACTION",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
    }
    history = engine.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert not re.search(r"https?://|token|secret|passw|index-url|extra-index|_proxy", history, re.IGNORECASE)
    assert not [path for path in listing[0] if re.search(r"/(pip\.conf|\.netrc|\.pypirc|\.aws/|\.ssh/)", path)]
    settings = docker.run("pip", "config", "list").splitlines()
    assert settings == [":env:.disable-pip-version-check='1'", ":env:.root-user-action='ignore'"]
    if local_base(engine) is not None:  # a public base names its public mirror
        assert docker.run("find", "/etc/apt", "-name", "*sources*", "-type", "f") == ""


def test_what_the_image_installs_fits_together_and_is_compiled(docker: Docker) -> None:
    assert "No broken requirements found" in docker.run("python3", "-m", "pip", "check")
    compiled = docker.run(
        "python3",
        "-c",
        "import torch, numpy, tidegate.inference.frontend.server as s; print(torch.__cached__, s.__cached__)",
    )
    for path in compiled.split():
        docker.run("test", "-f", path)
    # Bytecode that is checked against its source bears the time of the build, so no two builds would be the same.
    assert docker.run("python3", "-c", CHECKED) == ""


def test_the_labels_promise_what_the_server_keeps(description: dict[str, Any]) -> None:
    labels = description["Config"]["Labels"]
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    # Developer guide, "Custom inference code with hosting services": without it no stream reaches the container.
    assert labels["com.amazonaws.sagemaker.capabilities.bidirectional-streaming"] == "true"
    assert not [name for name in labels if "cuda" in name]
    assert re.fullmatch(r"[0-9a-f]{40}|", labels["org.opencontainers.image.revision"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["org.opencontainers.image.version"] == project["version"]


def test_the_image_is_small(engine: Engine, description: dict[str, Any]) -> None:
    others_base = 0
    if local_base(engine) is None:
        others_base = 25_000_000  # the public slim base holds pip, which ours does not
    assert description["Size"] <= LARGEST_BYTES + others_base, f"{description['Size']} bytes, base {LOCAL_BASE}"


def test_the_inventory_is_valid_and_names_every_package(
    engine: Engine, docker: Docker, image: str, tmp_path: Path
) -> None:
    path = tmp_path / "image.cdx.json"
    count = inventory.write(engine, image, path)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None
    document = json.loads(path.read_text())
    assert (
        document["metadata"]["component"]["version"] == engine.run("image", "inspect", "-f", "{{.Id}}", image).strip()
    )
    urls = [component["purl"] for component in document["components"]]
    python = [line for line in docker.run("pip", "list", "--format", "freeze").splitlines() if line]
    debian = docker.run("dpkg-query", "--show").splitlines()
    assert len(urls) == count == len(python) + len(debian)
    assert any(url.startswith("pkg:pypi/torch@2.") for url in urls)
    assert any(re.fullmatch(r"pkg:deb/debian/libc6@.+\?arch=\w+&distro=debian-\d+", url) for url in urls)
