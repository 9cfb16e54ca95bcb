"""A stage: everything that one file of infra/stages/ decides."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

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

    # The name of the file without its `.toml`. The longest name is the bucket's: prefix-stage-data-<12 digits>-<Region>
    # must fit into 63 characters.
    name: Annotated[str, like(rf"{_PART}{{0,9}}", f"no stage's name; use at most 10 {_RULE}")]
    prefix: Annotated[str, like(rf"{_PART}{{0,15}}", f"no prefix; use at most 16 {_RULE}")] = "tidegate"
    # None: the account and Region of whoever runs cdk.
    account: Account | None = None
    region: Annotated[str, like(r"[a-z]{2}(-[a-z]+)+-\d", "not a Region; write one like 'eu-central-1'")] | None = None
    # Off, stacks carry no assets and deploy with the caller's own rights, so `cdk bootstrap` is not needed.
    bootstrapped: bool = True
    # Accounts that may deploy what this stage holds: its images, the archives below models/, its model packages.
    shared_with: Annotated[tuple[Account, ...], LISTED, some(10, "accounts")] = ()
    # Of every resource, beside `project` and `stage`.
    tags: dict[str, str] = Field(default_factory=dict)
    # None only where the model is of a model registry, whose packages name their images.
    image: Image | None = None
    model: Model = DefaultArchive()
    hosting: Hosting
    role: Role = Role()
    network: Network | None = None
    encryption: Encryption = Encryption()
    batch: Batch | None = None
    model_registry: ModelRegistry | None = None
    observability: Observability | None = None
    budget: Budget | None = None
    cost: Cost | None = None
    retention: Retention
    # Settings of the server by the names of `inference.settings.Settings`, such as max_batch_size = 8.
    server: dict[str, Setting] = Field(default_factory=dict)
    # Further variables of the container, such as SAGEMAKER_PROGRAM = "serve.py".
    environment: dict[str, str] = Field(default_factory=dict)
