"""The variables by which unmodified boto3, ``aws`` and ``cdk`` talk to the local cloud, and to nothing else."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, MutableMapping, Sequence

ACCOUNT = "123456789012"  # the account that moto answers for
DEFAULT_REGION = "us-east-1"
ACCESS_KEY_ID = "LOCALCLOUDLOCALCLOUD"  # moto takes only 20 capitals and digits for a key

# Of the variables below, those that are credentials.
KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

# Variables of the caller that would send a client elsewhere, or stop it, in spite of the ones below.
_CONTRARY = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
)
_ENDPOINT_OF = "AWS_ENDPOINT_URL_"  # what follows is a service
_PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_NO_PROXY = "127.0.0.1,localhost"


def client_environment(*, moto_url: str, sagemaker_url: str, region: str) -> dict[str, str]:
    """What a client needs to set. The service-specific addresses win over the general one in all current SDKs."""
    return {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ENDPOINT_URL_S3": moto_url,
        "AWS_ENDPOINT_URL_SAGEMAKER": sagemaker_url,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": sagemaker_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": "local",  # a key to nothing
        "AWS_SESSION_TOKEN": "local",  # overrides a real one of the caller
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCOUNT_ID": ACCOUNT,
        "CDK_DEFAULT_ACCOUNT": ACCOUNT,
        "CDK_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def shell_lines(environment: Mapping[str, str], caller: Mapping[str, str]) -> Sequence[str]:
    """The lines to ``eval``: the exports, and an ``unset`` or a ``NO_PROXY`` only where the caller's shell needs it."""
    ours = dict(environment)
    if "AWS_DATA_PATH" in ours:
        ours["AWS_DATA_PATH"] = _before(ours["AWS_DATA_PATH"], caller.get("AWS_DATA_PATH", ""))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in ours.items()]
    if contrary := _contrary(environment, caller):
        lines.append(f"unset {' '.join(contrary)}")
    lines += [f"export {name}={shlex.quote(value)}" for name, value in past_proxies(caller).items()]
    return lines


def apply(environment: Mapping[str, str], variables: MutableMapping[str, str]) -> None:
    """The same for variables such as `os.environ`: sets what clients need, removes what would lead them elsewhere."""
    further = past_proxies(variables)
    for name in _contrary(environment, variables):
        del variables[name]
    variables.update({**environment, **further})


def _contrary(environment: Mapping[str, str], caller: Mapping[str, str]) -> list[str]:
    """Variables that would send a client elsewhere in spite of ``environment``."""
    endpoints = sorted(name for name in caller if name.startswith(_ENDPOINT_OF) and name not in environment)
    return [name for name in _CONTRARY if caller.get(name)] + endpoints


def _before(folder: str, folders: str) -> str:
    """A search path with ``folder`` at its head; the caller's own folders are kept."""
    others = [name for name in folders.split(os.pathsep) if name not in ("", folder)]
    return os.pathsep.join([folder, *others])


def past_proxies(caller: Mapping[str, str]) -> dict[str, str]:
    """What leads past the caller's proxies to this machine; empty where the caller has none."""
    if not any(caller.get(name) for name in _PROXIES):
        return {}
    found = {}
    for name in ("NO_PROXY", "no_proxy"):
        kept = caller.get(name, "")
        found[name] = kept if "127.0.0.1" in kept else f"{kept},{_NO_PROXY}".lstrip(",")
    return found


def supervisor_environment(caller: Mapping[str, str]) -> dict[str, str]:
    """What the supervisor starts with: nothing of the caller's AWS, and the way past his proxies."""
    kept = {name: value for name, value in caller.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    # Roles are given AWS's own policies, such as AmazonSageMakerFullAccess, which moto otherwise does not know.
    moto = {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    # glibc would keep the buffers of uploads that are gone, in an arena for each thread.
    memory = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(1024 * 1024)}
    return {**kept, **past_proxies(caller), **files, **moto, **memory, "AWS_EC2_METADATA_DISABLED": "true"}
