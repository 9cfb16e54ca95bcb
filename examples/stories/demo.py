"""Train the teller of stories, and read a story while it is being made.

make example NAME=stories                   (or: python -m examples stories)
"""

import sys
import time

from examples.demonstration import DemoFailed, Demonstration, arguments, run

STORY = {"prompt": "Once upon a time there was a fox", "seed": 1}
CHAT = {"model": "stories", "messages": [{"role": "user", "content": "Tell me of an owl."}], "seed": 1}


def main() -> int:
    """Run the demonstration; return the exit status."""
    return run(demonstrate, arguments("stories", __doc__ or ""), steps=6)


def demonstrate(show: Demonstration) -> None:
    """From the training to the chat."""
    with show.step("Train: examples/stories/train.py, on stories that it makes up"):
        show.train("examples/stories/train.py")
    with show.step("Check: tidegate check"):
        show.check(show.model_dir)
    with show.serving(show.model_dir) as server:
        with show.step(f"Stream: {STORY['prompt']!r} goes on as text/plain"):
            print(f"     {STORY['prompt']}", end="", flush=True)
            began, arrived, text = time.monotonic(), [], ""
            for piece in server.stream(STORY):
                arrived.append(time.monotonic() - began)
                text += piece.decode()
                print(piece.decode(), end="", flush=True)
            print()
            show.say(f"the first character came after {arrived[0]:.3f} s, the last after {arrived[-1]:.3f} s")
        with show.step("Ask for the same as JSON: it comes when the story is complete"):
            whole = server.ask(STORY).json()["text"]
            if whole != text:
                raise DemoFailed(f"The story is another one as JSON: {whole}")
            show.say(f"the same {len(whole)} characters in one answer")
        with show.step("Chat: POST /v1/chat/completions, as OpenAI's clients do"):
            (choice,) = server.ask(CHAT, path="/v1/chat/completions").json()["choices"]
            show.say(f"user       {CHAT['messages'][0]['content']}")
            show.say(f"assistant  {choice['message']['content']}")


if __name__ == "__main__":
    sys.exit(main())
