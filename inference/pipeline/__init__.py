"""Items through stages, many at once, in order: `Pipeline(Stage(fetch, workers=4), decode, …)(items)`.

    source ─▶ feeder ─▶ group: steps in threads ─▶ … ─▶ group: batches ─▶ results, in the source's order ─▶ consumer
              (at most `max_in_flight` items between the source and the consumer)

`stage` is what a user declares and `pipeline` what he calls; `flow` decides, as plain data with the time passed in,
which items go together, when, and what is delivered; `run` is the threads around it, `calls` one call of a user's
function. Standard library only: it runs in a handler, in a batch job and alone.
"""

from tidegate.inference.pipeline.errors import BrokenStage, StageError, StageTimeout
from tidegate.inference.pipeline.pipeline import Pipeline
from tidegate.inference.pipeline.results import AsyncResults, Results
from tidegate.inference.pipeline.stage import Stage

__all__ = ["AsyncResults", "BrokenStage", "Pipeline", "Results", "Stage", "StageError", "StageTimeout"]
