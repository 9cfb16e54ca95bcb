"""The SM_* variables of a training job, as the AWS training toolkit makes them.

The platform itself sets none of them: it puts three JSON files below input/config, and scripts have learned to rely on
what the toolkit makes of them. Names and formats are those of sagemaker-training 5.1.4 (`Environment.to_env_vars`):
upper case, None is the empty string, what is not a string is JSON with sorted keys and no spaces.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.entrypoint.training_failure import TrainingFailed

# Hyperparameters that tell the toolkit something; the others that begin with `sagemaker_` are the framework's.
RESERVED = frozenset(
    {
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_enable_cloudwatch_metrics",
        "sagemaker_container_log_level",
        "sagemaker_job_name",
        "sagemaker_region",
        "default_user_module_name",
        "sagemaker_s3_output",
        "_tuning_objective_metric",
    }
)
DEFAULT_GROUP = "homogeneousCluster"
TORCH_DISTRIBUTED = "sagemaker_torch_distributed_enabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What the platform wrote below `base_dir`/input/config, with each hyperparameter read as JSON where it is JSON."""

    base_dir: Path
    hyperparameters: Mapping[str, Any]
    channels: Mapping[str, Any]
    resources: Mapping[str, Any]

    @property
    def user_hyperparameters(self) -> dict[str, Any]:
        """Those that are meant for the script."""
        return {
            name: value
            for name, value in self.hyperparameters.items()
            if name not in RESERVED and not name.startswith("sagemaker_")
        }

    @property
    def host(self) -> str:
        """The name of this host."""
        return str(self.resources.get("current_host") or self.hosts[0])

    @property
    def hosts(self) -> list[str]:
        """All hosts of the job."""
        return list(self.resources.get("hosts") or ["localhost"])

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The instance groups; none in local mode."""
        return list(self.resources.get("instance_groups") or [])

    @property
    def group(self) -> str:
        """The instance group of this host."""
        return str(self.resources.get("current_group_name", DEFAULT_GROUP))

    @property
    def torch_distributed(self) -> bool:
        """Whether the SDK's `distribution` asks for torchrun."""
        return self.hyperparameters.get(TORCH_DISTRIBUTED) in (True, "true", "True")

    @property
    def distribution_groups(self) -> list[str]:
        """The instance groups that train together: those that the SDK names, or this host's."""
        named = self.hyperparameters.get("sagemaker_distribution_instance_groups")
        if isinstance(named, list):
            return [str(name) for name in named]
        return [self.group] if self.torch_distributed else []

    @property
    def distribution_hosts(self) -> list[str]:
        """The hosts of these groups; all hosts where there are no groups. The first is the master."""
        if not self.groups:
            return self.hosts
        together = self.distribution_groups
        return [
            host
            for item in self.groups
            if item.get("instance_group_name") in together
            for host in item.get("hosts", [])
        ]


def read_job(base_dir: Path) -> TrainingJob:
    """Read the configuration; a file that is missing counts as empty, as for a container that is run by hand.

    Raises `TrainingFailed` for a file that is not a JSON object.
    """
    config = base_dir / "input/config"
    return TrainingJob(
        base_dir=base_dir,
        hyperparameters={name: _value(text) for name, text in _read(config / "hyperparameters.json").items()},
        channels=_read(config / "inputdataconfig.json"),
        resources=_read(config / "resourceconfig.json"),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingFailed(f"{path} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise TrainingFailed(f"{path} must hold a JSON object.")
    return content


def _value(text: Any) -> Any:
    # The platform sends strings only; the SDK has written each as JSON.
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return text


def command_line(hyperparameters: Mapping[str, Any]) -> list[str]:
    """The arguments of the script: `--name value`, sorted by name; a name of one letter has one dash."""
    words: list[str] = []
    for name in sorted(hyperparameters):
        value = hyperparameters[name]
        if isinstance(value, dict):
            value = ",".join(f"{key}={item}" for key, item in sorted(value.items()))
        words += [f"--{name}" if len(name) > 1 else f"-{name}", "" if value is None else str(value)]
    return words


def variables(job: TrainingJob, program: str, module_dir: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Every SM_* variable of the job, for a script `program` from `module_dir`.

    Raises `TrainingFailed` for what no variable can hold.
    """
    base, resources = job.base_dir, job.resources
    hosts, host, groups, group = job.hosts, job.host, job.groups, job.group
    master = (job.distribution_hosts or hosts)[0]
    hyperparameters = job.user_hyperparameters
    framework = {
        name: value
        for name, value in job.hyperparameters.items()
        if name.startswith("sagemaker_") and name not in RESERVED
    }
    channel_dirs = {name: str(base / "input/data" / name) for name in job.channels}
    facts: dict[str, Any] = {
        "current_host": host,
        "current_instance_group": group,
        "current_instance_group_hosts": next(
            (item["hosts"] for item in groups if item.get("instance_group_name") == group), []
        ),
        "current_instance_type": resources.get("current_instance_type", "local"),
        "distribution_instance_groups": job.distribution_groups,
        "framework_module": environment.get("SAGEMAKER_TRAINING_MODULE"),
        "hosts": hosts,
        "input_config_dir": str(base / "input/config"),
        "input_data_config": dict(job.channels),
        "input_dir": str(base / "input"),
        "instance_groups": [item.get("instance_group_name") for item in groups],
        "instance_groups_dict": {item.get("instance_group_name"): item for item in groups},
        "is_hetero": len(groups) > 1,
        "log_level": job.hyperparameters.get("sagemaker_container_log_level", 20),
        "model_dir": str(base / "model"),
        "module_dir": module_dir,
        "module_name": program.removesuffix(".py"),
        "network_interface_name": resources.get("network_interface_name", "eth0"),
        "num_cpus": len(os.sched_getaffinity(0)),
        "num_gpus": gpus(),
        "num_neurons": 0,
        "output_data_dir": str(base / "output/data"),
        "output_dir": str(base / "output"),
        "output_intermediate_dir": str(base / "output/intermediate"),
        "resource_config": dict(resources),
        "user_entry_point": program,
    }
    # What the toolkit calls differently inside SM_TRAINING_ENV than as a variable of its own.
    described = {
        **facts,
        "additional_framework_parameters": framework,
        "channel_input_dirs": channel_dirs,
        "distribution_hosts": job.distribution_hosts,
        "hyperparameters": hyperparameters,
        "is_master": host == master,
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": environment.get("TRAINING_JOB_NAME"),
        "master_hostname": master,
        "topology": resources.get("topology", []),
    }
    facts |= {
        "channels": sorted(channel_dirs),
        "framework_params": framework,
        "hps": hyperparameters,
        "training_env": described,
        "user_args": command_line(hyperparameters),
        **{f"channel_{name}": path for name, path in channel_dirs.items()},
        **({"topology": resources["topology"]} if resources.get("topology") else {}),
        **{f"hp_{name}": value for name, value in hyperparameters.items()},
    }
    made = {f"SM_{name.upper()}": _text(value) for name, value in facts.items()}
    for name, text in made.items():
        _check(name, text)
    return made


def _check(name: str, text: str) -> None:
    if "=" in name or "\0" in name:
        raise TrainingFailed(f"no variable can be named {name!r}; give that hyperparameter or channel another name.")
    try:
        os.fsencode(name + text)
    except UnicodeEncodeError:
        raise TrainingFailed(f"{name} holds half of a surrogate pair, which no variable and no argument can.") from None
    if "\0" in text:
        raise TrainingFailed(f"{name} holds a zero byte, which no variable and no argument can.")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def gpus() -> int:
    """How many GPUs this machine has."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        said = subprocess.run(
            [tool, "--list-gpus"], capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in said.splitlines())
