"""Write further adapters of a saved model below its directory, and print the answers that peft has with each.

python others.py bert|toy MODEL_DIR CODE_DIR
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from train import IDS, adapted

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def answer(model: PeftModel, which: str) -> Any:
    with torch.no_grad():
        found = model(torch.tensor(IDS[which]))
    return getattr(found, "logits", found).tolist()


def write(which: str, model_dir: Path) -> None:
    model = adapted(which).eval()
    answers = {"None": answer(model, which)}
    for name in ("red", "blue"):
        with torch.no_grad():
            for called, parameter in model.named_parameters():
                if "lora_" in called or "modules_to_save" in called:
                    parameter.normal_()
        answers[name] = answer(model, which)
        model.save_pretrained(model_dir / "adapters" / name)
    red = load_file(model_dir / "adapters/red" / WEIGHTS)
    first = next(name for name in red if "lora_A" in name)
    damaged = {
        "less": {name: value for name, value in red.items() if name != first},
        "wide": {**red, first: torch.cat([red[first]] * 2, dim=1)},
        "pissa": red,
    }
    config = json.loads((model_dir / "adapters/red" / CONFIG).read_bytes())
    for name, weights in damaged.items():
        place = model_dir / "adapters" / name
        place.mkdir()
        save_file(weights, place / WEIGHTS)
        changed = {**config, "init_lora_weights": "pissa"} if name == "pissa" else config
        (place / CONFIG).write_text(json.dumps(changed))
    print(json.dumps(answers))


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[3])
    write(sys.argv[1], Path(sys.argv[2]))
