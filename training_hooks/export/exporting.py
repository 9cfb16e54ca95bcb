"""export: a model's other forms, built, checked against the eager network, measured beside it and kept if faster."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import as_path
from ..errors import ArtifactError
from ..manifest import MANIFEST_NAME, listed_files, read_manifest, section, verify_file
from ..staging import reading
from ..unfinished_files import remove_abandoned, unfinished_directory
from . import job
from .candidates import CANDIDATES, EAGER, FILE_NAMES, Candidate, Machine, requirements, this_machine, why_not
from .choosing import Trial, chosen, preference, slower, speed
from .entering import FOLDER, enter
from .job import NotExported
from .options import Options, checked

_SMALLEST_SECOND_BATCH = 2
_SCRATCH = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What `export` did.

    Attributes:
        model_dir: the artifact.
        network: the class of the network.
        kept: the forms that are in the artifact now, in the order of preference, as its manifest lists them.
        trials: what became of each candidate, the kept ones first.
        notes: sentences about what the forms cannot do, or when they are not used.
    """

    model_dir: Path
    network: str
    kept: tuple[dict[str, Any], ...]
    trials: tuple[Trial, ...]
    notes: tuple[str, ...]


def export(
    model_dir: str | os.PathLike[str],
    *,
    to: str | Sequence[str] = "auto",
    batch_sizes: Sequence[int] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    latency_budget_ms: float | None = None,
    dynamic: Sequence[str] = (),
    max_batch: int = 1024,
    threads: int | None = None,
    processor: str = "native",
    force: bool = False,
    timeout_s: float = 1800.0,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Exported:
    """Give an artifact forms of its model that run faster on this machine, and record what was measured.

        export("model", to="auto", dynamic=["input_ids:1=256", "attention_mask:1=256"])

    Each candidate is built in a process of its own, answers batches made of the artifact's example as the eager
    network does, within `rtol` and `atol`, and is timed beside it in turns of random order. What is less than 1.05
    times as fast for the largest batch is not kept.

    Args:
        model_dir: what `save_model` or `save_directory` wrote, with an example.
        to: the form's name (onnx, aoti, channels_last, bfloat16, …), or several, or `auto`, which tries what the
            machine has and keeps the fastest.
        batch_sizes: numbers of rows that are timed; of 1 and 8 those that `max_batch` allows if omitted.
        rtol, atol: how far the form may be from eager: |form - eager| ≤ atol + rtol · |eager|; those of the example if
            omitted. An int8 form has a bound of its own, 0.01 of the largest number of the answer.
        latency_budget_ms: the longest time for the largest batch.
        dynamic: axes that may have other sizes than in the example, as `NAME:AXIS` or `NAME:AXIS=MAX`; the first axis,
            the batch, is one where the network allows. Axes that have the same size in the example stay equal.
        max_batch: the largest number of rows that a form takes; 1 gives forms of a fixed batch of one.
        threads: for eager and for the form, at most as many as there are cores; as many if omitted.
        processor: what compiled code may use: `native`, all that this processor has, or `x86-64-v3`, which machines of
            several kinds have.
        force: keep what is not faster, too.
        timeout_s: for each candidate.
        on_progress: is given a line as each step begins or ends.

    Returns:
        What was kept, and what became of each candidate.

    Raises:
        ArtifactError: one sentence naming what is wrong with the artifact or an argument. A candidate that fails is no
            error.
        OSError: the directory cannot be written, or the disk is full.
    """
    options = checked(
        to=to,
        batch_sizes=batch_sizes,
        rtol=rtol,
        atol=atol,
        latency_budget_ms=latency_budget_ms,
        dynamic=dynamic,
        max_batch=max_batch,
        threads=threads,
        processor=processor,
        force=force,
        timeout_s=timeout_s,
    )
    target = as_path(model_dir, "model_dir")
    if not target.is_dir():
        raise ArtifactError(f"{target} is not a directory; give a model directory that save_model wrote")
    with reading(target):
        manifest = _verified(target)
    below = Path(tempfile.gettempdir())
    remove_abandoned(below, f".{_SCRATCH}.*.tmp")
    with unfinished_directory(below, _SCRATCH) as scratch:
        scratch.chmod(0o700)  # it holds the example, and what was made of the weights
        work = _Work(target=target, manifest=manifest, options=options, scratch=scratch, machine=this_machine())
        return work.run(on_progress)


def _verified(target: Path) -> dict[str, Any]:
    if not (target / MANIFEST_NAME).is_file():
        raise ArtifactError(f"{target} has no {MANIFEST_NAME}; save the model with save_model or save_directory")
    manifest = read_manifest(target)
    for name, entry in listed_files(manifest, target / MANIFEST_NAME).items():
        verify_file(name, target / name, entry)
    example = section(manifest, "example")
    if not section(example, "request").get("file"):
        raise ArtifactError(
            f"{target} carries no example, and forms are built and checked by what it leads to: save the model with "
            "example=…"
        )
    return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One run of `export`."""

    target: Path
    manifest: dict[str, Any]
    options: Options
    scratch: Path
    machine: Machine

    def run(self, on_progress: Callable[[str], object]) -> Exported:
        on_progress("answering the example with the eager network")
        try:
            found = self._process("look", "look", dynamic=list(self.options.dynamic), max_batch=self.options.max_batch)
        except NotExported as problem:
            raise ArtifactError(str(problem)) from None
        notes = [*found["notes"], *self._notes(found)]
        trials = []
        for name in self.options.names:
            on_progress(f"{name}: building, checking and measuring")
            trial = self._trial(CANDIDATES[name], found)
            trials.append(trial)
            on_progress(f"{name}: {_said(trial)}")
        trials = [self._weighed(trial, found) for trial in chosen(trials, self.options)]
        kept = self._enter(trials)
        notes += filter(None, map(slower, kept))
        return Exported(
            model_dir=self.target,
            network=found["network"],
            kept=tuple(kept),
            trials=tuple(trials),
            notes=tuple(notes),
        )

    def _trial(self, candidate: Candidate, found: Mapping[str, Any]) -> Trial:
        if reason := why_not(candidate, self.machine):
            return Trial(name=candidate.name, refused=reason)
        example = self.manifest["example"]
        own_rtol, own_atol = example.get("rtol", 1e-3), example.get("atol", 1e-5)
        sizes = found["batch_sizes"]
        batched = "batch" in found["ranges"]
        try:
            outcome = self._process(
                "trial",
                candidate.name,
                candidate=candidate.name,
                found=found,
                file=str(self._file(candidate)),
                parity_sizes=sorted({*sizes, _SMALLEST_SECOND_BATCH}) if batched else sizes,
                own_rtol=own_rtol,
                own_atol=own_atol,
                rtol=own_rtol if self.options.rtol is None else self.options.rtol,
                atol=own_atol if self.options.atol is None else self.options.atol,
                batch_sizes=sizes,
                processor=self.options.processor,
            )
        except NotExported as problem:
            return Trial(name=candidate.name, refused=str(problem))
        return Trial(name=candidate.name, form=self._form(candidate, found, outcome))

    def _form(self, candidate: Candidate, found: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
        form: dict[str, Any] = {"name": candidate.name, "kind": candidate.kind}
        if candidate.kind != EAGER:
            form["file"] = f"{FOLDER}{candidate.name}/{FILE_NAMES[candidate.kind]}"
        return {
            **form,
            "settings": dict(candidate.settings),
            "requires": requirements(candidate, self.machine, outcome["built"], processor=self.options.processor),
            "signature": found["signature"],
            "made_from": self._made_from(),
            "parity": outcome["parity"],
            "measured": {
                "processor": self.machine.processor,
                "threads": self.options.threads,
                "torch": self.machine.torch,
                "build_s": outcome["build_s"],
                "batches": outcome["batches"],
            },
        }

    def _weighed(self, trial: Trial, found: Mapping[str, Any]) -> Trial:
        """Add what a form that is kept takes to open; one that opens here alone with its network about is not kept."""
        if trial.refused is not None or trial.form is None:
            return trial
        try:
            weighed = self._process(
                "weighing",
                f"{trial.name}-weighed",
                candidate=trial.name,
                file=str(self._file(CANDIDATES[trial.name])),
            )
        except NotExported as problem:
            return Trial(name=trial.name, form=trial.form, refused=f"it does not open in a fresh process: {problem}")
        measured = {**trial.form["measured"], **weighed, "eager_memory_bytes": found["eager_memory_bytes"]}
        return Trial(name=trial.name, form={**trial.form, "measured": measured})

    def _made_from(self) -> dict[str, str]:
        """The weights that the forms hold: those that the manifest names, or the largest file that is no code."""
        files = listed_files(self.manifest, self.target)
        name = section(self.manifest, "weights").get("file")
        if name not in files:
            others = [each for each in files if not each.startswith((FOLDER, "code/", "example/"))]
            name = max(others or files, key=lambda each: files[each].size_bytes)
        return {"file": name, "sha256": files[name].sha256}

    def _enter(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        new = [each.form for each in trials if each.refused is None and each.form is not None]
        names = {form["name"] for form in new} | set(self.options.names)
        made_from = self._made_from()
        earlier = [
            form
            for form in _forms(self.manifest)
            if not self.options.automatic and form.get("name") not in names and form.get("made_from") == made_from
        ]
        forms = sorted([*new, *earlier], key=preference, reverse=True)
        files = {
            f"{FOLDER}{form['name']}/{path.name}": path
            for form in new
            if "file" in form
            for path in sorted(self._file(CANDIDATES[form["name"]]).parent.iterdir())
        }
        if forms != self.manifest.get("forms", []):
            enter(self.target, self.manifest, forms, files)
        return forms

    def _notes(self, found: Mapping[str, Any]) -> list[str]:
        notes = []
        if found["own_model_fn"]:
            notes.append(
                "code/inference.py loads the model by its own model_fn: the server uses a form only where the script "
                "asks for it by context.verified_form()"
            )
        return notes

    def _file(self, candidate: Candidate) -> Path:
        return self.scratch / "forms" / candidate.name / FILE_NAMES.get(candidate.kind, "none")

    def _process(self, module: str, name: str, **more: Any) -> dict[str, Any]:
        options = self.options
        os.utime(self.scratch)  # for those who do not see its lock
        given = {
            "model_dir": str(self.target),
            "manifest": self.manifest,
            "threads": options.threads,
            "inputs": str(self.scratch / "inputs.pt"),
            "batch_sizes": list(options.batch_sizes),
            **more,
        }
        return job.run(
            module, given, self.scratch / "jobs" / name, threads=options.threads, timeout_s=options.timeout_s
        )


def _forms(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The forms that an earlier export recorded, without what somebody else may have written there."""
    listed = manifest.get("forms")
    return [form for form in listed if isinstance(form, dict) and speed(form)] if isinstance(listed, list) else []


def _said(trial: Trial) -> str:
    if trial.form is None:
        return trial.refused or ""
    batches = trial.form["measured"]["batches"]
    times = ", ".join(f"{each['ratio']:.2f} times eager for a batch of {rows}" for rows, each in batches.items())
    return f"{times}; largest difference {trial.form['parity']['largest_difference']:.2g}"
