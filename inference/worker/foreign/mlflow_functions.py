"""An MLflow model behind the four functions: loaded and asked by the archive's own mlflow, answered as its server does.

    {"dataframe_split": …} | {"dataframe_records": […]} | {"inputs": …} | {"instances": …}, with "params": {…} beside
    {"messages": …} | {"prompt": …} | {"input": …}: the forms for language models, whose answer has no "predictions"
    text/csv with a header, application/vnd.apache.parquet

The bodies are read, the signature is enforced and the answer is written by mlflow itself, so that all three are what
`mlflow models serve` of the same version makes. Only whose mistake an error is, is decided here.
"""

from __future__ import annotations

import importlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.inference.errors import BadRequest, DeploymentError, UnsupportedMediaType, one_line
from tidegate.inference.layout import MLMODEL
from tidegate.inference.protocol import ModelSpec
from tidegate.inference.worker import misfit
from tidegate.inference.worker.accept import demand_some
from tidegate.inference.worker.content import CSV, JSON, json_documents, not_read, split_media_type
from tidegate.inference.worker.foreign import mlmodel
from tidegate.inference.worker.handler import Functions

PARQUET = "application/vnd.apache.parquet"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
LANGUAGE_FORMS = ("messages", "prompt", "input")
LOADER = "mlflow.pyfunc.load_model"

_BODY = "a JSON object with exactly one of " + ", ".join(f"'{form}'" for form in FORMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a request holds beside plain rows. `wrapped`: whether the answer is the value of "predictions"."""

    data: Any
    params: dict[str, Any] | None
    wrapped: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unwrapped:
    """A prediction that is the whole answer."""

    prediction: Any


class _MlflowFunctions:
    """The functions around one model; `server` is mlflow's own scoring server, of which nothing is started."""

    def __init__(self, model: mlmodel.MLmodel, spec: ModelSpec) -> None:
        self._mlmodel = model
        self._spec = spec
        self._server: Any = None
        self._metadata: Any = None
        self._schema: Any = None

    def load(self, model_dir: str) -> Any:
        """The model as `mlflow.pyfunc` loads it. Raises `DeploymentError`."""
        spec = self._spec
        mlmodel.demand_trust(self._mlmodel, trust_pickle=spec.trust_pickle, trust_compiled=spec.trust_compiled)
        # Whatever else mlflow would unpickle is refused by its own check, too, where its version has one.
        allowed = spec.trust_pickle or mlmodel.is_torch_script(self._mlmodel)
        os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = str(allowed).lower()
        pyfunc = _mlflow(model_dir)
        self._server = importlib.import_module("mlflow.pyfunc.scoring_server")
        loaded = pyfunc.load_model(model_dir)
        self._metadata = loaded.metadata
        self._schema = self._metadata.get_input_schema()
        return loaded

    def read(self, body: Any, content_type: str | None) -> Any:
        """Rows, as a data frame or an array, or an `_Asked`. Raises `BadRequest` and `UnsupportedMediaType`."""
        media_type, charset = split_media_type(content_type or "")
        try:
            if media_type == CSV and isinstance(body, str):
                return self._server.parse_csv_input(io.StringIO(body), schema=self._schema)
            if media_type == PARQUET:
                return self._server.parse_parquet_input(io.BytesIO(bytes(body)))
            if media_type == JSON:
                ((_, value),) = json_documents(body, media_type, charset)
                return self._read_json(value)
        except BadRequest:
            raise
        except Exception as error:
            _raise_clients_mistake(error)
            raise
        raise UnsupportedMediaType(f"{not_read(media_type)}; an MLflow model reads {JSON}, {CSV} and {PARQUET}.")

    def _read_json(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise BadRequest(f"The body must be {_BODY}; it is no object.")
        if any(form in value for form in LANGUAGE_FORMS):
            schema = self._metadata.get_params_schema()
            names = {each.name for each in schema.params} if schema else set()
            return _Asked(
                data={name: each for name, each in value.items() if name not in names},
                params={name: each for name, each in value.items() if name in names},
                wrapped=False,
            )
        data = {form: value[form] for form in FORMS if form in value}
        if len(data) != 1:
            keys = ", ".join(f"'{str(key)[:40]}'" for key in list(value)[:10]) or "none"
            raise BadRequest(f"The body must be {_BODY}, beside which 'params' may stand; its keys are: {keys}.")
        params: Any = value.get("params")
        if params is not None and not isinstance(params, dict):
            raise BadRequest("'params' must be a JSON object.")
        from_type_hint = getattr(self._metadata, "_is_signature_from_type_hint", lambda: False)()
        if from_type_hint and "inputs" not in data:
            raise BadRequest("The body must have 'inputs', because the model takes what its type hint says.")
        rows = data["inputs"] if from_type_hint else self._server.infer_and_parse_data(data, self._schema)
        # A bare array can share a call with other requests' arrays; nothing else can.
        return rows if params is None and type(rows) is np.ndarray else _Asked(data=rows, params=params)

    def predict(self, data: Any, model: Any) -> Any:
        """What the model says, by `PyFuncModel.predict`. Raises `BadRequest` where the input is not what it takes."""
        asked = data if isinstance(data, _Asked) else _Asked(data=data, params=None)
        try:
            prediction = model.predict(asked.data, params=asked.params)
        except Exception as error:
            _raise_clients_mistake(error)
            reason = misfit.reason(error, asked.data) if isinstance(error, misfit.KINDS) else None
            if reason is None:
                raise
            raise BadRequest(f"The model does not take this input: {reason}.") from error
        return prediction if asked.wrapped else _Unwrapped(prediction=prediction)

    def write(self, prediction: Any, accept: str) -> tuple[bytes, str]:
        """The answer, which is JSON."""
        demand_some(accept)
        text = io.StringIO()
        if isinstance(prediction, _Unwrapped):
            self._server.unwrapped_predictions_to_json(prediction.prediction, text)
        else:
            self._server.predictions_to_json(prediction, text)
        return text.getvalue().encode(), JSON


def functions(root: Path, spec: ModelSpec) -> Functions:
    """The functions of the MLflow model in `root`. Raises `DeploymentError` for one that cannot be served."""
    made = _MlflowFunctions(mlmodel.read(root), spec)
    return Functions(
        model_fn=made.load,
        input_fn=made.read,
        predict_fn=made.predict,
        output_fn=made.write,
        media_types=(JSON,),
        model_maker=LOADER,
    )


def _mlflow(model_dir: str) -> Any:
    """The archive's `mlflow.pyfunc`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        return importlib.import_module("mlflow.pyfunc")
    except ModuleNotFoundError as error:
        missing = str(error.name or "").partition(".")[0]
        if missing not in ("mlflow", "pandas"):
            raise
        raise DeploymentError(
            f"{Path(model_dir) / MLMODEL}: the model is loaded by mlflow, and {missing} is not here: name it in the "
            "requirements.txt beside MLmodel (mlflow-skinny and pandas are enough), or add code/inference.py with a "
            "model_fn."
        ) from None


def _raise_clients_mistake(error: Exception) -> None:
    """Raise `BadRequest` where mlflow says that the request is wrong, by the status that its server would answer."""
    status = getattr(error, "get_http_status_code", None)
    if status is None or not 400 <= status() < 500:
        return
    raise BadRequest(f"{one_line(Exception(getattr(error, 'message', error)))}.") from error
