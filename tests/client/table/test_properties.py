"""Whatever is in the lines and wherever pieces are cut: the columns are what Python's own readers find in them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import pyarrow as pa
from hypothesis import assume, given
from hypothesis import strategies as st

from tidegate.client.table.column import Column, arrow_type, columns_of, glue_name
from tidegate.client.table.csv_records import CsvRecords
from tidegate.client.table.json_records import JsonRecords
from tidegate.client.table.json_shape import Shape
from tidegate.client.table.lines import Block, blocks, counted

texts = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8)
rows = st.lists(st.tuples(texts, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), min_size=1, max_size=20)
cuts = st.integers(1, 40)


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[begin : begin + size] for begin in range(0, len(content), size))


def found(content: bytes, size: int) -> list[Block]:
    return list(blocks(pieces(content, size), address="a"))


@given(rows, cuts)
def test_csv_is_read_as_pythons_own_reader_does(rows: list[tuple[str, int, float]], size: int) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_STRINGS if hasattr(csv, "QUOTE_STRINGS") else csv.QUOTE_ALL).writerows(rows)
    made = found(text.getvalue().encode(), size)
    columns = columns_of("text:string,whole:bigint,number:double")
    records = CsvRecords(columns, first=made[0])
    table = pa.concat_tables([records.read(block) for block in made])
    assert [tuple(row.values()) for row in table.to_pylist()] == rows


@given(rows, cuts)
def test_json_is_read_as_pythons_own_reader_does(rows: list[tuple[str, int, float]], size: int) -> None:
    assume(all(abs(number) < 1e300 for *_, number in rows))  # Python writes what is larger as no JSON
    values = [{"text": text, "whole": whole, "list": [number, None]} for text, whole, number in rows]
    content = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()
    made = found(content, size)
    columns = columns_of("text:string,whole:bigint,list:array<double>")
    records = JsonRecords(columns, shape=Shape(), first=made[0])
    assert pa.concat_tables([records.read(block) for block in made]).to_pylist() == values


@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\n\n"]), max_size=20), cuts)
def test_blocks_are_the_lines_that_are_not_blank_wherever_the_content_is_cut(parts: list[bytes], size: int) -> None:
    content = b"".join(parts)
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    wanted = [(number, line) for number, line in enumerate(lines, 1) if line.strip(b" \t\r\v\f")]
    made = found(content, size)
    assert [(number, block.line(i)) for block in made for i, number in enumerate(block.numbers)] == wanted
    assert all(block.count == len(block.numbers) == block.data.count(b"\n") for block in made)
    kept = list(blocks(pieces(content, size), address="a", blank_is_record=lambda: True))
    how_many = counted(pieces(content, size), address="a")
    assert (how_many.all, how_many.all - how_many.blank) == (sum(block.count for block in kept), len(wanted))


types = st.recursive(
    st.sampled_from(["boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "date"])
    | st.sampled_from(["timestamp", "binary", "decimal(38,38)", "decimal(5,0)"]),
    lambda inner: inner.map(lambda each: f"array<{each}>") | inner.map(lambda each: f"struct<A:{each},b_c:int>"),
    max_leaves=4,
)


@given(types)
def test_types_are_spelled_as_glue_spells_them(spelled: str) -> None:
    assert glue_name(arrow_type(spelled)) == spelled
    assert columns_of(f"x:{spelled}, y") == (Column(name="x", type=arrow_type(spelled)), Column(name="y"))
