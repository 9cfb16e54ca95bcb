"""The models of a stage: the main one, and those of variants that run another archive or image."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from constructs import Construct

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.hosting import Instances, MultiModelHosting, RealtimeHosting
from tidegate.infra.configuration.image import Image, ImageUri
from tidegate.infra.configuration.model import (
    ApprovedModel,
    ArchivedModel,
    Container,
    ModelRepository,
    PackagedModel,
    Piped,
)
from tidegate.infra.configuration.network import Network, NewVpc
from tidegate.infra.hosting import machines
from tidegate.infra.models import model_source
from tidegate.infra.models.container_environment import container_environment
from tidegate.infra.models.image import ResolvedImage, repository_arn, resolve_image
from tidegate.infra.models.model import Beside, Model, Pipeline
from tidegate.infra.models.model_source import ModelSource
from tidegate.infra.rights.execution_role import ExecutionRole
from tidegate.infra.stage.names import Names


class ServedModels(Construct):
    """Each with the rights that its role needs to fetch it: its archive, and its image's repository."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        stage: Stage,
        names: Names,
        bucket: str,
        role: ExecutionRole,
        subnets: Sequence[str],
        security_groups: Sequence[str],
        # The ARN of the package of a stage that serves what was approved last; a token.
        approved_arn: str | None,
    ) -> None:
        super().__init__(scope, id_)
        self._stage, self._names, self._role = stage, names, role
        self._subnets, self._security_groups = subnets, security_groups
        self._repositories: dict[str, None] = {}
        self._source = model_source.resolve(
            stage.model,
            bucket=bucket,
            region=stage.region,
            multi_model=stage.hosting.mode == "multi_model",
            approved_arn=approved_arn,
        )
        self._image = self._main_image()
        self._pipeline = self._containers_beside()
        self.main = self._model("Model", self._source, self._image, reads="ReadThisModel")
        self.of_variants = self._variants()
        if self._repositories:
            role.may_pull_from(*self._repositories)

    def _main_image(self) -> ResolvedImage | None:
        stack, stage = cdk.Stack.of(self), self._stage
        if self._source.package_arn is not None:
            # The package names its image. A group's packages are not known yet: theirs are in the stage's repository,
            # or in that of [image].
            if self._source.package_image_uri is not None:
                self._may_pull(repository_arn(stack, self._source.package_image_uri))
            if isinstance(stage.model, ApprovedModel):
                repository = stack.format_arn(
                    service="ecr", resource="repository", resource_name=self._names.repository
                )
                self._may_pull(repository)
                if stage.image is not None:
                    self._may_pull(self._resolve(stage.image, "Image").repository_arn)
            return None
        # `validation.check` demands an image where no package names one.
        return None if stage.image is None else self._resolve(stage.image, "Image")

    def _variants(self) -> dict[str, Model]:
        hosting = self._stage.hosting
        if not isinstance(hosting, RealtimeHosting):
            return {}
        models = {}
        for number, variant in enumerate(hosting.variants, start=1):
            if variant.archive is not None:
                source = model_source.of_archive(variant.archive)
                models[variant.name] = self._model(f"Model{number}", source, self._image, reads=f"ReadModel{number}")
        shadow = hosting.shadow
        if shadow is not None and (shadow.archive is not None or shadow.image_uri is not None):
            source = self._source if shadow.archive is None else model_source.of_archive(shadow.archive)
            image = (
                self._image
                if shadow.image_uri is None
                else self._resolve(ImageUri(uri=shadow.image_uri), "ShadowImage")
            )
            models[shadow.name] = self._model("ShadowModel", source, image, reads="ReadShadowModel")
        return models

    def _model(self, id_: str, source: ModelSource, image: ResolvedImage | None, *, reads: str) -> Model:
        stage, hosting = self._stage, self._stage.hosting
        if image is not None:
            self._may_pull(image.repository_arn)
        if source.reads:
            self._may_read(reads, source)
        return Model(
            self,
            id_,
            prefix=self._names.endpoint,
            source=source,
            image_uri=None if image is None else image.uri,
            environment=container_environment(stage),
            role_arn=self._role.arn,
            network_isolation=isinstance(hosting, Instances) and hosting.network_isolation,
            subnets=self._subnets,
            security_groups=self._security_groups,
            network_content=network_content(stage.network),
            foreign_registry=image is not None and image.repository_arn is None,
            cache_models=hosting.cache_models if isinstance(hosting, MultiModelHosting) else None,
            pipeline=self._pipeline,
        )

    def _containers_beside(self) -> Pipeline | None:
        """The containers of the stage file around its own, which all models of the stage have."""
        model = self._stage.model
        if not isinstance(model, Piped) or not model.containers:
            return None
        place = next(number for number, container in enumerate(model.containers) if container.is_own)
        return Pipeline(
            hostname=model.containers[place].name,
            before=[self._beside(container) for container in model.containers[:place]],
            after=[self._beside(container) for container in model.containers[place + 1 :]],
            direct=model.invocation == "direct",
        )

    def _beside(self, container: Container) -> Beside:
        image = self._image
        if container.image_uri is not None:
            image = self._resolve(ImageUri(uri=container.image_uri), f"Image-{container.name}")
        if image is None:
            raise ConfigurationError("image is missing; write the table [image] with a tag, a digest, a uri or build")
        self._may_pull(image.repository_arn)
        source = ModelSource() if container.archive is None else model_source.of_archive(container.archive)
        if source.reads:
            self._may_read(f"ReadFor{_as_sid(container.name)}", source)
        return Beside(
            hostname=container.name,
            source=source,
            image_uri=image.uri,
            environment=container.environment,
            foreign_registry=image.repository_arn is None,
        )

    def _may_read(self, sid: str, source: ModelSource) -> None:
        """It may lie in any bucket."""
        stack = cdk.Stack.of(self)
        arns = [stack.format_arn(service="s3", region="", account="", resource=path) for path in source.reads]
        self._role.may_read(sid, *arns)
        if source.files_url is not None or arns[0].endswith("*"):
            bucket = source.reads[0].partition("/")[0]
            self._role.may_list(
                sid.replace("Read", "List", 1),
                stack.format_arn(service="s3", region="", account="", resource=bucket),
                below=source.lists,
            )
        match self._stage.model:
            case (
                ModelRepository(repository_key=str(key))
                | ArchivedModel(archive_key=str(key))
                | PackagedModel(archive_key=str(key))
            ):
                self._role.may_decrypt(sid.replace("Read", "Decrypt", 1), key)

    def _may_pull(self, arn: str | None) -> None:
        if arn is not None:
            self._repositories[arn] = None

    def _resolve(self, image: Image, id_: str) -> ResolvedImage:
        return resolve_image(
            self, id_, image, repository_name=self._names.repository, platform=machines.platform(self._stage)
        )


def _as_sid(name: str) -> str:
    """The name as a statement of a policy may have it: letters and digits."""
    return "".join(part.capitalize() for part in name.split("-"))


def network_content(network: Network | None) -> object:
    """What a name made of content takes for the network: the ids of a new VPC are tokens, the same for every VPC."""
    return network.model_dump(mode="json") if isinstance(network, NewVpc) else None
