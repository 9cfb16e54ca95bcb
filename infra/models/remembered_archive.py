"""Which archive a stage serves, remembered in its account where its file names none.

An archive is named for one deploy (`-c model_data_url=…`), by people and by the deploy workflow. The endpoint's stack
keeps it in Parameter Store, so that the next synthesis, of whatever else has changed, goes on with it and not with
`models/model.tar.gz`. It is kept when the endpoint has it, and goes back with the stack.
"""

from __future__ import annotations

import os
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.model import ArchivedModel, DefaultArchive, Piped
from tidegate.infra.stage.names import Names

# Synthesis waits for it.
_CONFIG = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})


def is_forgetful(stage: Stage) -> bool:
    """Whether the file leaves it to the deploys which one archive is served."""
    return isinstance(stage.model, DefaultArchive) and stage.hosting.mode != "multi_model"


def with_archive(stage: Stage, url: str) -> Stage:
    """`stage` with that archive as its model."""
    kept = stage.model.pipeline if isinstance(stage.model, Piped) else {}
    return stage.model_copy(update={"model": ArchivedModel(archive=url, size_gib=stage.model.size_gib, **kept)})


def recall(stage: Stage) -> Stage:
    """`stage` with the archive that it was deployed with last, where its file names none.

    Nothing is asked where nothing can be deployed: without the account that the CDK's command line found. Where a
    deploy could follow, an answer that cannot be had is a `ConfigurationError`: it would take the endpoint back to
    another archive without a word.
    """
    here = os.environ.get("CDK_DEFAULT_ACCOUNT")
    if not is_forgetful(stage) or here is None:
        return stage
    account = stage.account or here
    if account != here and not stage.bootstrapped:
        # Only the bootstrap's roles deploy into another account than the caller's.
        return stage
    url = _remembered(stage, account)
    return stage if url is None else with_archive(stage, url)


def _remembered(stage: Stage, account: str) -> str | None:
    name = Names(prefix=stage.prefix, stage=stage.name).archive_parameter
    way_out = "or name the archive: -c model_data_url=s3://…, or [model] in the stage file"
    try:
        # The command line's own --profile does not reach this process.
        caller = _client("sts", stage).get_caller_identity()["Account"]
        if caller != account:
            raise ConfigurationError(
                f"the archive that stage {stage.name} serves is remembered in account {account} ({name}), and the "
                f"credentials here are of {caller}; set AWS_PROFILE to the right ones, {way_out}"
            )
        return str(_client("ssm", stage).get_parameter(Name=name)["Parameter"]["Value"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ParameterNotFound":
            return None
        reason = f"AWS says '{error.response['Error']['Message'].rstrip('.')}'; allow ssm:GetParameter"
    except BotoCoreError as error:
        reason = f"{str(error).rstrip('.')}; set AWS_PROFILE and AWS_REGION"
    raise ConfigurationError(
        f"the archive that stage {stage.name} serves is remembered in {name}, which cannot be read: {reason}, {way_out}"
    )


def _client(service: str, stage: Stage) -> Any:
    region = stage.region or os.environ.get("CDK_DEFAULT_REGION")
    return botocore.session.get_session().create_client(service, region_name=region, config=_CONFIG)
