"""Ask CodeArtifact for an index that pip can use. Run as a script: the server itself imports no boto3.

    python -P ask_codeartifact.py REGION DOMAIN OWNER REPOSITORY      the answer is one line of JSON

The two calls are those of the AWS toolkit (`sagemaker_inference.model_server`); the answer holds a token and goes
through a pipe, so it is neither in the list of processes nor in the log.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module


def ask(region: str, domain: str, owner: str, repository: str) -> dict[str, str]:
    """`{"token": …, "endpoint": …}`, or `{"error": a sentence without its full stop}`."""
    try:
        boto3 = import_module("boto3")
    except ImportError:
        return {"error": "it needs boto3, which is not in this image"}
    try:
        client = boto3.client("codeartifact", region_name=region)
        token = client.get_authorization_token(domain=domain, domainOwner=owner)["authorizationToken"]
        endpoint = client.get_repository_endpoint(
            domain=domain, domainOwner=owner, repository=repository, format="pypi"
        )["repositoryEndpoint"]
    except Exception as error:  # botocore has hundreds of classes for what AWS, the network and credentials refuse
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"}
    return {"token": token, "endpoint": endpoint}


if __name__ == "__main__":
    print(json.dumps(ask(*sys.argv[1:])))  # noqa: T201 - the answer is what the script is for
