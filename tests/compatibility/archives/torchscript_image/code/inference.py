# TorchScript from the default model_fn; the image and the labels are the script's.
import io
import json

import numpy as np
import torch
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

with open("labels.txt") as f:  # relative to the model directory
    LABELS = [line.strip() for line in f]


def input_fn(request_body, content_type="application/x-image"):
    if content_type not in ("application/x-image", "image/jpeg", "image/png"):
        raise ValueError("Unsupported content type: " + content_type)
    image = Image.open(io.BytesIO(request_body)).convert("RGB").resize((8, 8))
    pixels = (np.asarray(image, dtype=np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(pixels.transpose(2, 0, 1)).unsqueeze(0)


def output_fn(prediction, accept="application/json"):
    scores, indices = torch.nn.functional.softmax(prediction, dim=1).topk(2)
    top = [{"label": LABELS[i], "score": round(s, 4)} for s, i in zip(scores[0].tolist(), indices[0].tolist())]
    return json.dumps(top), accept
