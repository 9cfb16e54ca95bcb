"""Everything that happens to a model before it takes traffic, without a socket: for a build, or a laptop."""

from __future__ import annotations

from inference import log_lines
from inference.protocol import ModelSpec
from inference.settings import Settings
from inference.worker.loading import load, report_python


def run(model_dir: str, settings: Settings) -> int:
    """Load `model_dir`, ask its example and print a line per step; returns 0. Raises `DeploymentError`."""
    log_lines.configure(settings.log_level)
    log_lines.configure_root(settings.log_level)
    spec = ModelSpec(
        name="model",
        model_dir=model_dir,
        program=settings.program,
        gpu_id=None,
        threads=settings.threads_per_worker or 1,
        verify=True,
        max_batch_size=settings.max_batch_size,
        default_accept=settings.default_accept,
        max_decoded_bytes=settings.max_decoded_bytes,
        max_response_bytes=settings.max_response_bytes,
        max_image_pixels=settings.max_image_pixels,
        log_level=settings.log_level,
        trust_pickle=settings.trust_pickled_model,
    )
    _say(f"checking {model_dir} with {report_python()}")
    load(spec, _say)
    _say("this model may take traffic")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the report is what the command is for
