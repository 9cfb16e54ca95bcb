"""Whom a stage lets deploy what it holds, and whether it holds it."""

from __future__ import annotations

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.image import BuiltImage
from tidegate.infra.configuration.model import ArchivedModel, PackagedModel
from tidegate.infra.validation.sentences import wrong


def check(stage: Stage) -> None:
    """`shared_with`, and the key of an archive that somebody else shares."""
    accounts = stage.shared_with
    if twice := next((account for account in accounts if accounts.count(account) > 1), None):
        raise wrong("shared_with", twice, "given twice; name each account once")
    if stage.account in accounts:
        raise wrong("shared_with", stage.account, "the stage's own account, which needs no leave; name the others")
    if accounts and isinstance(stage.image, BuiltImage):
        raise ConfigurationError(
            f"shared_with shares the stage's repository, and image.build={stage.image.build!r} is pushed to that of "
            "'cdk bootstrap'; push it by 'tidegate image push', and name it by tag or digest"
        )
    model = stage.model
    if isinstance(model, ArchivedModel | PackagedModel) and model.archive_key is not None and stage.region is not None:
        region = model.archive_key.split(":")[3]
        if region != stage.region:
            raise wrong(
                "model.archive_key",
                model.archive_key,
                f"in Region {region}, and the stage in {stage.region}; an endpoint takes its archive from its own "
                "Region, so name the key of a bucket there",
            )
