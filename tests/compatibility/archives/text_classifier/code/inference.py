# Model and tokenizer travel together as what model_fn returns.
import json
import os

import torch
from sagemaker_inference import content_types
from sagemaker_inference.errors import BaseInferenceToolkitError, GenericInferenceToolkitError


class Tokenizer:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.vocabulary = json.load(f)

    def __call__(self, texts, max_length=6):
        rows = [[self.vocabulary.get(word, 1) for word in text.lower().split()][:max_length] for text in texts]
        return torch.tensor([row + [0] * (max_length - len(row)) for row in rows], dtype=torch.long)


class Classifier(torch.nn.Module):
    def __init__(self, words, classes=2):
        super().__init__()
        self.embedding = torch.nn.EmbeddingBag(words, 4, padding_idx=0)
        self.head = torch.nn.Linear(4, classes)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def model_fn(model_dir):
    tokenizer = Tokenizer(os.path.join(model_dir, "vocab.json"))
    model = Classifier(len(tokenizer.vocabulary) + 2)
    model.load_state_dict(torch.load(os.path.join(model_dir, "model.pth"), weights_only=True))
    return model.eval(), tokenizer


def input_fn(request_body, request_content_type):
    if request_content_type != content_types.JSON:
        raise GenericInferenceToolkitError(415, "Send application/json.")
    request = json.loads(request_body)
    if "inputs" not in request:
        raise BaseInferenceToolkitError(422, "The key 'inputs' is missing.", "Unprocessable Entity")
    inputs = request["inputs"]
    return [inputs] if isinstance(inputs, str) else inputs


def predict_fn(texts, model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    with torch.no_grad():
        probabilities = model(tokenizer(texts)).softmax(dim=1)
    return [{"label": "LABEL_%d" % row.argmax(), "score": round(row.max().item(), 4)} for row in probabilities]


def output_fn(prediction, accept):
    return json.dumps(prediction)
