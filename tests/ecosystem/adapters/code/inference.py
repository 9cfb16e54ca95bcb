"""The answer is the scores; everything else is the server's own."""

import torch


def predict_fn(data, model):
    with torch.no_grad():
        answer = model(data.long())
    return getattr(answer, "logits", answer)
