"""Stories that are streamed character by character while the model makes them, and the same as a chat."""

NEEDS = ""
