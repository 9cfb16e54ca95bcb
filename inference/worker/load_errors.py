"""What is said where a function of a script raised while a model was loaded: one sentence with the place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.inference.errors import DeploymentError, ModelDoesNotFit, one_line
from tidegate.inference.worker import pickled_module, user_code, weights
from tidegate.inference.worker.device_errors import is_out_of_memory
from tidegate.inference.worker.formats.missing_operators import missing_operator


@contextmanager
def naming(function: str, script: Path | None, root: Path) -> Iterator[None]:
    """Raise what `function` of `script` raises as a `DeploymentError`; `root` has the model's files."""
    try:
        yield
    except DeploymentError:
        raise
    except BaseException as error:
        kind = ModelDoesNotFit if is_out_of_memory(error) else DeploymentError
        place = user_code.where(error, script) if script is not None else user_code.where_below(error, root)
        text = one_line(error)
        told = missing_operator(error) or pickled_module.refused(error)
        # torch's own text about a damaged file names neither the file nor the damage.
        damaged = "".join(f" ({name} is damaged, or no file that torch.save wrote)" for name in weights.damaged(root))
        raise kind(
            f"{place}: {function} raised {type(error).__name__}: {told or text}"
            f"{pickled_module.missing_class(error)}{damaged}."
        ) from error
