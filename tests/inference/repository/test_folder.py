"""The real process and a folder: what is listed, fetched, kept and removed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from tests.inference.repository.driving import Driven
from tests.inference.repository.files import archive_of, published, read, write
from tidegate.inference.repository.folder_store import FolderStore
from tidegate.inference.repository.messages import Changed, Fetched, FetchFailed, Kept, Listed, ListingFailed, Look
from tidegate.inference.repository.store import EntryChanged, StoreFailed

FILES = {"model.pth": b"weights" * 1000, "code/inference.py": b"# four functions"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_an_empty_repository_is_listed(repository: Path, cache: Path) -> None:
    """The server is healthy without a model."""
    with Driven(str(repository), cache) as driven:
        driven.await_true(lambda: bool(driven.all(Listed)), "a listing")
        assert driven.all(Listed)[0].models == 0
        assert driven.close() == 0


def test_a_published_version_is_there_at_once_and_fetched_as_it_is(repository: Path, cache: Path) -> None:
    write(repository / "net" / "3", published(FILES))
    with Driven(str(repository), cache, interval_s=3600) as driven:
        revision = driven.await_version("net", 3)
        fetched = driven.fetch(revision)
        assert isinstance(fetched, Fetched)
        assert Path(fetched.directory) == cache / "net" / f"3-{revision.digest}"
        assert read(Path(fetched.directory)) == published(FILES)
        assert fetched.size_bytes == sum(map(len, published(FILES).values()))
        assert driven.fetch(revision).directory == fetched.directory, "a second time costs nothing"  # type: ignore[union-attr]


def test_what_has_no_manifest_is_there_once_it_was_the_same_for_an_interval(repository: Path, cache: Path) -> None:
    write(repository / "net", FILES)
    with Driven(str(repository), cache, interval_s=0.3) as driven:
        revision = driven.await_version("net", 1)
        fetched = driven.fetch(revision)
        assert isinstance(fetched, Fetched)
        assert read(Path(fetched.directory)) == FILES
        assert not driven.models["net"].versioned


def test_an_interval_of_zero_is_one_listing_and_those_that_are_asked_for(repository: Path, cache: Path) -> None:
    """Nothing is going to change, so nothing has to prove that it is finished."""
    write(repository / "net", FILES)
    with Driven(str(repository), cache, interval_s=0) as driven:
        driven.await_version("net", 1)
        write(repository / "late", FILES)
        driven.fetch(driven.await_version("net", 1))
        assert driven.listings() == 1
        driven.await_listings(1)
        assert driven.version("late", 1) is not None


def test_a_change_is_another_revision_and_the_fetched_one_stays(repository: Path, cache: Path) -> None:
    write(repository / "net" / "1", published(FILES))
    with Driven(str(repository), cache) as driven:
        first = driven.await_version("net", 1)
        fetched = driven.fetch(first)
        assert isinstance(fetched, Fetched)
        changed = {**FILES, "model.pth": b"other weights"}
        write(repository / "net" / "1", published(changed))
        second = driven.await_version("net", 1, other_than=first.digest)
        again = driven.fetch(second)
        assert isinstance(again, Fetched)
        assert read(Path(again.directory)) == published(changed)
        assert read(Path(fetched.directory)) == published(FILES), "whoever serves it is not disturbed"
        stale = driven.fetch(first)
        assert isinstance(stale, Fetched), "it is on the disk yet"


def test_code_is_shared_with_the_models_that_bring_none(repository: Path, cache: Path) -> None:
    """As a folder and as an archive, also one that was packed with its folder around it."""
    write(repository / "code", {"inference.py": b"# shared"})
    write(repository / "own" / "1", published(FILES))
    write(repository / "bare" / "1", published({"model.pth": b"w"}))
    write(repository, {"packed.tar.gz": archive_of({"net/model.pth": b"w", "net/config.json": b"{}"})})
    with Driven(str(repository), cache) as driven:
        content = {}
        for name in ("own", "bare", "packed"):
            fetched = driven.fetch(driven.await_version(name, 1))
            assert isinstance(fetched, Fetched)
            content[name] = read(Path(fetched.directory))
        assert content["own"] == published(FILES)
        assert content["bare"] == {**published({"model.pth": b"w"}), "code/inference.py": b"# shared"}
        assert content["packed"] == {
            "net/model.pth": b"w",
            "net/config.json": b"{}",
            "net/code/inference.py": b"# shared",
        }


def test_a_removed_directory_is_gone_with_its_mark_and_can_be_fetched_again(repository: Path, cache: Path) -> None:
    write(repository / "net" / "1", published(FILES))
    with Driven(str(repository), cache) as driven:
        revision = driven.await_version("net", 1)
        fetched = driven.fetch(revision)
        assert isinstance(fetched, Fetched)
        driven.remove(fetched.directory)
        assert not [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]
        assert isinstance(driven.fetch(revision), Fetched)
        driven.remove(str(cache / "no" / "1-abc"))  # as if it had been there


def test_what_is_whole_on_the_disk_is_told_at_the_next_start(repository: Path, cache: Path) -> None:
    """And what is not is removed: without a mark, or smaller than it says."""
    write(repository / "net" / "1", published(FILES))
    write(repository / "bad" / "1", published(FILES))
    with Driven(str(repository), cache) as driven:
        revision = driven.await_version("net", 1)
        fetched = driven.fetch(revision)
        assert isinstance(fetched, Fetched)
        spoiled = driven.fetch(driven.await_version("bad", 1))
        assert isinstance(spoiled, Fetched)
    os.truncate(Path(spoiled.directory) / "model.pth", 3)
    write(Path(fetched.directory), {"code/__pycache__/inference.pyc": b"left by python"})
    write(cache / "odd" / "1-00", FILES)
    write(cache / ".trash" / "0", FILES)
    with Driven(str(repository), cache) as driven:
        driven.await_true(lambda: bool(driven.all(Listed)), "a listing")
        size_bytes = fetched.size_bytes + len(b"left by python")
        assert driven.all(Kept) == [Kept(revision=revision, directory=fetched.directory, size_bytes=size_bytes)]
        assert isinstance(driven.said[0], Kept)
        assert not (cache / "odd").exists()
        assert not (cache / "bad").exists()
        assert not list((cache / ".trash").iterdir())


def test_a_model_that_is_gone_is_removed_after_two_listings(repository: Path, cache: Path) -> None:
    for name in ("here", "gone"):
        write(repository / name / "1", published(FILES))
    with Driven(str(repository), cache) as driven:
        driven.await_version("gone", 1)
        (repository / "gone").rename(repository.parent / "elsewhere")
        driven.await_true(lambda: "gone" not in driven.models, "removed")
        assert "here" in driven.models


def test_neither_a_missing_nor_an_empty_repository_removes_models(repository: Path, cache: Path) -> None:
    """A volume that is not mounted looks like one of both."""
    write(repository / "net" / "1", published(FILES))
    with Driven(str(repository), cache) as driven:
        driven.await_version("net", 1)
        away = repository.rename(repository.parent / "away")
        driven.await_true(lambda: "does not exist" in "".join(each.reason for each in driven.all(ListingFailed)), "")
        repository.mkdir()
        driven.await_true(lambda: "is empty" in "".join(each.reason for each in driven.all(ListingFailed)), "")
        assert "net" in driven.models
        repository.rmdir()
        away.rename(repository)
        listed = len(driven.all(Listed))
        driven.await_true(lambda: len(driven.all(Listed)) > listed, "recovered")
        assert driven.version("net", 1) is not None


def test_another_server_cannot_work_in_the_same_directory(repository: Path, cache: Path) -> None:
    """It says so, and goes on when the first has ended."""
    with Driven(str(repository), cache) as first:
        first.await_true(lambda: bool(first.all(Listed)), "a listing")
        with Driven(str(repository), cache) as second:
            second.await_true(lambda: bool(second.all(ListingFailed)), "a refusal")
            assert "in use by another server" in second.all(ListingFailed)[0].reason
            first.close()
            second.await_true(lambda: bool(second.all(Listed)), "its turn")


def test_a_revision_that_takes_more_than_it_may_is_refused_with_what_it_needs(repository: Path, cache: Path) -> None:
    """For files before anything is brought, for archives before more than that is written."""
    write(repository / "net" / "1", published(FILES))
    archive = archive_of({"model.pth": bytes(1 << 20), "more.bin": bytes(1000)})
    write(repository, {"packed.tar.gz": archive})
    with Driven(str(repository), cache) as driven:
        needed = sum(map(len, published(FILES).values()))
        refused = driven.fetch(driven.await_version("net", 1), max_bytes=needed - 1)
        assert isinstance(refused, FetchFailed)
        assert (refused.needed_bytes, refused.passing) == (needed, False)
        assert isinstance(driven.fetch(driven.await_version("net", 1), max_bytes=needed), Fetched)

        packed, needed = driven.await_version("packed", 1), len(archive) + (1 << 20) + 1000
        refused = driven.fetch(packed, max_bytes=len(archive) + (1 << 20))
        assert isinstance(refused, FetchFailed)
        assert refused.needed_bytes is not None
        assert len(archive) + (1 << 20) < refused.needed_bytes <= needed
        assert not list((cache / ".partial").rglob("*.bin"))
        fetched = driven.fetch(packed, max_bytes=needed)
        assert isinstance(fetched, Fetched)
        assert fetched.size_bytes == (1 << 20) + 1000, "the archive itself is gone"


def test_a_damaged_version_is_invalid_until_it_is_written_again(repository: Path, cache: Path) -> None:
    """The manifest may stay what it is: the next try is for another revision."""
    files = published(FILES)
    write(repository / "net" / "1", {**files, "model.pth": b"wrongly" * 1000})
    with Driven(str(repository), cache) as driven:
        revision = driven.await_version("net", 1)
        failed = driven.fetch(revision)
        assert isinstance(failed, FetchFailed)
        assert not failed.passing
        assert "SHA-256" in failed.reason
        driven.await_version("net", 1, "invalid")
        write(repository / "net" / "1", {"model.pth": FILES["model.pth"]})
        mended = driven.await_version("net", 1, other_than=revision.digest)
        fetched = driven.fetch(mended)
        assert isinstance(fetched, Fetched)
        assert read(Path(fetched.directory)) == files


def test_many_may_ask_for_one_revision(repository: Path, cache: Path) -> None:
    write(repository / "net" / "1", published(FILES))
    with Driven(str(repository), cache, max_downloads=1) as driven:
        revision = driven.await_version("net", 1)
        numbers = [driven.begin_fetch(revision) for _ in range(20)]
        answers = [driven.end_fetch(number) for number in numbers]
        assert {getattr(answer, "directory", None) for answer in answers} == {
            str(cache / "net" / f"1-{revision.digest}")
        }


def test_labels_are_told_and_broken_ones_leave_those_that_were(repository: Path, cache: Path) -> None:
    for number in (3, 4):
        write(repository / "net" / str(number), published(FILES))
    write(repository / "net", {"labels.json": json.dumps({"stable": 3, "canary": 4}).encode()})
    with Driven(str(repository), cache) as driven:
        driven.await_version("net", 4)
        assert driven.models["net"].labels == {"stable": 3, "canary": 4}
        write(repository / "net", {"labels.json": b'{"stable": 4'})
        driven.await_true(lambda: "not readable JSON" in driven.models["net"].reason, "the reason")
        assert driven.models["net"].labels == {"stable": 3, "canary": 4}
        write(repository / "net", {"labels.json": b'{"stable": 4, "gone": 9}'})
        driven.await_true(lambda: driven.models["net"].labels == {"stable": 4, "gone": 9}, "the new labels")
        assert driven.models["net"].reason == "Labels of versions that are not there: gone (version 9)."


def test_what_a_disk_cannot_read_now_is_told_apart_from_what_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sick").mkdir()
    (tmp_path / "nowhere").symlink_to("not there")
    os.mkfifo(tmp_path / "pipe")
    scandir = os.scandir

    def failing(path: str | Path) -> object:
        if str(path).rstrip("/").endswith("sick"):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    listing = FolderStore(tmp_path).list_all()
    assert sorted(listing.unreadable) == ["nowhere", "pipe", "sick"]
    assert listing.passing == {"sick"}


def test_links_are_followed_and_those_that_lead_nowhere_are_told(repository: Path, cache: Path) -> None:
    """Versions as links to where the files are; a link into its own folder has no end, also by way of another."""
    write(repository.parent / "elsewhere", published(FILES))
    (repository / "net").mkdir()
    (repository / "net" / "1").symlink_to(repository.parent / "elsewhere")
    (repository / "net" / "2").symlink_to(repository.parent / "nowhere")
    for name, other in (("a", "b"), ("b", "a")):
        write(repository / name / "1", published(FILES))
        for link in ("one", "two"):
            (repository / name / "1" / link).symlink_to(repository / other)
    os.mkfifo(repository / "net" / "3")
    with Driven(str(repository), cache) as driven:
        fetched = driven.fetch(driven.await_version("net", 1))
        assert isinstance(fetched, Fetched)
        assert read(Path(fetched.directory)) == published(FILES)
        assert driven.version("net", 2).reason == (  # type: ignore[union-attr]
            "net/2 cannot be read: No such file or directory."
        )
        assert "net/3 cannot be read: it is not a regular file." in driven.models["net"].reason
        assert "it links to a folder that contains it" in driven.models["a"].reason


def test_a_file_that_changed_is_never_read_as_what_was_listed(repository: Path) -> None:
    store = FolderStore(repository)
    write(repository / "net" / "1", published(FILES))
    entry = next(entry for entry in store.list_all().entries if entry.path.endswith("model.pth"))
    assert b"".join(store.read(entry)) == FILES["model.pth"]
    write(repository / "net" / "1", {"model.pth": bytes(len(FILES["model.pth"]))})
    with pytest.raises(EntryChanged, match="has changed since it was listed"):
        list(store.read(entry))
    (repository / "net" / "1" / "model.pth").unlink()
    with pytest.raises(EntryChanged, match="is gone"):
        list(store.read(entry))
    with pytest.raises(StoreFailed, match="is not a folder"):
        FolderStore(repository / "net" / "1" / "manifest.json").list_all()


def test_ten_thousand_models_are_listed_and_one_more_is_found(repository: Path, cache: Path) -> None:
    """In lines of a bounded length, and a listing that changes nothing says nothing."""
    for number in range(10_000):
        folder = repository / f"net{number}"
        folder.mkdir()
        (folder / "x").write_bytes(b"x")
    with Driven(str(repository), cache, interval_s=0.05) as driven:
        driven.await_true(lambda: bool(driven.all(Listed)) and len(driven.models) == 10_000, "all of them")
        driven.await_version("net9999", 1)
        driven.await_listings(1)
        said = len(driven.all(Changed))
        driven.await_listings(1)
        assert len(driven.all(Changed)) == said
        assert all(len(message.models) <= 100 for message in driven.all(Changed))
        assert driven.all(Listed)[-1].interval_s > 0.05
        assert "of a core" in driven.all(Listed)[-1].note
        write(repository / "late" / "1", published(FILES))
        driven.send(Look())
        assert isinstance(driven.fetch(driven.await_version("late", 1)), Fetched)


def test_nothing_but_messages_reaches_the_pipe_and_a_line_that_is_none_ends_the_process(
    repository: Path, cache: Path
) -> None:
    """The server starts another; going on with half a conversation would be worse."""
    with Driven(str(repository), cache) as driven:
        driven.await_true(lambda: bool(driven.all(Listed)), "a listing")
        assert driven.process.stdin is not None
        driven.process.stdin.write(b"no message\n")
        driven.process.stdin.flush()
        assert driven.process.wait(60) != 0
