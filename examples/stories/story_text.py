"""The text to train on: short stories from a grammar of our own, so that nothing is downloaded or licensed."""

import random

HEROES = ("fox", "owl", "hen", "mouse", "bear", "frog", "goose", "cat")
NAMES = ("Mia", "Tom", "Ada", "Ben", "Lea", "Max")
PLACES = ("by the river", "in the old oak", "under the hill", "near the mill", "at the edge of the wood")
THINGS = ("a golden key", "a red kite", "a silver bell", "a paper boat", "a round stone", "an old map")
FINDERS = ("in the tall grass", "behind the barn", "on the way home", "after the rain")
HELPERS = ("a kind heron", "a slow snail", "a merry crow", "a quiet deer")
ENDINGS = (
    "And from that day on they were friends.",
    "Then everyone went home and slept well.",
    "They laughed until the moon came up.",
    "And there it still is today.",
)


def opening(hero: str) -> str:
    """How every story about `hero` begins."""
    return f"Once upon a time there was {'an' if hero[0] in 'aeiou' else 'a'} {hero} called "


def make_stories(count: int, *, seed: int) -> list[str]:
    """Return `count` stories of about 300 characters, each of one line without its end."""
    chance = random.Random(seed)  # noqa: S311 - stories, not secrets
    return [_story(chance) for _ in range(count)]


def _story(chance: random.Random) -> str:
    name, thing, helper = chance.choice(NAMES), chance.choice(THINGS), chance.choice(HELPERS)
    bare = thing.split(" ", 1)[1]
    return " ".join(
        (
            f"{opening(chance.choice(HEROES))}{name} who lived {chance.choice(PLACES)}.",
            f"One day {name} found {thing} {chance.choice(FINDERS)}.",
            chance.choice((f"Whose {bare} is this? asked {name}.", f"What a fine {bare}, said {name}.")),
            chance.choice((f"Just then {helper} came along.", f"Nobody knew but {helper}.")),
            chance.choice((f"It was the {bare} I lost, said the {helper.split()[-1]}.", "Let us keep it together.")),
            chance.choice(ENDINGS),
        )
    )
