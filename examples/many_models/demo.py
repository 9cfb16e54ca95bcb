"""Serve many shops' models from one repository, and replace one while it is served.

    make example NAME=many_models               (or: python -m examples many_models)

Trains three shops, serves them with room for two in memory, asks by the header and by the path, publishes a new version
of one, and goes on asking until that answers.
"""

import sys
from typing import Any

from examples.demonstration import DemoFailed, Demonstration, arguments, run
from examples.many_models.sales import DAYS, sales_of
from examples.serving import Answer, Server

SHOPS = ("antwerp", "bergen", "faro")
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
ROOM = 2


def main() -> int:
    """Run the demonstration; return the exit status."""
    return run(demonstrate, arguments("many_models", __doc__ or ""), steps=5)


def demonstrate(show: Demonstration) -> None:
    """From the training to the new version."""
    repository = show.work / "repository"
    train = ["examples/many_models/train.py", str(repository)]
    with show.step("Train and publish three shops: examples/many_models/train.py"):
        show.train(*train, "--shops", *SHOPS, "--label", "stable", echo="")
    settings = {
        "TIDEGATE_MODEL_REPOSITORY": str(repository),
        "TIDEGATE_RELOAD_INTERVAL_S": "1",
        "TIDEGATE_MAX_LOADED_MODELS": str(ROOM),
    }
    with show.serving(**settings) as server:
        week = sales_of("faro", days=DAYS, seed=2).reshape(1, DAYS).tolist()
        with show.step(f"Ask three shops, with room for {ROOM} in memory"):
            for shop in SHOPS:
                tell(show, f"{shop} by the header", ask(server, week, f"model={shop};version=stable"))
            before = server.ask(week, path="/models/faro/versions/1/invoke")
            tell(show, "faro by the path", before)
            loaded = [entry["modelName"] for entry in server.get("/models")["models"] if is_loaded(entry)]
            show.say(f"in memory: {', '.join(loaded)}; the others come when they are asked for")
            if len(loaded) > ROOM:
                raise DemoFailed(f"There are more than {ROOM} models in memory.")
        with show.step("Train and publish a new version of one"):
            show.train(*train, "--shops", "faro", "--season", "2", echo="")
        with show.step("Ask until the new version answers"):
            asked = 0
            while by(after := ask(server, week, "model=faro")) != "model=faro;version=2":
                asked += 1
                if after.body != before.body:
                    raise DemoFailed(f"Version 1 answered {after.text} instead of {before.text}.")
            show.say(f"version 1 answered {asked} more times, then version 2 took over")
            tell(show, "faro, the latest", after)
            tell(show, "faro, the stable one", ask(server, week, "model=faro;version=stable"))
            if after.body == before.body:
                raise DemoFailed("Version 2 answers as version 1 did.")


def ask(server: Server, rows: Any, attributes: str) -> Answer:
    """Ask for a forecast. A model that is not in memory is loaded meanwhile."""
    return server.ask(rows, headers={ATTRIBUTES: attributes})


def by(answer: Answer) -> str:
    """Which model and version an answer is from."""
    return answer.headers.get(ATTRIBUTES.lower(), "")


def is_loaded(entry: dict[str, Any]) -> bool:
    """Whether a version of the model is in memory."""
    return any(version["state"] == "loaded" for version in entry["versions"])


def tell(show: Demonstration, what: str, answer: Answer) -> None:
    """Print a forecast and who made it."""
    show.say(f"{what}: {', '.join(f'{units:.0f}' for units in answer.json()[0])} ({by(answer)})")


if __name__ == "__main__":
    sys.exit(main())
