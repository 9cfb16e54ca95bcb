"""Starts the serving toolkit of the AWS container, unmodified but for the place of its configuration file."""

from __future__ import annotations

from pathlib import Path

from sagemaker_pytorch_serving_container import serving, torchserve

if __name__ == "__main__":
    torchserve.TS_CONFIG_FILE = str(Path.cwd() / "sagemaker-ts.properties")  # the container's is in /etc
    serving.main()
