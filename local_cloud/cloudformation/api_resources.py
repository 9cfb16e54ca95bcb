"""AWS::ApiGateway::…, of which moto lacks half and drops most properties of the rest, through boto3.

Stored and described as deployed; no API answers here. A path, an authorizer, a validator and a deployment that change
are made anew.
"""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from botocore import xform_name
from botocore.exceptions import ClientError
from moto.apigateway import responses
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource, as_request


class _Part(Resource):
    """A resource that is known by an id of API Gateway's."""

    CREATE: ClassVar[str] = ""
    DELETE: ClassVar[str] = ""
    ID: ClassVar[str] = ""  # what the deletion calls the id

    @property
    def physical_resource_id(self) -> str:
        return self.arn

    def create(self) -> None:
        given = {"name": self.name} if self.NAME else {}
        self.arn = str(_call(self.CREATE, given | _members(self.properties))["id"])

    def update(self, properties: Json) -> bool:
        return False

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            _call(self.DELETE, {"restApiId": self.properties["RestApiId"], self.ID: self.arn})


class RestApi(_Part, CloudFormationModel):
    TYPE = "AWS::ApiGateway::RestApi"
    CREATE = "CreateRestApi"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"RootResourceId": "root_id", "RestApiId": "arn"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        super().create()
        self.root_id = next(item["id"] for item in client("apigateway").get_resources(restApiId=self.arn)["items"])

    def update(self, properties: Json) -> bool:
        """In place, as on AWS: the address is made of its id."""
        words = {"/name": properties["Name"], "/description": properties.get("Description", "")}
        changes = [{"op": "replace", "path": path, "value": value} for path, value in words.items()]
        client("apigateway").update_rest_api(restApiId=self.arn, patchOperations=changes)
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            client("apigateway").delete_rest_api(restApiId=self.arn)


class ApiResource(_Part, CloudFormationModel):
    TYPE = "AWS::ApiGateway::Resource"
    CREATE, DELETE, ID = "CreateResource", "DeleteResource", "resourceId"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"ResourceId": "arn"}


class Method(_Part, CloudFormationModel):
    """With its integration and its responses, each of which is a call of its own."""

    TYPE = "AWS::ApiGateway::Method"

    def create(self) -> None:
        members = _members(self.properties)
        responses = members.pop("methodResponses", [])
        integration = _members(members.pop("integration", {}))
        passed_on = integration.pop("integrationResponses", [])
        here = {name: members[name] for name in ("restApiId", "resourceId", "httpMethod")}
        _call("PutMethod", members)
        for response in responses:
            _call("PutMethodResponse", here | _members(response))
        if integration:
            _call("PutIntegration", here | integration)
        for response in passed_on:
            _call("PutIntegrationResponse", here | _members(response))
        self.arn = "-".join(here.values())

    def update(self, properties: Json) -> bool:
        # Its id is made of its place, so what takes its place has the same one.
        if any(properties[name] != self.properties[name] for name in ("RestApiId", "ResourceId", "HttpMethod")):
            return False
        self.delete("", "")
        self.properties = properties
        self.create()
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        members = _members(self.properties)
        with _gone_is_fine():
            _call("DeleteMethod", {name: members[name] for name in ("restApiId", "resourceId", "httpMethod")})


class Authorizer(_Part, CloudFormationModel):
    TYPE = "AWS::ApiGateway::Authorizer"
    CREATE, DELETE, ID = "CreateAuthorizer", "DeleteAuthorizer", "authorizerId"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"AuthorizerId": "arn"}


class RequestValidator(_Part, CloudFormationModel):
    TYPE = "AWS::ApiGateway::RequestValidator"
    NAME = "Name"
    CREATE, DELETE, ID = "CreateRequestValidator", "DeleteRequestValidator", "requestValidatorId"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"RequestValidatorId": "arn"}


class Deployment(_Part, CloudFormationModel):
    TYPE = "AWS::ApiGateway::Deployment"
    CREATE, DELETE, ID = "CreateDeployment", "DeleteDeployment", "deploymentId"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"DeploymentId": "arn"}


class Stage(_Part, CloudFormationModel):
    """It keeps its address, and so its name, while it changes."""

    TYPE = "AWS::ApiGateway::Stage"
    DELETE, ID = "DeleteStage", "stageName"
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        members = _members(self.properties)
        settings = [*_log_settings(members.pop("accessLogSetting", {})), *_limits(members.pop("methodSettings", []))]
        _call("CreateStage", members)
        self.arn = members["stageName"]
        if settings:
            changes = [{"op": "replace", "path": path, "value": value} for path, value in settings]
            place = {"restApiId": members["restApiId"], "stageName": self.arn}
            client("apigateway").update_stage(**place, patchOperations=changes)

    def update(self, properties: Json) -> bool:
        if any(properties[name] != self.properties[name] for name in ("RestApiId", "StageName")):
            return False
        self.delete("", "")
        self.properties = properties
        self.create()
        return True


class Account(_Part, CloudFormationModel):
    """One for the account and Region, which CloudFormation sets and never takes back."""

    TYPE = "AWS::ApiGateway::Account"

    def create(self) -> None:
        role = {"op": "replace", "path": "/cloudwatchRoleArn", "value": self.properties.get("CloudWatchRoleArn", "")}
        client("apigateway").update_account(patchOperations=[role])
        self.arn = "account"

    def update(self, properties: Json) -> bool:
        self.properties = properties
        self.create()
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        """The setting stays."""


def take_jwt_authorizers() -> None:
    """moto refuses the newest kind of authorizer; the issuers of one are not kept."""
    if "JWT" not in responses.AUTHORIZER_TYPES:
        responses.AUTHORIZER_TYPES.append("JWT")


# Whose values have names of their own in the API, too.
_INNER = frozenset({"EndpointConfiguration", "JwtConfiguration"})


def _call(operation: str, members: Json) -> Json:
    answer: Json = getattr(client("apigateway"), xform_name(operation))(**as_request("apigateway", operation, members))
    return answer


def _members(properties: Json) -> Json:
    """Properties by the names of the API, which begin with a small letter; tags as it takes them."""
    found: Json = {}
    for name, value in properties.items():
        if name == "Tags":
            found["tags"] = {tag["Key"]: tag["Value"] for tag in value}
            continue
        member = name[0].lower() + name[1:]
        if name in _INNER:
            found[member] = _members(value)
        elif name == "Issuers":
            found[member] = [_members(item) for item in value]
        else:
            found[member] = value
    return found


def _log_settings(setting: Json) -> Iterator[tuple[str, str]]:
    for name, value in setting.items():
        yield f"/accessLogSettings/{name[0].lower()}{name[1:]}", value


def _limits(settings: list[Json]) -> Iterator[tuple[str, str]]:
    """Source: https://docs.aws.amazon.com/apigateway/latest/api/API_UpdateStage.html."""
    for each in settings:
        path = "*" if each["ResourcePath"] == "/*" else each["ResourcePath"].replace("/", "~1")
        for name, key in (("ThrottlingRateLimit", "rateLimit"), ("ThrottlingBurstLimit", "burstLimit")):
            if name in each:
                yield f"/{path}/{each['HttpMethod']}/throttling/{key}", str(each[name])


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotFoundException":
            raise
