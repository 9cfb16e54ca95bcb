"""Which script a training job runs, and how it comes to /opt/ml/code."""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from container.entrypoint.training_failure import TrainingFailed
from container.entrypoint.training_variables import TrainingJob

DISTRIBUTIONS = (
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
)
"""What the SDK's `distribution` sets beside `torch_distributed`: launchers that this image has not."""


def program_of(job: TrainingJob, environment: Mapping[str, str]) -> str:
    """The script's path below the code directory: SAGEMAKER_PROGRAM, the hyperparameter, or train.py.

    Raises `TrainingFailed` for a path outside, and for a distribution that this image does not start.
    """
    for name in DISTRIBUTIONS:
        if job.hyperparameters.get(name) in (True, "true", "True"):
            raise TrainingFailed(
                f"{name} is set, whose launcher this image has not; "
                'distribution={"torch_distributed": {"enabled": True}} starts the script by torchrun.'
            )
    program = environment.get("SAGEMAKER_PROGRAM") or str(job.hyperparameters.get("sagemaker_program") or "train.py")
    if Path(program).is_absolute() or ".." in Path(program).parts:
        raise TrainingFailed(f"sagemaker_program is '{program}'; it must be a file below the code directory.")
    return program


def source_of(job: TrainingJob, environment: Mapping[str, str]) -> str:
    """Where the code comes from: an s3:// or file:// tar, a directory, or what is in /opt/ml/code already."""
    return str(
        job.hyperparameters.get("sagemaker_submit_directory")
        or environment.get("SAGEMAKER_SUBMIT_DIRECTORY")
        or job.base_dir / "code"
    )


def fetch(source: str, code_dir: Path, environment: Mapping[str, str]) -> None:
    """Bring `source` into `code_dir`, unless there is something already, as the toolkit does.

    Raises `TrainingFailed` with the reason.
    """
    try:
        code_dir.mkdir(parents=True, exist_ok=True)
        if any(code_dir.iterdir()):
            return
        if source.startswith("s3://"):
            with tempfile.TemporaryDirectory(prefix="tidegate-code-") as work:
                archive = Path(work) / "source.tar.gz"
                _download(source, archive, environment)
                _unpack(archive, code_dir)
            return
        place = Path(source.removeprefix("file://"))
        if place.is_dir():
            if place.resolve() != code_dir.resolve():
                shutil.copytree(place, code_dir, dirs_exist_ok=True)
        elif place.is_file():
            _unpack(place, code_dir)
        else:
            raise TrainingFailed(f"the training code is not there: {source} is neither a directory nor a file.")
    except OSError as error:
        raise TrainingFailed(f"the training code of {source} cannot be brought to {code_dir}: {error}.") from None


def _unpack(archive: Path, target: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if Path(member.name).is_absolute() or ".." in Path(member.name).parts:
                    raise TrainingFailed(f"{archive.name} holds '{member.name}', which is outside the code directory.")
            # Python has had the filter since 3.11.4, and Debian 12 has 3.11.2.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(target)  # noqa: S202 - see the loop above; and what is in it runs next anyway
    except tarfile.TarError as error:
        raise TrainingFailed(f"{archive.name} is not a tar archive that can be unpacked here: {error}.") from None


def _download(source: str, target: Path, environment: Mapping[str, str]) -> None:
    try:
        import boto3  # noqa: PLC0415 - slow, and needed only where the code comes from S3
    except ImportError:
        raise TrainingFailed(
            f"the training code is at {source}, and boto3 is not installed; the image of this project has it."
        ) from None
    place = urlsplit(source)
    region = environment.get("AWS_REGION") or environment.get("SAGEMAKER_REGION")
    endpoint = environment.get("S3_ENDPOINT_URL") or None
    try:
        boto3.client("s3", region_name=region, endpoint_url=endpoint).download_file(
            place.netloc, place.path.lstrip("/"), str(target)
        )
    except Exception as error:  # boto3 raises errors of several families, and each is the user's to read
        raise TrainingFailed(f"{source} cannot be downloaded: {error}.") from None


def script_in(code_dir: Path, program: str) -> Path:
    """The script's file. Raises `TrainingFailed` where there is none."""
    script = code_dir / program
    if not script.is_file():
        there = ", ".join(sorted(path.name for path in code_dir.iterdir())) or "nothing"
        raise TrainingFailed(f"there is no {program} in {code_dir}, which holds {there}; name it by sagemaker_program.")
    return script


def warn_of_package(code_dir: Path) -> None:
    """Say that a setup.py beside the script is not installed: AWS's toolkit installed it, and what it requires."""
    if (code_dir / "setup.py").is_file():
        print(  # noqa: T201
            f"tidegate: warning: {code_dir}/setup.py is not installed; where the script needs it or what it requires, "
            "write a line with a dot (.) into requirements.txt",
            file=sys.stderr,
            flush=True,
        )
