"""AWS on a laptop: moto, and beside it a small SageMaker of our own that really serves models and runs jobs.

``tidegate cloud up`` starts it and prints the environment for unmodified boto3, ``aws`` and ``cdk``;
:class:`LocalCloud` is the same for Python. What is real, stored or refused: ``docs/local-cloud.md``.
"""

from tidegate.local_cloud.cloud import CloudError, LocalCloud

__all__ = ["CloudError", "LocalCloud"]
