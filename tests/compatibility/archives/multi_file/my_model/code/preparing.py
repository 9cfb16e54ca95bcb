import torch
from sagemaker_pytorch_serving_container.default_pytorch_inference_handler import DefaultPytorchInferenceHandler

with open("code/offset.txt") as f:
    OFFSET = int(f.read())


def clean(data, content_type):
    tensor = DefaultPytorchInferenceHandler().default_input_fn(data, content_type)
    return torch.round(tensor) + OFFSET
