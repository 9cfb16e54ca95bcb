"""A model that MLflow keeps as code, and asks in the forms of language models."""

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Echo(PythonModel):
    """Says what it was given."""

    def predict(self, context, model_input, params=None):  # noqa: ARG002 - mlflow goes by these names
        if isinstance(model_input, dict):
            return {"choices": [{"message": {"role": "assistant", "content": model_input["messages"][-1]["content"]}}]}
        return [str(each) for each in model_input]


set_model(Echo())
