"""Save a model of each kind that MLflow writes, and note what MLflow's own scoring server answers.

python save_models.py FOLDER            writes FOLDER/NAME/ and FOLDER/answers.json
"""

import json
import sys
from pathlib import Path

import mlflow.pyfunc
import mlflow.pytorch
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.pyfunc import scoring_server

HERE = Path(__file__).parent
ROWS = [[1.0, 2.0, 3.0], [0.5, -1.0, 4.0]]
TABLE = {"columns": ["a", "b"], "data": [[1.5, "x"], [2.5, "y"]]}
RECORDS = [{"a": 1.5, "b": "x"}, {"a": 2.5, "b": "y"}]
JSON, CSV = "application/json", "text/csv"

TENSORS = {
    "inputs": (JSON, json.dumps({"inputs": ROWS})),
    "instances": (JSON, json.dumps({"instances": ROWS})),
    "one row": (JSON, json.dumps({"inputs": ROWS[:1]})),
    "wrong width": (JSON, json.dumps({"inputs": [[1.0, 2.0]]})),
    "text": (JSON, json.dumps({"inputs": [["a", "b", "c"]]})),
}
TABLES = {
    "split": (JSON, json.dumps({"dataframe_split": TABLE})),
    "records": (JSON, json.dumps({"dataframe_records": RECORDS})),
    "instances": (JSON, json.dumps({"instances": RECORDS})),
    "inputs": (JSON, json.dumps({"inputs": {"a": [1.5, 2.5], "b": ["x", "y"]}})),
    "params": (JSON, json.dumps({"dataframe_records": RECORDS, "params": {"scale": 10}})),
    "csv": (CSV, "a,b\n1.5,x\n2.5,y\n"),
    "missing column": (JSON, json.dumps({"dataframe_records": [{"a": 1.0}]})),
    "wrong type": (JSON, json.dumps({"dataframe_records": [{"a": "no number", "b": "x"}]})),
    "wrong param": (JSON, json.dumps({"dataframe_records": RECORDS, "params": {"scale": "much"}})),
    "two forms": (JSON, json.dumps({"inputs": [1], "instances": [1]})),
    "no form": (JSON, json.dumps({"data": [1]})),
    "a list": (JSON, "[1, 2]"),
    "no JSON": (JSON, "{"),
    "empty csv": (CSV, ""),
}
CHATS = {
    "chat": (JSON, json.dumps({"messages": [{"role": "user", "content": "hello"}], "temperature": 0.5})),
    "inputs": (JSON, json.dumps({"inputs": ["hello"]})),
}


class Scaled(mlflow.pyfunc.PythonModel):
    """A column of numbers, scaled by a parameter, beside one of words."""

    def predict(self, context, model_input, params=None):  # noqa: ARG002 - mlflow goes by these names
        scale = (params or {}).get("scale", 1)
        return pd.DataFrame({"scaled": model_input["a"] * scale, "word": model_input["b"]})


def main(folder: Path) -> None:
    """Save the models and their answers."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    rows = np.array(ROWS, dtype=np.float32)
    with torch.no_grad():
        tensors = infer_signature(rows, network(torch.from_numpy(rows)).numpy())
    table = pd.DataFrame(RECORDS)
    tables = infer_signature(table, Scaled().predict(None, table), params={"scale": 1})
    mine = {"pip_requirements": ["mlflow-skinny", "pandas", f"torch=={torch.__version__.partition('+')[0]}"]}
    pickled = {"serialization_format": "pickle", "signature": tensors, **mine}

    mlflow.pytorch.save_model(network, folder / "pickled", **pickled)
    mlflow.pytorch.save_model(torch.jit.script(network), folder / "script", **pickled)
    mlflow.pytorch.save_model(network, folder / "pt2", serialization_format="pt2", input_example=rows, **mine)
    mlflow.pyfunc.save_model(folder / "python", python_model=Scaled(), signature=tables, **mine)
    mlflow.pyfunc.save_model(folder / "code", python_model=str(HERE / "model_as_code.py"), **mine)
    asked = {"pickled": TENSORS, "script": TENSORS, "pt2": TENSORS, "python": TABLES, "code": CHATS}
    answers = {name: asked_of(folder / name, bodies) for name, bodies in asked.items()}
    (folder / "answers.json").write_text(json.dumps(answers))


def asked_of(model_dir: Path, bodies: dict) -> dict:
    """Each body, and the status and the body of the answer to it."""
    model = mlflow.pyfunc.load_model(str(model_dir))
    found = {}
    for name, (content_type, body) in bodies.items():
        try:
            said = scoring_server.invocations(body.encode(), content_type, model, model.metadata.get_input_schema())
            status, answer = said.status, said.response
        except MlflowException as error:
            status, answer = error.get_http_status_code(), error.serialize_as_json()
        found[name] = {"type": content_type, "body": body, "status": status, "answer": answer}
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
