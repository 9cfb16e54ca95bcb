"""AWS::Budgets::Budget, through boto3: stored and described; nothing is spent here, so nothing is ever notified."""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

import re

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource, as_request
from tidegate.local_cloud.environment import ACCOUNT


class Budget(Resource, CloudFormationModel):
    TYPE = "AWS::Budgets::Budget"
    NAME_CHARS = 100

    def __init__(self, name: str, properties: Json) -> None:
        # The name stands inside the property Budget, where moto does not look for names.
        super().__init__(properties["Budget"].get("BudgetName") or re.sub(r"[:\\]", "-", name), properties)

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def create(self) -> None:
        budget = {**self.properties["Budget"], "BudgetName": self.name}
        given = {**self.properties, "Budget": budget, "AccountId": ACCOUNT}
        client("budgets").create_budget(**as_request("budgets", "CreateBudget", given, without=("ResourceTags",)))

    def update(self, properties: Json) -> bool:
        if properties["Budget"].get("BudgetName") not in (None, self.name):
            return False
        # moto has no UpdateBudget.
        self.delete("", "")
        self.properties = properties
        self.create()
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            client("budgets").delete_budget(AccountId=ACCOUNT, BudgetName=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NotFoundException":
                raise
