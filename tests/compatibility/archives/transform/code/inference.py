# One function for everything, with the toolkit's own codecs.
import torch
from sagemaker_inference import content_types, decoder, encoder, errors, utils


def model_fn(model_dir):
    return torch.nn.Softmax(dim=-1)


def transform_fn(model, input_data, content_type, output_content_type):
    if content_type == content_types.OCTET_STREAM:
        return bytes(reversed(input_data)), content_types.OCTET_STREAM
    array = decoder.decode(input_data, content_type)
    result = model(torch.as_tensor(array, dtype=torch.float64))
    for accept in utils.parse_accept(output_content_type):
        if accept in encoder.SUPPORTED_CONTENT_TYPES:
            return encoder.encode(result.numpy().round(4), accept), accept
    raise errors.UnsupportedFormatError(output_content_type)
