"""The only seam into moto: CloudFormation that deploys to our SageMaker.

* :mod:`.sagemaker_resources` and :mod:`.storage_resources` are resource classes for what moto lacks or drops; they act
  through boto3.
* :mod:`.stacks` and :mod:`.change_sets` run stack operations: moto's own are synchronous, lose failures and do not
  carry replacements on.

Templates, parameters, intrinsic functions and every other resource type stay moto's. All of it uses private names of
moto 5.2.5, which is why pyproject.toml pins it.
"""

from moto.cloudformation import parsing

from local_cloud.cloudformation import sagemaker_resources, storage_resources
from local_cloud.cloudformation.clients import Clients, use
from local_cloud.cloudformation.stacks import run_stacks_ourselves

__all__ = ["Clients", "install", "sagemaker_resources", "storage_resources"]


def install(clients: Clients) -> None:
    """Puts the seam into this process's moto."""
    use(clients)
    # moto may have listed its resource classes already; the list must be made again with ours.
    for cached in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        cached.cache_clear()
    storage_resources.ignore_bucket_policies()
    run_stacks_ourselves()
