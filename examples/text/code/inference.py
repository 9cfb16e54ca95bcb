"""Texts to vectors: `{"inputs": "one text"}`, `{"inputs": ["several", "texts"]}`, a list of texts, or plain text.

The answer is a list with a vector for each text, or npy where the client accepts that. There is no model_fn: the
manifest names the network, so that a form of it which `export` has proved takes its place.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence

MAX_WORDS = 256
MAX_TEXTS = 256

tokenizer = Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))
tokenizer.no_padding()
tokenizer.enable_truncation(MAX_WORDS)


def input_fn(input_data, content_type):
    """Return the numbers of the words of each text."""
    is_plain = content_type.partition(";")[0] == "text/plain"
    texts = bytes(input_data).decode() if is_plain else json.loads(input_data)
    texts = texts.get("inputs") if isinstance(texts, dict) else texts
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError('Give a text or a list of texts, as in {"inputs": ["one", "two"]}.')
    if len(texts) > MAX_TEXTS:
        raise ValueError(f"There are {len(texts)} texts; at most {MAX_TEXTS} go into one request.")
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def collate_fn(inputs):
    """Join the texts of all requests, padded to the longest."""
    texts = [torch.tensor(words) for words_of_request in inputs for words in words_of_request]
    return {
        "input_ids": pad_sequence(texts, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(words) for words in texts], batch_first=True),
        "counts": [len(words_of_request) for words_of_request in inputs],
    }


def predict_fn(data, model):
    """Return the vectors of each request."""
    with torch.inference_mode():
        vectors = model(data["input_ids"], data["attention_mask"])
    return vectors.split(data["counts"])


def split_fn(prediction, count):  # noqa: ARG001 - the form of the contract
    """Give each request its own."""
    return list(prediction)
