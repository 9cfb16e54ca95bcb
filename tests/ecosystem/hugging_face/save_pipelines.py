"""Save tiny models with random weights for several tasks, and note what transformers' own pipelines answer.

python save_pipelines.py FOLDER          writes FOLDER/TASK/ and FOLDER/answers.json
"""

import base64
import io
import json
import sys
import wave
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    pipeline,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "good", "bye"]
JSON, CSV, PNG, WAV = "application/json", "text/csv", "image/png", "audio/wav"


def main(folder: Path) -> None:
    """Save the models and their answers."""
    torch.manual_seed(0)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast(str(vocabulary))
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    small["initializer_range"] = 1.0  # so that answers differ
    two = {"id2label": {0: "kind", 1: "unkind"}, "label2id": {"kind": 0, "unkind": 1}}

    bert = BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **small, **two))
    texts = save(folder / "text-classification", bert, tokenizer)
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_positions=32, n_embd=16, n_layer=2, n_head=2))
    bare = BertTokenizerFast(str(vocabulary), pad_token=None)
    words = save(folder / "text-generation", gpt, bare)
    vit = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **small, **two))
    pictures = save(folder / "image-classification", vit, ViTImageProcessor(size={"height": 16, "width": 16}))
    speech = Wav2Vec2Config(
        **small, **two, conv_dim=(8, 8), conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, classifier_proj_size=8, vocab_size=8,
    )  # fmt: skip
    sounds = save(
        folder / "audio-classification", Wav2Vec2ForSequenceClassification(speech), Wav2Vec2FeatureExtractor()
    )

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8))
    png, wav, samples = as_png(picture), *a_sound()
    one, several = "hello world", ["hello world", "good bye", "hello"]
    answers = {
        "text-classification": [
            asked({"inputs": one}, texts(one)),
            asked({"inputs": several}, texts(several)),
            asked({"inputs": several, "parameters": {"top_k": None}}, texts(several, top_k=None)),
            asked({"inputs": {"text": one, "text_pair": "bye"}}, texts({"text": one, "text_pair": "bye"})),
            (CSV, text("inputs\nhello world\ngood bye\n"), texts(several[:2])),
        ],
        "text-generation": [
            asked(
                {"inputs": one, "parameters": {"max_new_tokens": 4, "do_sample": False}},
                words(one, max_new_tokens=4, do_sample=False),
            ),
        ],
        "image-classification": [
            (PNG, png, pictures(picture)),
            asked({"inputs": png}, pictures(picture)),
            asked({"inputs": [png, png], "parameters": {"top_k": 1}}, pictures([picture, picture], top_k=1)),
        ],
        "audio-classification": [
            (WAV, wav, sounds({"raw": samples, "sampling_rate": 16000})),
            asked({"inputs": wav}, sounds({"raw": samples, "sampling_rate": 16000})),
        ],
    }
    (folder / "answers.json").write_text(json.dumps(answers))


def save(folder: Path, model, processor):
    """The pipeline of what was saved, as it is read again."""
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return pipeline(folder.name, model=str(folder))


def asked(body: dict, answer) -> tuple:
    """A request in JSON, and the answer to it."""
    return JSON, text(json.dumps(body)), answer


def text(body: str) -> str:
    return base64.b64encode(body.encode()).decode()


def as_png(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def a_sound() -> tuple:
    """A quarter of a second in WAV, and its samples."""
    whole = (np.sin(np.arange(4000) / 10) * 20000).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(16000)
        written.writeframes(whole.tobytes())
    return base64.b64encode(file.getvalue()).decode(), whole.astype(np.float32) / np.float32(32768)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
