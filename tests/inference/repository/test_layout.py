"""Which models a listing holds: every layout that Cortex's page shows, ours, and what people leave beside them."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.repository.file_names import name_fault
from tidegate.inference.repository.layout import FoundModel, groups, kind_fault, left_over, model_of
from tidegate.inference.repository.listing import Entry, Listing


def listing(*paths: str, unreadable: dict[str, str] | None = None) -> Listing:
    entries = tuple(Entry(path, 1, "tag", 0.0) for path in sorted(paths))
    return Listing(entries=entries, now_s=0.0, unreadable=unreadable or {})


def found(*paths: str) -> dict[str, FoundModel]:
    return {group.name: model_of(group) for group in groups(listing(*paths))}


def shape(*paths: str) -> dict[str, list[int]]:
    """Models with their versions, 0 for one that has none of its own."""
    return {
        name: [version.number for version in model.versions] if model.versioned else [0]
        for name, model in found(*paths).items()
    }


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (("value", "code/inference.py"), "value"),
        (("value", "weights/x.bin", "code/inference.py"), "value"),
        (("model.txt", "code/inference.py"), "model.txt"),
        (("notes", "readme"), "notes, readme"),
        (("readme", "a/1/model.onnx"), ""),
        (("code/inference.py", "a/1/model.onnx", "b.tar.gz"), ""),
        (("model.pth", "value", "code/inference.py"), ""),
        ((".hidden", "code/inference.py"), ""),
        ((), ""),
    ],
)
def test_files_that_may_be_meant_as_a_model_and_are_none_are_named(paths: tuple[str, ...], named: str) -> None:
    said = left_over(listing(*paths), groups(listing(*paths)))
    assert bool(said) == bool(named)
    assert named in said


PYTHON = ("MLmodel", "conda.yaml", "model.pkl")
SAVED_MODEL = (
    "saved_model.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00002",
    "variables/variables.data-00001-of-00002",
)
NEURON = ("saved_model.pb",)
ONNX = ("model.onnx",)
OURS = ("manifest.json", "model.pth", "code/inference.py", "example/input.npz", "export/model.onnx")
KINDS = {"Python": PYTHON, "TensorFlow": SAVED_MODEL, "Inferentia": NEURON, "ONNX": ONNX, "ours": OURS}


def under(folder: str, files: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in files)


@pytest.mark.parametrize("files", KINDS.values(), ids=KINDS)
class TestEveryKindOfModel:
    """The directory trees of Cortex's page, for each kind of predictor and for ours."""

    def test_by_itself(self, files: tuple[str, ...]) -> None:
        """`model_path: s3://bucket/models/model-A/` without versions: it is called model, as it has no name."""
        assert shape(*files) == {"model": [0]}

    def test_by_itself_with_versions(self, files: tuple[str, ...]) -> None:
        assert shape(*under("1523423423", files), *under("2434389194", files)) == {"model": [1523423423, 2434389194]}

    def test_in_a_folder_of_models(self, files: tuple[str, ...]) -> None:
        """`models.dir`: one without versions beside one with."""
        paths = (*under("model-A", files), *under("model-B/24753823", files), *under("model-B/26234288", files))
        assert shape(*paths) == {"model-A": [0], "model-B": [24753823, 26234288]}

    def test_names_that_begin_alike_are_not_mixed(self, files: tuple[str, ...]) -> None:
        """Cortex listed model-AB's files with those of model-A."""
        models = found(*under("model-A/1", files), *under("model-AB/2", files))
        assert sorted(models["model-A"].versions[0].files) == sorted(files)
        assert sorted(models["model-AB"].versions[0].files) == sorted(files)

    def test_a_stray_file_beside_versions_changes_nothing_and_is_said(self, files: tuple[str, ...]) -> None:
        """Cortex took such a model for one without versions."""
        model = found(*under("net/1", files), *under("net/2", files), "net/README.md", "net/notes/x.txt")["net"]
        assert [version.number for version in model.versions] == [1, 2]
        assert model.faults == ("Beside the versions there is what belongs to none: README.md, notes/.",)

    def test_a_stray_file_in_the_repository_is_no_model(self, files: tuple[str, ...]) -> None:
        assert shape(*under("net/1", files), "README.md", ".DS_Store", ".git/HEAD") == {"net": [1]}

    def test_a_stray_folder_beside_the_only_model_s_versions(self, files: tuple[str, ...]) -> None:
        assert shape(*under("1", files), "notes/x.txt", "README.md") == {"model": [1]}


def test_versions_are_compared_as_numbers() -> None:
    assert shape("net/9/x", "net/10/x", "net/0/x") == {"net": [0, 9, 10]}


@pytest.mark.parametrize("name", ["007", "²", "v1", "1.0", "+1", "-1", "1_000", "٣", "01"])
def test_what_is_nearly_a_version_is_none_and_is_said(name: str) -> None:
    """Cortex took 007 for 7 and did not find it, and let ² pass as a number."""
    beside = found("net/1/x", f"net/{name}/x")["net"]
    assert [version.number for version in beside.versions] == [1]
    assert len(beside.faults) == 1
    assert beside.faults[0].startswith(f"{name}/ is no version")
    alone = found(f"net/{name}/x", "other/1/x")["net"]
    assert alone.versions == ()
    assert alone.faults[0].startswith(f"{name}/ is no version")


def test_folders_called_v1_inside_a_model_s_own_files_are_its_own() -> None:
    assert shape("net/model.pth", "net/v1/vocabulary.txt", "other/1/x") == {"net": [0], "other": [1]}


def test_archives_are_models_and_versions() -> None:
    models = found("a.tar.gz", "b/3.tar.gz", "b/4/x", "c/model.tar.gz", "d/5/output/model.tar.gz")
    assert {name: [version.number for version in model.versions] for name, model in models.items()} == {
        "a": [1],
        "b": [3, 4],
        "c": [1],
        "d": [5],
    }
    assert [models[name].versioned for name in "abcd"] == [False, True, False, True]
    archives = {name: model.versions[0].archive for name, model in models.items()}
    assert {name: entry.path for name, entry in archives.items() if entry is not None} == {
        "a": "a.tar.gz",
        "b": "b/3.tar.gz",
        "c": "c/model.tar.gz",
        "d": "d/5/output/model.tar.gz",
    }


def test_an_archive_called_model_is_a_repository_of_one() -> None:
    assert shape("model.tar.gz") == {"model": [0]}
    assert shape("3.tar.gz", "4.tar.gz") == {"model": [3, 4]}


def test_a_folder_and_an_archive_of_one_name_are_refused_with_both_names() -> None:
    """Which of them would be served, nobody could say."""
    model = found("net/model.pth", "net.tar.gz", "other/1/x")["net"]
    assert model.versions[0].fault == "There are both a folder net/ and net.tar.gz; remove one."
    version = found("net/3/x", "net/3.tar.gz")["net"].versions[0]
    assert version.fault == "There are both a folder 3/ and an archive 3.tar.gz; remove one."
    assert found("net/3/x", "net.tar.gz")["net"].faults == (
        "Beside the versions there is what belongs to none: ../net.tar.gz.",
    )


@pytest.mark.parametrize("name", ["net.tgz", "net.zip", "net.mar", "net.tar"])
def test_other_archives_are_listed_with_the_reason(name: str) -> None:
    model = found(name, "other/1/x")[name]
    assert model.versions == ()
    assert model.faults == (f"{name} is no .tar.gz archive; pack it as one.",)


def test_code_is_the_version_s_or_the_model_s_or_the_repository_s() -> None:
    models = found("code/inference.py", "a/1/x", "b/1/x", "b/code/inference.py", "c/1/code/inference.py", "d/x")
    assert {name: [entry.path for entry in model.code.values()] for name, model in models.items()} == {
        "a": ["code/inference.py"],
        "b": ["b/code/inference.py"],
        "c": ["code/inference.py"],
        "d": ["code/inference.py"],
    }
    assert models["b"].faults == ()


def test_shared_code_alone_is_no_model_yet() -> None:
    assert shape("code/inference.py") == {}
    assert shape() == {}


def test_numbers_beside_models_are_models() -> None:
    """A repository whose models are called by customers' numbers has no versions in it."""
    assert shape("7/1/x", "8/1/x") == {"7": [1], "8": [1]}
    assert shape("7/model.pth", "net/model.pth") == {"7": [0], "net": [0]}
    assert shape("7/model.pth", "8/model.pth") == {"model": [7, 8]}, "nothing says that these are no versions"


def test_a_model_s_own_file_in_the_repository_does_not_hide_the_models() -> None:
    assert shape("model.pth", "net/1/x") == {"net": [1]}


def test_labels_are_those_of_a_versioned_model_only() -> None:
    """An artifact without versions has its class names under the same name."""
    models = found("a/1/x", "a/labels.json", "b/model.pth", "b/labels.json")
    assert models["a"].labels is not None
    assert models["a"].faults == ()
    assert models["b"].labels is None
    assert sorted(models["b"].versions[0].files) == ["labels.json", "model.pth"]


@pytest.mark.parametrize("name", ["a b", "ä", "a;b", "a=b", "-a", "a" * 129, "a%2fb"])
def test_a_name_that_cannot_stand_in_a_header_or_a_path_is_listed_with_the_reason(name: str) -> None:
    models = found(f"{name}/1/x", "other/1/x")
    assert models[name].versions == ()
    assert "cannot be a model's name" in models[name].faults[0]
    assert len(models["other"].versions) == 1


@pytest.mark.parametrize("path", ["../../etc/passwd", "a//b", "./a", "a\\b", "a\x01b", "a" * 256, "a/../../b"])
def test_a_key_that_cannot_be_a_file_makes_its_version_invalid_and_no_other(path: str) -> None:
    """S3 takes such keys."""
    model = found(f"net/1/{path}", "net/2/x")["net"]
    assert "cannot be a file" in model.versions[0].fault
    assert model.versions[1].fault == ""
    assert name_fault(path) is not None


def test_a_file_that_is_a_folder_too_makes_its_version_invalid() -> None:
    """In S3 a and a/b may both be there."""
    assert found("net/1/a", "net/1/a/b")["net"].versions[0].fault == "a is a file and a folder at the same time."


def test_a_model_whose_versions_are_all_retired_is_there_without_one() -> None:
    """What is left of it keeps the listing from being empty, and its versions are known to be gone."""
    assert found("net/labels.json", "other/1/x")["net"].versions == ()
    assert found("net/", "other/1/x")["net"] == FoundModel(name="net")


def test_what_only_marks_a_folder_is_no_file() -> None:
    """As the S3 console makes them, and empty folders."""
    model = found("net/", "net/3/", "net/3/x", "net/4/", "other/1/x")["net"]
    assert {version.number: list(version.files) for version in model.versions} == {3: ["x"], 4: []}
    assert model.faults == ()


def test_kinds_that_are_not_run_say_so_unless_code_runs_them() -> None:
    files = {name: Entry(name, 1, "", 0.0) for name in SAVED_MODEL}
    assert "TensorFlow SavedModel: name tensorflow in code/requirements.txt" in kind_fault(files, with_code=False)
    assert kind_fault(files, with_code=True) == ""


def test_onnx_is_one_graph_and_what_belongs_to_it() -> None:
    """Cortex refused labels and the data file that today's exporter writes."""

    def fault(*names: str) -> str:
        return kind_fault({name: Entry(name, 1, "", 0.0) for name in names}, with_code=False)

    assert fault("model.onnx", "model.onnx.data", "labels.json") == ""
    assert fault("a.onnx", "b.onnx") == "It must hold a single .onnx file and holds 2: a.onnx, b.onnx."
    assert fault("model.pth", "export/a.onnx", "export/b.onnx") == ""


def test_what_cannot_be_read_belongs_to_its_model() -> None:
    both = groups(listing("a/1/x", unreadable={"a/2": "denied", "b": "denied", "c.tar.gz": "denied"}))
    assert {group.name: group.unreadable for group in both} == {
        "a": (("a/2", "denied"),),
        "b": (("b", "denied"),),
        "c": (("c.tar.gz", "denied"),),
    }


PART = st.text(alphabet=string.ascii_lowercase + "0123456789.-_²", min_size=1, max_size=4) | st.sampled_from(
    ["1", "2", "10", "007", "code", "labels.json", "model.pth", "manifest.json", "3.tar.gz", "model.tar.gz", ".git"]
)
PATHS = st.lists(st.lists(PART, min_size=1, max_size=4).map("/".join), max_size=12, unique=True)


@given(PATHS)
def test_any_listing_is_understood(paths: list[str]) -> None:
    """Nothing raises; versions are ascending numbers; a file belongs to one version only, of the model it lies in."""
    owners: dict[str, tuple[str, int]] = {}
    for name, model in found(*paths).items():
        numbers = [version.number for version in model.versions]
        assert numbers == sorted(set(numbers))
        for version in model.versions:
            for entry in [*version.files.values(), *([version.archive] if version.archive else [])]:
                assert owners.setdefault(entry.path, (name, version.number)) == (name, version.number)
                assert name == "model" or entry.path.startswith((f"{name}/", f"{name}."))


@given(PATHS, st.sampled_from(["README.md", "notes/a.txt", "007/x", "1.txt", ".hidden"]))
def test_whatever_lies_beside_versions_never_removes_one(paths: list[str], stray: str) -> None:
    inside = [f"net/{path}" for path in paths]
    before = found("net/1/x", "other/1/x", *inside)["net"]
    after = found("net/1/x", "other/1/x", *inside, f"net/{stray}")["net"]
    assert {version.number for version in before.versions} == {version.number for version in after.versions}


@given(PATHS)
def test_no_model_harms_another(paths: list[str]) -> None:
    """A model is what its own folder says, whatever lies in the others."""
    alone = found("net/3/x", "sure/1/x")["net"]
    assert found("net/3/x", "sure/1/x", *(f"other/{path}" for path in paths))["net"] == alone
