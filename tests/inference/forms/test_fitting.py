"""What the manifest declares of forms, and whether one fits a machine: plain data in, a reason out."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from tests.inference.forms import toy_forms
from tidegate.inference.worker.forms.declaration import BrokenForm, DeclaredForm, declared
from tidegate.inference.worker.forms.fitting import misfit
from tidegate.inference.worker.forms.machine import Machine, flags_in

SUM = "1" * 64
AOTI: dict[str, Any] = {"device": "cpu", "machine": "x86_64", "processor": ["avx2"], "torch": "2.13"}
HERE = Machine(
    device="cpu",
    machine="x86_64",
    processor=frozenset({"avx2", "fma"}),
    cuda_capability=None,
    torch="2.13.0+cpu",
    package={"onnxruntime": "1.31.1"}.get,
)
MANIFEST: dict[str, Any] = {
    "weights": {"file": "model.pth"},
    "example": {},
    "files": {"model.pth": {"sha256": SUM}, "forms/onnx/model.onnx": {}, "forms/aoti/model.pt2": {}},
}


def one(**changes: Any) -> DeclaredForm | BrokenForm:
    (found,) = declared({"forms": [{**toy_forms.form(made_from={"sha256": SUM}), **changes}]})
    return found


def why_not(
    manifest: dict[str, Any] = MANIFEST, machine: Machine = HERE, *, trusted: bool = False, **changes: Any
) -> str | None:
    form = one(**changes)
    assert isinstance(form, DeclaredForm), form
    return misfit(form, machine, manifest, trusted=trusted)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in MANIFEST.items() if name != key}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "../up"}, "forms[0].name is '../up'"),
        ({"name": "eager"}, "forms[0].name is 'eager'"),
        ({"name": None}, "forms[0].name is None"),
        ({"kind": "tensorrt"}, "forms[0].kind is 'tensorrt'"),
        ({"kind": {}}, "forms[0].kind is {}"),
        ({"file": None}, "forms[0].file is None"),
        ({"file": 5}, "forms[0].file is 5"),
        ({"kind": "eager"}, "forms[0].file is 'forms/onnx/model.onnx'"),
        ({"settings": {"dtype": "float8"}}, "forms[0].settings.dtype is 'float8'"),
        ({"settings": {"speed": "high"}}, "forms[0].settings.speed is 'high'"),
        ({"settings": {"dtype": ["bfloat16"]}}, "forms[0].settings.dtype is ['bfloat16']"),
        ({"settings": [1]}, "forms[0].settings is [1]"),
        ({"requires": {"device": "tpu"}}, "forms[0].requires.device is 'tpu'"),
        ({"requires": {"processor": "avx2"}}, "forms[0].requires.processor is 'avx2'"),
        ({"requires": {"torch": 2.13}}, "forms[0].requires.torch is 2.13"),
        ({"requires": {"packages": {"onnxruntime": 1}}}, "forms[0].requires.packages is"),
        ({"requires": {"moon": "full"}}, "forms[0].requires asks for 'moon', which nothing here can look at"),
        ({"kind": "aoti", "requires": None}, "forms[0].requires says nothing of torch and machine"),
        ({"kind": "aoti", "requires": AOTI | {"processor": []}}, "forms[0].requires says nothing of processor"),
        ({"kind": "aoti", "requires": AOTI | {"torch": None}}, "forms[0].requires says nothing of torch,"),
        (
            {"kind": "aoti", "requires": {"device": "cuda", "torch": "2.13"}},
            "forms[0].requires says nothing of cuda_capability,",
        ),
        ({"signature": {}}, "forms[0].signature.inputs is None"),
        ({"made_from": "weights"}, "forms[0].made_from is 'weights'"),
        ({"parity": {}}, "forms[0].parity.rtol is None"),
        ({"parity": {"rtol": -1, "atol": 0}}, "forms[0].parity.rtol is -1"),
        ({"parity": {"rtol": 0, "atol": float("nan")}}, "forms[0].parity.atol is nan"),
    ],
)
def test_a_mistake_breaks_one_form_and_is_said_with_its_place(changes: dict[str, Any], said: str) -> None:
    found = one(**changes)
    assert isinstance(found, BrokenForm)
    assert found.why.startswith(said)
    assert found.why.endswith("(manifest.json)")


@pytest.mark.parametrize("forms", ["onnx", {"onnx": {}}, [{}] * 65, 7])
def test_forms_that_are_no_list_of_some_are_one_broken_form(forms: Any) -> None:
    (found,) = declared({"forms": forms})
    assert isinstance(found, BrokenForm)


def test_the_order_is_kept_and_a_second_one_of_a_name_is_broken() -> None:
    forms = [toy_forms.form("a"), None, toy_forms.form("b"), toy_forms.form("a")]
    names = [(type(form).__name__, form.name) for form in declared({"forms": copy.deepcopy(forms)})]
    assert names == [
        ("DeclaredForm", "a"),
        ("BrokenForm", "forms[1]"),
        ("DeclaredForm", "b"),
        ("BrokenForm", "a"),
    ]
    assert declared({}) == []


def test_what_was_measured_is_only_told() -> None:
    form = one()
    assert isinstance(form, DeclaredForm)
    assert form.ratio == 2.25
    for odd in (None, [], {"batches": []}, {"batches": {"x": {}}}, {"batches": {"1": {"ratio": "fast"}}}):
        form = one(measured=odd)
        assert isinstance(form, DeclaredForm)
        assert form.ratio is None


def test_a_form_for_this_machine_fits() -> None:
    assert why_not() is None
    requires = {
        "machine": "x86_64",
        "processor": ["avx2"],
        "torch": "2.13",
        "packages": {"onnxruntime": ">=1.20,<2"},
    }
    assert why_not(requires=requires) is None


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ({"device": "cuda"}, "it is for a GPU, and this worker computes on the CPU"),
        ({"machine": "aarch64"}, "it is for 'aarch64', and this machine is x86_64"),
        ({"processor": ["avx2", "avx512f", "amx_tile"]}, "built for a processor with avx512f, amx_tile, which"),
        ({"cuda_capability": "9.0"}, "for a GPU of capability '9.0', and this one has None"),
        ({"torch": "2.14"}, "it was made by torch '2.14', and torch 2.13.0+cpu is installed"),
        ({"torch": "2.1"}, "it was made by torch '2.1'"),
        ({"packages": {"onnxruntime": ">=1.40"}}, "it needs onnxruntime>=1.40, and 1.31.1 is installed"),
        ({"packages": {"onnxruntime": "new"}}, "which is no version specifier"),
        ({"packages": {"openvino": ">=2025"}}, "it needs the package 'openvino': name it in code/requirements.txt"),
    ],
)
def test_a_form_for_another_machine_is_passed_over_before_its_file_is_touched(
    requires: dict[str, Any], said: str
) -> None:
    assert said in str(why_not(requires=requires))


def test_a_form_for_the_cpu_is_none_for_a_gpu_and_each_gpu_has_its_own() -> None:
    gpu = Machine(
        device="cuda",
        machine="x86_64",
        processor=frozenset(),
        cuda_capability="9.0",
        torch="2.13.0",
        package=HERE.package,
    )
    assert "it is for the CPU, and this worker computes on a GPU" in str(why_not(machine=gpu))
    assert why_not(machine=gpu, requires={"device": "cuda", "cuda_capability": "9.0"}) is None
    assert "capability '8.6', and this one has 9.0" in str(
        why_not(machine=gpu, requires={"device": "cuda", "cuda_capability": "8.6"})
    )


@pytest.mark.parametrize("kind", ["pt2", "aoti"])
def test_a_form_that_can_run_code_is_served_to_those_who_trust_it(kind: str) -> None:
    changes = {"kind": kind, "file": "forms/aoti/model.pt2", "requires": AOTI}
    assert "set TIDEGATE_TRUST_COMPILED_MODEL=on" in str(why_not(**changes))
    assert why_not(**changes, trusted=True) is None


def test_a_form_of_other_weights_is_stale() -> None:
    assert "it was made of other weights" in str(why_not(made_from={"sha256": "2" * 64}))
    assert "it was made of other weights" in str(why_not(made_from={}))
    assert "does not list the weights" in str(why_not(without("weights")))
    made_from = {"file": "model.pth", "sha256": SUM}
    assert why_not(without("weights"), made_from=made_from) is None
    assert "it was made of other weights" in str(why_not(without("weights"), made_from={**made_from, "sha256": "3"}))


def test_the_compilers_names_for_features_are_understood() -> None:
    parts = frozenset({"avx512f", "avx512dq", "avx512bw", "avx512vl"})
    requires = {"processor": ["avx512", "avx2"]}
    assert "avx512vl" in str(why_not(requires=requires))
    assert why_not(machine=replace(HERE, processor=HERE.processor | parts), requires=requires) is None


def test_a_form_is_served_only_where_its_file_and_its_answer_can_be_checked() -> None:
    assert "lists no SHA-256 for 'forms/other/model.onnx'" in str(why_not(file="forms/other/model.onnx"))
    assert "carries no example" in str(why_not(without("example")))


def test_the_features_of_a_processor_are_read_from_the_kernels_list() -> None:
    assert flags_in("model name\t: A\nflags\t\t: fpu avx2\nflags\t\t: other\n") == {"fpu", "avx2"}
    assert flags_in("processor\t: 0\nFeatures\t: fp asimd\n") == {"fp", "asimd"}
    assert flags_in("") == frozenset()
