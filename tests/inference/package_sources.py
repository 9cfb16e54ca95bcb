"""Packages to install where there is no network: projects that build themselves, git repositories, and indexes.

A project brings its own build backend, so that no build needs an index.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

BACKEND = '''
import importlib.util, pathlib, tomllib, zipfile
META = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
NAME, VERSION = META["name"], META["version"]
INFO = f"{NAME}-{VERSION}.dist-info"

def get_requires_for_build_wheel(config_settings=None):
    return []

get_requires_for_build_editable = get_requires_for_build_wheel

def _wheel(folder, modules):
    file = f"{NAME}-{VERSION}-py3-none-any.whl"
    pathlib.Path("left-by-the-build").write_text("as setuptools leaves build/ and *.egg-info")
    sees = bool(importlib.util.find_spec("numpy"))
    files = modules | {
        f"{NAME}_built.py": f"SAW_NUMPY = {sees}",
        f"{INFO}/METADATA": f"Metadata-Version: 2.1\\nName: {NAME}\\nVersion: {VERSION}\\n",
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{INFO}/entry_points.txt": f"[console_scripts]\\n{NAME}-say = {NAME}:say\\n",
    }
    record = f"{INFO}/RECORD"
    files[record] = "".join(f"{name},,\\n" for name in [*files, record])
    with zipfile.ZipFile(pathlib.Path(folder) / file, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return file

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, {f"{NAME}.py": pathlib.Path(f"{NAME}.py").read_text()})

def build_editable(folder, config_settings=None, metadata_directory=None):
    """By an import hook, as setuptools does it for a project without a src folder."""
    place = str(pathlib.Path(f"{NAME}.py").resolve())
    hook = (
        "import importlib.util, sys\\n"
        "class Finder:\\n"
        "    @staticmethod\\n"
        "    def find_spec(name, path=None, target=None):\\n"
        f"        if name == {NAME!r}:\\n"
        f"            return importlib.util.spec_from_file_location(name, {place!r})\\n"
        "sys.meta_path.append(Finder)\\n"
    )
    modules = {f"_editable_{NAME}.py": hook, f"_editable_{NAME}.pth": f"import _editable_{NAME}\\n"}
    return _wheel(folder, modules)
'''


def project(name: str, version: str, origin: str, backend: str = BACKEND) -> dict[str, str]:
    """The files of a project with one module, whose `ORIGIN` and `__version__` say where it is from."""
    return {
        "pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "own_backend"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\n'
        ),
        "own_backend.py": backend,
        f"{name}.py": f"ORIGIN = {origin!r}\n__version__ = {version!r}\n\ndef say():\n    print(ORIGIN)\n",
    }


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def sdist(name: str, version: str, origin: str) -> tuple[str, bytes]:
    """A source distribution, as (file name, bytes)."""
    file = io.BytesIO()
    files = project(name, version, origin) | {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return f"{name}-{version}.tar.gz", file.getvalue()


def wheel(name: str, version: str, origin: str, requires: str = "") -> tuple[str, bytes]:
    """A wheel with one module, as (file name, bytes)."""
    file = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", f"ORIGIN = {origin!r}\n__version__ = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}-{version}-py3-none-any.whl", file.getvalue()


def git(folder: Path, *words: str) -> str:
    """What `git` says in `folder`, whatever this machine's configuration of it is."""
    identity = {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **identity}
    done = subprocess.run(
        ["/usr/bin/env", "git", *words],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """A repository whose tag v1 is not its head: `tg_flat` at its root, and `tg_deep` in python/."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for version in ("1", "2"):
        write(folder, project("tg_flat", version, f"commit {version}"))
        write(folder / "python", project("tg_deep", version, f"commit {version}"))
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", version)
        git(folder, "tag", f"v{version}")
    return folder


@dataclass(kw_only=True)
class Index:
    """A package index on a socket. `asked` has the paths that were asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    directory: Path | None = None
    credentials: str | None = None
    asked: list[str] = field(default_factory=list)

    def add(self, file: tuple[str, bytes]) -> str:
        """Offer a file; returns its sha256."""
        self.files[file[0]] = file[1]
        return hashlib.sha256(file[1]).hexdigest()

    def address(self, path: str, *, with_credentials: bool = False) -> str:
        """The URL of a path, with the credentials in it where it should have them."""
        secret = f"{self.credentials}@" if with_credentials else ""
        return self.url.replace("://", f"://{secret}") + path

    def answer(self, path: str, authorization: str) -> tuple[int, bytes, str]:
        self.asked.append(path)
        if self.credentials is not None:
            expected = "Basic " + base64.b64encode(self.credentials.encode()).decode()
            if authorization != expected:
                return 401, b"", "text/plain"
        if path.startswith("/simple/"):
            name = path.split("/")[2].replace("-", "_")
            found = [file for file in self.files if file.startswith(f"{name}-")]
            links = "".join(f'<a href="/files/{file}">{file}</a>' for file in found)
            return (200, links.encode(), "text/html") if found else (404, b"", "text/plain")
        if path.startswith("/files/") and (content := self.files.get(path.removeprefix("/files/"))) is not None:
            return 200, content, "application/octet-stream"
        place = self.directory / path.lstrip("/") if self.directory else None
        if place is not None and place.is_file():
            return 200, place.read_bytes(), "application/octet-stream"
        return 404, b"", "text/plain"


@contextlib.contextmanager
def index(credentials: str | None = None, directory: Path | None = None) -> Iterator[Index]:
    """An index that answers as long as the block runs; with `directory` it offers those files too."""
    offered = Index(credentials=credentials, directory=directory)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            status, body, kind = offered.answer(path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            if status == 401:
                self.send_header("www-authenticate", 'Basic realm="ours"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        offered.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield offered
        finally:
            server.shutdown()
            thread.join()
