"""What is known of runs: read from YAML, with every mistake at its line and column."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.inference.model_loader.placed_yaml import MAX_BYTES, Source
from tidegate.inference.model_loader.run_configuration import PaletteColours, Size
from tidegate.model_loader import ConfigurationInvalid, RunConfiguration, load_configurations

SHA = "ab" * 32
RUN = """\
architecture: painter:Generator
weights: net.pth
palette: {colours: {sky: "#87ceeb", sea: [0, 105, 148]}}
"""


def indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def written(folder: Path, text: str | bytes, name: str = "runs.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def only_run(folder: Path, text: str) -> RunConfiguration:
    """The run of a file with one, which is called 62."""
    return load_configurations(written(folder, f"62:\n{indented(text)}"))["62"]


def mistakes(path: Path) -> list[str]:
    """What is wrong with a file, a line each, without the heading."""
    with pytest.raises(ConfigurationInvalid) as raised:
        load_configurations(path)
    heading, *lines = str(raised.value).splitlines()
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    assert heading == f"{path} has {count}:"
    return [line.removeprefix("  ") for line in lines]


def test_a_run_with_everything(tmp_path: Path) -> None:
    found = only_run(
        tmp_path,
        "architecture: nets.painter:Spade.Generator\n"
        "arguments: {classes: 4, rate: 1.0e-3, names: [a, 'no'], deep: {on: true, nothing: null}}\n"
        "weights: {10: s3://models/62/10.pth, 020: /elsewhere/20.pth}\n"
        f"sha256: {{10: {SHA}, 020: {SHA.upper()}}}\n"
        "palette: {colours: {sky: '#87ceeb', sea: [0, 105, 148]}, unknown: nearest, background: white}\n"
        "size: {height: 256, width: 512}\n",
    )
    assert found.run_id == "62"
    assert found.architecture == "nets.painter:Spade.Generator"
    assert found.arguments == {
        "classes": 4,
        "rate": 0.001,
        "names": ["a", "no"],
        "deep": {"on": True, "nothing": None},
    }
    assert found.weights.addresses == {"10": "s3://models/62/10.pth", "020": "/elsewhere/20.pth"}
    assert found.weights.sha256s == {"10": SHA, "020": SHA}
    assert found.palette == PaletteColours(
        colours={"sky": (135, 206, 235), "sea": (0, 105, 148)}, unknown="nearest", background=(255, 255, 255)
    )
    assert found.size == Size(height=256, width=512)


def test_a_run_with_what_it_needs(tmp_path: Path) -> None:
    """A path begins at the file's folder; one number is a square; a list of colours has no names."""
    found = only_run(tmp_path, RUN + "size: 64\n")
    assert found.weights.addresses == {"": str(tmp_path / "net.pth")}
    assert (found.arguments, found.size) == ({}, Size(height=64, width=64))
    listed = only_run(tmp_path, RUN.replace("{sky: ", "[").replace("sea: ", "").replace("148]}", "148]]"))
    assert listed.palette.colours == ((135, 206, 235), (0, 105, 148))


def test_ids_are_what_is_written(tmp_path: Path) -> None:
    """007 is not 7, no is not false, and 12:30 is not 750."""
    names = ("007", "no", "12:30", "1e3", "2026-11-29", "a b")
    path = written(tmp_path, "".join(f"{name}:\n{indented(RUN)}" for name in names))
    assert tuple(load_configurations(path)) == names


def test_a_folder_has_a_file_for_each_run(tmp_path: Path) -> None:
    """What is hidden, or no YAML, is none: the tar of macOS leaves ._62.yaml behind."""
    written(tmp_path, RUN, "62.yaml")
    written(tmp_path, RUN, "my.run.yml")
    written(tmp_path, b"\0", "._62.yaml")
    written(tmp_path, "hello", "readme.txt")
    (tmp_path / "code").mkdir()
    assert set(load_configurations(tmp_path)) == {"62", "my.run"}


def test_what_runs_have_in_common_is_written_once(tmp_path: Path) -> None:
    path = written(tmp_path, f"62: &common\n{indented(RUN)}63:\n  <<: *common\n  weights: other.pth\n")
    runs = load_configurations(path)
    assert runs["63"].weights.addresses == {"": str(tmp_path / "other.pth")}
    assert runs["63"].palette == runs["62"].palette


def test_what_is_brought_along_is_taken_back_by_null(tmp_path: Path) -> None:
    """Null that is written: a key with nothing behind it is a mistake."""
    path = written(tmp_path, f"62: &common\n{indented(RUN)}  size: 64\n63: {{<<: *common, size: null}}\n")
    assert load_configurations(path)["63"].size is None
    path.write_text(path.read_text().replace("size: null", "size: "))
    assert mistakes(path) == ["line 6, column 24: size must be a whole number from 1 to 16384, it is empty"]


def test_a_run_has_a_size_or_a_limit_of_pixels(tmp_path: Path) -> None:
    """A million pixels unless it says otherwise; what a common part says is taken back by null."""
    lines = f"a: &a\n{indented(RUN)}b: &b\n  <<: *a\n  max_pixels: 64\nc: {{<<: *b, max_pixels: null, size: 8}}\n"
    runs = load_configurations(written(tmp_path, lines + "d: {<<: *b, max_pixels: null}\n"))
    assert [run.max_pixels for run in runs.values()] == [1_048_576, 64, None, 1_048_576]


def test_every_mistake_of_a_file_is_in_one_error(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "62:\n"
        "  architecure: painter:Generator\n"
        "  weights: net.pth\n"
        "  weights: other.pth\n"
        "  palette:\n"
        "    colours: {sky: '#87ceeb', air: [135, 206, 235], sea: [0, 105, 256]}\n"
        "    unknown: nearst\n"
        "63:\n"
        "  architecture: painter\n"
        "  arguments: {depth: 064}\n"
        "  weights: http://example.com/net.pth\n"
        "  sha256: abc\n"
        "  size: {height: 0}\n",
    )
    assert mistakes(path) == [
        "line 2, column 3: run '62' has the unknown key 'architecure'; did you mean 'architecture'?",
        "line 2, column 3: run '62' needs the key 'architecture'",
        "line 4, column 3: run '62' has 'weights' already, in line 3",
        "line 6, column 36: palette.colours: the class 'air' has the colour #87ceeb of 'sky'; each needs its own",
        "line 6, column 58: palette.colours: the class 'sea': [0, 105, 256] is not a colour: each part is a whole "
        "number from 0 to 255",
        "line 7, column 14: palette.unknown must be error or nearest, it is 'nearst'",
        "line 9, column 3: run '63' needs the key 'palette'",
        "line 9, column 17: architecture must be 'module:Class' of the code, it is 'painter'",
        "line 10, column 22: arguments.depth is 064, which YAML 1.1 reads as 52: write that number in plain digits, or "
        "put it into quotes where text is meant",
        "line 11, column 12: weights must be a path or s3://bucket/key, it is 'http://example.com/net.pth'",
        "line 12, column 11: sha256 must be 64 hexadecimal digits, it is 'abc'",
        "line 13, column 9: size needs the key 'width'",
        "line 13, column 18: size.height must be a whole number from 1 to 16384, it is 0",
    ]


def test_a_file_with_thousands_of_mistakes_shows_the_first(tmp_path: Path) -> None:
    colours = "".join(f"      c{number}: {number}\n" for number in range(3000))
    run = RUN.partition("palette:")[0] + "palette:\n    colours:\n"
    with pytest.raises(ConfigurationInvalid) as raised:
        load_configurations(written(tmp_path, f"62:\n{indented(run)}{colours}".replace("      colours", "    colours")))
    heading, *lines = str(raised.value).splitlines()
    assert heading.endswith("has 3000 mistakes:")
    assert len(lines) == 21
    assert lines[-1] == "  and 2980 more"


def test_mistakes_of_several_files_are_in_one_error(tmp_path: Path) -> None:
    for name in ("62.yaml", "63.yaml"):
        written(tmp_path, RUN.replace("weights", "weigths"), name)
    with pytest.raises(ConfigurationInvalid) as raised:
        load_configurations(tmp_path)
    assert str(raised.value).count("has the unknown key 'weigths'; did you mean 'weights'?") == 2
    assert f"{tmp_path}/63.yaml has 2 mistakes:" in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "place", "sentence"),
    [
        ("painter:Generator", "[a]", (2, 17), "architecture must be text, it is a list"),
        ("painter:Generator", "", (2, 16), "architecture must be text, it is empty"),
        ("painter:Generator", "{a: b}", (2, 17), "architecture must be text, it is a mapping"),
        ("painter:Generator", "a/b.py:G", (2, 17), "architecture must be 'module:Class' of the code, it is 'a/b.py:G'"),
        ("net.pth", "{}", (3, 12), "weights has no epochs"),
        ("net.pth", "[a.pth]", (3, 12), "weights must be text, it is a list"),
        ("net.pth", "nets/", (3, 12), "weights must be a file, 'nets/' ends as a folder does"),
        ("net.pth", "~/net.pth", (3, 12), "weights is '~/net.pth': a path is relative to this file or whole"),
        ("net.pth", "s3://models", (3, 12), "weights must be s3://bucket/key, it is 's3://models'"),
        ("net.pth", "s3://models/a/", (3, 12), "weights must be s3://bucket/key, it is 's3://models/a/'"),
        ("net.pth", "s3://Models/a", (3, 12), "weights must be s3://bucket/key, it is 's3://Models/a'"),
        ("net.pth", "'{epcoh}.pth'", (3, 12), "weights has '{epcoh}'; the one thing that is put in is {epoch}"),
        ("net.pth", "{latest: a.pth}", (3, 13), "weights has the epoch 'latest', which is not a name: it stands for"),
        (
            "net.pth",
            "{a/b: a.pth}",
            (3, 13),
            "weights has the epoch 'a/b', which must be letters, digits and . _ + = -",
        ),
        ("net.pth", "{9: '{epoch}.pth'}", (3, 16), "weights has {epoch} in the address of one epoch; write {epoch} or"),
        ("net.pth", "{9: a, 9: b}", (3, 19), "weights has '9' already, in line 3"),
        (
            "net.pth",
            f"{{9: a}}\n  sha256: {SHA}",
            (4, 11),
            "sha256 is one, and weights is not: give one for each epoch",
        ),
        (
            "net.pth",
            f"a\n  sha256: {{9: {SHA}}}",
            (4, 11),
            "sha256 is by epoch, and weights is not: give one, or write",
        ),
        ("net.pth", f"{{9: a}}\n  sha256: {{8: {SHA}}}", (4, 3), "sha256 has none for the epoch '9' of weights"),
        ("net.pth", f"{{9: a}}\n  sha256: {{8: {SHA}}}", (4, 15), "sha256 has the epoch '8', which weights has not"),
        ("net.pth", "a\n  sha256: [1]", (4, 11), "sha256 must be text, it is a list"),
        ("net.pth", "a\n  size: 256.0", (4, 9), "size must be a whole number from 1 to 16384, it is 256.0"),
        ("net.pth", "a\n  size: 0x10", (4, 9), "size must be a whole number from 1 to 16384, it is 0x10"),
        ("net.pth", "a\n  size: [1, 2]", (4, 9), "size must be a mapping, it is a list"),
        ("net.pth", "a\n  max_pixels: 0", (4, 15), "max_pixels must be a whole number from 1 to 268435456, it is 0"),
        (
            "net.pth",
            "a\n  max_pixels: 1e6",
            (4, 15),
            "max_pixels must be a whole number from 1 to 268435456, it is 1e6",
        ),
        (
            "net.pth",
            "a\n  max_pixel: 9",
            (4, 3),
            "run '62' has the unknown key 'max_pixel'; did you mean 'max_pixels'?",
        ),
        (
            "net.pth",
            "a\n  size: 8\n  max_pixels: 64",
            (5, 3),
            "max_pixels is about maps of any size, and this run has a size: leave one of them out",
        ),
        ("net.pth", "a\n  size: {h: 1}", (4, 10), "size has the unknown key 'h'"),
        ("net.pth", "a\n  arguments: [1]", (4, 14), "arguments must be a mapping, it is a list"),
        (
            "net.pth",
            "a\n  arguments: {a-b: 1}",
            (4, 15),
            "arguments has 'a-b', which cannot be the name of an argument",
        ),
        ("net.pth", "a\n  arguments: {a: 1e-3}", (4, 18), "arguments.a is 1e-3, which is text in YAML 1.1: write 1.00"),
        ("net.pth", "a\n  arguments: {a: 1:30}", (4, 18), "arguments.a is 1:30, which YAML 1.1 reads as 90"),
        (
            "net.pth",
            "a\n  arguments: {a: 2026-11-29}",
            (4, 18),
            "arguments.a is the date '2026-11-29'; put it into quo",
        ),
        ("net.pth", "a\n  arguments: {a: !!int x}", (4, 18), "arguments.a is 'x', which is no int"),
        ("net.pth", "a\n  arguments: {a: !!bool x}", (4, 18), "arguments.a is 'x', which is no bool"),
        ("net.pth", "a\n  arguments: {a: !!int ''}", (4, 18), "arguments.a is '', which is no int"),
        ("net.pth", "a\n  arguments: {a: [{b: !x y}]}", (4, 23), "arguments.a[0].b is '!x' 'y'; put it into quotes wh"),
        ("net.pth", "a\n  arguments: {a: !!python/tuple [1]}", (4, 18), "arguments.a has the tag '!!python/tuple'"),
        ("net.pth", "a\n  arguments: {a: {b: 1, b: 2}}", (4, 25), "arguments.a has 'b' already, in line 4"),
        ("net.pth", "a\n  arguments: {a: {[1]: 2}}", (4, 19), "a key of arguments.a must be one word, it is a list"),
        ("net.pth", "a\n  arguments: &a {a: *a}", (4, 14), "arguments.a.a holds itself"),
        ("net.pth", "a\n  arguments: &a {<<: *a}", (4, 18), "'<<' must bring another mapping, it brings a mapping"),
        ("net.pth", "a\n  arguments: {<<: 3}", (4, 15), "'<<' must bring another mapping, it brings '3'"),
        ("{colours:", "{colors:", (4, 12), "palette needs the key 'colours'"),
        ("{colours:", "{colors:", (4, 13), "palette has the unknown key 'colors'; did you mean 'colours'?"),
        ("[0, 105, 148]", "blue", (4, 44), "palette.colours: the class 'sea': 'blue' is not a colour"),
        ("[0, 105, 148]", "[0, 105, 08]", (4, 44), "palette.colours: the class 'sea': [0, 105, '08'] is not a colour"),
        ("}}", "}, background: grey}", (4, 72), "palette.background: 'grey' is not a colour"),
        ("sea:", "sky:", (4, 39), "palette.colours has 'sky' already, in line 4"),
    ],
)
def test_a_mistake_has_its_place(tmp_path: Path, old: str, new: str, place: tuple[int, int], sentence: str) -> None:
    text = RUN.replace(old, new, 1)
    path = written(tmp_path, f"62:\n{indented(text)}".replace("\n    ", "\n  "))
    line, column = place
    found = mistakes(path)
    assert [each for each in found if each.startswith(f"line {line}, column {column}: {sentence}")], "\n".join(found)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("62:\n  a: [1\n", r"line 3, column 1: this is not YAML: .*expected ',' or '\]'"),
        ("62:\n\ta: 1\n", r"line 2, column 1: this is not YAML: .*cannot start any token"),
        ("a: 1\n---\nb: 2\n", r"line 2, column 1: this is not YAML: expected a single document"),
        ("a: *b\n", r"line 1, column 4: this is not YAML: found undefined alias"),
        (b"62:\n  a: \xff\n", r"line 2, column 6: this is not UTF-8, its byte is 0xFF: save the file as UTF-8$"),
        ("62: {a: é}".encode("latin-1"), r"line 1, column 9: this is not UTF-8, its byte is 0xE9: save .* as UTF-8$"),
        (
            "62: {}".encode("utf-16"),
            r"line 1, column 1: this is UTF-16 or UTF-32, or no text at all: save it as UTF-8$",
        ),
        ("62: {}".encode("utf-16-be"), r"line 1, column 1: this is UTF-16 or UTF-32"),
        ("62: {}".encode("utf-16-le"), r"line 1, column 1: this is UTF-16 or UTF-32"),
        ("62: {}".encode("utf-32"), r"line 1, column 1: this is UTF-16 or UTF-32"),
        ("62:\n  a: \0\n", r"line 2, column 6: the character U\+0000 cannot be read"),
        ("[" * 5000, r"line 1, column 1: its lists and mappings are nested too deeply"),
        (b"#" * (MAX_BYTES + 1), r"line 1, column 1: the file has more than 4194304 bytes$"),
        ("- 62\n", r"line 1, column 1: the file must be a mapping, it is a list"),
        ("62\n", r"line 1, column 1: the file must be a mapping, it is '62'"),
        ("62: net.pth\n", r"line 1, column 5: run '62' must be a mapping, it is 'net\.pth'"),
        ("62: {}\n", r"line 1, column 5: run '62' needs the key 'architecture'"),
    ],
)
def test_what_is_no_configuration_has_a_place_too(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    assert re.match(sentence, mistakes(written(tmp_path, text))[0]), mistakes(written(tmp_path, text))


def test_aliases_that_stand_for_a_billion_values_are_refused(tmp_path: Path) -> None:
    lines = ["  arguments:", "    a0: &a0 [1]"]
    lines += [f"    a{number}: &a{number} [{', '.join(10 * [f'*a{number - 1}'])}]" for number in range(1, 10)]
    path = written(tmp_path, f"62:\n{indented(RUN)}" + "\n".join(lines) + "\n")
    assert "is too much: the file holds more than 400000 values" in mistakes(path)[0]


def chained(levels: int, each: str, *, least: str = "{x: 1}") -> str:
    """Mappings that each merge the one before, as `each` says it, with `*` for that one."""
    lines = [f"a{number}: &a{number} {each.replace('*', f'*a{number - 1}')}\n" for number in range(1, levels)]
    return "".join([f"a0: &a0 {least}\n", *lines])


@pytest.mark.parametrize(
    "text",
    [
        chained(12, "{<<: [*, *, *, *, *, *, *, *, *, *]}"),
        chained(12, "{<<: [*, *, *, *, *, *, *, *, *, *]}", least="{}"),
        chained(24, "{<<: *, <<: *, <<: *}"),
        chained(60, "{<<: [*, {<<: [*, *]}]}"),
        f"62: &a {{{', '.join(f'k{number}: 1' for number in range(5000))}}}\n"
        + "".join(f"{number}: {{<<: *a}}\n" for number in range(1000, 2000)),
        f"62: &a {{{', '.join(f'k{number}: 1' for number in range(5000))}}}\n"
        + "".join(f"{number}: *a\n" for number in range(1000, 2000)),
    ],
    ids=["lists", "lists-of-nothing", "several-merges", "nested", "one-large-merge", "one-large-alias"],
)
def test_merges_that_stand_for_billions_of_keys_are_refused(tmp_path: Path, text: str) -> None:
    """However few bytes they are."""
    found = mistakes(written(tmp_path, text))
    assert "is too much: with what '<<' and '*' bring, the file has more than 1000000 keys" in found[0]


def test_a_mapping_of_unknown_keys_names_the_first(tmp_path: Path) -> None:
    text = f"62:\n{indented(RUN)}" + "".join(f"  k{number}: 1\n" for number in range(3000))
    with pytest.raises(ConfigurationInvalid, match=r"has 21 mistakes:\n(.*\n){20}  and 1 more$"):
        load_configurations(written(tmp_path, text))
    source = Source(tmp_path, text.encode())
    assert source.root is not None
    source.known_pairs(source.root.value[0][1], "run '62'", known=("architecture", "weights", "palette"))
    assert str(source.mistakes[20]) == (
        "line 25, column 3: run '62' has 2980 unknown keys more, 'k20' the first of them"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (chained(900, "{<<: *}"), r"'<<' stands in what '<<' brings more than 100 times over"),
        (f"62:\n{indented(RUN)}  arguments: {{a: {'[' * 150}{']' * 150}}}\n", r"lists and mappings are nested here"),
        (
            f"62:\n{indented(RUN)}  arguments: {{a: &a {'[' * 90}{']' * 90}, b: &b {'[' * 90}*a{']' * 90}}}\n",
            r"lists and mappings are nested here more than 100 times over",
        ),
    ],
)
def test_what_is_nested_too_deeply_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    assert re.search(sentence, mistakes(written(tmp_path, text))[0])


def test_a_long_list_of_merges_is_read(tmp_path: Path) -> None:
    """The one that is named first wins, and the last one's keys come first, as PyYAML has it."""
    bases = "".join(
        f"      - &b{number} {{c{number}: [0, 0, {number}], first: [0, 1, {number}]}}\n" for number in range(99)
    )
    brought = ", ".join(f"*b{number}" for number in range(99))
    run = indented(RUN.partition("palette:")[0])
    text = f"62:\n{run}  arguments:\n    bases:\n{bases}  palette: {{colours: {{<<: [{brought}], own: [1, 1, 1]}}}}\n"
    colours = load_configurations(written(tmp_path, text))["62"].palette.colours
    assert isinstance(colours, dict)
    assert list(colours)[:3] == ["c98", "first", "c97"]
    assert list(colours)[-2:] == ["c0", "own"]
    assert colours["first"] == (0, 1, 0)


def test_a_large_file_of_runs_with_much_in_common_is_read(tmp_path: Path) -> None:
    shared = "62: &a\n" + indented(RUN) + "63: &b {<<: *a, size: 64}\n"
    text = shared + "".join(f"{number}: {{<<: [*b, *a]}}\n" for number in range(100, 3100))
    runs = load_configurations(written(tmp_path, text))
    assert len(runs) == 3002
    assert runs["3099"].size == Size(height=64, width=64)


def test_a_file_of_one_run_is_told_from_a_file_of_runs(tmp_path: Path) -> None:
    """Each way round the one sentence says what to do, in place of three about keys."""
    assert mistakes(written(tmp_path, RUN)) == [
        "line 1, column 1: 'architecture' is a key of one run, and this file has runs by their ids: put it below one, "
        "or call the file RUN_ID.yaml and name its folder"
    ]
    folder = tmp_path / "folder"
    folder.mkdir()
    path = written(folder, f"62:\n{indented(RUN)}")
    with pytest.raises(
        ConfigurationInvalid, match=r"line 1, column 1: this file has runs by their ids, and in a folder"
    ):
        load_configurations(folder)
    assert set(load_configurations(path)) == {"62"}


def test_what_is_not_there_or_empty_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationInvalid, match=rf"^{tmp_path}/runs\.yaml is not there: it must be a file of runs or"
    ):
        load_configurations(tmp_path / "runs.yaml")
    with pytest.raises(
        ConfigurationInvalid, match=rf"^{tmp_path} holds no configuration: a run's is a file there, RUN_"
    ):
        load_configurations(tmp_path)
    for text in ("", "# nothing\n", "{}\n", "---\n"):
        with pytest.raises(ConfigurationInvalid, match=r"runs\.yaml holds nothing: it must have runs by their ids\.$"):
            load_configurations(written(tmp_path, text))
    (tmp_path / "runs.yaml").unlink()
    for name in ("62.yaml", "62.yml"):
        written(tmp_path, RUN, name)
    with pytest.raises(ConfigurationInvalid, match=r"holds 62\.yaml and 62\.yml: one run has one file\.$"):
        load_configurations(tmp_path)


def test_a_colour_without_quotes_is_a_comment(tmp_path: Path) -> None:
    """And the class has none, which nobody sees who looks at the file."""
    run = "architecture: painter:Generator\nweights: net.pth\npalette:\n  colours:\n    sky: #87ceeb\n"
    assert mistakes(written(tmp_path, f"62:\n{indented(run)}")) == [
        "line 6, column 11: palette.colours: the class 'sky' is empty: '#' begins a comment in YAML, so a colour "
        "stands in quotes, '#87ceeb'"
    ]


_PIECES = (
    *":{}[],&*!|>'\"%@`#-?~<= \n\t019.eE_ab",
    "<<: *c",
    "!!int ",
    "!!bool x",
    "!!binary ",
    "null",
    "\0",
    "é",
    "---\n",
    "1:3",
)


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 8), st.sampled_from(_PIECES)), min_size=1, max_size=6
    )
)
def test_whatever_is_written_is_read_or_refused_in_our_words(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, str]]
) -> None:
    """Never by an exception of the YAML library's, or a stray one of ours."""
    text = f"62: &c\n{indented(RUN)}  arguments: {{a: [1.5, {{b: true}}]}}\n63: {{<<: *c, weights: '{{epoch}}.pth'}}\n"
    for place, removed, added in changes:
        at = place % (len(text) + 1)
        text = text[:at] + added + text[at + removed :]
    path = written(tmp_path_factory.getbasetemp(), text)
    with suppress(ConfigurationInvalid):
        assert load_configurations(path)
