"""Api: the way in for callers who do not ask SageMaker itself."""

from __future__ import annotations

from constructs import Construct

from tidegate.infra.api import passage
from tidegate.infra.api.gateway import Gateway
from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.api import Api
from tidegate.infra.hosting.adapters import components_of
from tidegate.infra.rights.lent_policy import LentPolicy
from tidegate.infra.stacks.stage_stack import StageStack


class ApiStack(StageStack):
    """What `[api]` of the stage asks for. It knows the endpoint by name only."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage, api: Api) -> None:
        super().__init__(scope, unit, stage=stage, description=f"API in front of {stage.prefix} {stage.name}")
        endpoint_name = self.names.endpoint
        gateway = Gateway(
            self,
            "Gateway",
            api=api,
            name=self.names.api,
            stage_name=stage.name,
            endpoint_name=endpoint_name,
            components=components_of(endpoint_name, stage.hosting),
            headers=passage.of_stage(stage, endpoint_name),
        )
        if api.account_log_role == "new":
            gateway.make_account_role()
        self.output("InvocationsUrl", gateway.url, "POST a request here")
        if api.authorization == "iam":
            policy = LentPolicy(self, "Call", f"Invokes the API {self.names.api}")
            policy.may("Call", ["execute-api:Invoke"], [gateway.call_arn])
            self.output("CallPolicyArn", policy.arn, "For the roles of those who call the API")
