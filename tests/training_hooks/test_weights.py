"""What becomes of the weights of the models that training scripts have in their hands."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tidegate.training_hooks import ArtifactError
from tidegate.training_hooks.portable_tensors import portable
from tidegate.training_hooks.weight_files import write_loadable
from tidegate.training_hooks.weights import checked_weights, refuse_unloadable

# The first torch.compile imports modules of torch that use its own deprecated functions.
compiles = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")


def portable_state_dict(model: Any, **options: Any) -> OrderedDict[str, Any]:
    return portable(checked_weights(model, **options))


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


class Wrapped(nn.Module):
    """A bare model whose only child is called `module`, as some users call it."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 2)


class Tied(nn.Module):
    """A language model's habit: the output layer shares the weights of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.output = nn.Linear(4, 5, bias=False)
        self.output.weight = self.embedding.weight


@compiles
@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.compile,
        AveragedModel,
        lambda net: torch.compile(nn.DataParallel(net)),
        lambda net: nn.DataParallel(torch.compile(net)),
    ],
)
def test_wrappers_are_taken_off(wrap: Any) -> None:
    """A wrapped module saves the same names and values as the bare one, which loads them strictly."""
    net = small_net()
    state = portable_state_dict(wrap(net))
    assert list(state) == list(net.state_dict())
    small_net().load_state_dict(state, strict=True)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_of_state_dicts_are_stripped(prefix: str) -> None:
    """A state dict that was taken from a wrapped module loads into the bare one."""
    net = small_net()
    state = portable_state_dict({prefix + key: value for key, value in net.state_dict().items()})
    assert list(state) == list(net.state_dict())


def test_a_submodule_called_module_keeps_its_name() -> None:
    """A bare model with a child named `module` is saved under its own names."""
    assert list(portable_state_dict(Wrapped())) == ["module.weight", "module.bias"]


def test_module_is_only_stripped_when_every_key_has_it() -> None:
    """A mapping in which only some keys start with `module.` was not made by DataParallel."""
    state = {"module.weight": torch.ones(1), "bias": torch.ones(1)}
    assert list(portable_state_dict(state)) == ["module.weight", "bias"]


@compiles
def test_a_compiled_submodule_loses_its_prefix_in_the_middle() -> None:
    """Compiling one layer does not change the names in the file."""
    net = small_net()
    net[0] = torch.compile(net[0])  # type: ignore[call-overload]
    assert list(portable_state_dict(net)) == list(small_net().state_dict())


def test_names_that_become_equal_are_refused() -> None:
    """Two entries with one name after stripping would silently lose one of them."""
    with pytest.raises(ArtifactError, match="two entries are both called 'a'"):
        portable_state_dict({"_orig_mod.a": torch.ones(1), "a": torch.ones(1)})


def test_module_versions_are_kept() -> None:
    """load_state_dict reads module versions from _metadata, so they are saved under the bare names."""
    state = portable_state_dict(nn.DataParallel(small_net()).state_dict())
    assert state._metadata["1"] == {"version": 2}  # type: ignore[attr-defined]
    assert "" in state._metadata  # type: ignore[attr-defined]


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    """Weights that share storage are written once and share storage again after loading."""
    write_loadable(portable_state_dict(Tied()), tmp_path / "model.pth", what="model.pth")
    loaded = torch.load(tmp_path / "model.pth", weights_only=True)
    assert loaded["embedding.weight"].data_ptr() == loaded["output.weight"].data_ptr()


def test_slices_do_not_drag_their_buffer_along(tmp_path: Path) -> None:
    """A weight that is a slice of a large buffer is written alone: torch.save would write the whole buffer."""
    flat = torch.arange(1_000_000, dtype=torch.float32)
    state = portable_state_dict({"first": flat[:10].view(2, 5), "second": flat[5:15]})
    write_loadable(state, tmp_path / "model.pth", what="model.pth")
    assert (tmp_path / "model.pth").stat().st_size < 10_000
    loaded = torch.load(tmp_path / "model.pth", weights_only=True)
    torch.testing.assert_close(loaded["first"], flat[:10].view(2, 5))
    torch.testing.assert_close(loaded["second"], flat[5:15])


@given(
    rows=st.integers(0, 5),
    columns=st.integers(1, 5),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]),
    transposed=st.booleans(),
    step=st.integers(1, 3),
)
def test_values_and_dtypes_survive_and_become_contiguous(
    rows: int, columns: int, dtype: torch.dtype, transposed: bool, step: int
) -> None:
    """Whatever view a weight is, the saved tensor is contiguous, owns its memory and equals it exactly."""
    original = torch.arange(rows * columns * step).reshape(rows, columns * step).to(dtype)[:, ::step]
    original = original.T if transposed else original
    saved = portable_state_dict({"weight": original, "again": original, "other": original.flatten()})
    for name, expected in (("weight", original), ("again", original), ("other", original.flatten())):
        assert saved[name].is_contiguous()
        assert saved[name].dtype is dtype
        assert torch.equal(saved[name], expected)
        assert saved[name].untyped_storage().nbytes() == expected.numel() * expected.element_size()
    if original.numel():
        assert saved["weight"].data_ptr() == saved["again"].data_ptr() != saved["other"].data_ptr()


def test_saving_does_not_change_the_model() -> None:
    """Parameters keep their gradients and their identity while training goes on."""
    net = small_net()
    net[0](torch.ones(1, 3)).sum().backward()
    state = portable_state_dict(net)
    assert net[0].weight.grad is not None
    assert not any(value.requires_grad for value in state.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_not_finite_are_refused_by_name(bad: float, dtype: torch.dtype) -> None:
    """NaN weights load silently, so the save is where they are named."""
    state = {"good": torch.ones(2), "layer.bias": torch.tensor([1.0, bad], dtype=dtype)}
    with pytest.raises(ArtifactError, match=r"'layer.bias' holds 1 NaN or infinite numbers of 2"):
        portable_state_dict(state)
    assert list(portable_state_dict(state, allow_non_finite=True)) == ["good", "layer.bias"]


def test_a_mask_of_infinities_can_be_allowed_alone() -> None:
    """Naming the mask keeps the check for all other weights."""
    state = {"mask": torch.full((2, 2), float("-inf")), "weight": torch.tensor([float("nan")])}
    with pytest.raises(ArtifactError, match="'weight'"):
        portable_state_dict(state, allow_non_finite=["mask"])


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"best": np.float32(0.5)}, r"the entry 'best' is a numpy.float32, which torch.load\(weights_only=True\)"),
        (
            {"model": OrderedDict(a=torch.ones(1))},
            "'model' is an OrderedDict, not a tensor; this looks like a checkpoint",
        ),
        ({1: torch.ones(1)}, "has the key 1; names of weights must be text"),
        ({"w": torch.ones(1, device="meta")}, "'w' is on the meta device"),
        ({}, "no parameters and no buffers"),
        (nn.ReLU(), "no parameters and no buffers"),
        (nn.LazyLinear(2), "'weight' has no shape yet"),
        ("model.pth", "model is a str; give a torch.nn.Module or its state dict"),
    ],
)
def test_what_cannot_be_loaded_again_is_refused(model: Any, sentence: str) -> None:
    """Everything that would fail at load fails at save, with one sentence that names the entry."""
    with pytest.raises(ArtifactError, match=sentence):
        portable_state_dict(model)


def test_tensor_subclasses_are_refused_by_name() -> None:
    """weights_only loading rejects subclasses of Tensor."""

    class Special(torch.Tensor):
        pass

    with pytest.raises(ArtifactError, match="'w' is a Special, which weights_only loading rejects"):
        portable_state_dict({"w": torch.ones(2).as_subclass(Special)})


def test_extra_state_of_plain_values_is_kept(tmp_path: Path) -> None:
    """A module's get_extra_state may hold plain nested values; they come back from the file."""
    state = portable_state_dict({"w": torch.ones(1), "quant._extra_state": {"bits": 8, "scales": [0.5, torch.ones(1)]}})
    write_loadable(state, tmp_path / "model.pth", what="model.pth")
    assert torch.load(tmp_path / "model.pth", weights_only=True)["quant._extra_state"]["bits"] == 8


def test_the_first_nested_value_that_cannot_be_loaded_is_named() -> None:
    """The error says the path to the value, not only its type."""
    with pytest.raises(ArtifactError, match=r"state\['a'\]\[1\]\['b'\] is a numpy.ndarray"):
        refuse_unloadable({"a": [1, {"b": np.ones(1)}]}, "state")


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    """model.pth depends on the weights alone, so archives can be compared by hash."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        torch.manual_seed(0)
        write_loadable(portable_state_dict(small_net()), tmp_path / name / "model.pth", what="model.pth")
    assert (tmp_path / "first" / "model.pth").read_bytes() == (tmp_path / "second" / "model.pth").read_bytes()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype:UserWarning")
def test_tensors_of_other_layouts_are_saved_or_refused_by_name() -> None:
    """Their finite numbers are looked for where they are; a nested tensor has no shape that a model could expect."""
    eye = torch.eye(3)
    for sparse in (eye.to_sparse(), eye.to_sparse_csr(), eye.to_sparse_csc()):
        torch.testing.assert_close(portable_state_dict({"w": sparse})["w"].to_dense(), eye)
        with pytest.raises(ArtifactError, match="'w' holds 3 NaN or infinite numbers of 3"):
            portable_state_dict({"w": sparse * float("nan")})
    with pytest.raises(ArtifactError, match="'w' is a nested tensor"):
        portable_state_dict({"w": torch.nested.nested_tensor([torch.ones(1)])})
