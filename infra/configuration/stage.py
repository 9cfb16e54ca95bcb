"""A stage: everything that one file of infra/stages/ decides."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tidegate.infra.configuration.api import Api
from tidegate.infra.configuration.batch import Batch
from tidegate.infra.configuration.hosting import Hosting
from tidegate.infra.configuration.image import Image
from tidegate.infra.configuration.model import DefaultArchive, Model
from tidegate.infra.configuration.network import Encryption, Network
from tidegate.infra.configuration.operations import Budget, Cost, ModelRegistry, Observability, Retention
from tidegate.infra.configuration.role import Role
from tidegate.infra.configuration.value import LISTED, Account, Setting, Value, like, some

_PART = r"[a-z]([a-z0-9]|-(?=[a-z0-9]))"
_RULE = "lower-case letters, digits and single hyphens, beginning with a letter"


class Stage(Value):
    """One complete deployment: its own bucket, registry and endpoint. Every physical name begins with `prefix-name`.

    A table that is absent is a stack, or a part of one, that is absent.
    """

    name: Annotated[str, like(rf"{_PART}{{0,9}}", f"no stage's name; use at most 10 {_RULE}")]
    """Not a key: the name of the file, at most 10 lower-case letters, digits and single hyphens, beginning with a
    letter. The longest name derived from it is the bucket's, `PREFIX-STAGE-data-ACCOUNT-REGION`, and S3 allows 63
    characters.
    """
    prefix: Annotated[str, like(rf"{_PART}{{0,15}}", f"no prefix; use at most 16 {_RULE}")] = "tidegate"
    """The beginning of every physical name, at most 16 characters."""
    account: Account | None = None
    """Where to deploy. The default is the caller's account."""
    region: Annotated[str, like(r"[a-z]{2}(-[a-z]+)+-\d", "not a Region; write one like 'eu-central-1'")] | None = None
    """Where to deploy. The default is the caller's Region."""
    bootstrapped: bool = True
    """`false`: deploy with the caller's own permissions and without `cdk bootstrap`. Images cannot be built and
    packages cannot be promoted then.
    """
    # Accounts that may deploy what this stage holds: its images, the archives below models/, its model packages.
    shared_with: Annotated[tuple[Account, ...], LISTED, some(10, "accounts")] = ()
    """Accounts that may deploy the resources of this stage, at most 10: [another account](#another-account-deploys)."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of every resource, in addition to `project` and `stage`."""
    image: Image | None = None
    """The container image; required, unless a model package names one."""
    model: Model = DefaultArchive()
    """What the endpoint serves."""
    hosting: Hosting
    """The endpoint."""
    role: Role = Role()
    """Additional permissions of a handler."""
    network: Network | None = None
    """Where containers run. The default is SageMaker's own network, which has internet access."""
    encryption: Encryption = Encryption()
    """The key that encrypts the data."""
    api: Api | None = None
    """A REST API for callers that cannot call SageMaker directly."""
    batch: Batch | None = None
    """Transform jobs."""
    model_registry: ModelRegistry | None = None
    """Versions of the model and their approval."""
    observability: Observability | None = None
    """Alarms and a dashboard."""
    budget: Budget | None = None
    """A monthly budget for the stage."""
    cost: Cost | None = None
    """The cost estimate at synthesis."""
    retention: Retention
    """What is kept, and for how long."""
    server: dict[str, Setting] = Field(default_factory=dict)
    """Server settings by the field names of `inference/settings.py`, such as `max_batch_size = 8` for
    `TIDEGATE_MAX_BATCH_SIZE`. `gpus_per_worker`, for [a model that needs several GPUs](guides/gpus.md), is checked
    against every instance type.
    """
    environment: dict[str, str] = Field(default_factory=dict)
    """Additional environment variables of the container, such as `SAGEMAKER_PROGRAM = "serve.py"`."""
