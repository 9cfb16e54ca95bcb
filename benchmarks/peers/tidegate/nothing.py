"""An archive's script whose functions do nothing: what is left is the server."""

# ruff: noqa: ARG001 - the contract of the four functions names their arguments

RECORDS = ["nothing"]


def model_fn(model_dir):
    return None


def input_fn(input_data, content_type):
    return RECORDS


def predict_fn(data, model):
    return data


def output_fn(prediction, accept):
    return b"{}"
