"""What the user of a text classifier writes: how it is loaded, and how a text becomes an answer."""

import json

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def model_fn(model_dir):
    return AutoModelForSequenceClassification.from_pretrained(model_dir).eval(), AutoTokenizer.from_pretrained(
        model_dir
    )


def input_fn(input_data, content_type):
    return json.loads(input_data)["text"]


def predict_fn(text, model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    with torch.no_grad():
        scores = model(**tokenizer([text], return_tensors="pt")).logits.softmax(1)[0]
    return {model.config.id2label[index]: score for index, score in enumerate(scores.tolist())}
