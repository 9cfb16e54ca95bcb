"""`from tidegate.pipeline import Pipeline, Stage`: in a handler too, where `inference` is the user's own module."""

from tidegate.inference.pipeline import (
    AsyncResults,
    BrokenStage,
    Pipeline,
    Results,
    Stage,
    StageError,
    StageTimeout,
)

__all__ = ["AsyncResults", "BrokenStage", "Pipeline", "Results", "Stage", "StageError", "StageTimeout"]
