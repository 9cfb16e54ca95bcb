"""Where SageMaker keeps the image that Model Monitor runs, which is another account in each Region.

Sources: SageMaker guide, "Amazon SageMaker Model Monitor prebuilt container", and "Docker registry paths and example
code", Model Monitor, by Region; the same numbers are in AWS's own Python SDK (image_uri_config/model-monitor.json).
"""

from __future__ import annotations

from tidegate.infra.models.ecr import ecr_host

ANALYZER_REPOSITORY = "sagemaker-model-monitor-analyzer"
ANALYZER_ACCOUNTS = {
    "ap-east-1": "001633400207",
    "ap-northeast-1": "574779866223",
    "ap-northeast-2": "709848358524",
    "ap-south-1": "126357580389",
    "ap-southeast-1": "245545462676",
    "ap-southeast-2": "563025443158",
    "ca-central-1": "536280801234",
    "cn-north-1": "453000072557",
    "cn-northwest-1": "453252182341",
    "eu-central-1": "048819808253",
    "eu-north-1": "895015795356",
    "eu-west-1": "468650794304",
    "eu-west-2": "749857270468",
    "eu-west-3": "680080141114",
    "me-south-1": "607024016150",
    "sa-east-1": "539772159869",
    "us-east-1": "156813124566",
    "us-east-2": "777275614652",
    "us-west-1": "890145073186",
    "us-west-2": "159807026194",
}


def analyzer_image(region: str) -> str | None:
    """Its address in `region`, without a tag as in the guide; None where this list has no account."""
    account = ANALYZER_ACCOUNTS.get(region)
    return None if account is None else f"{ecr_host(account, region)}/{ANALYZER_REPOSITORY}"
