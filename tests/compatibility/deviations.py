"""Every way in which this server answers the cases otherwise than the AWS toolkit does, by name.

The differential test holds to this table in both directions: what differs is listed, and what is listed differs.
The bodies of errors always differ: the toolkit's are a message with a Python traceback, ours are JSON without one.
"""

from __future__ import annotations

from typing import NamedTuple


class Deviation(NamedTuple):
    """Both statuses and what is better about ours. Where the statuses are equal, it is the type or the body."""

    aws: int
    ours: int
    why: str


_ONE_TYPE = "one type answers an Accept list, and the Content-Type names it instead of the whole list"
_ROWS = "the default predict_fn is given a row for each record, and one line answers each"
_MARK = "a leading byte order mark is passed over"
_UNREADABLE = "what cannot be read is the client's mistake"

DEVIATIONS = {
    # --- Accept
    "accept json twice": Deviation(200, 200, _ONE_TYPE),
    "accept a list with something unknown first": Deviation(200, 200, _ONE_TYPE),
    "accept a list of two known types": Deviation(200, 200, _ONE_TYPE),
    "accept with a weight": Deviation(500, 200, "q-values are read"),
    "accept something unknown or anything": Deviation(500, 200, "a wildcard in a list is the default type"),
    "accept something unknown": Deviation(500, 406, "a type that cannot be written is not a server's failure"),
    "transform to an unknown type": Deviation(500, 406, "UnsupportedFormatError about the Accept header is 406"),
    # --- Content-Type
    "content type with a charset": Deviation(500, 200, "parameters are no part of the type"),
    "content type in capitals": Deviation(500, 200, "media types have no case"),
    "no content type": Deviation(500, 415, "the header is missing, and the sentence says so"),
    "unknown content type": Deviation(500, 415, "a type that cannot be read is not a server's failure"),
    "octets": Deviation(500, 415, "a type that cannot be read is not a server's failure"),
    "transform with an unknown type": Deviation(500, 415, "UnsupportedFormatError about the body is 415"),
    "json lines": Deviation(500, 200, "JSON Lines are read"),
    "image": Deviation(500, 200, "images are read"),
    "npz": Deviation(500, 200, "npz is read; one array reaches a model that takes no dict as it is"),
    # --- bodies
    "float32 in, npy out": Deviation(200, 200, "float32 stays float32, where the toolkit writes float64"),
    "bfloat16 prediction": Deviation(500, 200, "bfloat16 is written"),
    "csv of integers and fractions by column": Deviation(500, 200, "columns may hold numbers of different kinds"),
    "csv of text": Deviation(500, 400, _UNREADABLE),
    "csv with an empty cell": Deviation(200, 400, "the toolkit makes -1 of an empty cell without a word"),
    "csv rows of different lengths": Deviation(500, 400, _UNREADABLE),
    "csv of one number": Deviation(200, 200, "the toolkit makes that many uninitialised numbers of it"),
    "json of one number": Deviation(200, 200, "the toolkit makes that many uninitialised numbers of it"),
    "ragged json": Deviation(500, 400, _UNREADABLE),
    "json object": Deviation(500, 200, "a JSON object of arrays is read as npz is"),
    "json of text": Deviation(500, 400, _UNREADABLE),
    "broken json": Deviation(500, 400, _UNREADABLE),
    "empty body": Deviation(500, 400, _UNREADABLE),
    "broken npy": Deviation(500, 400, _UNREADABLE),
    "pickled npy": Deviation(500, 400, "the toolkit unpickles it, which runs code of the client's choice"),
    "text that is not utf-8": Deviation(500, 400, _UNREADABLE),
    "one csv row": Deviation(500, 200, _ROWS),
    "one csv row, json out": Deviation(500, 200, _ROWS),
    "one csv column": Deviation(500, 200, _ROWS),
    "csv with a byte order mark": Deviation(500, 200, _MARK),
    "json with a byte order mark": Deviation(500, 200, _MARK),
    "json lines as json": Deviation(500, 400, "what cannot be read is the client's mistake, and the type is named"),
    "big-endian npy": Deviation(500, 200, "numbers are given in the machine's own byte order"),
    "octets that hold npy": Deviation(500, 200, "octets that begin as an npy file does are read as one"),
    "json in, npz out": Deviation(500, 200, "npz is written"),
    "a packed body": Deviation(500, 200, "gzip and deflate are unpacked"),
    "a body that is packed as nobody can": Deviation(200, 415, "a coding that cannot be unpacked is said to be one"),
    "mnist of the wrong shape": Deviation(500, 400, "what the layers refuse for its shape is the client's mistake"),
    "mnist float64 npy": Deviation(500, 200, "floating-point numbers reach a model in its own type"),
    "mnist integer npy": Deviation(500, 400, "whole numbers stay such, and what layers refuse is the client's mistake"),
    # --- what scripts raise and return
    "no picture": Deviation(500, 400, "Pillow's refusal in input_fn is the client's mistake"),
    "a refused type": Deviation(500, 400, "a ValueError in input_fn is the client's mistake"),
    "a mistake in json": Deviation(500, 400, "a ValueError in input_fn is the client's mistake"),
    "input_fn raises a ValueError": Deviation(500, 400, "a ValueError in input_fn is the client's mistake"),
    "memory runs out": Deviation(500, 507, "the platform and its clients know 507"),
    "context": Deviation(200, 200, "the content type that a script sets by its context is kept"),
    "context without attributes": Deviation(200, 200, "the content type that a script sets by its context is kept"),
    "output_fn returns list": Deviation(200, 200, "JSON is written without indentation"),
    "output_fn returns dict": Deviation(200, 200, "JSON is written without indentation"),
    "output_fn returns object": Deviation(503, 500, "asking again does not help, so it is not 503"),
}
