"""Events that start state machines, and state machines that run.

moto keeps rules and state machines and has an interpreter of the Amazon States Language, but an event never starts a
machine, and the interpreter lacks JSONata and knows one address for all services.
"""

from tidegate.local_cloud.access import RoleSessions
from tidegate.local_cloud.workflows.event_targets import start_machines_from_rules
from tidegate.local_cloud.workflows.state_machines import MakeClient, resume, run_state_machines

__all__ = ["install", "resume"]


def install(make_client: MakeClient, sessions: RoleSessions | None = None) -> None:
    """Puts the seam into this process's moto; ``make_client`` makes a boto3 client of this cloud for a service.

    With ``sessions`` machines and rules act in their roles, whose rights are checked.
    """
    run_state_machines(make_client, sessions)
    start_machines_from_rules(make_client, sessions)
