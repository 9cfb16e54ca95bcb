"""Serve the painter: the four functions over a ModelLoader, which also works without any server.

Requests hold one map, in the colours that models.yaml has:

    application/json        {"segmap": "data:image/png;base64,…"}
    image/png, image/jpeg … the map itself

Answers, by the Accept header:

    application/json        {"image": "data:image/png;base64,…"}
    image/png               the picture itself
"""

import os

from tidegate.model_loader import functions_of

RUN_ID = os.environ.get("PAINT_RUN_ID", "paint")

model_fn, input_fn, predict_fn, output_fn = functions_of("code/models.yaml", RUN_ID)
