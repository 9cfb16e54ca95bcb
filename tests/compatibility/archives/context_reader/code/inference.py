# All that a script can learn from its context, and say by it.
import json

import torch


def model_fn(model_dir, context):
    properties = context.system_properties
    device = torch.device(
        "cuda:" + str(properties.get("gpu_id"))
        if torch.cuda.is_available() and properties.get("gpu_id") is not None
        else "cpu"
    )
    return {"device": device, "model_dir_is_mine": properties["model_dir"] == model_dir, "name": context.model_name}


def input_fn(data, content_type, context):
    return {
        "rows": json.loads(data),
        "attributes": context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes"),
        "type": context.request_processor[0].get_request_property("Content-Type"),
        "all": len(context.get_all_request_header(0)) > 0,
    }


def predict_fn(data, model, context=None):
    return dict(data, device=str(model["device"]), own=model["model_dir_is_mine"], batch=context.system_properties["batch_size"])


def output_fn(prediction, accept, context):
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "seen=" + str(prediction["attributes"]))
    if prediction["rows"] == []:
        context.set_response_status(204, "No Content", 0)
        return b""
    context.set_response_content_type(0, "application/json; rows=%d" % len(prediction["rows"]))
    return json.dumps(prediction)
