"""The stages of this project. This is the file to edit; every key is explained in configuration.py.

A value given on the command line (`-c model_data_url=…`, `-c image_tag=…`, `-c image_uri=…`) counts for that command
only: the next deploy without it goes back to what is written here.
"""

from __future__ import annotations

from infra.configuration import Hosting, RepositoryImage, Retention, Stage

# For the local cloud. Its account number is the one that moto answers with, so that the command line refuses to
# put this stage into a real account by mistake. No image of that tag exists or is needed: the local cloud starts
# the server as a process.
LOCAL = Stage(
    name="local",
    account="123456789012",
    bootstrapped=False,
    image=RepositoryImage(tag_or_digest="process"),
    hosting=Hosting(),
    retention=Retention(keep_data=False),
)

DEV = Stage(
    name="dev",
    image=RepositoryImage(tag_or_digest="0.1.0"),
    hosting=Hosting(),
    retention=Retention(keep_data=False, old_versions_days=14, batch_output_days=14, access_logs_days=30, images=20),
    server={"max_batch_size": 8},
)

PROD = Stage(
    name="prod",
    image=RepositoryImage(tag_or_digest="0.1.0"),
    # Two instances, because SageMaker spreads them over availability zones.
    hosting=Hosting(instance_count=2),
    retention=Retention(keep_data=True),
    server={"max_batch_size": 8},
)

STAGES = {stage.name: stage for stage in (LOCAL, DEV, PROD)}
DEFAULT_STAGE = LOCAL.name
