# Answers the shape and the numbers of what the container's input_fn made.
import torch


def model_fn(model_dir):
    return torch.nn.Identity()


def predict_fn(data, model, context):
    wanted = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    if wanted == "bfloat16":
        return data.to(torch.bfloat16)
    if wanted == "dict":
        return {"shape": torch.tensor(data.shape), "data": data}
    return [list(data.shape), data.tolist()]
