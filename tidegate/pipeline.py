"""`from tidegate.pipeline import Pipeline, Stage`: in a handler too, where `inference` is the user's own module."""

from tidegate.inference.pipeline import (
    AsyncResults,
    Pipeline,
    Results,
    ResultsMismatch,
    Stage,
    StageError,
    StageTimeout,
)

__all__ = ["AsyncResults", "Pipeline", "Results", "ResultsMismatch", "Stage", "StageError", "StageTimeout"]
