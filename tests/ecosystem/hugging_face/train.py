"""A training script of a Hugging Face user: fit nothing, save a model and its tokenizer, and make an artifact of them.

python train.py FOLDER CODE_DIR save_directory|nothing       prints the answer of the model to TEXT
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertTokenizerFast

from tidegate.training_hooks import save_directory

TEXT = "hello world"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "good", "bye"]


def main(folder: Path, code_dir: str, what: str) -> None:
    """Save a tiny model with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    labels = {0: "kind", 1: "unkind"}
    config = BertConfig(vocab_size=len(WORDS), id2label=labels, label2id={"kind": 0, "unkind": 1}, **sizes)
    vocabulary = folder.parent / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    BertTokenizerFast(str(vocabulary)).save_pretrained(folder)

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        scores = model(**tokenizer([TEXT], return_tensors="pt")).logits.softmax(1)[0]
    print(json.dumps({model.config.id2label[index]: score for index, score in enumerate(scores.tolist())}))
    if what == "save_directory":
        save_directory(folder, labels=model.config.id2label, code_dir=code_dir, example={"text": TEXT})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
