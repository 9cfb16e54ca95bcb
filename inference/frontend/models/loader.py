"""From a model's directory to a pool that can be loaded: its links, its packages, its place on the machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tidegate.inference.batching import Batching, declared_in
from tidegate.inference.errors import DeploymentError, LoadInterrupted
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.models.capacity import file_bytes
from tidegate.inference.frontend.models.container_limits import free_memory_bytes, usable_cores
from tidegate.inference.frontend.models.placement import (
    Machine,
    Placement,
    first_worker_only,
    place,
    refuse_gpus,
)
from tidegate.inference.frontend.models.read_ahead import ReadAhead
from tidegate.inference.frontend.packages.layers import Layers
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.workers.fork_server import ForkServer, ForkServerFailed
from tidegate.inference.hashed_file import HashedFile
from tidegate.inference.layout import linked, unfit
from tidegate.inference.protocol import ModelSpec
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.settings import Settings

log = logging.getLogger("tidegate.models")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A model whose packages are installed, and what its placement depends on."""

    revision: Revision
    model_dir: Path
    packages_dir: Path | None
    batching: Batching
    model_bytes: int
    machine: Machine
    rehearsal: bool
    hashed: tuple[HashedFile, ...]
    """Files of the model that need not be hashed again."""


class Loader:
    """Prepares models and makes their pools. `sessions_dir` has a directory for each session, where there are any."""

    def __init__(self, settings: Settings, fork_server: ForkServer, sessions_dir: Path | None) -> None:
        self._settings = settings
        self._fork_server = fork_server
        self._sessions_dir = sessions_dir
        self._layers = Layers(settings)
        self._up = False
        """Whether the fork server is up: reading ahead has nothing to go beside then."""

    async def gpus(self) -> int:
        """How many GPUs the workers see, as soon as workers can be started. Raises `DeploymentError`."""
        try:
            gpus = await self._fork_server.gpus()
        except ForkServerFailed as error:
            raise LoadInterrupted(f"The workers cannot be started: {error}.") from error
        self._up = True
        refuse_gpus(self._settings, gpus)
        return gpus

    async def prepare(self, revision: Revision, model_dir: Path, *, rehearsal: bool) -> Prepared:
        """Everything before the first worker. Raises `DeploymentError`, and leaves nothing then."""
        ahead = None if self._up else ReadAhead(model_dir)
        try:
            return await self._prepare(revision, model_dir, ahead, rehearsal=rehearsal)
        except BaseException:
            if ahead is not None:
                ahead.abandon()
            raise

    async def _prepare(
        self, revision: Revision, model_dir: Path, ahead: ReadAhead | None, *, rehearsal: bool
    ) -> Prepared:
        # In threads: nobody else waits while somebody's whole disk is looked through.
        if said := await asyncio.to_thread(unfit, model_dir):
            raise DeploymentError(said)
        if said := await asyncio.to_thread(linked, model_dir):
            if rehearsal or self._settings.many_models:
                raise DeploymentError(said)
            log.warning("%s", said)
        if self._settings.gpus_per_worker > 1:
            await self.gpus()  # no minutes of installing for a machine that it does not fit
        packages_dir = await self._layers.install(model_dir)
        try:
            return Prepared(
                revision=revision,
                model_dir=model_dir,
                packages_dir=packages_dir,
                batching=declared_in(model_dir),
                model_bytes=await asyncio.to_thread(file_bytes, model_dir),
                machine=Machine(cores=usable_cores(), gpus=await self.gpus(), free_bytes=free_memory_bytes()),
                rehearsal=rehearsal,
                hashed=await ahead.finish() if ahead is not None else (),
            )
        except BaseException:
            await self._layers.remove(packages_dir)
            raise

    def pool(
        self, model: Prepared, gpus_taken: Iterable[int], on_crash_loop: Callable[[str], None], metrics: ModelMetrics
    ) -> ModelPool:
        """The model's pool, not loaded yet, beside the models whose first GPUs are `gpus_taken`; it counts there."""
        placement = place(
            self._settings,
            model.machine,
            batching=model.batching,
            model_bytes=model.model_bytes,
            gpus_taken=gpus_taken,
        )
        if model.rehearsal:
            placement = first_worker_only(placement)
        spec = self._spec(model, placement)
        return ModelPool(
            spec,
            placement.limits,
            self._fork_server,
            on_crash_loop,
            metrics,
            max_adapters=self._settings.max_adapters,
        )

    async def forget(self, pool: ModelPool) -> None:
        """Remove what was installed for a model."""
        await self._layers.remove(Path(pool.spec.packages_dir) if pool.spec.packages_dir else None)

    def close(self) -> None:
        """Remove what was installed for any."""
        self._layers.close()

    def _spec(self, model: Prepared, placement: Placement) -> ModelSpec:
        settings, max_batch_size = self._settings, placement.limits.max_batch_size
        return ModelSpec(
            name=model.revision.name,
            version=model.revision.version,
            lends_models=settings.model_repository is not None,
            model_dir=str(model.model_dir),
            program=settings.program,
            threads=placement.threads,
            verify=False,
            max_batch_size=max_batch_size,
            finds_batch_size=placement.limits.batch_latency_s is not None,
            default_accept=settings.default_accept,
            max_decoded_bytes=settings.max_decoded_bytes,
            max_response_bytes=settings.max_response_bytes,
            max_image_pixels=settings.max_image_pixels,
            image_orientation=settings.image_orientation,
            image_background=settings.image_background,
            log_level=settings.log_level,
            trust_pickle=settings.trust_pickled_model,
            trust_compiled=settings.trust_compiled_model,
            form=settings.form,
            hf_task=settings.hf_task,
            hf_trust_remote_code=settings.hf_trust_remote_code,
            legacy_pickle=settings.legacy_pickle,
            identity_model=settings.identity_model,
            submit_directory=settings.submit_directory,
            input_threads=settings.input_threads,
            packages_dir=str(model.packages_dir) if model.packages_dir else None,
            adapters_dir=str(settings.adapters_dir) if settings.adapters_dir else None,
            sessions_dir=str(self._sessions_dir) if self._sessions_dir else None,
            rehearsal=model.rehearsal,
            traced=settings.traced and not model.rehearsal,
            hashed=[each.to_plain() for each in model.hashed],
            prove=settings.retry and max_batch_size > 1,
            repeatable=settings.retry,
            timeout_s=settings.timeout_s,
            max_streams=settings.max_streams_per_worker,
            max_frame_bytes=settings.max_frame_bytes,
        )
