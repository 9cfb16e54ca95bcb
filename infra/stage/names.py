"""The physical names of a stage, spelled once.

Stacks meet in these names and not in CloudFormation exports: an export cannot change while another stack imports
it, so a bucket or a repository could never be replaced.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import aws_cdk as cdk

MODELS_PREFIX = "models/"
BATCH_INPUT_PREFIX = "batch/input/"
# Of these, what people submit by `tidegate batch submit`.
BATCH_SUBMITTED_PREFIX = "batch/input/submitted/"
BATCH_OUTPUT_PREFIX = "batch/output/"
# Where a job by hand takes one object, `tidegate batch submit` names it in a list beside the answers.
BATCH_LISTS = "batch/output/*.manifest.json"
# What each job of the batch stack is about to transform, and how it ended.
BATCH_MANIFESTS_PREFIX = "batch/manifests/"
# Results of transform jobs as tables, each below its name.
TABLES_PREFIX = "tables/"
# What queries of those tables answered.
QUERY_RESULTS_PREFIX = "athena/results/"
# Where clients put the bodies of asynchronous requests.
ASYNC_INPUT_PREFIX = "async/input/"


class Place(Protocol):
    """Where something is: a stack, for which both may be tokens, or the account of whoever asks."""

    @property
    def account(self) -> str:
        """The 12 digits."""

    @property
    def region(self) -> str:
        """Such as eu-central-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names of one stage. Those that must be unique in all of AWS carry account and Region."""

    prefix: str
    stage: str

    def stack(self, unit: str) -> str:
        return f"{self.prefix}-{self.stage}-{unit}"

    def bucket(self, place: Place, purpose: str = "data") -> str:
        """The bucket's name as seen from `place`."""
        return f"{self.prefix}-{self.stage}-{purpose}-{place.account}-{place.region}"

    @property
    def repository(self) -> str:
        return f"{self.prefix}-{self.stage}"

    @property
    def endpoint(self) -> str:
        return f"{self.prefix}-{self.stage}"

    @property
    def api(self) -> str:
        """The API in front of the endpoint, and its log group below `/aws/apigateway/`."""
        return f"{self.prefix}-{self.stage}"

    @property
    def batch_jobs(self) -> str:
        """The state machine that runs transform jobs."""
        return f"{self.prefix}-{self.stage}-batch"

    @property
    def batch_intake(self) -> str:
        """The state machine that makes a job of an upload."""
        return f"{self.prefix}-{self.stage}-batch-intake"

    @property
    def batch_topic(self) -> str:
        return f"{self.prefix}-{self.stage}-batch"

    @property
    def database(self) -> str:
        """The Glue database, where the stage file names no other; SQL takes no hyphens."""
        return f"{self.prefix}_{self.stage}".replace("-", "_")

    @property
    def query_workgroup(self) -> str:
        """The Athena workgroup in which the table of results is asked."""
        return f"{self.prefix}-{self.stage}"

    @property
    def model_group(self) -> str:
        """The model package group, where the stage file names no other."""
        return f"{self.prefix}-{self.stage}"

    @property
    def promotion(self) -> str:
        """The state machine that rolls out an approved package, and its topic."""
        return f"{self.prefix}-{self.stage}-promotion"

    @property
    def alarm_topic(self) -> str:
        return f"{self.prefix}-{self.stage}-alarms"

    def parameter(self, name: str) -> str:
        """Where Parameter Store keeps an id that AWS chose, such as that of a key or of a subnet."""
        return f"/{self.prefix}/{self.stage}/{name}"

    @property
    def key_parameter(self) -> str:
        """Where the ARN of the stage's own KMS key is kept."""
        return self.parameter("key-arn")

    @property
    def key_alias(self) -> str:
        return f"alias/{self.prefix}-{self.stage}"

    @property
    def model_name_parameter(self) -> str:
        """Where the name of the model that the endpoint runs now is kept."""
        return self.parameter("model-name")

    @property
    def archive_parameter(self) -> str:
        """Where the address of the archive that the endpoint serves is kept."""
        return self.parameter("model-archive")

    @property
    def table_parameter(self) -> str:
        """Where it is kept which table the results of transform jobs belong to, as JSON."""
        return self.parameter("table")


def content_name(scope: cdk.Stack, prefix: str, properties: Any) -> str:
    """`prefix` and a digest of `properties`.

    SageMaker's models and endpoint configurations cannot be changed, and CloudFormation cannot replace a resource
    whose name stays. With its content in the name a changed resource is made beside the old one, the endpoint moves
    over in place, and only then is the old one removed.
    """
    content = json.dumps(scope.resolve(properties), sort_keys=True)
    return f"{prefix}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"
