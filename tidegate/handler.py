"""A model as one class: `preprocess` one item, `forward` a batch, `postprocess` one output; the rest follows.

    from tidegate_handler import functions_of


    class Digits:
        def __init__(self, model_dir): ...
        def preprocess(self, item): ...  # a tensor, or a dict of tensors
        def forward(self, batch): ...  # the tensors of several items, stacked
        def postprocess(self, output): ...  # what JSON can hold, of one item


    model_fn, input_fn, predict_fn, output_fn = functions_of(Digits)

This file stands alone: it needs the standard library, and torch, numpy and Pillow where they are used. `pack` copies it
into an archive as `code/tidegate_handler.py`, so the archive runs in Tidegate, and in the AWS PyTorch containers too;
hence the syntax is that of Python 3.8. `python -m tidegate.handler code` copies it by hand. It is Tidegate's
`tidegate.handler`; docs/guides/handler.md has the rest.
"""

from __future__ import annotations

import base64
import binascii
import csv
import importlib
import io
import json
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from inspect import getattr_static, iscoroutinefunction, signature
from typing import Any, NamedTuple

JSON, JSON_LINES, CSV, NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"

_LINES = (JSON_LINES, "application/jsonl", "application/x-jsonlines", "application/x-ndjson")
_WRITTEN = (JSON, *_LINES, CSV, NPY)
_STEPS = ("preprocess", "forward", "postprocess")


class BadItem(ValueError):
    """An item could not be predicted.

    Attributes:
        index: its place among the items that were given, from 0.
        said: what was wrong with it.
    """

    def __init__(self, index: int, said: str) -> None:
        super().__init__(index, said)
        self.index = index
        self.said = said

    def __str__(self) -> str:
        return f"item {self.index}: {self.said}"


class Refused(Exception):
    """A request that is answered with a status of its own, where the AWS toolkit's error of that kind is not there."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message


class Handler:
    """What `functions_of` adds to a class that does not have it; a class may as well derive from this."""

    def predict(self, item: Any) -> Any:
        """The result of one item."""
        prepared = self.preprocess(item)  # type: ignore[attr-defined]
        return self.postprocess(_forwarded(self, _grouped(self, [prepared]))[0])  # type: ignore[attr-defined]

    def predict_many(self, items: Iterable[Any], batch_size: int = 32, workers: int = 0) -> Predictions:
        """The results of many items, in their order, computed as they are asked for.

        Args:
            items: any iterable, also one that never ends; no more of it is read than the next batches need.
            batch_size: how many items share a call of `forward`.
            workers: processes that preprocess and collate; 0 does it in this one.

        Returns:
            An iterable with a length, where `items` has one.

        Raises:
            BadItem: `preprocess`, `collate` or `postprocess` fails; the results before that item have been given.
            TypeError, ValueError: an argument cannot be used, or the handler or an item cannot be sent to a worker.
        """
        return Predictions(self, items, batch_size, workers)

    def collate(self, items: list[Any]) -> Any:
        """What `preprocess` made of several items, as the one batch that `forward` takes.

        Tensors, arrays and numbers are stacked to tensors, dicts and tuples member by member; anything else is a list.
        Items of different shapes come in a batch for each shape; a `collate` of your own gets them all, to pad them.
        """
        return _collated(list(items))

    def decode(self, body: Any, content_type: str | None) -> Any:
        """The items of a request: a list is several of them, anything else is one.

        JSON is what `json` makes of it, JSON Lines a list of lines, CSV one of rows, npy one of arrays; a picture, also
        as a data URI in JSON, is a Pillow image, plain text is text, and octets are bytes.
        """
        return _decoded(body, content_type)

    def encode(self, results: list[Any], accept: str | None, alone: bool) -> Any:
        """The body of the answer, as JSON, JSON Lines, CSV or npy.

        Of `alone`, where the request was one item, the answer is the one result and no list; if that is a pair of bytes
        and their type, it is sent as it is.
        """
        return _encoded(results, accept, alone)


class _Record(NamedTuple):
    """What the functions hand on for an item, so that requests may share a call: one entry of a list."""

    value: Any
    alone: bool
    """Whether it is the whole request, and its answer is no list."""


def functions_of(handler_class: type) -> tuple[Callable[..., Any], ...]:
    """The functions `model_fn`, `input_fn`, `predict_fn` and `output_fn` of a class with the three steps.

    The class is made with the model directory, or without arguments where it has `load(model_dir)`. Its networks are
    set to evaluation. It is given `predict`, `predict_many`, `collate`, `decode` and `encode` where it lacks them.

    Raises:
        TypeError: it is no class, or lacks a step, in one sentence.
    """
    _check(handler_class)
    held: list[Any] = []

    def handler() -> Any:
        if not held:
            raise RuntimeError("model_fn has not been called, so there is no handler yet")
        return held[0]

    def model_fn(model_dir: str) -> Any:
        held[:] = [_made(handler_class, model_dir)]
        return held[0]

    def input_fn(input_data: Any, content_type: str | None) -> list[_Record]:
        try:
            decoded = handler().decode(input_data, content_type)
        except _CLIENTS_MISTAKES as error:
            raise _refused(400, str(error)) from error
        several = isinstance(decoded, list)
        records = []
        for index, item in enumerate(decoded if several else [decoded]):
            try:
                records.append(_Record(handler().preprocess(item), not several))
            except Exception as error:
                raise _of_a_request(error, index if several else None) from error
        return records

    def predict_fn(data: list[_Record], model: Any) -> list[_Record]:
        try:
            groups = _grouped(model, [record.value for record in data])
        except ValueError as error:
            raise _refused(400, str(error)) from error
        outputs = _forwarded(model, groups)
        return [_Record(outputs[place], record.alone) for place, record in enumerate(data)]

    def output_fn(prediction: list[_Record], accept: str | None) -> Any:
        alone = bool(prediction) and prediction[0].alone
        results = []
        for index, record in enumerate(prediction):
            try:
                results.append(handler().postprocess(record.value))
            except Exception as error:
                if not alone:
                    _note(error, index)
                raise
        body = handler().encode(results, accept, alone)
        if isinstance(body, tuple) or not encodes or "," not in (accept or ""):
            return body
        return body, _wanted(accept)  # of several types the AWS containers name the header itself

    encodes = getattr(handler_class, "encode", None) is Handler.encode
    if encodes:
        tidegates: Any = output_fn
        tidegates.usual_types = _WRITTEN  # it chooses among them
    return model_fn, input_fn, predict_fn, output_fn


def _check(handler_class: type) -> None:
    if not isinstance(handler_class, type):
        raise TypeError(f"functions_of takes a class, not {handler_class!r}: each process makes a handler of its own")
    name = handler_class.__name__
    for step in _STEPS:
        function = getattr(handler_class, step, None)
        # A network inherits a forward that only says that there is none.
        if not callable(function) or getattr(function, "__name__", "") == "_forward_unimplemented":
            raise TypeError(f"the handler {name} has no {step}; it needs {', '.join(_STEPS)}")
        if iscoroutinefunction(function):
            raise TypeError(f"{name}.{step} is async; define it with plain 'def'")
        is_method = not isinstance(getattr_static(handler_class, step), (staticmethod, classmethod))
        try:
            signature(function).bind(*[None] * (1 + is_method))
        except TypeError:
            raise TypeError(f"{name}.{step}{signature(function)} cannot be called with one argument") from None
    for added in ("predict", "predict_many", "collate", "decode", "encode"):
        if not hasattr(handler_class, added):
            setattr(handler_class, added, getattr(Handler, added))


def _made(handler_class: Any, model_dir: str) -> Any:
    if not hasattr(handler_class, "load"):
        handler = handler_class(model_dir)
    elif isinstance(getattr_static(handler_class, "load"), (classmethod, staticmethod)):
        handler = handler_class.load(model_dir)
    else:
        handler = handler_class()
        handler.load(model_dir)
    # Dropout and the statistics of a batch would make an item's answer depend on its neighbours.
    for network in (handler, *vars(handler).values()):
        if callable(getattr(network, "eval", None)) and callable(getattr(network, "parameters", None)):
            network.eval()
    return handler


# --- a batch


class _Group(NamedTuple):
    """The places of some items, and what `collate` made of them."""

    places: list[int]
    batch: Any


def _grouped(handler: Any, prepared: list[Any]) -> list[_Group]:
    """The batches for `forward`: one, unless the items differ in shape and the handler has no `collate` of its own."""
    places: dict[Any, list[int]] = {}
    own = getattr(type(handler), "collate", None) is not Handler.collate
    for place, item in enumerate(prepared):
        places.setdefault(None if own else _outline(item), []).append(place)
    return [_Group(each, handler.collate([prepared[place] for place in each])) for each in places.values()]


def _outline(item: Any) -> Any:
    """What items have in common that can be stacked."""
    if isinstance(item, Mapping):
        return tuple((key, _outline(member)) for key, member in item.items())
    if isinstance(item, tuple):
        return tuple(map(_outline, item))
    if hasattr(item, "shape") and hasattr(item, "dtype"):
        return tuple(item.shape), str(item.dtype)
    sizes: list[int] = []
    while isinstance(item, list) and item and _holds_numbers(item):
        sizes.append(len(item))
        item = item[0]
    return tuple(sizes), type(item)


def _forwarded(handler: Any, groups: list[_Group]) -> dict[int, Any]:
    """The output of each item by its place, on the CPU."""
    import torch  # noqa: PLC0415 - a script that only imports this file needs none

    device = getattr(handler, "device", None)
    if device is None and callable(getattr(handler, "parameters", None)):
        device = next((each.device for each in handler.parameters()), None)
    outputs: dict[int, Any] = {}
    with torch.no_grad():
        for places, batch in groups:
            output = _moved(handler.forward(batch if device is None else _moved(batch, device)), "cpu")
            outputs.update(zip(places, _parts(output, len(places), "forward returned")))  # noqa: B905 - of Python 3.10
    return outputs


def _moved(value: Any, device: Any) -> Any:
    if hasattr(value, "to") and hasattr(value, "dtype"):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(member, device) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return _like(value, [_moved(member, device) for member in value])
    return value


def _parts(output: Any, count: int, what: str) -> list[Any]:
    if hasattr(output, "shape") and hasattr(output, "dtype"):
        if not output.shape or output.shape[0] != count:
            raise RuntimeError(f"{what} the shape {tuple(output.shape)} for {count} items; its first size must be that")
        return [output[place] for place in range(count)]
    if isinstance(output, Mapping):
        there = {key: value for key, value in output.items() if value is not None}
        members = {key: _parts(value, count, f"{what} as {key!r}") for key, value in there.items()}
        return [{key: parts[place] for key, parts in members.items()} for place in range(count)]
    if isinstance(output, tuple) and output:
        columns = [_parts(member, count, f"{what} as member {place}") for place, member in enumerate(output)]
        return [_like(output, [parts[place] for parts in columns]) for place in range(count)]
    if isinstance(output, list):
        if len(output) != count:
            raise RuntimeError(f"{what} a list of {len(output)} for {count} items; it must have one entry for each")
        return list(output)
    raise RuntimeError(f"{what} a {type(output).__name__}, which has no part for each of {count} items")


def _like(original: Any, members: list[Any]) -> Any:
    if isinstance(original, list):
        return members
    return type(original)(*members) if hasattr(original, "_fields") else tuple(members)


def _collated(items: list[Any]) -> Any:
    first = items[0]
    if isinstance(first, Mapping):
        return {key: _collated([item[key] for item in items]) for key in first}
    if isinstance(first, tuple):
        return _like(first, [_collated([item[place] for item in items]) for place in range(len(first))])
    is_array = hasattr(first, "shape") and hasattr(first, "dtype")
    if not (is_array or isinstance(first, (bool, int, float)) or (isinstance(first, list) and _holds_numbers(first))):
        return items
    import torch  # noqa: PLC0415 - see above

    return torch.stack([item if isinstance(item, torch.Tensor) else torch.as_tensor(item) for item in items])


def _holds_numbers(value: list[Any]) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, (bool, int, float))


# --- many items


class Predictions:
    """The results of `predict_many`: an iterable with a length, computed anew each time that it is gone through."""

    def __init__(self, handler: Any, items: Iterable[Any], batch_size: int, workers: int) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}; it must be a whole number from {least} on")
        indexed = hasattr(items, "__getitem__") and hasattr(items, "__len__")
        if isinstance(items, (str, bytes, bytearray, Mapping)) or not (indexed or hasattr(items, "__iter__")):
            raise TypeError(f"items is a {type(items).__name__}; give a list, or another iterable of items")
        self._handler, self._items, self._batch_size, self._workers = handler, items, batch_size, workers
        self._used_up = False

    def __len__(self) -> int:
        if not hasattr(self._items, "__len__"):
            kind = type(self._items).__name__
            raise TypeError(f"how many results there will be is not known: the items are a {kind} without a length")
        return len(self._items)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self._used_up:
            raise RuntimeError("the items were a generator, which has been read; call predict_many with a new one")
        self._used_up = isinstance(self._items, Iterator)
        return self._results()

    def _results(self) -> Iterator[Any]:
        from torch.utils.data import DataLoader  # noqa: PLC0415 - see above

        batches = _Batches(self._items, self._batch_size, packs=self._workers > 0)
        prepares = _Prepares(self._handler, packed=self._workers > 0)
        loader: Any = DataLoader(
            prepares,  # type: ignore[arg-type]
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=prepares.gather,
        )
        loading = self._started(loader)
        try:
            for batch in loading:
                yield from self._of(batch)
        finally:
            # A traceback that somebody keeps would keep the processes, too.
            if hasattr(loading, "_shutdown_workers"):
                loading._shutdown_workers()
        if batches.error is not None:
            raise batches.error

    def _started(self, loader: Any) -> Any:
        try:
            return iter(loader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if not self._workers:
                raise
            raise TypeError(
                f"the handler cannot be sent to {self._workers} workers: {error}; define its class at the top of a "
                "module and keep open files, locks and lambdas out of it, or use workers=0"
            ) from error

    def _of(self, batch: _Batch) -> Iterator[Any]:
        if batch.size:
            last = batch.start + batch.size - 1
            try:
                outputs = _forwarded(self._handler, batch.groups)
            except Exception as error:
                kind = type(error).__name__
                raise RuntimeError(f"forward failed for the items {batch.start} to {last}: {kind}: {error}") from error
            for place in range(batch.size):
                try:
                    result = self._handler.postprocess(outputs[place])
                except Exception as error:
                    raise BadItem(batch.start + place, f"{type(error).__name__}: {error}") from error
                yield result
        if batch.failure is not None:
            raise BadItem(batch.failure.place, batch.failure.said) from batch.failure.cause()


class _Failure(NamedTuple):
    """What `preprocess` raised, as text: not every exception survives the way from one process to another."""

    place: int
    said: str
    trace: str
    error: Exception | None

    def cause(self) -> Exception:
        return self.error or RuntimeError("in a worker:\n" + self.trace)


class _Batch(NamedTuple):
    """A batch for `forward`: `size` items from number `start` on, and what ended it early."""

    start: int
    size: int
    groups: list[_Group]
    failure: _Failure | None


class _Batches:
    """The items themselves in lists, numbered, in the place of indices: so they are read here, once and in order."""

    def __init__(self, items: Any, size: int, *, packs: bool) -> None:
        self._items, self._size, self._packs = items, size, packs
        self.error: Exception | None = None
        """What ended the items early; raised when the results before it have been given."""

    def __iter__(self) -> Iterator[list[tuple[int, Any]]]:
        batch: list[tuple[int, Any]] = []
        try:
            for numbered in enumerate(self._each()):
                batch.append(self._packed(*numbered) if self._packs else numbered)
                if len(batch) == self._size:
                    yield batch
                    batch = []
        except Exception as error:
            self.error = error
        if batch:
            yield batch

    def _each(self) -> Iterator[Any]:
        if hasattr(self._items, "__iter__"):
            return iter(self._items)
        return (self._items[place] for place in range(len(self._items)))

    def _packed(self, index: int, item: Any) -> tuple[int, Any]:
        # The queue's own thread would lose what it cannot pickle, and its worker would wait for ever.
        try:
            return index, pickle.dumps(item)
        except Exception as error:
            said = f"a {type(item).__name__} cannot be sent to a worker: {error}; use workers=0"
            raise BadItem(index, said) from error


class _Prepares:
    """What a worker of the DataLoader does: unpack, preprocess, collate."""

    def __init__(self, handler: Any, *, packed: bool) -> None:
        self._handler, self._packed = handler, packed

    def __getitem__(self, numbered: tuple[int, Any]) -> tuple[int, Any]:
        index, item = numbered
        try:
            item = pickle.loads(item) if self._packed else item  # noqa: S301 - pickled by our own process
            return index, self._handler.preprocess(item)
        except Exception as error:
            return index, self._failure(index, _said(error), error)

    def gather(self, samples: list[tuple[int, Any]]) -> _Batch:
        prepared: list[Any] = []
        start = samples[0][0]
        for _, value in samples:
            if isinstance(value, _Failure):
                return self._batch(start, prepared, value)
            prepared.append(value)
        return self._batch(start, prepared, None)

    def _batch(self, start: int, prepared: list[Any], failure: _Failure | None) -> _Batch:
        if not prepared:
            return _Batch(start, 0, [], failure)
        try:
            return _Batch(start, len(prepared), _grouped(self._handler, prepared), failure)
        except Exception as error:
            return _Batch(start, 0, [], self._failure(start, f"its batch cannot be made: {error}", error))

    def _failure(self, index: int, said: str, error: Exception) -> _Failure:
        return _Failure(index, said, traceback.format_exc(), None if self._packed else error)


# --- errors


class _Lacks(KeyError):
    """A key that an object of a request has not, which is no fault of the handler's own dicts."""

    def __str__(self) -> str:
        return f"it has no {self.args[0]!r}"


class _Object(dict):  # type: ignore[type-arg]
    """An object of JSON."""

    def __missing__(self, key: object) -> Any:
        raise _Lacks(key)


_CLIENTS_MISTAKES = (ValueError, EOFError, csv.Error, _Lacks)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, _CLIENTS_MISTAKES) else f"{type(error).__name__}: {error}"


def _of_a_request(error: Exception, index: int | None) -> Exception:
    """What a request's `preprocess` raised, with the item's place in the request where there are several."""
    place = "" if index is None else f"item {index}: "
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return error if index is None else _refused(status, f"{place}{getattr(error, 'message', None) or error}")
    if isinstance(error, _CLIENTS_MISTAKES):
        return _refused(400, place + str(error))
    if index is not None:
        _note(error, index)
    return error


def _note(error: Exception, index: int) -> None:
    """Have the traceback say which item it was; the error keeps its class, which is what a client is told."""
    if hasattr(error, "add_note"):  # since Python 3.11
        error.add_note(f"item {index} of the request")


def _refused(status: int, message: str) -> Exception:
    """An error that both servers answer with this status: Tidegate has the AWS toolkit's class, too."""
    with suppress(ImportError):
        errors = importlib.import_module("sagemaker_inference.errors")

        return errors.GenericInferenceToolkitError(status, message)  # type: ignore[no-any-return]
    return Refused(status, message)


# --- bodies


def read_image(data: bytes | str) -> Any:
    """A Pillow image, upright, of a file's bytes or a data URI. Raises `ValueError`."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - for pictures only

    if isinstance(data, str):
        head, comma, text = data.partition(",")
        if not (head.startswith("data:image/") and head.endswith(";base64") and comma):
            raise ValueError("this is no data URI of a picture, such as data:image/png;base64,…")
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"the data URI is no base64: {error}") from None
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture cannot be read: {error}") from None


def _decoded(body: Any, content_type: str | None) -> Any:
    kind, *parameters = (piece.strip() for piece in (content_type or "").split(";"))
    kind = kind.lower()

    def text() -> str:
        return _text(body, parameters)

    if kind == JSON:
        value = json.loads(text(), object_hook=_Object)
        return list(map(_item, value)) if isinstance(value, list) else _item(value)
    if kind in _LINES:
        return [_item(json.loads(line, object_hook=_Object)) for line in text().split("\n") if line.strip()]
    if kind == CSV:
        rows = csv.reader(io.StringIO(text(), newline=""), strict=True)
        return [[_cell(cell) for cell in row] for row in rows if row]
    if kind == NPY:
        return _arrays(bytes(body))
    if kind.startswith("image/") or kind == "application/x-image":
        return read_image(bytes(body))
    if kind == "text/plain":
        return text()
    if kind == "application/octet-stream":
        return bytes(body)
    what = f"of the type {content_type}" if kind else "without a Content-Type"
    raise _refused(415, f"a body {what} cannot be read; define decode(body, content_type)")


def _text(body: Any, parameters: Iterable[str]) -> str:
    """A body as text, by the charset of its type's `parameters`, else UTF-8."""
    if isinstance(body, str):
        return body.lstrip("\ufeff")
    pairs = (each.partition("=") for each in parameters)
    named = [value.strip().strip('"') for name, _, value in pairs if name.strip().lower() == "charset"]
    charset = next(filter(None, named), "utf-8")
    try:
        return str(bytes(body), charset).lstrip("\ufeff")
    except LookupError:
        raise ValueError(f"the charset {charset[:40]!r} of the Content-Type is not known") from None


def _item(value: Any) -> Any:
    return read_image(value) if isinstance(value, str) and value.startswith("data:image/") else value


def _cell(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _arrays(data: bytes) -> list[Any]:
    """The entries of an npy file along its first dimension; nothing is allocated for what is not in the file."""
    import numpy as np  # noqa: PLC0415 - for npy only

    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
    count = 1
    for size in shape:
        count *= size
    there = len(data) - file.tell()
    if dtype.hasobject or not shape or count * dtype.itemsize != there:
        raise ValueError(
            f"the npy file says {dtype} of the shape {shape}, and {there} bytes follow; it must be numbers"
        )
    array = np.frombuffer(data, dtype, count, file.tell()).reshape(shape, order="F" if fortran_order else "C")
    return list(array.astype(dtype.newbyteorder("="), order="C"))


def _encoded(results: list[Any], accept: str | None, alone: bool) -> Any:
    answer = results[0] if alone else results
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], (bytes, bytearray)):
        return bytes(answer[0]), answer[1]
    kind = _wanted(accept)
    if kind == JSON:
        return json.dumps(answer, default=_plain)
    if kind in _LINES:
        return "".join(json.dumps(result, default=_plain) + "\n" for result in results)
    if kind == CSV:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(_cells, results))
        return text.getvalue()
    if kind == NPY:
        import numpy as np  # noqa: PLC0415 - for npy only

        try:
            array = np.asarray(_listed(answer) if alone else list(map(_listed, answer)))
        except ValueError:  # rows of different lengths
            array = np.asarray(None)
        if array.dtype.hasobject:
            raise _refused(406, f"results that are no array of numbers cannot be written as {NPY}; accept {JSON}")
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return file.getvalue()
    raise _refused(406, f"an answer of the type {accept} cannot be written; define encode(results, accept, alone)")


def _wanted(accept: str | None) -> str | None:
    """The type of an Accept header that weighs most among those that can be written, of equal ones the first.

    A wildcard stands for JSON, or the first type that it covers and that has not the weight 0 (RFC 9110, 12.5.1).
    None: there is none.
    """
    weights: dict[str, float] = {}
    for each in (accept or JSON).split(","):
        kind, *parameters = (piece.strip().lower() for piece in each.split(";"))
        weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        if kind:
            with suppress(ValueError):  # a weight that is no number counts as not said
                weights.setdefault(kind, float(weight))
    if not weights:
        return None if accept and accept.strip(" ,") else JSON
    for wish in sorted((each for each in weights if weights[each] > 0), key=lambda each: -weights[each]):
        if wish in _WRITTEN:
            return wish
        if not wish.endswith("/*"):
            continue
        for kind in _WRITTEN:
            family = kind.partition("/")[0] + "/*"
            closer = (kind,) if wish == family else (kind, family)
            if wish in ("*/*", family) and not any(weights.get(each) == 0 for each in closer):
                return kind
    return None


def _cells(result: Any) -> list[Any]:
    result = _listed(result)
    values = list(result.values()) if isinstance(result, Mapping) else result
    return [_listed(value) for value in values] if isinstance(values, (list, tuple)) else [values]


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"postprocess returned a {type(value).__name__}, which is nothing that JSON can hold")


if __name__ == "__main__":
    import shutil
    import sys

    shutil.copyfile(__file__, f"{sys.argv[1] if sys.argv[1:] else 'code'}/tidegate_handler.py")
