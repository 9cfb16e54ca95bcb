"""A run's model as one object, without a server."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference.model_loader.runs import (
    CODE,
    PAINTED_SEA,
    PAINTED_SKY,
    SEA,
    SKY,
    drawn,
    pixels_of,
    sha256_of,
    uri_of,
    weights,
    write_code,
    write_runs,
)
from tidegate.inference.model_loader import architecture
from tidegate.model_loader import (
    BadRequest,
    DeploymentError,
    HandlerFailed,
    ModelLoader,
    PayloadTooLarge,
    UnknownEpoch,
    load_configurations,
)

Colour = tuple[int, ...]
MAP = uri_of([SKY, SKY, SEA], [SEA, SEA, SKY])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run with its weights beside its configuration."""
    (tmp_path / "net.pth").write_bytes(weights())
    return write_runs(tmp_path, _62="  weights: net.pth")


def test_a_map_becomes_a_picture(runs: Path) -> None:
    """A data URI goes in and one of a PNG comes out, of the map's own size."""
    loader = ModelLoader("62", configurations=runs)
    assert pixels_of(loader.get_prediction(MAP)) == [
        [list(PAINTED_SKY), list(PAINTED_SKY), list(PAINTED_SEA)],
        [list(PAINTED_SEA), list(PAINTED_SEA), list(PAINTED_SKY)],
    ]


def test_the_environment_names_the_configuration_and_the_code(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_CONFIG_PATH", str(runs))
    assert ModelLoader(62).get_prediction(MAP)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other_of_tests.py").write_text(CODE)
    runs.write_text(runs.read_text().replace("painter_of_tests", "other_of_tests"))
    monkeypatch.setenv("MODEL_CODE_PATH", str(elsewhere))
    assert ModelLoader("62").get_prediction(MAP)


def test_configurations_that_were_read_may_be_given(runs: Path) -> None:
    assert ModelLoader("62", configurations=load_configurations(runs)).get_prediction(MAP)


def test_without_a_configuration_the_variable_is_named() -> None:
    with pytest.raises(DeploymentError, match=r"^MODEL_CONFIG_PATH is not set: it must name the YAML file of the runs"):
        ModelLoader("62")


def test_an_unknown_run_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, _62="  weights: a.pth", _63="  weights: b.pth")
    with pytest.raises(DeploymentError, match=rf"^There is no run '64' in {runs}; there are 62, 63\.$"):
        ModelLoader("64", configurations=runs)
    with pytest.raises(DeploymentError, match=r"has the runs 62, 63: say which by run_id\.$"):
        ModelLoader(configurations=runs)


def test_the_only_run_need_not_be_named(runs: Path) -> None:
    assert ModelLoader(configurations=runs).configuration.run_id == "62"


def test_the_latest_epoch_is_the_highest_number(tmp_path: Path) -> None:
    """Not the last one by the alphabet, and nothing that is no number."""
    for epoch, red in (("9", -1.0), ("10", 1.0), ("best", 0.0), ("latest", 0.0)):
        (tmp_path / f"{epoch}_net_G.pth").write_bytes(weights((red, red, red)))
    runs = write_runs(tmp_path, _62='  weights: "{epoch}_net_G.pth"')
    loader = ModelLoader("62", configurations=runs)
    assert loader.epoch_id == "10"
    assert pixels_of(loader.get_prediction(uri_of([SKY]))) == [[[255, 255, 255]]]
    assert pixels_of(ModelLoader("62", 9, configurations=runs).get_prediction(uri_of([SKY]))) == [[[0, 0, 0]]]
    assert ModelLoader("62", "best", configurations=runs).epoch_id == "best"


def test_an_epoch_that_is_not_there_is_one_sentence(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(
        UnknownEpoch, match=r"^There is no epoch '7': the run has one file of weights, .*net\.pth; leave"
    ):
        ModelLoader("62", 7, configurations=runs)
    by_epoch = write_runs(tmp_path, _62="  weights: {9: net.pth, 10: net.pth}")
    with pytest.raises(UnknownEpoch, match=r"^There is no epoch '7' of these weights; there are 9, 10\.$"):
        ModelLoader("62", 7, configurations=by_epoch)
    template = write_runs(tmp_path, _62='  weights: "{epoch}.pth"')
    (tmp_path / "net.pth").unlink()
    with pytest.raises(UnknownEpoch, match=r"^There are no weights at .*/\{epoch\}\.pth\.$"):
        ModelLoader("62", configurations=template)
    with pytest.raises(
        DeploymentError, match=r"/7\.pth is not there, and the configuration names it as the weights\.$"
    ):
        ModelLoader("62", 7, configurations=template)


def test_a_file_of_another_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(weights())
    right = write_runs(tmp_path, _62=f"  weights: net.pth\n  sha256: {sha256_of(weights())}")
    assert ModelLoader("62", configurations=right)
    (tmp_path / "net.pth").write_bytes(weights((0.0, 0.0, 0.0)))
    with pytest.raises(
        DeploymentError, match=r"net\.pth is not what the configuration says: its SHA-256 is [0-9a-f]{64}"
    ):
        ModelLoader("62", configurations=right)


def test_maps_of_another_size_are_painted_at_the_runs_own(tmp_path: Path) -> None:
    """By the nearest pixel: there is no class between two."""
    (tmp_path / "net.pth").write_bytes(weights())
    runs = write_runs(tmp_path, _62="  weights: net.pth\n  size: {height: 2, width: 4}")
    picture = pixels_of(ModelLoader("62", configurations=runs).get_prediction(uri_of([SKY, SEA])))
    assert picture == [[list(PAINTED_SKY)] * 2 + [list(PAINTED_SEA)] * 2] * 2


def test_a_colour_of_no_class_is_the_clients_mistake_or_the_nearest_class(tmp_path: Path, runs: Path) -> None:
    almost = uri_of([SKY, (134, 206, 235)])
    with pytest.raises(BadRequest, match=r"#86ceeb at x=1, y=0"):
        ModelLoader("62", configurations=runs).get_prediction(almost)
    runs.write_text(runs.read_text().replace("colours:", "unknown: nearest, colours:"))
    assert pixels_of(ModelLoader("62", configurations=runs).get_prediction(almost)) == [[list(PAINTED_SKY)] * 2]


def test_what_is_transparent_is_refused_unless_there_is_a_background(runs: Path) -> None:
    see_through = uri_of([(*SKY, 255), (*SEA, 0)])
    with pytest.raises(BadRequest, match=r"The pixel at x=1, y=0 is transparent"):
        ModelLoader("62", configurations=runs).get_prediction(see_through)
    runs.write_text(runs.read_text().replace("colours:", 'background: "#87ceeb", colours:'))
    assert pixels_of(ModelLoader("62", configurations=runs).get_prediction(see_through)) == [[list(PAINTED_SKY)] * 2]


@pytest.mark.parametrize("uri", ["", "data:image/png;base64,AAAA", "http://example.com/a.png", MAP[:60]])
def test_what_is_no_map_is_the_clients_mistake(runs: Path, uri: str) -> None:
    with pytest.raises(BadRequest):
        ModelLoader("62", configurations=runs).get_prediction(uri)


@pytest.mark.parametrize("rows", [[[SKY] * 4, [SEA] * 4], [[SKY]] * 8, [[SEA] * 8]])
def test_a_map_has_so_many_pixels_at_most_where_there_is_no_size(runs: Path, rows: list[list[Colour]]) -> None:
    """Of whatever shape it is; exactly the limit is painted."""
    runs.write_text(runs.read_text() + "  max_pixels: 8\n")
    loader = ModelLoader("62", configurations=runs)
    painted = pixels_of(loader.get_prediction(uri_of(*rows)))
    assert (len(painted), len(painted[0])) == (len(rows), len(rows[0]))
    larger = [*rows, rows[0]]
    sentence = rf"^The image is {len(rows[0])} x {len(larger)} pixels .*; this model takes at most 8 pixels\.$"
    with pytest.raises(BadRequest, match=sentence):
        loader.get_prediction(uri_of(*larger))
    with pytest.raises(BadRequest, match=sentence):
        loader.labels(drawn(*larger))


def test_too_many_pixels_are_refused_by_the_maps_header_alone(runs: Path) -> None:
    """Before memory is taken for them, or their colours are looked at: there are none here."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 1025, 1024, 8, 2, 0, 0, 0)
    empty = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, b"IDAT")
    )
    loader = ModelLoader("62", configurations=runs)
    with pytest.raises(BadRequest, match=r"^The image is 1025 x 1024 pixels .* takes at most 1048576 pixels\.$"):
        loader.labels(empty)


@pytest.mark.parametrize("said", ["data:text/html", "data:application/octet-stream", "data:"])
def test_a_map_whose_uri_does_not_say_that_it_is_an_image_is_refused(runs: Path, said: str) -> None:
    uri = uri_of([SKY]).replace("data:image/png", said)
    with pytest.raises(BadRequest, match=r"^The data URI says that it is \w+/[\w-]+; this model takes an image: "):
        ModelLoader("62", configurations=runs).get_prediction(uri)


def test_a_run_with_a_size_takes_maps_of_any(runs: Path) -> None:
    """They are brought to it, so that they cost the network nothing."""
    runs.write_text(runs.read_text() + "  size: {height: 1, width: 2}\n")
    assert ModelLoader("62", configurations=runs).labels(drawn([SKY] * 1_048_577)).tolist() == [[0, 0]]


def test_a_map_whose_picture_would_be_too_large_is_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_MAX_DECODED_BYTES", "100")
    with pytest.raises(
        PayloadTooLarge, match=r"The map of 3 x 2 pixels takes 120 bytes with its picture; the limit is 1"
    ):
        ModelLoader("62", configurations=runs).get_prediction(MAP)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "painter_of_tests:",
            "absent_of_tests:",
            r"there is no module 'absent_of_tests' in .*/code; MODEL_CODE_PATH names",
        ),
        (":Painter", ":Printer", r"painter_of_tests\.py has no 'Printer'\.$"),
        (":Painter", ":CODE", r"has no 'CODE'"),
        (":Painter", ":wrong", r"makes a str, not a torch\.nn\.Module\.$"),
        (
            ":Painter",
            ":torch",
            r"'painter_of_tests:torch' is a module, no class: it must be a torch\.nn\.Module's class, or",
        ),
        ("classes: 2", "classes: 2, depth: 3", r"cannot be built with \(classes=2, depth=3\): TypeError: .*'depth'\.$"),
        ("classes: 2", "scale: 2", r"cannot be built with \(scale=2\): TypeError: .*'classes'\.$"),
    ],
)
def test_the_network_is_built_before_anything_is_fetched(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    """The weights are not even there, and nobody looks."""
    runs = write_runs(tmp_path, _62="  weights: s3://no-such-bucket/net.pth")
    runs.write_text(runs.read_text().replace(old, new, 1))
    with pytest.raises(DeploymentError, match=rf"^{runs}: architecture .*{sentence}"):
        ModelLoader("62", configurations=runs)
    assert not (tmp_path / "cache").exists()


PATH_MODULES = """
import functools
import os
from os import system
from torch.nn import Embedding, Module
from made_of_tests import mark

class Plain:
    def __init__(self, **arguments):
        mark()

class Outer:
    class Inner(Module):
        def __init__(self, classes):
            super().__init__()

    @classmethod
    def make(cls, classes):
        return Outer.Inner(classes)

def make(classes):
    return Outer.Inner(classes)

kept = functools.partial(make, 2)
"""


@pytest.fixture
def reaching(tmp_path: Path) -> Callable[[str, dict[str, Any]], Any]:
    """Builds `architecture` with `arguments` beside a module that imports what a configuration must not reach."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "paths_of_tests.py").write_text(PATH_MODULES)
    mark = f"def mark(**_):\n    open({str(tmp_path / 'called')!r}, 'w').close()\n"
    (tmp_path / "code" / "made_of_tests.py").write_text(mark)
    (tmp_path / "outside_of_tests.py").write_text(mark + "mark()\n")

    def build(named: str, arguments: dict[str, Any]) -> torch.nn.Module:
        return architecture.build(named, arguments, configured_in=tmp_path / "runs.yaml", code=None)

    return build


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("os:system", r"there is no module 'os' in .*/code; .* an installed package is imported in a module there\.$"),
        ("builtins:exec", "there is no module 'builtins' in"),
        ("subprocess:Popen", "there is no module 'subprocess' in"),
        ("torch.nn:Linear", "there is no module 'torch' in"),
        ("outside_of_tests:mark", "there is no module 'outside_of_tests' in"),
        ("paths_of_tests.os:system", r"there is no module 'paths_of_tests\.os' in"),
        ("paths_of_tests:os.system", r"'os' in .*/paths_of_tests\.py is a module, no class with 'system' in it"),
        (
            "paths_of_tests:system",
            r"is a function of \w+: it must be a torch\.nn\.Module's class, or a function that .*",
        ),
        ("paths_of_tests:mark", r"is a function of made_of_tests: it must be"),
        ("paths_of_tests:Plain", r"is a class and no torch\.nn\.Module: it must be"),
        ("paths_of_tests:kept", r"is a partial, no class: it must be"),
        ("paths_of_tests:__builtins__.exec", r"'__builtins__' in .* is a dict, no class with 'exec' in it"),
        ("paths_of_tests:make.__globals__", r"'make' in .* is a function, no class with '__globals__' in it"),
        (
            "paths_of_tests:Plain.__subclasses__",
            r"is a builtin_function_or_method, no class: it must be a torch\.nn\.Module's class",
        ),
    ],
)
def test_a_configuration_calls_nothing_but_networks_of_its_code(
    reaching: Callable[..., Any], tmp_path: Path, named: str, sentence: str
) -> None:
    """It is data: whoever writes it does not choose what else of Python runs, or is imported."""
    touch = f"touch {tmp_path / 'called'}"
    for arguments in ({}, {"command": touch}, {"args": touch, "shell": True}):
        with pytest.raises(
            DeploymentError, match=rf"^{tmp_path}/runs\.yaml: architecture '{re.escape(named)}':? {sentence}"
        ):
            reaching(named, arguments)
    assert not (tmp_path / "called").exists()


def test_a_built_in_module_of_the_same_name_is_not_taken_for_the_codes(
    reaching: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "code" / "time.py").write_text(CODE)
    with pytest.raises(DeploymentError, match=r"a module 'time' of another place is imported already \(built in\)"):
        reaching("time:Painter", {"classes": 2})


@pytest.mark.parametrize("named", ["make", "Outer.make", "Outer.Inner"])
def test_a_network_is_a_class_or_a_function_of_its_own_module(reaching: Callable[..., Any], named: str) -> None:
    assert type(reaching(f"paths_of_tests:{named}", {"classes": 2})).__qualname__ == "Outer.Inner"


def test_a_network_may_be_one_that_the_module_imports(reaching: Callable[..., Any]) -> None:
    built = reaching("paths_of_tests:Embedding", {"num_embeddings": 2, "embedding_dim": 3})
    assert isinstance(built, torch.nn.Embedding)


def test_a_module_may_lie_in_a_package_of_the_code_and_be_a_link(reaching: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "code" / "package_of_tests" / "nets").mkdir(parents=True)
    (tmp_path / "linked.py").write_text(CODE)
    (tmp_path / "code" / "package_of_tests" / "nets" / "painter_of_tests.py").symlink_to(tmp_path / "linked.py")
    for _ in range(2):
        assert reaching("package_of_tests.nets.painter_of_tests:Painter", {"classes": 2}).scale == 1.0
    with pytest.raises(DeploymentError, match=r"there is no module 'package_of_tests\.nets' in"):
        reaching("package_of_tests.nets:painter_of_tests", {})


def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, _62="  weights: net.pth")
    code = tmp_path / "code" / "painter_of_tests.py"
    code.write_text("import nothing_of_this_name\n")
    with pytest.raises(
        DeploymentError, match=r"architecture .*: ModuleNotFoundError: No module named 'nothing_of_this_n"
    ):
        ModelLoader("62", configurations=runs)
    code.write_text("class Painter(\n")
    with pytest.raises(DeploymentError, match=r"its module 'painter_of_tests' cannot be imported: SyntaxError: "):
        ModelLoader("62", configurations=runs)


def test_two_folders_may_not_have_modules_of_one_name(runs: Path, tmp_path: Path) -> None:
    """Python has one module of a name: the second run would silently get the first one's network."""
    ModelLoader("62", configurations=runs)
    other = tmp_path / "other"
    other.mkdir()
    (other / "net.pth").write_bytes(weights())
    with pytest.raises(DeploymentError, match=r"a module 'painter_of_tests' of another place is imported already"):
        ModelLoader("62", configurations=write_runs(other, _62="  weights: net.pth"))


def test_code_may_import_what_lies_beside_it_also_later(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(weights())
    runs = write_runs(tmp_path, _62="  weights: net.pth")
    (tmp_path / "code" / "scale_of_tests.py").write_text("FACTOR = 0.0\n")
    code = tmp_path / "code" / "painter_of_tests.py"
    code.write_text(
        code.read_text().replace(
            "        return self.scale *", "        from scale_of_tests import FACTOR\n        return FACTOR *", 1
        )
    )
    assert pixels_of(ModelLoader("62", configurations=runs).get_prediction(uri_of([SKY]))) == [[[128, 128, 128]]]


LEGACY = object()
"""A whole module in the form of before torch 1.6."""


def saved(path: Path, value: object) -> None:
    legacy = value is LEGACY
    torch.save(torch.nn.Linear(1, 1) if legacy else value, path, _use_new_zipfile_serialization=not legacy)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, r"does not fit painter_of_tests:Painter: it lacks colours\.weight\.$"),
        (
            {"colours.weight": torch.zeros(2, 3), "colours.bias": torch.zeros(2)},
            r"it has colours\.bias, which it does not know\.$",
        ),
        (
            {"colours.weight": torch.zeros(3, 3)},
            r"does not fit painter_of_tests:Painter: .*size mismatch for colours\.w",
        ),
        (
            {"module.colours.weight": torch.zeros(2, 3)},
            r"every name in the file begins with 'module\.': save the state_dict of the module inside\.$",
        ),
        (
            {"epoch": 3, "net": {"colours.weight": torch.zeros(2, 3)}},
            r"weights below 'net': save that state_dict alone\.$",
        ),
        ([1, 2], r"holds a list, no weights by name: save the state_dict\.$"),
        (LEGACY, r"holds more than weights, and reading it would run code"),
        (torch.nn.Linear(1, 1), r"holds more than weights, and reading it would run code: save its state_dict\.$"),
    ],
)
def test_weights_that_are_not_the_networks_say_how(runs: Path, tmp_path: Path, value: object, sentence: str) -> None:
    saved(tmp_path / "net.pth", value)
    with pytest.raises(DeploymentError, match=rf"^{tmp_path}/net\.pth .*{sentence}"):
        ModelLoader("62", configurations=runs)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty: write the weights again"),
        (b"no weights", "is not a file that torch.save or safetensors wrote, or it is damaged"),
        (b"e", "is not a file that torch.save or safetensors wrote, or it is damaged"),
        (b"\x80\x02.", "is not a file that torch.save or safetensors wrote, or it is damaged"),
        (weights()[:-100], "was written by torch.save and is damaged, or its end is missing: it has "),
        (weights()[:200], "was written by torch.save and is damaged, or its end is missing: it has 200 bytes"),
        (b"PK\x03\x04", "was written by torch.save and is damaged, or its end is missing: it has 4 bytes"),
    ],
)
def test_a_damaged_file_is_one_sentence(runs: Path, tmp_path: Path, content: bytes, sentence: str) -> None:
    """In our words: what torch says of it is about its insides."""
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(DeploymentError, match=rf"^{tmp_path}/net\.pth {re.escape(sentence)}[^\n:]*\.$"):
        ModelLoader("62", configurations=runs)


def test_safetensors_are_read_too(runs: Path, tmp_path: Path) -> None:
    """By what they hold, because in the cache no file has a name."""
    from safetensors.torch import save

    (tmp_path / "net.pth").write_bytes(save({"colours.weight": torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])}))
    assert pixels_of(ModelLoader("62", configurations=runs).get_prediction(uri_of([SKY]))) == [[list(PAINTED_SKY)]]


def test_a_weight_that_safetensors_keep_under_another_name_is_filled_from_there(runs: Path, tmp_path: Path) -> None:
    """A tensor that two layers share is in the file once; the worker's reader knows it as well."""
    from safetensors.torch import save_model

    code = tmp_path / "code" / "painter_of_tests.py"
    code.write_text(
        code.read_text().replace("        self.scale =", "        self.same = self.colours\n        self.scale =")
    )
    names: dict[str, Any] = {}
    exec(code.read_text(), names)  # noqa: S102 - as a training script has it
    network = names["Painter"](classes=2)
    network.colours.weight.data = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    save_model(network, str(tmp_path / "net.pth"))
    assert pixels_of(ModelLoader("62", configurations=runs).get_prediction(uri_of([SKY]))) == [[list(PAINTED_SKY)]]


def test_a_network_whose_error_cannot_be_shown_is_one_sentence(runs: Path, tmp_path: Path) -> None:
    code = tmp_path / "code" / "painter_of_tests.py"
    code.write_text(
        "class Odd(Exception):\n    def __str__(self):\n        return 1\n\ndef Painter(classes):\n    raise Odd\n"
    )
    with pytest.raises(DeploymentError, match=r"cannot be built with .*: Odd: its text cannot be shown\.$"):
        ModelLoader("62", configurations=runs)


def test_a_network_that_does_not_know_every_class_is_found_at_the_start(runs: Path, tmp_path: Path) -> None:
    runs.write_text(runs.read_text().replace("colours: {", "colours: {land: [1, 2, 3], "))
    with pytest.raises(
        DeploymentError, match=r"cannot paint a map of 256 x 256 pixels with the 3 classes of its palette"
    ):
        ModelLoader("62", configurations=runs)


def test_a_network_that_makes_no_picture_is_found_at_the_start(runs: Path, tmp_path: Path) -> None:
    runs.write_text(runs.read_text().replace(":Painter", ":Grey"))
    saved(tmp_path / "net.pth", {"colours.weight": torch.zeros(2, 1)})
    with pytest.raises(
        DeploymentError, match=r"gave float32 of \(1, 1, 256, 256\) for labels of .*; it must give floats"
    ):
        ModelLoader("62", configurations=runs)
    runs.write_text(runs.read_text().replace(":Grey", ":Painter"))
    saved(tmp_path / "net.pth", {"colours.weight": torch.full((2, 3), float("nan"))})
    with pytest.raises(DeploymentError, match=r"run '62': The model's picture holds NaN"):
        ModelLoader("62", configurations=runs)


def test_pictures_of_labels_are_tensors(runs: Path) -> None:
    """For whoever has labels already: one map or several, without a palette."""
    loader = ModelLoader("62", configurations=runs)
    assert loader.predict(np.zeros((4, 5), np.uint8)).shape == (1, 3, 4, 5)
    assert loader.predict(torch.zeros(2, 4, 5, dtype=torch.int64)).shape == (2, 3, 4, 5)
    assert loader.labels(drawn([SEA, SKY])).tolist() == [[1, 0]]
    loader.network.forward = lambda _: [1]  # type: ignore[method-assign]
    with pytest.raises(
        HandlerFailed, match=r"gave a list for labels of \(1, 4, 5\); it must give floats of \(1, 3, 4, 5"
    ):
        loader.predict(np.zeros((4, 5), np.uint8))


def test_the_library_loads_no_server(tmp_path: Path) -> None:
    """Neither the HTTP side nor a worker, nor boto3, which only weights in S3 need."""
    write_code(tmp_path)
    program = "import sys; import tidegate.model_loader; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    loaded = set(done.stdout.split())
    assert "tidegate.inference.model_loader.loader" in loaded
    assert not {
        name for name in loaded if name.startswith(("tidegate.inference.frontend", "tidegate.inference.worker"))
    }
    assert not loaded & {"boto3", "uvloop", "httptools"}
