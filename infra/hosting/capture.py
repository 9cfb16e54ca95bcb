"""Data capture: requests and answers of a real-time endpoint, kept as JSON lines in the stage's bucket.

Only real-time endpoints have it: serverless ones do not support it, and an asynchronous one keeps every request and
answer in S3 anyway. Source: SageMaker guide, serverless endpoints, feature exclusions.
"""

from __future__ import annotations

from aws_cdk import aws_sagemaker as sagemaker

from tidegate.infra.configuration.hosting import Capture

_MODES = {"input": ("Input",), "output": ("Output",), "input_and_output": ("Input", "Output")}


def data_capture(
    capture: Capture, *, bucket: str, key_arn: str | None
) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty:
    """SageMaker adds endpoint, variant and hour to the path, and writes it with the execution role."""
    return sagemaker.CfnEndpointConfig.DataCaptureConfigProperty(
        enable_capture=True,
        initial_sampling_percentage=capture.percent,
        destination_s3_uri=f"s3://{bucket}/{capture.prefix.rstrip('/')}",
        kms_key_id=key_arn,
        capture_options=[
            sagemaker.CfnEndpointConfig.CaptureOptionProperty(capture_mode=mode) for mode in _MODES[capture.what]
        ],
        # As text where it is text; everything else is base64.
        capture_content_type_header=sagemaker.CfnEndpointConfig.CaptureContentTypeHeaderProperty(
            csv_content_types=["text/csv"], json_content_types=["application/json", "application/jsonlines"]
        ),
    )
