"""Who calls, and what a role may do.

moto knows nobody behind the exported credentials and has no SimulatePrincipalPolicy; the SageMaker SDKs ask for both
before they do anything.
"""

from tidegate.local_cloud.access.enforcement import Enforcement
from tidegate.local_cloud.access.execution_role import create_execution_role
from tidegate.local_cloud.access.policy_simulation import MakeClient, simulate_policies
from tidegate.local_cloud.access.role_sessions import RoleSessions

__all__ = ["Enforcement", "RoleSessions", "install"]


def install(make_client: MakeClient, *, account: str, region: str, access_key_id: str) -> None:
    """Puts the seam into this process's moto; who signs with ``access_key_id`` is a session of the execution role.

    ``make_client`` makes a boto3 client of this cloud for a service. moto must answer already: the role is created.
    """
    simulate_policies(make_client)
    create_execution_role(make_client("iam"), account=account, region=region, access_key_id=access_key_id)
