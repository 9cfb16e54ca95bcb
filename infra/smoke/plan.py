"""What one run makes: its names, the stages that it deploys, and what it says of both before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.infra import validation
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.hosting import Instances
from tidegate.infra.configuration.network import ExistingVpc
from tidegate.infra.hosting import instance_types
from tidegate.infra.models.ecr import address_of
from tidegate.infra.smoke.questions import Move, Question
from tidegate.infra.stage import stage_file
from tidegate.infra.stage.names import MODELS_PREFIX, Names
from tidegate.infra.validation.sentences import counted

# On every stack and resource of a run, with the run's id; by it what a run left is found.
TAG = "tidegate-smoke"
DEFAULT_INSTANCE_TYPE = "ml.m5.large"
_MEMORY_MIB = 2048
_MODES = {"realtime": "r", "component": "c"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run for the image of `stage`, in one account and Region. Its names begin as that stage's do."""

    run: str  # six hexadecimal digits
    stage: Stage
    account: str
    region: str
    image: str
    instance_type: str

    def names(self, mode: str) -> Names:
        """Of the stage that is deployed in that mode."""
        return Names(prefix=self.stage.prefix, stage=f"s{self.run}{_MODES[mode]}")

    @property
    def bucket(self) -> str:
        """Where the archives are, of both modes."""
        return self.names("realtime").bucket(self)

    @property
    def buckets(self) -> tuple[str, ...]:
        return self.bucket, self.names("realtime").bucket(self, "logs")

    @property
    def storage_stack(self) -> str:
        return self.names("realtime").stack("storage")

    def endpoint_stack(self, mode: str) -> str:
        return self.names(mode).stack("endpoint")

    def key(self, archive: str) -> str:
        """Of an archive in the bucket."""
        return f"{MODELS_PREFIX}{archive}/model.tar.gz"

    def of(self, mode: str, move: Move) -> Stage:
        """The stage that `move` deploys, checked as a stage file is."""
        table: dict[str, Any] = {
            "name": self.names(mode).stage,
            "prefix": self.stage.prefix,
            "account": self.account,
            "region": self.region,
            "bootstrapped": False,
            "tags": {**self.stage.tags, TAG: self.run},
            "image": {"uri": self.image},
            "model": {"archive": f"s3://{self.bucket}/{self.key(move.archive)}"},
            "hosting": self._hosting(mode) | dict(move.hosting),
            "retention": {"keep_data": False, "logs_days": 1},
        }
        if isinstance(self.stage.network, ExistingVpc):
            table["network"] = self.stage.network.model_dump(mode="json", exclude_defaults=True)
        if self.stage.role.permissions_boundary is not None:
            table["role"] = {"permissions_boundary": self.stage.role.permissions_boundary}
        stage = stage_file.parse(table)
        validation.check(stage)
        return stage

    def _hosting(self, mode: str) -> dict[str, Any]:
        hosting: dict[str, Any] = {
            "mode": mode,
            "instance_type": self.instance_type,
            # A model that does not load is tried for as long as this.
            "model_download_timeout_s": 120,
            "startup_timeout_s": 300,
        }
        if mode == "component":
            gpus = min(1, instance_types.gpu_count(self.instance_type))
            hosting |= {
                "copies": {"gpus": gpus, "min_memory_mib": _MEMORY_MIB},
                "max_instances": 2,
                # Nothing but the model's own health sends it back.
                "rollout": {"wait_s": 60, "rollback": False},
            }
        return hosting

    def announcement(self, questions: tuple[Question, ...]) -> str:
        """What it makes and what that costs, for whoever has to say yes."""
        modes = dict.fromkeys(question.mode for question in questions)
        lines = [
            f"In account {self.account}, Region {self.region}, this makes, and deletes again:",
            f"  the stack {self.storage_stack}: the buckets {' and '.join(self.buckets)}",
            *(
                f"  the stack {self.endpoint_stack(mode)}: a {mode} endpoint {self.names(mode).endpoint}, its role, "
                "a policy, alarms, parameters and log groups"
                for mode in modes
            ),
            f"At most {counted(max(question.most_instances for question in questions), 'instance')} "
            f"{self.instance_type} run at one time (the quota '{self.instance_type} for endpoint usage'), for about "
            "half an hour for each question "
            f"({len(questions)} here: {', '.join(question.name for question in questions)}). AWS charges for them; "
            "this command knows no prices.",
            "No endpoint, stack or bucket that is there already is touched.",
        ]
        return "\n".join(lines)


def plan(stage: Stage, *, run: str, account: str, region: str, instance_type: str | None) -> Plan:
    """Raises `ConfigurationError` where the stage names no image that another stage could run, or another account."""
    if stage.account is not None and stage.account != account:
        raise ConfigurationError(
            f"the credentials are of account {account}, and stage {stage.name} is in {stage.account}; set AWS_PROFILE"
        )
    repository = Names(prefix=stage.prefix, stage=stage.name).repository
    image = address_of(stage.image, account, region, repository)
    if image is None:
        raise ConfigurationError(
            f"{stage.name}.toml names no image by tag, digest or uri, and the run needs one; push one by 'python -m "
            "tidegate.infra image push', and name it"
        )
    if instance_type is None:
        own = stage.hosting.types[0] if isinstance(stage.hosting, Instances) else DEFAULT_INSTANCE_TYPE
        # An image for arm64 runs on nothing else.
        instance_type = own if instance_types.is_arm(own) else DEFAULT_INSTANCE_TYPE
    return Plan(run=run, stage=stage, account=account, region=region, image=image, instance_type=instance_type)


def tags_of(stage: Stage) -> Mapping[str, str]:
    """Of its stacks, as the CDK's command line gives them."""
    return {"project": stage.prefix, "stage": stage.name} | dict(stage.tags)
