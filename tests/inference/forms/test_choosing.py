"""Which form is served: the first that fits, opens and is right; and nothing is kept of those that are not."""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.inference.forms import toy_forms
from tidegate.inference.errors import DeploymentError
from tidegate.inference.worker import comparing
from tidegate.inference.worker.forms.choosing import FormChoice

ROWS = torch.tensor(toy_forms.ROWS)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An ONNX file of the toy network: writing one takes seconds."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    toy_forms.write_onnx(path, toy_forms.network())
    return path.read_bytes()


@pytest.fixture
def root(tmp_path: Path, onnx: bytes) -> Iterator[Path]:
    path = tmp_path / "forms" / "onnx" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(onnx)
    return tmp_path


def choice(root: Path, forms: list[Any], **given: Any) -> FormChoice:
    toy_forms.archive(root, forms)
    return choice_there(root, **given)


def choice_there(root: Path, **given: Any) -> FormChoice:
    manifest = json.loads((root / "manifest.json").read_text())
    return FormChoice(root, manifest, place=torch.device("cpu"), **{"make_eager": toy_forms.network, **given})


def test_the_first_that_fits_is_served_and_says_what_was_passed_over(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = toy_forms.form("gpu", requires={"device": "cuda"}, file="forms/onnx/model.onnx")
    with caplog.at_level(logging.WARNING):
        found = choice(root, [gpu, {"name": "odd"}, toy_forms.form(), toy_forms.form("unused")])
        form = found.serve()
    assert form is not None
    torch.testing.assert_close(form(ROWS), toy_forms.network()(ROWS))
    assert found.serve() is form
    report = found.report()
    assert report is not None
    assert report["name"] == "onnx"
    assert report["why"].endswith("2.25 times as fast as eager where it was measured")
    assert [each["name"] for each in report["passed_over"]] == ["gpu", "odd"]
    assert [record.getMessage() for record in caplog.records] == [
        f"the form '{each['name']}' of the model is not served: {each['why']}" for each in report["passed_over"]
    ]


def test_an_archive_without_forms_has_no_choice(root: Path) -> None:
    found = choice(root, [])
    assert found.serve() is None
    assert found.report() is None


def test_a_form_that_answers_wrong_is_let_go_and_the_next_is_served(root: Path) -> None:
    found = choice(root, [toy_forms.form(), toy_forms.form("bf16", "eager", settings={"dtype": "bfloat16"})])
    form = found.serve()
    assert form is not None
    gone = weakref.ref(form)
    found.pass_over("its answer is another")
    del form
    found.free()
    assert gone() is None
    second = found.serve()
    assert second is not None
    assert second.name == "bf16"
    found.pass_over("so is that of this one")
    assert found.serve() is None
    report = found.report()
    assert report is not None
    assert (report["name"], len(report["passed_over"])) == ("eager", 2)


def test_a_form_that_cannot_be_served_is_an_error_where_the_deployer_demands_it(root: Path) -> None:
    forms = [toy_forms.form(), toy_forms.form("gpu", requires={"device": "cuda"}, file="forms/onnx/model.onnx")]
    with pytest.raises(DeploymentError, match="TIDEGATE_FORM asks for 'gpu', which cannot be served: it is for a GPU"):
        choice(root, forms, wanted="gpu").serve()
    with pytest.raises(DeploymentError, match="'none', which is no form of this model; its forms are: onnx, gpu"):
        choice_there(root, wanted="none").serve()
    demanded = choice_there(root, wanted="onnx")
    assert demanded.serve() is not None
    with pytest.raises(DeploymentError, match="TIDEGATE_FORM asks for 'onnx', which cannot be served: wrong"):
        demanded.pass_over("wrong")
    with pytest.raises(DeploymentError, match="without asking for a form"):
        choice_there(root, wanted="onnx").settled()
    eager = choice_there(root, wanted="eager")
    assert eager.serve() is None
    assert eager.report() == {"name": "eager", "why": "TIDEGATE_FORM=eager", "passed_over": []}


def test_nothing_is_opened_once_the_model_takes_traffic(root: Path) -> None:
    found = choice(root, [toy_forms.form()])
    found.settled()
    assert found.serve() is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file": "../elsewhere.onnx"}, "manifest.json lists no SHA-256 for '../elsewhere.onnx'"),
        (
            {
                "signature": {
                    **toy_forms.SIGNATURE,
                    "inputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 4]}],
                }
            },
            "forms[0].signature.positional[0] is 'x'",
        ),
        (
            {"signature": {**toy_forms.SIGNATURE, "inputs": [{"name": "x", "dtype": "int64", "shape": ["batch", 4]}]}},
            "the input 'x' of its file is ['batch', 4] of tensor(float), which the manifest calls (batch, 4) of int64",
        ),
        (
            {
                "signature": {
                    **toy_forms.SIGNATURE,
                    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 5]}],
                }
            },
            "which the manifest calls (batch, 5) of float32",
        ),
        (
            {
                "signature": {
                    **toy_forms.SIGNATURE,
                    "outputs": [{"name": "scores", "dtype": "float32", "shape": ["batch", 3]}],
                }
            },
            "its file has the outputs output, the manifest others",
        ),
    ],
)
def test_a_manifest_that_lies_about_a_file_is_found_out(root: Path, changes: dict[str, Any], said: str) -> None:
    found = choice(root, [toy_forms.form(**changes)])
    assert found.serve() is None
    assert said in found.passed_over[0][1]


def test_a_file_that_leads_out_of_the_model_is_not_opened_even_where_the_manifest_lists_it(root: Path) -> None:
    outside = root.parent / "outside.onnx"
    outside.write_bytes((root / "forms/onnx/model.onnx").read_bytes())
    toy_forms.archive(root, [toy_forms.form(file="../outside.onnx"), toy_forms.form("link", file="forms/link.onnx")])
    (root / "forms" / "link.onnx").symlink_to(outside)
    manifest = json.loads((root / "manifest.json").read_text())
    for name in ("../outside.onnx", "forms/link.onnx"):
        manifest["files"][name] = {"sha256": toy_forms.sum_of(outside), "size_bytes": outside.stat().st_size}
    (root / "manifest.json").write_text(json.dumps(manifest))
    found = choice_there(root)
    assert found.serve() is None
    assert ["outside the model directory" in why for _, why in found.passed_over] == [True, True]


@pytest.mark.parametrize("damage", ["cut", "empty", "page", "gone"])
def test_a_damaged_file_is_passed_over(root: Path, damage: str) -> None:
    path = root / "forms" / "onnx" / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "page": b"<html>no</html>", "gone": b""}[damage])
    toy_forms.archive(root, [toy_forms.form()])
    if damage == "gone":
        path.unlink()
    found = choice_there(root)
    assert found.serve() is None
    said = {"cut": "is cut off", "empty": "is empty", "page": "is an HTML page", "gone": "is not there"}[damage]
    opened = "it cannot be opened: " if damage != "gone" else ""
    assert found.passed_over[0][1] == f"{opened}forms/onnx/model.onnx {said}"


@pytest.mark.parametrize(
    "settings",
    [{"dtype": "bfloat16"}, {"memory_format": "channels_last"}, {"float32_matmul_precision": "medium"}],
)
def test_the_model_itself_is_served_with_other_settings(root: Path, settings: dict[str, str]) -> None:
    found = choice(root, [toy_forms.form("set", "eager", settings=settings)])
    form, before = found.serve(), torch.get_float32_matmul_precision()
    assert form is not None
    answer = form(ROWS)
    assert answer.dtype is torch.float32
    torch.testing.assert_close(answer, toy_forms.network()(ROWS), rtol=0.02, atol=0.02)
    assert torch.get_float32_matmul_precision() == before


def test_pictures_reach_a_model_in_the_format_that_it_was_proved_with(root: Path) -> None:
    seen: list[torch.Tensor] = []

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.append(x)
            return {"maps": self.layer(x)}

    signature = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3, 4, 4]}],
        "outputs": [{"name": "maps", "dtype": "float32", "shape": ["batch", 2, 4, 4]}],
        "structure": {"dict": ["maps"]},
    }
    settings = {"memory_format": "channels_last", "dtype": "bfloat16"}
    forms = [toy_forms.form("last", "eager", settings=settings, signature=signature)]
    form = choice(root, forms, make_eager=Net).serve()
    assert form is not None
    answer = form(torch.rand(2, 3, 4, 4))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert seen[0].dtype is torch.bfloat16
    assert answer["maps"].is_contiguous()
    assert answer["maps"].dtype is torch.float32


def test_a_model_that_is_no_module_or_cannot_be_loaded_has_no_settings(root: Path) -> None:
    def fails() -> None:
        raise DeploymentError("model.pth is damaged.")

    forms = [toy_forms.form("set", "eager", settings={"dtype": "bfloat16"})]
    for make_eager, said in ((lambda: len, "is a builtin_function_or_method"), (fails, "model.pth is damaged")):
        found = choice(root, forms, make_eager=make_eager)
        assert found.serve() is None
        assert said in found.passed_over[0][1]


def test_a_program_of_torch_export_is_served_to_those_who_trust_it(root: Path) -> None:
    toy_forms.write_pt2(root / "forms" / "pt2" / "model.pt2", toy_forms.network())
    forms = [toy_forms.form("pt2", "pt2")]
    assert choice(root, forms).serve() is None
    form = choice_there(root, trusted=True).serve()
    assert form is not None
    many = torch.rand(20, 4)
    torch.testing.assert_close(form(many), toy_forms.network()(many))
    assert form(torch.ones(0, 4)).shape == (0, 3)


def test_joined_calls_are_held_to_what_the_form_can_keep(root: Path) -> None:
    """A form of low precision is no closer to itself in other company than it is to the model."""
    exact = choice(root, [toy_forms.form()])
    exact.serve()
    assert exact.tolerance == comparing.Tolerance(rtol=1e-3, atol=1e-5)
    half = choice(
        root,
        [toy_forms.form("half", "eager", settings={"dtype": "bfloat16"}, parity={"rtol": 0, "atol": 0.05})],
    )
    half.serve()
    assert half.tolerance == comparing.Tolerance(rtol=comparing.HALF.rtol, atol=0.05)
    assert half.bound == comparing.Tolerance(rtol=0, atol=0.05)
