"""The whole SageMaker on one port: control plane at ``/``, runtime at ``/endpoints/``.

Ours are ``/local/`` and, for browsers, ``/playground``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from tidegate.local_cloud.clock import CLOCK, ClockRefused, written
from tidegate.local_cloud.keep.errors import KeepError
from tidegate.local_cloud.keep.plain import nothing
from tidegate.local_cloud.metrics.store import MetricStore
from tidegate.local_cloud.playground import room as playground
from tidegate.local_cloud.playground.room import Playground
from tidegate.local_cloud.sagemaker import own_pages, wire
from tidegate.local_cloud.sagemaker.adapter_components import AdapterComponents
from tidegate.local_cloud.sagemaker.async_invocations import AsyncInvocations
from tidegate.local_cloud.sagemaker.caller_rights import Refusal, rights_of_call, rights_of_invocation
from tidegate.local_cloud.sagemaker.capabilities import SUPPORT, refuse_unsupported
from tidegate.local_cloud.sagemaker.capacity_metrics import CapacityMetrics
from tidegate.local_cloud.sagemaker.container import ContainerRunner
from tidegate.local_cloud.sagemaker.control_plane import ControlPlane
from tidegate.local_cloud.sagemaker.data_capture import DataCapture
from tidegate.local_cloud.sagemaker.docker_container import DockerContainer
from tidegate.local_cloud.sagemaker.endpoints import Endpoints
from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_exception
from tidegate.local_cloud.sagemaker.fleet import Fleet, FleetStarter
from tidegate.local_cloud.sagemaker.http_messages import Request, Response
from tidegate.local_cloud.sagemaker.http_server import BodyLimit, HttpServer
from tidegate.local_cloud.sagemaker.invocation_metrics import InvocationMetrics
from tidegate.local_cloud.sagemaker.jobs.processing_jobs import ProcessingJobs
from tidegate.local_cloud.sagemaker.jobs.runners import JobRunner
from tidegate.local_cloud.sagemaker.jobs.training_jobs import TrainingJobs
from tidegate.local_cloud.sagemaker.jobs.tuning_jobs import TuningJobs
from tidegate.local_cloud.sagemaker.kept_rooms import Room, kept, put_back, resume
from tidegate.local_cloud.sagemaker.limits import Limits
from tidegate.local_cloud.sagemaker.log_groups import LogGroups
from tidegate.local_cloud.sagemaker.model_packages import Announce, ModelPackages
from tidegate.local_cloud.sagemaker.pipelines.operations import Pipelines
from tidegate.local_cloud.sagemaker.pipelines.steps import Perform
from tidegate.local_cloud.sagemaker.plain_invocation import Invocation, PlainInvocations
from tidegate.local_cloud.sagemaker.process_container import ProcessContainer
from tidegate.local_cloud.sagemaker.roles import Roles, demand_role
from tidegate.local_cloud.sagemaker.runtime import Runtime
from tidegate.local_cloud.sagemaker.shadow_traffic import ShadowTraffic
from tidegate.local_cloud.sagemaker.shapes import check, operation_model
from tidegate.local_cloud.sagemaker.state import Identity, Json, Tags, check_tags
from tidegate.local_cloud.sagemaker.targets import Targets
from tidegate.local_cloud.sagemaker.transform_jobs import TransformJobs

DenialOfCaller = Callable[[str, str, str], Refusal | None]
"""Takes the Authorization header, an action and a resource."""

ALIVE: Mapping[type, Callable[[Any], Any]] = dict.fromkeys(
    (Fleet, ProcessContainer, DockerContainer), lambda _: (nothing, ())
)
"""What a picture of the state leaves out, as reducers of :mod:`pickle` have it."""

_READING = ("Describe", "List", "Get", "Search")


class Recorder(Protocol):
    """What keeps the state on disk; see :class:`tidegate.local_cloud.keep.memory.Memory`."""

    def settle(self) -> None:
        """Returns when the state is on disk. Raises :class:`.KeepError`."""

    def changing(self, operation: str, resource: str) -> AbstractContextManager[None]:
        """Around a change, which is on disk when this ends. Raises :class:`.KeepError`."""


class SageMaker:
    """Answers from :meth:`start` to :meth:`close`. ``directory`` is private to it; logs go to ``log_directory``.

    ``beside`` has rooms of others whose state is kept with this one's. ``announce`` tells EventBridge;
    ``denial_of_caller`` says why who signed a request may not do what it asks for.
    """

    def __init__(
        self,
        *,
        roles: Roles,
        runner: ContainerRunner,
        job_runner: JobRunner,
        identity: Identity,
        directory: Path,
        log_directory: Path,
        container_environment: Mapping[str, str],
        announce: Announce,
        denial_of_caller: DenialOfCaller | None = None,
        limits: Limits,
        beside: Mapping[str, Room] = MappingProxyType({}),
        port: int = 0,
    ) -> None:
        self._identity = identity
        self._denial_of_caller = denial_of_caller
        self.metrics = InvocationMetrics(MetricStore(), CLOCK)
        self._captures, self._shadows = DataCapture(roles), ShadowTraffic()
        self._endpoints = Endpoints(
            starter=FleetStarter(
                runner=runner,
                roles=roles,
                log_directory=log_directory / "endpoints",
                environment=container_environment,
                most_instances=limits.instances,
            ),
            identity=identity,
            directory=directory / "endpoints",
            # While its role is there, and so that what somebody empties the bucket of is all.
            before_gone=self._captures.flush,
        )
        self._adapters = AdapterComponents(roles=roles, runner=runner, identity=identity)
        self._component_servers = Endpoints(
            starter=FleetStarter(
                runner=runner,
                roles=roles,
                log_directory=log_directory / "inference-components",
                environment=container_environment,
                most_instances=limits.instances,
                ready=self._adapters.ready,
            ),
            identity=identity,
            directory=directory / "inference-components",
            kind="inference-component",
        )
        self._jobs = TransformJobs(
            runner=runner,
            roles=roles,
            identity=identity,
            directory=directory / "transform-jobs",
            log_directory=log_directory / "transform-jobs",
            container_environment=container_environment,
        )
        tags = Tags()
        self._training_jobs = TrainingJobs(
            runner=job_runner,
            roles=roles,
            identity=identity,
            tags=tags,
            announce=announce,
            directory=directory / "training-jobs",
            log_directory=log_directory / "training-jobs",
            environment=container_environment,
            grace_s=limits.job_stop_grace_s,
        )
        self._tuning_jobs = TuningJobs(training=self._training_jobs, identity=identity, tags=tags, announce=announce)
        self._processing_jobs = ProcessingJobs(
            runner=job_runner,
            roles=roles,
            identity=identity,
            tags=tags,
            announce=announce,
            directory=directory / "processing-jobs",
            log_directory=log_directory / "processing-jobs",
            environment=container_environment,
            grace_s=limits.job_stop_grace_s,
        )
        self._roles = roles
        self._pipelines = Pipelines(
            roles=roles, identity=identity, tags=tags, announce=announce, perform_as=self._performing_as
        )
        packages = ModelPackages(identity=identity, tags=tags, announce=announce)
        self._control_plane = ControlPlane(
            identity=identity,
            endpoints=self._endpoints,
            transform_jobs=self._jobs,
            training_jobs=self._training_jobs,
            tuning_jobs=self._tuning_jobs,
            processing_jobs=self._processing_jobs,
            servers=self._component_servers,
            packages=packages,
            pipelines=self._pipelines,
            tags=tags,
            log_groups=LogGroups(roles=roles, directory=log_directory),
            adapters=self._adapters,
            roles=roles,
        )
        self._async = AsyncInvocations(
            endpoints=self._endpoints, roles=roles, identity=identity, limits=limits, metrics=self.metrics
        )
        self.capacity_metrics = CapacityMetrics(
            self.metrics.store, self._endpoints, self._component_servers, self._async
        )
        targets = Targets(
            endpoints=self._endpoints,
            components=self._control_plane.components,
            identity=identity,
            limits=limits,
            metrics=self.metrics,
        )
        self._runtime = Runtime(targets, self._async, PlainInvocations(targets, self._captures, self._shadows))
        self._playground = Playground(
            endpoints=self._endpoints,
            servers=self._component_servers,
            components=self._control_plane.components,
            runtime=self._runtime,
            region=identity.region,
        )
        # In the order in which they go on after a restart: what others refer to is there before them.
        self._rooms: dict[str, Room] = {
            "tags": tags,
            "models and configurations": self._control_plane,
            "model packages": packages,
            "endpoints": self._endpoints,
            "servers of components": self._component_servers,
            "adapter components": self._adapters,
            "inference components": self._control_plane.components,
            "monitoring": self._control_plane.monitoring,
            "transform jobs": self._jobs,
            "training jobs": self._training_jobs,
            "tuning jobs": self._tuning_jobs,
            "processing jobs": self._processing_jobs,
            "pipelines": self._pipelines,
            "asynchronous requests": self._async,
            **beside,
        }
        self._memory: Recorder | None = None
        too_large = Response(
            status=413,
            headers={"Content-Type": "application/json"},
            body=b'{"Message": "HTTP content length exceeded %d bytes."}' % limits.body_bytes,
        )
        self._server = HttpServer(
            self._answer,
            begin=self._begin,
            body_limit=BodyLimit(max_bytes=limits.body_bytes, response=too_large),
            name="sagemaker",
            port=port,
        )

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> None:
        self._server.start()

    def kept(self) -> dict[str, Any]:
        """The state of all rooms, by their names; live objects, to be pickled at once."""
        return {name: kept(room) for name, room in self._rooms.items()}

    def remember(self, state: Mapping[str, Any], memory: Recorder) -> None:
        """Takes up the state that another process kept, before :meth:`start`.

        From now on what a request changes goes to ``memory`` before its answer.
        """
        self._memory = memory
        for name, room in self._rooms.items():
            if name in state:
                put_back(room, state[name])

    def resume(self) -> list[str]:
        """Starts again what another process ran; S3 answers already. Returns what is lost, in sentences."""
        return resume(self._rooms)

    def close(self) -> None:
        """Takes no more calls and stops all that runs; returns when nothing is left of it."""
        self._async.close()
        self._shadows.close()
        self._pipelines.close()  # before its jobs: their end is not that of a step
        # At once: each may have to give its servers all of their 30 seconds.
        rooms = (
            self._jobs,
            self._tuning_jobs,
            self._training_jobs,
            self._processing_jobs,
            self._component_servers,
            self._endpoints,
        )
        with ThreadPoolExecutor(max_workers=len(rooms)) as pool:
            list(pool.map(lambda room: room.close(), rooms))
        self._adapters.close()
        self._async.join()
        self._shadows.join()
        self._captures.close()
        self._server.close()

    def _answer(self, request: Request) -> Response:
        try:
            if playground.is_below(request.path):
                return self._playground.answer(request)
            if request.path.startswith("/local/"):
                if (refused := own_pages.refusal(request.method, request.headers)) is not None:
                    raise ServiceError("AccessDenied", refused, status=403)
                if request.method == "GET":
                    return wire.json_answer(self._own_answer(request))
                with self._kept(request.path.split("/")[2], ""):
                    return wire.json_answer(self._own_answer(request))
            wire.check_region(request, self._identity.region)
            if request.path.startswith("/endpoints/"):
                self._demand(request, rights_of_invocation(request.path, request.headers, self._identity), status=403)
                if request.path.endswith("/async-invocations"):
                    with self._kept("InvokeEndpointAsync", request.path.split("/")[2]):
                        return self._runtime.answer(request)
                return self._runtime.answer(request)
            operation, members = wire.operation_name(request), wire.read_json(request)
            self._demand(request, rights_of_call(operation, members, self._identity))
            with self._kept(operation, _named(members)):
                return wire.json_answer(self._perform(operation, members))
        except ServiceError as error:
            return wire.error_answer(error)

    def _begin(self, request: Request) -> Invocation | Response | None:
        """As :meth:`_answer` for a request that asks one container one thing; None for all others."""
        # Rights are many policies, which takes its time.
        if self._denial_of_caller is not None or not request.path.startswith("/endpoints/"):
            return None
        try:
            wire.check_region(request, self._identity.region)
            return self._runtime.begin(request)
        except ServiceError as error:
            return wire.error_answer(error)

    @contextmanager
    def _kept(self, operation: str, resource: str) -> Iterator[None]:
        """Around a request: what it changed, or what its answer tells, is on disk when this ends."""
        if self._memory is None:
            yield
            return
        try:
            if operation.startswith(_READING):
                yield
                self._memory.settle()
            else:
                with self._memory.changing(operation, resource):
                    yield
        except KeepError as error:
            raise ServiceError("ServiceUnavailable", str(error), status=503) from error

    def _perform(self, operation: str, members: Json) -> Json:
        """Answers an operation of the control plane, with every check that it has."""
        act = self._control_plane.operation(operation)
        model = operation_model("sagemaker", operation)
        if act is None or model is None or model.input_shape is None:
            raise ServiceError("UnknownOperationException", f"The local cloud does not have the operation {operation}.")
        check(model.input_shape, members)
        check_tags(members.get("Tags") or [])
        refuse_unsupported(operation, members)
        return act(_without_nulls(members))

    def _performing_as(self, role_arn: str) -> Perform:
        """The same for who calls in a role."""

        def perform(operation: str, members: Json) -> Json:
            demand_role(self._roles, role_arn)
            for action, resource in rights_of_call(operation, members, self._identity):
                if (denied := self._roles.denial(role_arn, action, resource)) is not None:
                    raise ServiceError("AccessDeniedException", denied)
            return self._perform(operation, members)

        return perform

    def _demand(self, request: Request, rights: Iterable[tuple[str, str]], *, status: int = 400) -> None:
        """Raises AWS's error where who signed the request may not do this."""
        if self._denial_of_caller is None:
            return
        authorization = request.headers.get("authorization", "")
        for action, resource in rights:
            refused = self._denial_of_caller(authorization, action, resource)
            if refused is not None:
                raise ServiceError(refused.code, refused.message, status=status)

    def _own_answer(self, request: Request) -> Json:
        match request.path.strip("/").split("/"):
            case ["local", "credentials"] if request.method == "GET":
                found = self._roles.credentials(request.headers.get("authorization", ""))
                if found is None:
                    raise ServiceError(
                        "AccessDenied", "These are credentials of a role, for what runs in it.", status=403
                    )
                return dict(found)
            case ["local", "clock"]:
                return _clock_answer(request)
            case ["local", "training-jobs", name, "interruption"] if request.method == "POST":
                return self._training_jobs.interrupt(name)
            case ["local", "health"]:
                return {"operations": sorted(SUPPORT)}
            case ["local", "transform-jobs", name]:
                return self._jobs.progress(name)
            case ["local", "exits"]:
                return {"Endpoints": self._endpoints.exits(), "InferenceComponents": self._component_servers.exits()}
            case ["local", "endpoints", name]:
                return {
                    "Instances": self._endpoints.processes(name),
                    "Shadows": self._shadows.counts(name),
                    "Restarts": self._endpoints.restarts(name),
                    "LoadedModels": self._endpoints.loaded_models(name),
                }
        raise ServiceError("UnknownOperationException", f"The local cloud has nothing at {request.path}.", status=404)


def _clock_answer(request: Request) -> Json:
    """GET tells the time and what is to fire; POST ``{"advance_s": 3600}`` sets the clock ahead and fires it."""
    if request.method == "GET":
        coming = [{"name": timer.name, "due": written(timer.due)} for timer in CLOCK.coming()]
        return {"now": written(CLOCK.now()), "timers": coming}
    members = wire.read_json(request)
    if request.method != "POST" or set(members) != {"advance_s"}:
        raise validation_exception('The clock takes GET, and POST with {"advance_s": SECONDS}.')
    try:
        return {"now": written(CLOCK.advance(members["advance_s"]))}
    except ClockRefused as error:
        raise validation_exception(str(error)) from error


def _named(members: Json) -> str:
    """What a request is about, for people: its first member that names something."""
    names = (value for name, value in members.items() if name.endswith(("Name", "Arn")) and isinstance(value, str))
    return next(names, "")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
