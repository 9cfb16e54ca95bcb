"""From a model directory to a computation that may take traffic, or one sentence that says why not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from tidegate.inference import batching
from tidegate.inference.errors import DeploymentError
from tidegate.inference.layout import CODE, model_root
from tidegate.inference.protocol import Answer, ModelSpec, Request
from tidegate.inference.version import own_version
from tidegate.inference.worker import (
    artifact,
    compat,
    create_model,
    frameworks,
    handler,
    identity,
    near_misses,
    pickled_module,
    user_code,
    weights,
)
from tidegate.inference.worker.asking import answer
from tidegate.inference.worker.beside import BesideLoader
from tidegate.inference.worker.comparing import Tolerance
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.declared.sides import declared
from tidegate.inference.worker.foreign import filling
from tidegate.inference.worker.gpu_memory import GpuMemory
from tidegate.inference.worker.handler import Functions
from tidegate.inference.worker.held_models import HeldModels
from tidegate.inference.worker.known_tensors import known_tensors
from tidegate.inference.worker.making import ModelMaker, is_the_identity
from tidegate.inference.worker.proving_ahead import prove_ahead
from tidegate.inference.worker.request import Request as AnsweredRequest

if TYPE_CHECKING:
    from tidegate.inference.worker.traced import Traced

log = logging.getLogger("tidegate.worker")

Progress = Callable[[str], None]
"""Told each step that is done, in words."""


def load(
    spec: ModelSpec,
    progress: Progress = log.info,
    proving: Callable[[], None] = lambda: None,
    others: HeldModels | None = None,
    trace: Callable[[], Traced | None] = lambda: None,
) -> Computation:
    """Verify, import, load, warm up and ask the archive's own example.

    `proving` is called before it is tried whether requests like the example may share a call. `others` has the models
    of the repository that the script asks for by `context.get_model`, where there is one. `trace` is called when the
    model's packages can be imported, and before its script is: what it returns makes spans.

    Raises `DeploymentError`: the deployer's mistake, in one sentence that names the place.
    """
    root = _root(Path(spec.model_dir), may_be_empty=spec.identity_model or user_code.is_from_outside(spec.program))
    manifest = _manifest(root, spec, progress)
    script = _script(root, spec)
    gpu_memory = GpuMemory(spec.gpu_ids)
    _take_resources(spec)
    user_code.enter(root, spec.packages_dir, script)
    traced = trace()
    pickled_module.lend_classes_to_main(root)
    reading = Reading(
        max_decoded_bytes=spec.max_decoded_bytes,
        image_orientation=spec.image_orientation,
        image_background=spec.image_background,
        legacy_pickle=spec.legacy_pickle,
    )
    compat.lend_names(reading)
    context = Context(
        model_name=spec.name,
        manifest=manifest,
        system_properties={
            "model_dir": str(root),
            "gpu_id": spec.gpu_ids[0] if spec.gpu_ids else None,
            "batch_size": spec.max_batch_size,
            "server_name": "tidegate",
            "server_version": own_version(),
            "limit_max_image_pixels": True,
        },
        sessions_dir=spec.sessions_dir,
        model_version=spec.version,
        get_model=others.get if others is not None else None,
        devices=[torch.device("cuda", gpu_id) for gpu_id in spec.gpu_ids],
    )
    module = user_code.import_script(script) if script else None
    functions = Functions()
    if module is not None:
        functions = _functions(module, context, reading, tell=spec.verify)
    elif is_the_identity(root, spec):
        functions = identity.functions(context, reading)
    functions = filling.fill(functions, root, spec, reading)
    if others is not None:
        beside = BesideLoader(
            context,
            root=root,
            script=script,
            module=module,
            program=spec.program or "inference.py",
            bind=lambda module, context: _bind(module, context, reading),
            make_model=lambda root, script, functions, context: _model_beside(
                _maker(root, script, functions, spec, context), functions, spec, context, reading
            ),
        )
        others.prepare(beside.load, gpu_memory)
    computation = _computation(spec, functions, context, reading, gpu_memory, traced=traced)
    example = artifact.read_example(root, manifest)
    maker = _maker(root, script, functions, spec, context)
    answered: AnsweredRequest | None = None

    def check(model: Any, bound: Tolerance | None) -> None:
        nonlocal answered
        computation.steps.model, computation.form = model, maker.choice.report()
        _tell_loaded(computation, module, root, progress)
        try:
            answered = _self_check(computation, example, bound) if example is not None else None
        except DeploymentError:
            computation.steps.model = None
            raise

    maker.make(check)
    if (form := computation.form) is not None:
        progress(f"of the model's forms '{form['name']}' is served: {form['why']}")
    computation.joined_calls.form_tolerance = maker.choice.tolerance
    computation.tensors = known_tensors(computation.steps.model, functions, answered, computation.steps.declared)
    if example is not None:
        progress("the archive's example is answered as expected")
        if answered is not None and (doubt := computation.steps.doubt(answered)):
            log.warning("%s", doubt)
        undecided = computation.may_join and not computation.joined_calls.declared and spec.max_batch_size > 1
        if undecided and prove_ahead(computation, example, proving, max_batch_size=spec.max_batch_size):
            progress("requests like the archive's example may share a call: together they were answered as alone")
    else:
        progress("the archive carries no example, so nothing was asked")
    _settle(gpu_memory)
    return computation


def _manifest(root: Path, spec: ModelSpec, progress: Progress) -> dict[str, Any]:
    """The manifest, held against the files by the first worker. Raises `DeploymentError`."""
    manifest = artifact.read_manifest(root)
    if spec.verify and (ignored := artifact.disregarded(root)):
        log.warning("the archive is served without its manifest.%s", ignored)
    if spec.verify and manifest:
        progress(f"{artifact.verify_files(root, manifest, spec.hashed)} files match the manifest")
    if spec.verify and (releases := frameworks.other_releases(manifest, frameworks.versions_here())):
        log.warning("%s", frameworks.sentence(releases, asked="example" in manifest))
    return manifest


def _computation(
    spec: ModelSpec,
    functions: Functions,
    context: Context,
    reading: Reading,
    gpu_memory: GpuMemory,
    *,
    traced: Traced | None = None,
) -> Computation:
    """The computation of a model that is still to be made."""
    return Computation(
        model=None,
        functions=functions,
        context=context,
        default_accept=spec.default_accept,
        reading=reading,
        max_response_bytes=spec.max_response_bytes,
        declared=declared(context.manifest, reading, Path(context.system_properties["model_dir"])),
        batching=batching.declared(context.manifest),
        prove=spec.prove,
        timeout_s=spec.timeout_s,
        max_streams=spec.max_streams,
        gpu_memory=gpu_memory,
        traced=traced,
    )


def _maker(root: Path, script: Path | None, functions: Functions, spec: ModelSpec, context: Context) -> ModelMaker:
    whereabouts = _whereabouts(root, spec) if script is None else ""
    return ModelMaker(spec, functions, context, root=root, script=script, whereabouts=whereabouts)


def _model_beside(maker: ModelMaker, functions: Functions, spec: ModelSpec, context: Context, reading: Reading) -> Any:
    """A model that another one's script asks for, and calls by itself. Only a form of it is asked its example."""

    def check(model: Any, bound: Tolerance | None) -> None:
        root = Path(context.system_properties["model_dir"])
        if bound is not None and (example := artifact.read_example(root, context.manifest)) is not None:
            computation = _computation(spec, functions, context, reading, GpuMemory())
            computation.steps.model = model
            _self_check(computation, example, bound)

    return maker.make(check)


def _settle(gpu_memory: GpuMemory) -> None:
    """Measure what the model takes, and warn where it leaves a GPU idle that is the worker's."""
    gpu_memory.settle()
    if unused := gpu_memory.unused():
        log.warning(
            "the model uses nothing of %d of its worker's %d GPUs (%s): have model_fn spread it over context.devices, "
            "or set TIDEGATE_GPUS_PER_WORKER to less",
            len(unused),
            len(gpu_memory.gpu_ids),
            ", ".join(f"cuda:{gpu_id}" for gpu_id in unused),
        )


def _root(model_dir: Path, *, may_be_empty: bool) -> Path:
    if not model_dir.is_dir():
        raise DeploymentError(f"The model directory {model_dir} does not exist.")
    try:
        if not may_be_empty and not any(model_dir.iterdir()):
            raise DeploymentError(f"The model directory {model_dir} is empty.")
        return model_root(model_dir.resolve())
    except OSError as error:
        raise DeploymentError(f"The model directory {model_dir} cannot be read: {error.strerror}.") from None


def _script(root: Path, spec: ModelSpec) -> Path | None:
    script = user_code.find_script(root, spec.program or "inference.py")
    if script is None and spec.program is not None:
        raise DeploymentError(
            f"SAGEMAKER_PROGRAM asks for '{spec.program}', which is neither in {root / CODE} nor in {root}."
            + _whereabouts(root, spec)
        )
    return script


def _whereabouts(root: Path, spec: ModelSpec) -> str:
    """Where the script that was not found may be, in sentences."""
    found = user_code.misplaced_script(root, spec.program or "inference.py")
    # The SDK leaves it in S3 for the container of a multi-model endpoint, whose archives it does not repack.
    if (place := spec.submit_directory or "").startswith("s3://"):
        found += f" SAGEMAKER_SUBMIT_DIRECTORY names {place}, which is not fetched: each archive needs its own {CODE}/."
    return found


def _bind(module: ModuleType, context: Context, reading: Reading) -> Functions:
    """The functions of the contract, or what stands for them in a script that has none of them."""
    functions = handler.bind(module, context)
    if not functions.found and (made := create_model.bind(module, context, reading)) is not None:
        return made
    return replace(functions, passed_over=create_model.passed_over(module, context, functions.found))


def _functions(module: ModuleType, context: Context, reading: Reading, *, tell: bool) -> Functions:
    functions = _bind(module, context, reading)
    builds = weights.builds_with(module.__name__, context.manifest)
    if mistake := near_misses.mistake(module, functions.found, builds=builds):
        raise DeploymentError(mistake)
    if tell and (doubt := near_misses.doubt(module, functions.found, builds=builds)):
        log.warning("%s", doubt)
    if not functions.found and tell and not builds:
        names = ", ".join(handler.ARGUMENTS)
        log.warning("%s has none of the functions that are called (%s): the defaults do it all", module.__file__, names)
    return functions


def _take_resources(spec: ModelSpec) -> None:
    torch.set_num_threads(spec.threads)
    if spec.gpu_ids:
        torch.cuda.set_device(spec.gpu_ids[0])
    # Pillow raises at twice this number and only warns below it.
    Image.MAX_IMAGE_PIXELS = max(spec.max_image_pixels // 2, 1)


def _self_check(computation: Computation, example: artifact.Example, bound: Tolerance | None) -> AnsweredRequest:
    """Ask the example; `bound` is how far a form may be from the model that gave the answer."""
    if bound is not None:
        example = replace(example, rtol=max(example.rtol, bound.rtol), atol=max(example.atol, bound.atol))
    batch = computation.begin([Request(0, example.content_type, example.accept, b"", example.body)])
    (outcome,), _ = answer(computation, batch)
    if not isinstance(outcome, Answer):
        raise DeploymentError(f"The archive's example was answered with {outcome.status}: {outcome.message}")
    found = artifact.difference(example, outcome.body, outcome.content_type)
    if found is not None:
        raise DeploymentError(f"The archive's example was not answered as expected: {found}.")
    return batch.requests[0]


def _whose(module: ModuleType | None, functions: Functions) -> str:
    if functions.model_fn is None:
        return "the default model_fn"
    if not hasattr(module, functions.model_maker):  # a library's, for an archive that it wrote
        return functions.model_maker
    return f"{functions.model_maker} of {getattr(module, '__file__', None)}"


def _tell_loaded(computation: Computation, module: ModuleType | None, root: Path, progress: Progress) -> None:
    functions, form, name = computation.steps.functions, computation.form, computation.context.model_name
    if isinstance(computation.steps.model, identity.Identity):
        log.warning(
            "%s=on: there is no model in %s; every request is answered with its own content", identity.VARIABLE, root
        )
        progress(f"model '{name}' is the identity, because there is none in {root} and {identity.VARIABLE} is on")
        return
    served = f", as its form '{form['name']}'" if form is not None else ""
    progress(f"model '{name}' is loaded by {_whose(module, functions)}{served}")
