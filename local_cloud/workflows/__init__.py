"""Events that start state machines, and state machines that run: the second seam into moto.

moto keeps rules and state machines and has an interpreter of the Amazon States Language, but an event never starts a
machine, and the interpreter lacks JSONata and knows one address for all services. All of it uses private names of
moto 5.2.5, as :mod:`local_cloud.cloudformation` does.
"""

from tidegate.local_cloud.workflows.event_targets import start_machines_from_rules
from tidegate.local_cloud.workflows.state_machines import MakeClient, run_state_machines

__all__ = ["install"]


def install(make_client: MakeClient) -> None:
    """Puts the seam into this process's moto; ``make_client`` makes a boto3 client of this cloud for a service."""
    run_state_machines(make_client)
    start_machines_from_rules(make_client)
