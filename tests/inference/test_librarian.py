"""What the librarian of a model repository decides, case by case. The world around it checks the laws at each step."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from tests.inference.repository_world import Content, World, with_version
from tidegate.inference.errors import (
    ModelLoadFailed,
    ModelLoading,
    ModelNotFound,
    ModelTooLarge,
    NotReady,
    Overloaded,
    RequestError,
    VersionNotFound,
)
from tidegate.inference.frontend.repository.actions import Drop, Fetch, Grant, Load, Log, Place, Refuse, Unload
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.librarian import Librarian
from tidegate.inference.frontend.repository.room import Limits, Shortage, fewest
from tidegate.inference.frontend.repository.stock import Stored
from tidegate.inference.repository.catalogue import Model, Revision, Version, VersionState

ids = count(1)
SMALL = Content(disk_bytes=10, memory_bytes=20)
BROKEN = Content(disk_bytes=10, memory_bytes=20, loads=False)


def world(
    limits: Limits | None = None, *, unload_first: bool = False, pinned: tuple[str, ...] = (), **models: int
) -> World:
    """A listed repository of models with so many versions."""
    found = World(limits or Limits(max_loaded_models=10), unload_first=unload_first, pinned=frozenset(pinned))
    for name, versions in models.items():
        for number in range(1, versions + 1):
            publish(found, name, number)
    found.carry_out(found.librarian.listed(found.now_s))
    return found


def publish(world: World, name: str, number: int, content: Content = SMALL) -> Revision:
    """A version more, or another content of one."""
    digest = f"digest-{next(ids)}"
    world.contents[digest] = content
    version = Version(number=number, digest=digest, size_bytes=content.disk_bytes)
    world.tell(with_version(world.models.get(name) or Model(name=name), version))
    return Revision(name=name, version=number, digest=digest)


def retire(world: World, name: str, number: int) -> None:
    """A version less."""
    model = world.models[name]
    versions = tuple(each for each in model.versions if each.number != number)
    world.tell(Model(name=name, versions=versions, labels=model.labels))


def ask(world: World, name: str, version: str | None = None, *, patience_s: float = 60.0, settle: bool = True) -> int:
    """Ask, and let what that needs happen."""
    waiter = next(ids)
    key: int | str = int(version) if version and version.isdigit() else version or "latest"
    world.ask(waiter, Selector(name, version), key, world.now_s + patience_s)
    if settle:
        world.settle()
    return waiter


def answer(world: World, waiter: int) -> int:
    """The version that a request was granted."""
    end = world.requests[waiter].end
    assert isinstance(end, Grant), end
    return end.place.revision.version


def error(world: World, waiter: int) -> RequestError:
    """The error that it got."""
    end = world.requests[waiter].end
    assert isinstance(end, Refuse), end
    return end.error


def warm(world: World, name: str, version: str | None = None) -> int | None:
    """The version that answers at once."""
    revision = world.librarian.find(Selector(name, version), world.now_s)
    return revision.version if revision is not None else None


def done(world: World, kind: type) -> list[object]:
    """What was wanted of one kind, from the beginning."""
    return [action for action in world.log if isinstance(action, kind)]


# --- switching


def test_a_new_version_answers_when_it_is_loaded_and_the_old_one_until_then() -> None:
    """Load first: the old one goes when traffic has switched."""
    repository = world(a=1)
    ask(repository, "a")
    publish(repository, "a", 2)
    assert warm(repository, "a") == 1
    repository.settle()
    assert warm(repository, "a") == 2
    assert [place.revision.version for place in repository.memory] == [2]
    assert repository.librarian.counts.switches == 1


def test_a_new_version_that_fails_leaves_the_old_one_and_is_tried_again_later() -> None:
    """It is said in one line, and in the report; each further pause is twice as long."""
    repository = world(a=1)
    ask(repository, "a")
    publish(repository, "a", 2, BROKEN)
    repository.settle()
    assert warm(repository, "a") == 1
    [said] = done(repository, Log)
    assert isinstance(said, Log)
    assert said.fields["next_try_in_s"] == 10.0
    [one, two] = repository.librarian.report("a").versions
    assert (one.state, two.state, two.reason) == ("loaded", "failed", "/cache/code/inference.py: it does not load")
    for pause_s in (10.0, 20.0, 40.0):
        repository.pass_time(repository.now_s + pause_s - 0.1)
        loads = len(done(repository, Load))
        repository.pass_time(repository.now_s + 0.1)
        assert len(done(repository, Load)) == loads + 1
        repository.settle()
        assert warm(repository, "a") == 1


def test_a_content_that_is_written_over_by_a_half_one_goes_on() -> None:
    """It is neither gone nor replaced: the last good one answers."""
    repository = world(a=1)
    ask(repository, "a")
    spoiled = Version(number=1, digest="x", size_bytes=1, state=VersionState.INCOMPLETE, reason="A file is missing.")
    repository.contents["x"] = SMALL
    repository.tell(Model(name="a", versions=(spoiled,)))
    assert warm(repository, "a") == 1
    assert repository.librarian.report("a").versions[0].reason == "A file is missing."


def test_a_label_that_is_moved_to_nothing_says_which_version_answers() -> None:
    """It bridges, and at a start, where nothing answered before, it is not found."""
    repository = world(a=3)
    labelled = replace(repository.models["a"], labels={"stable": 3})
    repository.tell(labelled)
    ask(repository, "a", "stable")
    repository.tell(replace(labelled, labels={"stable": 99}))
    assert answer(repository, ask(repository, "a", "stable")) == 3
    assert "Version 3 answers to stable until version 99 is there." in repository.librarian.report("a").reason
    fresh = world()
    fresh.contents |= repository.contents
    fresh.tell(replace(labelled, labels={"stable": 99}))
    assert "the label stands for version 99, which is not there" in str(error(fresh, ask(fresh, "a", "stable")))
    assert fresh.librarian.report("a").reason == ""


def test_a_pinned_name_that_the_repository_does_not_have_is_said() -> None:
    repository = world(pinned=("a", "typo"), a=1)
    told = [action.fields["model"] for action in done(repository, Log) if "PINNED" in action.message]
    assert told == ["typo"]


def test_what_finishes_its_last_request_is_said_to_be_in_memory_still() -> None:
    repository = world(Limits(max_loaded_models=1), a=1, b=1)
    ask(repository, "a")
    ask(repository, "b", settle=False)
    while not done(repository, Unload):
        repository.fetch_ends(next(each for each, entry in repository.disk.items() if entry.stage == "fetching"))
    version = repository.librarian.report("a").versions[0]
    assert version.state == "available"
    assert "is in memory, and counts there, until its last request is done" in version.reason
    assert version.bytes == SMALL.memory_bytes
    repository.settle()
    assert repository.librarian.report("a").versions[0].reason == ""


def test_the_bytes_of_a_version_are_those_of_both_contents_while_the_old_one_finishes() -> None:
    """So what is shown adds up to what counts against the limits."""
    repository = world(a=1)
    ask(repository, "a")
    old = next(iter(repository.memory))
    new = publish(repository, "a", 1)
    repository.fetch_ends(new)
    repository.load_ends(Place(new))
    assert repository.memory[old].stage == "unloading"
    version = repository.librarian.report("a").versions[0]
    assert (version.state, version.reason) == ("loaded", "")
    assert version.bytes == 2 * SMALL.memory_bytes == repository.librarian.loaded_bytes
    repository.settle()
    assert repository.librarian.report("a").versions[0].bytes == SMALL.memory_bytes


def test_a_removed_version_bridges_until_the_next_is_loaded() -> None:
    """Its own number is not found at once; `latest` has no gap."""
    repository = world(a=1)
    publish(repository, "a", 2)
    ask(repository, "a")
    retire(repository, "a", 2)
    with pytest.raises(VersionNotFound):
        repository.librarian.want(next(ids), Selector("a", "2"), 0.0, 1.0)
    assert warm(repository, "a") == 2
    repository.settle()
    assert warm(repository, "a") == 1
    assert [place.revision.version for place in repository.memory] == [1]


def test_a_removed_model_is_drained_and_its_waiters_are_told() -> None:
    """So are those that wait for its load."""
    repository = world(a=1)
    waiter = ask(repository, "a", settle=False)
    repository.tell(removed=["a"])
    assert isinstance(error(repository, waiter), ModelNotFound)
    repository.settle()
    assert not repository.memory
    assert not repository.disk


def test_a_label_moves_when_what_it_moves_to_is_loaded() -> None:
    """Until then, and where that fails, it answers what it did."""
    repository = world(a=2)
    repository.tell(Model(name="a", versions=repository.models["a"].versions, labels={"stable": 1}))
    assert answer(repository, ask(repository, "a", "stable")) == 1
    repository.tell(Model(name="a", versions=repository.models["a"].versions, labels={"stable": 2}))
    assert warm(repository, "a", "stable") == 1
    repository.settle()
    assert warm(repository, "a", "stable") == 2


def test_without_a_good_one_a_broken_version_is_an_error_and_the_next_is_tried() -> None:
    """`latest` goes to the highest that loads; a number has only itself."""
    repository = world(a=1)
    publish(repository, "a", 2, BROKEN)
    assert answer(repository, ask(repository, "a")) == 1
    assert isinstance(error(repository, ask(repository, "a", "2")), ModelLoadFailed)


def test_unload_first_unloads_when_the_new_one_is_on_the_disk() -> None:
    """Never are both in memory; who asks meanwhile waits for the new one."""
    repository = world(unload_first=True, a=1)
    ask(repository, "a")
    two = publish(repository, "a", 2)
    assert warm(repository, "a") == 1
    repository.fetch_ends(two)
    assert warm(repository, "a") is None
    waiter = ask(repository, "a", settle=False)
    [old] = repository.memory
    repository.unload_ends(old)
    assert list(repository.memory) == [Place(two)]
    repository.settle()
    assert answer(repository, waiter) == 2


def test_unload_first_goes_back_to_the_old_one_where_the_new_one_fails() -> None:
    """Nobody asks for it, and it is not tried again at the cost of what answers."""
    repository = world(unload_first=True, a=1)
    ask(repository, "a")
    publish(repository, "a", 2, BROKEN)
    repository.settle()
    assert warm(repository, "a") == 1
    repository.pass_time(10_000.0)
    assert warm(repository, "a") == 1


def test_a_new_version_that_does_not_fit_beside_the_old_one_says_so() -> None:
    """The old one goes on, and the word to set is in the reason."""
    repository = world(Limits(max_loaded_models=1), a=1)
    ask(repository, "a")
    publish(repository, "a", 2)
    repository.settle()
    assert warm(repository, "a") == 1
    reason = repository.librarian.report("a").versions[1].reason
    assert reason.endswith("beside 1 that must stay; raise the limits, or set TIDEGATE_RELOAD_ORDER=unload-first")


# --- limits


def test_the_least_recently_used_makes_room_and_its_age_is_told() -> None:
    """It is gone before the next is loaded."""
    repository = world(Limits(max_loaded_models=2), a=1, b=1, c=1)
    for name in ("a", "b"):
        ask(repository, name)
        repository.pass_time(repository.now_s + 1.0)
    assert warm(repository, "a") == 1
    repository.pass_time(repository.now_s + 1.0)
    ask(repository, "c")
    [evicted] = done(repository, Unload)
    assert isinstance(evicted, Unload)
    assert (evicted.revision.name, evicted.reason, evicted.idle_s) == ("b", "evicted", 2.0)


def test_what_is_pinned_is_loaded_at_the_start_and_stays() -> None:
    """Others make room, or do not fit."""
    repository = world(Limits(max_loaded_models=2), pinned=("a",), a=1, b=1, c=1)
    repository.settle()
    assert warm(repository, "a") == 1
    for name in ("b", "c", "b", "c"):
        ask(repository, name)
        assert warm(repository, "a") == 1
    alone = world(Limits(max_loaded_models=1), pinned=("a",), a=1, b=1)
    alone.settle()
    assert isinstance(error(alone, ask(alone, "b")), ModelTooLarge)


def test_many_who_want_one_model_have_it_loaded_once() -> None:
    """All are granted by the same load, and one that leaves does not end it."""
    repository = world(a=1)
    waiters = [ask(repository, "a", settle=False) for _ in range(5)]
    del repository.requests[waiters[0]]
    repository.carry_out(repository.librarian.leave(waiters[0], 0.0))
    repository.settle()
    assert [answer(repository, waiter) for waiter in waiters[1:]] == [1, 1, 1, 1]
    assert len(done(repository, Fetch)) == len(done(repository, Load)) == 1


def test_a_model_that_can_never_fit_is_an_error_at_once() -> None:
    """By what it takes on the disk, before anything is evicted for it."""
    repository = world(Limits(max_loaded_models=3, max_loaded_bytes=50, max_disk_bytes=100), a=1)
    ask(repository, "a")
    publish(repository, "big", 1, Content(disk_bytes=101, memory_bytes=1))
    publish(repository, "wide", 1, Content(disk_bytes=60, memory_bytes=60))
    for name in ("big", "wide"):
        failed = error(repository, ask(repository, name))
        assert isinstance(failed, ModelTooLarge)
        assert failed.status == 507
    assert warm(repository, "a") == 1


def test_what_takes_more_than_was_thought_is_remembered() -> None:
    """It makes up for the excess at once, and the next time its room is reserved before."""
    repository = world(Limits(max_loaded_models=3, max_loaded_bytes=60), a=1)
    wide = publish(repository, "wide", 1, Content(disk_bytes=1, memory_bytes=55))
    ask(repository, "a")
    repository.pass_time(1.0)
    ask(repository, "wide")
    assert [place.revision.name for place in repository.memory] == ["wide"]
    ask(repository, "a")
    repository.log.clear()
    ask(repository, "wide")
    [load] = done(repository, Load)
    assert load == Load(Place(wide), f"/cache/wide/1-{wide.digest}", 55)


def test_a_fetch_that_needs_more_room_gets_it() -> None:
    """An archive's unpacked size is not in the listing."""
    repository = world(Limits(max_loaded_models=1, max_disk_bytes=100), a=1)
    ask(repository, "a")
    packed = publish(repository, "packed", 1, Content(disk_bytes=10, memory_bytes=1))
    repository.contents[packed.digest] = Content(disk_bytes=95, memory_bytes=1)
    assert answer(repository, ask(repository, "packed")) == 1
    assert list(repository.disk) == [packed]


def test_a_scan_over_many_models_by_many_clients_stays_within_the_limits() -> None:
    """Two in memory and four on the disk, at every instant, and every request is answered by its own model."""
    limits = Limits(max_loaded_models=2, max_loaded_bytes=45, max_disk_models=4, max_disk_bytes=50)
    repository = world(limits, **{f"m{n}": 1 for n in range(100)})
    for first in range(0, 100, 8):
        waiters = {n: ask(repository, f"m{n}", settle=False) for n in range(first, min(first + 8, 100))}
        repository.settle()
        for n, waiter in waiters.items():
            end = repository.requests[waiter].end
            assert isinstance(end, Grant)
            assert end.place.revision.name == f"m{n}"


def test_what_was_never_measured_does_not_come_all_at_once_where_bytes_are_limited() -> None:
    """Each takes far more than its file; the first tells of the others, and then as many load as have room."""
    repository = world(Limits(max_loaded_models=10, max_loaded_bytes=170))
    for number in range(8):
        publish(repository, f"m{number}", 1, Content(disk_bytes=1, memory_bytes=40))
    for number in range(8):
        ask(repository, f"m{number}", settle=False)
    for revision in list(repository.disk):
        if repository.disk[revision].stage == "fetching":
            repository.fetch_ends(revision)
    repository.settle()
    assert repository.most_bytes <= 170
    assert len(repository.memory) == 4


def test_of_two_that_were_never_measured_the_second_waits_where_room_is_tight() -> None:
    """So the limit is exceeded by one at most, and only until that is measured."""
    repository = world(Limits(max_loaded_models=10, max_loaded_bytes=100))
    publish(repository, "small", 1, Content(disk_bytes=1, memory_bytes=30))
    ask(repository, "small")
    for number in range(3):
        publish(repository, f"m{number}", 1, Content(disk_bytes=1, memory_bytes=90))
    for number in range(3):
        ask(repository, f"m{number}", settle=False)
    for revision in list(repository.disk):
        if repository.disk[revision].stage == "fetching":
            repository.fetch_ends(revision)
    repository.settle()
    assert repository.most_bytes <= 30 + 90


def test_what_is_idle_goes_from_a_disk_that_is_full_though_no_limit_says_so() -> None:
    """Out of memory first, where it is loaded; who waits is answered when there is room."""
    repository = world(a=1, b=1, c=1)
    ask(repository, "a")
    repository.pass_time(1.0)
    ask(repository, "b")
    waiter = ask(repository, "c", settle=False)
    for _ in range(2):
        revision = next(each for each, entry in repository.disk.items() if entry.stage == "fetching")
        del repository.disk[revision]
        full = repository.librarian.fetch_failed(
            revision, "/cache is full", repository.now_s, passing=True, disk_full=True
        )
        repository.carry_out(full)
        repository.settle()
        repository.pass_time(repository.now_s + 5.0)
    repository.settle()
    assert answer(repository, waiter) == 1
    assert sorted(revision.name for revision in repository.disk) == ["b", "c"]
    assert repository.librarian.counts.evictions == repository.librarian.counts.disk_evictions == 1


def test_of_several_that_could_go_the_fewest_do() -> None:
    """A small one that was used before a large one stays where the large one is enough."""

    def stored(size_bytes: int) -> Stored:
        return Stored(revision=Revision(name="a", version=1, digest="d"), size_bytes=size_bytes, used_s=0.0)

    small, large = stored(1), stored(10)
    assert fewest([small, large], Shortage(models=0, bytes=10)) == [large]
    assert fewest([small, large], Shortage(models=2, bytes=0)) == [small, large]
    assert fewest([small, large], Shortage(models=0, bytes=0)) == []


# --- waiting


def test_a_request_whose_model_takes_longer_is_told_when_to_come_back() -> None:
    """The load goes on, for whoever comes then."""
    repository = world(a=1)
    waiter = ask(repository, "a", patience_s=5.0, settle=False)
    repository.pass_time(5.0)
    late = error(repository, waiter)
    assert isinstance(late, ModelLoading)
    assert (late.status, late.retry_after_s) == (503, 5)
    repository.settle()
    assert answer(repository, ask(repository, "a", settle=False)) == 1


def test_a_passing_fault_of_the_store_is_waited_for() -> None:
    """Up to the request's deadline, by pauses that begin with a second."""
    repository = world(a=1)
    waiter = ask(repository, "a", settle=False)
    [revision] = repository.disk
    repository.fetch_ends(revision, fails=True)
    assert repository.requests[waiter].end is None
    repository.pass_time(1.0)
    repository.settle()
    assert answer(repository, waiter) == 1


def test_nothing_is_asked_of_a_repository_process_that_is_gone() -> None:
    """What it was fetching is asked of the next."""
    repository = world(a=1, b=1)
    waiter = ask(repository, "a", settle=False)
    repository.repository_dies()
    other = ask(repository, "b", settle=False)
    assert len(done(repository, Fetch)) == 1
    repository.repository_returns()
    repository.settle()
    assert answer(repository, waiter) == answer(repository, other) == 1


def test_before_the_first_listing_and_beyond_the_line_there_is_a_503() -> None:
    """Nothing is unbounded."""
    librarian = Librarian(Limits(max_loaded_models=1, max_waiters=1))
    with pytest.raises(NotReady):
        librarian.want(1, Selector("a"), 0.0, 1.0)
    repository = world(Limits(max_loaded_models=1, max_waiters=1), a=1)
    ask(repository, "a", settle=False)
    with pytest.raises(Overloaded):
        repository.librarian.want(next(ids), Selector("a"), 0.0, 1.0)


# --- scripts that hold models themselves


def test_what_a_script_holds_counts_and_is_dropped() -> None:
    """Its worker is told, and its end gives everything back."""
    repository = world(Limits(max_loaded_models=1), a=1, b=1)
    waiter = next(ids)
    repository.ask(waiter, Selector("a"), "latest", 60.0, worker=7)
    repository.settle()
    assert answer(repository, waiter) == 1
    assert [place.worker for place in repository.memory] == [7]
    ask(repository, "b")
    [dropped] = done(repository, Drop)
    assert isinstance(dropped, Drop)
    assert (dropped.worker, dropped.revision.name, dropped.reason) == (7, "a", "evicted")


def test_a_warm_request_makes_no_actions_and_is_counted() -> None:
    """It is found by its selector, and its use is noted."""
    repository = world(a=1)
    ask(repository, "a")
    misses = repository.librarian.counts.misses
    repository.now_s = 5.0
    assert warm(repository, "a") == warm(repository, "a") == 1
    assert repository.librarian.counts.hits == 2
    assert repository.librarian.counts.misses == misses
    assert repository.librarian.report("a").versions[0].last_used_s == 5.0


def test_a_model_that_is_unloaded_by_hand_comes_back_when_it_is_asked_for() -> None:
    """A pinned one too."""
    repository = world(pinned=("a",), a=1)
    repository.settle()
    repository.unload("a")
    repository.settle()
    assert not repository.memory
    assert answer(repository, ask(repository, "a")) == 1


# --- scripts


def get_model(world: World, name: str, worker: int, home: Revision | None = None) -> int:
    """A script asks in its worker; what that needs happens."""
    waiter = next(ids)
    world.ask(waiter, Selector(name, "latest"), "latest", world.now_s + 60.0, worker, home)
    world.settle()
    return waiter


def test_what_fails_in_the_worker_of_a_script_leaves_it_the_old_version_and_others_untouched():
    here = world(a=1)
    assert answer(here, get_model(here, "a", worker=1)) == 1
    publish(here, "a", 2, BROKEN)
    assert answer(here, get_model(here, "a", worker=1)) == 1
    assert here.librarian.report("a").versions[1].state == "available"


def test_what_a_script_was_given_goes_when_it_is_given_a_newer_one():
    here = world(a=1)
    get_model(here, "a", worker=1)
    publish(here, "a", 2)
    assert answer(here, get_model(here, "a", worker=1)) == 2
    assert [place.revision.version for place in here.memory] == [2]


def test_a_model_whose_script_waits_does_not_go_for_what_it_asks():
    here = world(Limits(max_loaded_models=1), router=1, a=1)
    asked = ask(here, "router")
    end = here.requests[asked].end
    assert isinstance(end, Grant)
    refused = here.requests[get_model(here, "a", worker=1, home=end.place.revision)].end
    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, ModelTooLarge)
    assert here.is_loaded(end.place.revision)


@pytest.mark.parametrize("why", ["replaced", "removed", "asked"])
@pytest.mark.parametrize(
    "limits", [Limits(max_loaded_models=2), Limits(max_loaded_models=3, max_disk_models=2)], ids=["memory", "disk"]
)
def test_what_goes_only_after_its_script_has_a_model_is_no_room_for_that(limits: Limits, why: str):
    here = world(limits, router=1, a=1, other=1)
    home = here.requests[ask(here, "router")].end
    assert isinstance(home, Grant)
    ask(here, "other")
    if why == "replaced":
        publish(here, "router", 1)
    elif why == "removed":
        retire(here, "router", 1)
    else:
        here.unload("router")
    assert answer(here, get_model(here, "a", worker=1, home=home.place.revision)) == 1
    assert home.place not in here.memory


def test_nothing_is_loaded_for_a_worker_that_is_gone():
    here = world(Limits(max_loaded_models=1), a=1, b=1)
    get_model(here, "a", worker=1)
    waiter = next(ids)
    here.ask(waiter, Selector("b", "latest"), "latest", here.now_s + 60.0, 1)
    del here.requests[waiter]
    here.carry_out(here.librarian.leave(waiter, here.now_s))
    for place in [place for place in here.memory if place.worker == 1]:
        del here.memory[place]
    here.carry_out(here.librarian.worker_gone(1, here.now_s))
    here.settle()
    assert not here.memory
    assert answer(here, get_model(here, "b", worker=2)) == 1
