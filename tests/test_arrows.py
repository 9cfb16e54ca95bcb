"""Who may import whom, as docs/architecture.md draws it. Read from the sources, so that lazy imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("client", "inference", "infra", "local_cloud", "training_hooks")
"""Each is imported as `tidegate.<folder>`: docs/decisions/0009-one-installed-name.md."""
PRODUCT = ("tidegate", *(f"tidegate.{folder}" for folder in FOLDERS), "container")
OUTSIDE = ("tests", "examples", "benchmarks")
CLIENT, INFERENCE, INFRA, LOCAL_CLOUD, TRAINING_HOOKS = PRODUCT[1:-1]
FRONTEND, WORKER, REPOSITORY = f"{INFERENCE}.frontend", f"{INFERENCE}.worker", f"{INFERENCE}.repository"
IMAGES, MODEL_LOADER = f"{INFERENCE}.images", f"{INFERENCE}.model_loader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """Modules below `room` import nothing below `forbidden`, save what is below `allowed`."""

    room: str
    forbidden: tuple[str, ...]
    allowed: tuple[str, ...] = ()


ARROWS = [
    # A variable of the container is spelled once, in settings; errors has the class that settings raises.
    Arrow(room=INFRA, forbidden=(INFERENCE,), allowed=(f"{INFERENCE}.settings", f"{INFERENCE}.errors")),
    # It starts the server as a process or a container, as SageMaker would.
    Arrow(room=LOCAL_CLOUD, forbidden=(INFERENCE,)),
    # The command line starts what each room does, and reaches into none.
    Arrow(room="tidegate.__main__", forbidden=(FRONTEND, WORKER, "torch")),
    Arrow(room="tidegate.own_modules", forbidden=(FRONTEND, WORKER, "torch")),
    # They meet only in the artifact on disk.
    Arrow(room=TRAINING_HOOKS, forbidden=(INFERENCE, INFRA, LOCAL_CLOUD, CLIENT)),
    Arrow(room=INFERENCE, forbidden=(TRAINING_HOOKS, INFRA, LOCAL_CLOUD, CLIENT)),
    # One page for both: it knows neither who serves it nor what is served.
    Arrow(
        room="tidegate.playground",
        forbidden=("tidegate", "torch", "numpy", "boto3"),
        allowed=("tidegate.playground",),
    ),
    # It asks deployed models, wherever they run.
    Arrow(room=CLIENT, forbidden=(INFERENCE, TRAINING_HOOKS, INFRA, LOCAL_CLOUD)),
    # Two rooms: the HTTP side stays small and responsive, the model side knows no HTTP.
    Arrow(room=FRONTEND, forbidden=(WORKER, "torch", "numpy", "PIL")),
    Arrow(room=WORKER, forbidden=(FRONTEND, "httptools", "uvloop", "websockets", "http.server", "socketserver")),
    # A process of its own: listing and fetching never hold up a request.
    Arrow(room=REPOSITORY, forbidden=(FRONTEND, WORKER, "torch", "numpy", "httptools", "uvloop", "websockets")),
    Arrow(room=FRONTEND, forbidden=(REPOSITORY,), allowed=(f"{REPOSITORY}.catalogue", f"{REPOSITORY}.messages")),
    # Pixels without a server: whoever draws or labels pictures may import it.
    Arrow(room=IMAGES, forbidden=(FRONTEND, WORKER, REPOSITORY, "torch", "httptools", "uvloop", "websockets")),
    # In a handler, in a batch job and alone: the standard library and nothing else.
    Arrow(
        room=f"{INFERENCE}.pipeline",
        forbidden=("tidegate", "torch", "numpy", "PIL", "boto3"),
        allowed=(f"{INFERENCE}.pipeline",),
    ),
    # From a file into a network, in a worker and without one.
    Arrow(room=f"{INFERENCE}.state_dicts", forbidden=(FRONTEND, WORKER, REPOSITORY, MODEL_LOADER, "numpy", "PIL")),
    # A model by its run id, without a server: what a notebook imports.
    Arrow(room=MODEL_LOADER, forbidden=(FRONTEND, WORKER, "httptools", "uvloop", "websockets")),
    # User code runs in one plain thread; asynchronous generators need an event loop in it, conversations one more.
    *(
        Arrow(room=f"{WORKER}.{path.stem}", forbidden=("asyncio",))
        for path in sorted((ROOT / "inference/worker").glob("*.py"))
        if path.stem not in {"__init__", "event_loop", "bidirectional", "conversation", "incoming"}
    ),
    # What both rooms share pulls neither in.
    *(
        Arrow(
            room=f"{INFERENCE}.{path.stem}",
            forbidden=(FRONTEND, WORKER, "torch", "numpy", "httptools", "uvloop", "websockets"),
        )
        for path in sorted((ROOT / "inference").glob("*.py"))
        if path.stem not in {"__init__", "__main__"}
    ),
    *(Arrow(room=room, forbidden=(*OUTSIDE, *FOLDERS)) for room in ("tidegate", "container")),
]


def below(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def modules(*packages: str) -> Iterator[tuple[str, Path]]:
    """Every module of `packages` by dotted name."""
    for package in packages:
        folder = ROOT / package.removeprefix("tidegate.").replace(".", "/")
        for path in sorted(folder.rglob("*.py")):  # which does not go into `tidegate`'s links to the other folders
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)]), path


def imports(name: str, path: Path) -> Iterator[tuple[str, int]]:
    """Everything that a module imports, at its top or later, by whole dotted name with the line."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            if called in {"import_module", "__import__"} and isinstance(first, ast.Constant):
                yield str(first.value), node.lineno


@pytest.mark.parametrize("arrow", ARROWS, ids=[f"{arrow.room} to {arrow.forbidden[0]}" for arrow in ARROWS])
def test_no_import_goes_against_an_arrow(arrow: Arrow) -> None:
    found = [(name, path) for name, path in modules(*PRODUCT) if below(name, (arrow.room,))]
    assert found, f"there is no module below {arrow.room}"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for name, path in found
        for imported, line in imports(name, path)
        if below(imported, arrow.forbidden) and not below(imported, arrow.allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_reader_of_imports_sees_every_form(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "import a.b as c\nfrom d import e, f\nfrom . import g\nfrom ..h import i\n"
        "def lazy():\n    import j\n    importlib.import_module('k.l')\n"
    )
    found = [imported for imported, _ in imports("top.room.module", source)]
    assert sorted(found) == ["a.b", "d.e", "d.f", "j", "k.l", "top.h.i", "top.room.g"]


def test_no_module_is_named_like_one_of_pythons_own() -> None:
    """Started in its own folder, such a module would be imported in place of the other."""
    wrong = [
        str(path.relative_to(ROOT))
        for name, path in modules(*PRODUCT, *OUTSIDE)
        if (last := name.rpartition(".")[2]) in sys.stdlib_module_names
        and last != "__main__"
        # Whoever starts something in inference/frontend finds no server's http or queue there, and nobody does.
        and path.name != "__init__.py"
    ]
    assert not wrong, "\n".join(wrong)


def loaded_by(imported: str) -> set[str]:
    """The modules of a fresh interpreter after importing `imported`."""
    program = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport {imported}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    return set(done.stdout.split())


def test_the_process_that_serves_http_does_not_load_torch() -> None:
    """Nor numpy, Pillow or anything of the worker, by whatever road: `/ping` is up before torch is imported."""
    loaded = loaded_by(f"{FRONTEND}.server")
    assert f"{FRONTEND}.http.connection" in loaded
    assert not {name for name in loaded if below(name, ("torch", "numpy", "PIL", WORKER))}


def test_the_process_that_computes_does_not_load_the_http_server() -> None:
    loaded = loaded_by(f"{WORKER}.fork_server")
    assert "torch" in loaded
    assert not {name for name in loaded if below(name, ("httptools", "uvloop", FRONTEND))}


def test_settings_load_nothing_but_the_standard_library() -> None:
    """A stack imports them at synthesis, where torch may not even be installed."""
    loaded = loaded_by(f"{INFERENCE}.settings") - loaded_by("sys")
    foreign = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    shared = ("batching", "errors", "layout", "legacy_variables", "settings")
    assert foreign == {"tidegate", INFERENCE, *(f"{INFERENCE}.{name}" for name in shared)}
