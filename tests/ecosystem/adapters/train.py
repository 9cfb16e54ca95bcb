"""Adapt a network by LoRA, save it as an artifact, and print what a user would want to know.

python train.py bert|toy|refused MODEL_DIR CODE_DIR
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model

from tidegate.training_hooks import ArtifactError, save_model

HOW = {
    "bert": {"format": "safetensors", "max_shard_size": "4KB"},
    "toy": {"max_shard_size": 200},
}
IDS = {"bert": [[1, 2, 3]], "toy": [1, 2]}


def adapted(which: str) -> PeftModel:
    """A network with random weights and an adapter that changes its answers."""
    import nets

    torch.manual_seed(0)
    if which == "bert":
        config = LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["query", "value"], r=2)
        model = get_peft_model(nets.bert(words=9), config)
    else:
        config = LoraConfig(target_modules=["hidden"], modules_to_save=["norm"], r=2, init_lora_weights=False)
        model = get_peft_model(nets.Toy(), config)
    model.peft_config["default"].base_model_name_or_path = str(Path.cwd())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_()
    return model


def saved(which: str, model_dir: Path, code_dir: str) -> None:
    model = adapted(which).eval()
    given = torch.nn.DataParallel(model) if which == "toy" else model
    names = {"bert": {"architecture": "nets:bert", "arguments": {"words": 9}}, "toy": {"architecture": "nets:Toy"}}
    save_model(given, model_dir=model_dir, code_dir=code_dir, example=IDS[which], **names[which], **HOW[which])
    with torch.no_grad():
        answer = model(torch.tensor(IDS[which]))
        with model.disable_adapter():
            bare = model(torch.tensor(IDS[which]))
    answers = [getattr(each, "logits", each).tolist() for each in (answer, bare)]
    alone = list(adapted(which).get_base_model().state_dict())
    print(json.dumps({"answer": answers[0], "without": answers[1], "adapted_names": alone}))


def refused(model_dir: Path) -> None:
    def several(model: PeftModel) -> None:
        model.add_adapter("other", LoraConfig(target_modules=["hidden"]))

    def not_finite(model: PeftModel) -> None:
        parameter = next(value for name, value in model.named_parameters() if "lora_A" in name)
        parameter.data[0] = float("nan")

    changes: list[Callable[[PeftModel], Any]] = [several, not_finite, lambda model: model.merge_adapter()]
    for change in changes:
        model = adapted("toy")
        change(model)
        try:
            save_model(model, model_dir=model_dir)
        except ArtifactError as error:
            print(error)
    assert not list(model_dir.glob("*"))
    save_model(adapted("toy").merge_and_unload(), model_dir=model_dir)
    print(json.dumps(sorted(torch.load(model_dir / "model.pth", weights_only=True))))


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[3])
    if sys.argv[1] == "refused":
        refused(Path(sys.argv[2]))
    else:
        saved(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
