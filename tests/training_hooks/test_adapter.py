"""What a network is called without the adapter that peft put into it; tests/ecosystem/adapters asks the real peft."""

import pytest

from tidegate.training_hooks.adapter import _base_name

INNER = {"a": "base_layer", "a.base_layer": "base_layer", "head": "original_module", "blocks.0.up": "base_layer"}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("norm.weight", "norm.weight"),
        ("a.base_layer.base_layer.weight", "a.weight"),
        ("a.lora_A.default.weight", None),
        ("a.base_layer.lora_A.default.weight", None),
        ("head.original_module.bias", "head.bias"),
        ("head.modules_to_save.default.bias", None),
        ("blocks.0.up.base_layer.weight", "blocks.0.up.weight"),
        ("blocks.1.up.base_layer.weight", "blocks.1.up.base_layer.weight"),
        ("b.base_layer", "b.base_layer"),
        ("", ""),
    ],
)
def test_only_what_peft_put_there_is_taken_out_of_a_name(key: str, name: str | None) -> None:
    """A network may have parts of its own that are called `base_layer`."""
    assert _base_name(key, INNER) == name
