"""What changes from listing to listing, with no store and no clock."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.repository.files import manifest_for, published
from tidegate.inference.repository.catalogue import Model, Revision, Version, VersionState
from tidegate.inference.repository.listing import Entry, Listing
from tidegate.inference.repository.watch import Changes, ListingDoubtful, Watch

INTERVAL_S = 10.0
FILES = {"model.pth": b"weights", "code/inference.py": b"# four functions"}


class Repository:
    """Files that are listed at times; a file's tag changes with each writing."""

    def __init__(
        self, *, whole_objects: bool = False, known: tuple[Model, ...] = (), started_s: float = 1000.0
    ) -> None:
        self.watch = Watch(INTERVAL_S, whole_objects=whole_objects, known=known)
        self.files: dict[str, tuple[bytes, Entry]] = {}
        self.now_s = started_s
        self.unreadable: dict[str, str] = {}
        self.passing: frozenset[str] = frozenset()
        self.models = {model.name: model for model in known}
        self.unread: set[str] = set()
        self._writes = 0

    def write(self, folder: str, files: Mapping[str, bytes], *, age_s: float = 0.0) -> None:
        for name, content in files.items():
            self._writes += 1
            path = folder + name
            self.files[path] = (content, Entry(path, len(content), f"tag-{self._writes}", self.now_s - age_s))

    def remove(self, folder: str) -> None:
        self.files = {path: file for path, file in self.files.items() if not path.startswith(folder)}

    def list_all(self, *, after_s: float = INTERVAL_S) -> Changes:
        self.now_s += after_s
        entries = tuple(entry for _, (_, entry) in sorted(self.files.items()))
        wanted = self.watch.look(
            Listing(entries=entries, now_s=self.now_s, unreadable=self.unreadable, passing=self.passing)
        )
        read = {entry: self.files[entry.path][0] for entry in wanted if entry.path not in self.unread}
        changes = self.watch.take(read, now_s=self.now_s)
        self.models |= {model.name: model for model in changes.models}
        for name in changes.removed:
            del self.models[name]
        return changes

    def version(self, name: str, number: int) -> Version:
        return next(version for version in self.models[name].versions if version.number == number)

    def state(self, name: str, number: int) -> VersionState:
        return self.version(name, number).state

    def revision(self, name: str, number: int) -> Revision:
        return Revision(name=name, version=number, digest=self.version(name, number).digest)


@pytest.fixture
def repository() -> Repository:
    return Repository()


def test_a_version_with_its_manifest_is_available_at_the_first_listing(repository: Repository) -> None:
    repository.write("net/3/", published(FILES))
    repository.list_all()
    version = repository.version("net", 3)
    assert version.state == VersionState.AVAILABLE
    assert version.size_bytes == sum(map(len, published(FILES).values()))
    source = repository.watch.source(repository.revision("net", 3))
    assert source is not None
    assert sorted(source.files) == sorted(published(FILES))


def test_a_manifest_that_comes_first_commits_nothing(repository: Repository) -> None:
    """As `aws s3 sync` uploads a folder: in any order."""
    files = published(FILES)
    repository.write("net/3/", {"manifest.json": files["manifest.json"]})
    repository.list_all()
    assert repository.state("net", 3) == VersionState.INCOMPLETE
    assert "lists files that are not there" in repository.version("net", 3).reason
    repository.write("net/3/", {**FILES, "model.pth": b"weig"})
    repository.list_all()
    assert repository.version("net", 3).reason == "model.pth has 4 bytes; its manifest says 7."
    assert repository.watch.source(repository.revision("net", 3)) is None
    repository.write("net/3/", FILES)
    repository.list_all()
    assert repository.state("net", 3) == VersionState.AVAILABLE


def test_without_a_manifest_it_must_be_the_same_for_an_interval(repository: Repository) -> None:
    repository.write("net/3/", {"model.pth": b"w"})
    repository.list_all()
    assert repository.state("net", 3) == VersionState.INCOMPLETE
    repository.list_all(after_s=INTERVAL_S / 2)
    repository.write("net/3/", {"code/inference.py": b"c"})
    repository.list_all(after_s=INTERVAL_S / 2)
    assert repository.state("net", 3) == VersionState.INCOMPLETE, "it grew"
    repository.list_all(after_s=INTERVAL_S / 2)
    assert repository.state("net", 3) == VersionState.INCOMPLETE, "half an interval is none"
    repository.list_all(after_s=INTERVAL_S / 2)
    assert repository.state("net", 3) == VersionState.AVAILABLE


def test_what_lay_there_before_the_start_needs_no_second_look(repository: Repository) -> None:
    """By the store's own clock; later the same age says nothing: an upload in parts is dated from its beginning."""
    repository.write("old/1/", {"model.pth": b"w"}, age_s=5 * INTERVAL_S)
    repository.write("new/1/", {"model.pth": b"w"}, age_s=INTERVAL_S / 2 - INTERVAL_S)
    repository.list_all()
    assert repository.state("old", 1) == VersionState.AVAILABLE
    assert repository.state("new", 1) == VersionState.INCOMPLETE
    repository.write("late/1/", {"model.pth": b"w"}, age_s=5 * INTERVAL_S)
    repository.list_all()
    assert repository.state("late", 1) == VersionState.INCOMPLETE


def test_that_the_store_s_clock_jumps_is_no_sign_of_age() -> None:
    """Ahead or behind: what is dated in the future waits as all else does."""
    repository = Repository()
    repository.write("net/1/", {"model.pth": b"w"}, age_s=-1e9)
    repository.list_all()
    assert repository.state("net", 1) == VersionState.INCOMPLETE
    repository.list_all()
    assert repository.state("net", 1) == VersionState.AVAILABLE


def test_an_archive_is_available_at_once_where_an_object_is_whole() -> None:
    """In S3; in a folder it may be half written."""
    for whole, state in ((True, VersionState.AVAILABLE), (False, VersionState.INCOMPLETE)):
        repository = Repository(whole_objects=whole)
        repository.write("", {"net.tar.gz": b"..."})
        repository.list_all()
        assert repository.state("net", 1) == state


def test_a_mark_says_that_a_version_is_being_written(repository: Repository) -> None:
    """However long that takes, or if it was killed; a manifest ends it."""
    repository.write("net/3/", {".unfinished": b"", "model.pth": b"weights"})
    for _ in range(5):
        repository.list_all()
        assert repository.state("net", 3) == VersionState.INCOMPLETE
    repository.write("net/3/", {"manifest.json": manifest_for({"model.pth": b"weights"})})
    repository.list_all()
    assert repository.state("net", 3) == VersionState.AVAILABLE
    source = repository.watch.source(repository.revision("net", 3))
    assert source is not None
    assert ".unfinished" not in source.files


def test_where_versions_have_manifests_one_without_is_not_there(repository: Repository) -> None:
    """It is being published on a slow line, or was half retired."""
    repository.write("net/1/", published(FILES))
    repository.write("net/2/", FILES)
    for _ in range(5):
        repository.list_all()
    assert repository.state("net", 2) == VersionState.INCOMPLETE
    assert repository.version("net", 2).reason == "It has no manifest yet, as the model's other versions have."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "not readable JSON"),
        (b"[]", "must hold a JSON object"),
        (b'{"format_version": 2}', "has format_version 2; this server reads 1"),
        (b'{"format_version": 1, "files": []}', "has 'files' that is no object"),
        (b'{"format_version": 1, "files": {"../x": {}}}', "lists '../x', which has an empty part"),
        (b'{"format_version": 1, "files": {"x": {"size_bytes": -1}}}', "gives no size for 'x'"),
        (b'{"format_version": 1, "files": {"x": {"size_bytes": 1, "sha256": "no"}}}', "gives no SHA-256 for 'x'"),
    ],
)
def test_a_bad_manifest_is_said_and_harms_no_other_version(
    repository: Repository, content: bytes, sentence: str
) -> None:
    repository.write("net/1/", {"manifest.json": content, "model.pth": b"w"})
    repository.write("net/2/", published(FILES))
    repository.list_all()
    assert repository.state("net", 1) == VersionState.INVALID
    assert sentence in repository.version("net", 1).reason
    assert repository.state("net", 2) == VersionState.AVAILABLE


def test_a_manifest_of_another_tool_or_without_files_is_a_file_as_others(repository: Repository) -> None:
    for content in (b'{"name": "PWA"}', b'{"format_version": 1, "name": "by hand"}'):
        repository.write("net/1/", {"manifest.json": content, "model.pth": b"w"})
        repository.list_all()
        assert repository.state("net", 1) == VersionState.INCOMPLETE
        repository.list_all()
        assert repository.state("net", 1) == VersionState.AVAILABLE


def test_a_manifest_that_cannot_be_read_now_is_read_later(repository: Repository) -> None:
    repository.write("net/1/", published(FILES))
    repository.unread = {"net/1/manifest.json"}
    repository.list_all()
    assert repository.state("net", 1) == VersionState.UNREAD
    repository.unread = set()
    repository.list_all()
    assert repository.state("net", 1) == VersionState.AVAILABLE


def test_labels_that_cannot_be_read_now_are_not_taken_for_none(repository: Repository) -> None:
    repository.write("net/1/", published(FILES))
    repository.write("net/", {"labels.json": b'{"stable": 1}'})
    repository.unread = {"net/labels.json"}
    repository.list_all()
    assert repository.models["net"].labels_unread
    repository.unread = set()
    repository.list_all()
    assert (repository.models["net"].labels_unread, repository.models["net"].labels) == (False, {"stable": 1})
    repository.write("net/", {"labels.json": b" " * (2 << 20)})
    repository.list_all()
    assert not repository.models["net"].labels_unread, "what is too large is never read"


def test_what_was_read_is_not_asked_for_again_where_the_rest_has_to_be(repository: Repository) -> None:
    for number in (1, 2):
        repository.write(f"net/{number}/", published(FILES))
    listing = Listing(entries=tuple(entry for _, (_, entry) in sorted(repository.files.items())), now_s=1000.0)
    first, second = repository.watch.look(listing)
    repository.watch.keep({first: repository.files[first.path][0]})
    assert repository.watch.look(listing) == [second]


def test_a_model_without_a_version_says_so(repository: Repository) -> None:
    repository.write("net/", {"labels.json": b"{}"})
    repository.list_all()
    assert repository.models["net"].reason == "There is no version of it."


def test_the_same_content_written_again_is_the_same_revision(repository: Repository) -> None:
    """With a manifest; without one a new tag is a new content, as far as anybody knows."""
    repository.write("net/1/", published(FILES))
    repository.list_all()
    before = repository.revision("net", 1)
    repository.write("net/1/", published(FILES))
    assert repository.list_all().models == ()
    assert repository.revision("net", 1) == before
    repository.write("net/1/", published({**FILES, "model.pth": b"others!"}))
    repository.list_all()
    assert repository.revision("net", 1) != before


def test_two_writes_in_one_second_are_two_contents(repository: Repository) -> None:
    """Cortex went by times in whole seconds."""
    repository.write("net/1/", {"model.pth": b"a"})
    repository.list_all()
    repository.list_all()
    before = repository.revision("net", 1)
    repository.write("net/1/", {"model.pth": b"b"})
    repository.list_all()
    repository.list_all()
    assert repository.state("net", 1) == VersionState.AVAILABLE
    assert repository.revision("net", 1) != before


def test_a_file_that_the_manifest_does_not_list_comes_along(repository: Repository) -> None:
    """Somebody put code beside what save_model wrote; it has to be the same for an interval."""
    repository.write("net/1/", published({"model.pth": b"w"}))
    repository.list_all()
    before = repository.revision("net", 1)
    repository.write("net/1/", {"code/inference.py": b"c"})
    repository.list_all()
    assert repository.state("net", 1) == VersionState.INCOMPLETE
    repository.list_all()
    after = repository.revision("net", 1)
    assert after != before
    source = repository.watch.source(after)
    assert source is not None
    assert "code/inference.py" in source.files


def test_shared_code_is_part_of_the_content_of_those_that_bring_none(repository: Repository) -> None:
    repository.write("", {"code/inference.py": b"1"}, age_s=INTERVAL_S)
    repository.write("bare/1/", published({"model.pth": b"w"}))
    repository.write("own/1/", published(FILES))
    repository.list_all()
    bare, own = repository.revision("bare", 1), repository.revision("own", 1)
    assert repository.state("bare", 1) == VersionState.AVAILABLE
    repository.write("", {"code/inference.py": b"2"})
    repository.list_all()
    assert repository.state("bare", 1) == VersionState.INCOMPLETE, "the code may be half written"
    repository.list_all()
    assert repository.state("bare", 1) == VersionState.AVAILABLE
    assert repository.revision("bare", 1) != bare
    assert repository.revision("own", 1) == own


def test_what_is_missing_once_is_not_removed(repository: Repository) -> None:
    """A model, and a version."""
    repository.write("here/1/", published(FILES))
    repository.write("gone/1/", published(FILES))
    repository.write("here/2/", published({**FILES, "model.pth": b"2"}))
    repository.list_all()
    kept = dict(repository.files)
    repository.remove("gone/")
    repository.remove("here/2/")
    repository.list_all()
    assert sorted(repository.models) == ["gone", "here"]
    assert repository.state("here", 2) == VersionState.AVAILABLE
    for name, number in (("here", 2), ("gone", 1)):
        assert repository.watch.source(repository.revision(name, number)) is not None, "it may be asked for yet"
    repository.files = dict(kept)
    assert repository.list_all() == Changes()
    repository.remove("gone/")
    repository.remove("here/2/")
    repository.list_all()
    assert repository.list_all(after_s=0.01) == Changes(), "two looks in a moment are one"
    changes = repository.list_all()
    assert changes.removed == ("gone",)
    assert [version.number for version in repository.models["here"].versions] == [1]


def test_an_empty_listing_is_no_removal(repository: Repository) -> None:
    repository.write("net/1/", published(FILES))
    repository.list_all()
    files, repository.files = repository.files, {}
    for _ in range(5):
        with pytest.raises(ListingDoubtful, match="is empty, and there were 1 models before"):
            repository.list_all()
    repository.files = files
    assert repository.list_all() == Changes()


def test_what_an_earlier_process_knew_is_not_removed_by_this_one_s_first_listing() -> None:
    """The process may have died, the repository may be mounted wrongly at the same time."""
    first = Repository()
    first.write("net/1/", published(FILES))
    first.write("other/1/", published(FILES))
    first.list_all()
    second = Repository(known=tuple(first.models.values()))
    with pytest.raises(ListingDoubtful):
        second.list_all()
    second.write("net/1/", published(FILES))
    second.list_all()
    assert sorted(second.models) == ["net", "other"]
    assert second.list_all().removed == ("other",)


def test_what_cannot_be_read_is_what_it_was(repository: Repository) -> None:
    """A version with its model's others, a model as a whole, and one that nobody ever saw."""
    repository.write("net/1/", published(FILES))
    repository.write("net/2/", published({**FILES, "model.pth": b"2"}))
    repository.write("whole/1/", published(FILES))
    repository.list_all()
    repository.remove("net/2/")
    repository.remove("whole/")
    repository.unreadable = {"net/2": "Permission denied", "whole": "Permission denied", "never": "Input/output error"}
    repository.write("net/3/", published({**FILES, "model.pth": b"3"}))
    for _ in range(4):
        repository.list_all()
    assert [version.number for version in repository.models["net"].versions] == [1, 2, 3]
    assert repository.state("net", 2) == VersionState.AVAILABLE
    assert repository.state("net", 3) == VersionState.AVAILABLE
    assert repository.models["net"].reason == "net/2 cannot be read: Permission denied."
    assert repository.watch.source(repository.revision("net", 2)) is not None
    assert repository.state("whole", 1) == VersionState.AVAILABLE
    assert repository.models["never"].reason.startswith("never cannot be read: Input/output error.")
    assert not repository.models["never"].folder_unread, "for all that is known it stays so"
    repository.unreadable = {"code/inference.py": "Permission denied"}
    with pytest.raises(ListingDoubtful, match="belongs to every model"):
        repository.list_all()


def test_what_may_be_readable_later_is_not_taken_for_invalid(repository: Repository) -> None:
    """A version, and a model as a whole."""
    repository.write("net/1/", published(FILES))
    repository.unreadable = {"net/2": "Input/output error", "whole": "Input/output error"}
    repository.passing = frozenset(repository.unreadable)
    repository.list_all()
    assert repository.state("net", 2) == VersionState.UNREAD
    assert [repository.models[name].folder_unread for name in ("net", "whole")] == [False, True]
    repository.write("net/2/", published(FILES))
    repository.write("whole/1/", published(FILES))
    repository.unreadable = {}
    repository.list_all()
    assert repository.state("net", 2) == repository.state("whole", 1) == VersionState.AVAILABLE
    assert not repository.models["whole"].folder_unread


def test_what_was_fetched_damaged_is_invalid_until_it_is_written_again(repository: Repository) -> None:
    repository.write("net/1/", published(FILES))
    repository.list_all()
    before = repository.revision("net", 1)
    repository.watch.spoil(before)
    repository.list_all()
    assert repository.state("net", 1) == VersionState.INVALID
    assert repository.watch.source(before) is None
    repository.write("net/1/", FILES)
    repository.list_all()
    assert repository.state("net", 1) == VersionState.AVAILABLE
    assert repository.revision("net", 1) != before, "or nobody would try it again"


def test_labels_are_read_again_when_they_change_and_kept_when_they_are_broken(repository: Repository) -> None:
    repository.write("net/3/", published(FILES))
    repository.write("net/", {"labels.json": b'{"stable": 3}'})
    repository.list_all()
    assert repository.models["net"].labels == {"stable": 3}
    for broken in (b"{", b"[]", b'{"latest": 3}', b'{"3": 3}', b'{"stable": "3"}', b'{"stable": true}', b'{"a b": 3}'):
        repository.write("net/", {"labels.json": broken})
        repository.list_all()
        assert repository.models["net"].labels == {"stable": 3}
        assert repository.models["net"].reason.startswith("net/labels.json ")
    repository.remove("net/labels.json")
    repository.list_all()
    assert repository.models["net"].labels == {}
    assert repository.models["net"].reason == ""


def test_a_saved_model_is_listed_with_the_reason(repository: Repository) -> None:
    repository.write("net/1/", {"saved_model.pb": b"x", "variables/variables.index": b"x"})
    repository.list_all()
    assert repository.state("net", 1) == VersionState.INVALID
    assert "name tensorflow in code/requirements.txt" in repository.version("net", 1).reason


def test_an_unchanged_listing_says_nothing_and_reads_nothing(repository: Repository) -> None:
    repository.write("net/1/", published(FILES))
    repository.write("net/", {"labels.json": b'{"stable": 1}'})
    repository.list_all()
    entries = tuple(entry for _, (_, entry) in sorted(repository.files.items()))
    assert repository.watch.look(Listing(entries=entries, now_s=0.0)) == []
    assert repository.watch.take({}, now_s=repository.now_s) == Changes()


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "half", "finish", "remove", "fail", "list", "touch"]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 3),
    ),
    max_size=30,
)


@given(OPERATIONS)
def test_nothing_half_written_is_ever_available_and_nothing_good_is_lost(  # noqa: PLR0912 - one for each operation
    operations: list[tuple[str, str, int]],
) -> None:
    """With manifests, whatever happens in whatever order; what is available is exactly what the files say."""
    repository = Repository()
    repository.write("", {"README.md": b"keeps the listing from being empty"})
    whole: dict[tuple[str, int], bytes] = {}
    missing: dict[tuple[str, int], int] = {}
    listed: set[tuple[str, int]] = set()
    """What the last listing found: it is missed, also where it was half replaced before it went."""
    for number, (what, name, version) in enumerate(operations):
        folder, content = f"{name}/{version}/", b"%d" % number
        key = (name, version)
        if what == "publish":
            repository.write(folder, published({"model.pth": content}))
            whole[key] = content
            missing.pop(key, None)
        elif what == "half":
            repository.remove(folder)
            repository.write(folder, {".unfinished": b"", "model.pth": content})
            whole.pop(key, None)
            missing.pop(key, None)
        elif what == "finish" and f"{folder}model.pth" in repository.files:
            content = repository.files[f"{folder}model.pth"][0]
            repository.write(folder, {"manifest.json": manifest_for({"model.pth": content})})
            whole[key] = content
        elif what == "remove":
            repository.remove(folder)
            if key in whole or key in listed:
                whole.setdefault(key, b"")
                missing[key] = 0
        elif what == "touch" and key in whole and key not in missing:
            repository.write(folder, {"model.pth": whole[key]})
        elif what == "fail":
            files, repository.files = repository.files, {}
            if repository.watch.count:
                with pytest.raises(ListingDoubtful):
                    repository.list_all()
            repository.files = files
        elif what == "list":
            repository.list_all()
            for absent in list(missing):
                missing[absent] += 1
                if missing[absent] == 2:
                    whole.pop(absent)
                    del missing[absent]
            available = {
                (model.name, each.number)
                for model in repository.models.values()
                for each in model.versions
                if each.state == VersionState.AVAILABLE
            }
            listed = available
            assert available <= set(whole)
            assert set(whole) - set(missing) <= available
            for each in available - set(missing):
                source = repository.watch.source(repository.revision(*each))
                assert source is not None
                assert repository.files[source.files["model.pth"].path][0] == whole[each]
