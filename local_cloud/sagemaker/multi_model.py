"""The models of one multi-model container: fetched and loaded on the first request, unloaded for want of room.

What the platform does between InvokeEndpoint with a TargetModel and the container's five routes ("Custom containers for
multi-model endpoints"): the archive is downloaded and unpacked, the container is told to load it, a 507 makes room by
unloading what was used longest ago, and the request goes to the model's own path. A model that was unloaded stays on
disk, so an archive that is overwritten in S3 is not read again; a new one needs another name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tidegate.local_cloud.sagemaker.archive import ModelDataError, fetch_model_data, split_s3_uri
from tidegate.local_cloud.sagemaker.container_answers import Answer
from tidegate.local_cloud.sagemaker.pipeline import Client
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed

LOAD_TIMEOUT_S = 360.0  # "Invoke a multi-model endpoint": a load goes on for up to 360 seconds
READY_TIMEOUT_S = 60.0  # the same page: after 60 seconds the client is told that the model is not ready
_UNLOAD_TIMEOUT_S = 60.0
_NAME_CHARS = 32

Note = Callable[[str, float], None]
"""Takes the name of a metric and its value."""


class NoSuchModel(Exception):
    """There is no archive of that name under the endpoint's prefix; the text says so in the platform's words."""


class NotReady(Exception):
    """The model is still being loaded; the same request succeeds later."""


class LoadRefused(Exception):
    """The container answered the load with an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the container answered the load of the model with {answer.status}")
        self.answer = answer


@dataclass(slots=True)
class _Entry:
    """A model that is loaded or being loaded."""

    loading: Future[None]
    in_use: int = 0
    used: int = 0  # the cache's clock at the last use


class ModelCache:
    """What one container has loaded. ``directory`` plays ``/opt/ml/models``, ``seen_as`` is its path in the container.

    With ``keep`` off (ModelCacheSetting Disabled) a model goes, from memory and disk, once nobody uses it.
    """

    def __init__(self, *, s3: Callable[[], Any], prefix: str, directory: Path, seen_as: str, keep: bool) -> None:
        self._s3 = s3
        self._prefix = prefix
        self._directory = directory
        self._seen_as = seen_as
        self._keep = keep
        self._lock = threading.Lock()  # guards the four below
        self._entries: dict[str, _Entry] = {}
        self._client: Client | None = None
        self._clock = 0
        self._pool = ThreadPoolExecutor(thread_name_prefix="model load")
        self._downloads: dict[str, threading.Lock] = {}

    def invoke(
        self,
        client: Client,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        note: Note = lambda _name, _value: None,
        **limits: Any,
    ) -> Answer:
        """Asks the model ``target``, which is loaded first where need be. ``limits`` are those of the call, and its
        caller.

        Raises :class:`NoSuchModel`, :class:`NotReady`, :class:`LoadRefused`, or what the call raises.
        """
        name = _opaque_name(target)
        for _ in range(2):
            self._hold(client, target, name, note)
            try:
                path = f"/models/{name}/invoke"
                answer = client.call("POST", path, headers=headers, body=body, **limits)
                # On a GPU memory may also run out at a call; then others go, and it is asked once more.
                if answer.status == 507 and self._make_room(client, spare=name):
                    answer = client.call("POST", path, headers=headers, body=body, **limits)
            finally:
                self._release(client, name)
            if answer.status != 404 or self._is_listed(client, name):
                return answer
            self._forget(name)  # the container has lost it: it is loaded again, once
        return answer

    def close(self) -> None:
        """Starts no further load; one that runs ends with the container."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def loaded(self) -> list[str]:
        """The opaque names of the models that are loaded."""
        with self._lock:
            return sorted(
                name
                for name, entry in self._entries.items()
                if entry.loading.done() and not entry.loading.cancelled() and entry.loading.exception() is None
            )

    def offered(self, most: int) -> list[str]:
        """The models that there are below the prefix, ``most`` at most: what a request may name as TargetModel."""
        bucket, prefix = split_s3_uri(self._prefix)
        try:
            listed = self._s3().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=most)
        except (ClientError, RoleNotAssumed):
            return []
        return [each["Key"].removeprefix(prefix) for each in listed.get("Contents", []) if each["Key"] != prefix]

    def fetched(self, target: str) -> Path:
        """The files of a model, brought to the disk where need be and not loaded. Raises :class:`NoSuchModel`."""
        name = _opaque_name(target)
        self._fetch(target, name)
        return self._directory / name / "model"

    def _hold(self, client: Client, target: str, name: str, note: Note) -> None:
        """Returns when the model is loaded, and keeps it from being unloaded until :meth:`_release`."""
        with self._lock:
            if self._client is not client:  # another container: it has loaded nothing yet
                self._client, self._entries = client, {}
            entry = self._entries.get(name)
            if entry is None:
                entry = self._entries[name] = _Entry(self._pool.submit(self._load, client, target, name, note))
            note("ModelCacheHit", float(entry.loading.done()))
            entry.in_use += 1
        began = time.perf_counter()
        try:
            entry.loading.result(READY_TIMEOUT_S)
            note("ModelLoadingWaitTime", _microseconds_since(began))
        except FutureTimeoutError as error:
            self._release(client, name)
            raise NotReady(f"Model {target} is still being loaded.") from error
        except BaseException:
            # Whoever asks next tries again.
            with self._lock:
                if self._entries.get(name) is entry:
                    del self._entries[name]
            raise

    def _release(self, client: Client, name: str) -> None:
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return
            self._clock += 1
            entry.in_use, entry.used = entry.in_use - 1, self._clock
            goes = not self._keep and entry.in_use == 0 and entry.loading.done()
            if goes:
                del self._entries[name]
        if goes:
            self._unload(client, name)
            shutil.rmtree(self._directory / name, ignore_errors=True)

    def _load(self, client: Client, target: str, name: str, note: Note) -> None:
        began = time.perf_counter()
        self._fetch(target, name)
        note("ModelDownloadingTime", _microseconds_since(began))
        began = time.perf_counter()
        wanted = json.dumps({"model_name": name, "url": f"{self._seen_as}/{name}/model"}).encode()
        headers = {"Content-Type": "application/json"}
        while True:
            answer = client.call("POST", "/models", headers=headers, body=wanted, timeout_s=LOAD_TIMEOUT_S)
            if answer.status < 300 or answer.status == 409:  # 409: it is loaded already
                note("ModelLoadingTime", _microseconds_since(began))
                return
            if answer.status != 507 or not self._make_room(client, spare=name):
                shutil.rmtree(self._directory / name, ignore_errors=True)
                raise LoadRefused(answer)

    def _fetch(self, target: str, name: str) -> None:
        with self._lock:
            download = self._downloads.setdefault(name, threading.Lock())
        with download:
            directory = self._directory / name
            if directory.exists():
                return
            url = f"{self._prefix}{target}"
            bucket, key = split_s3_uri(url)
            draft = self._directory / f".{name}"
            try:
                self._s3().head_object(Bucket=bucket, Key=key)
                fetch_model_data(self._s3, {"ModelDataUrl": url}, draft / "model")
                draft.replace(directory)
            except (ClientError, ModelDataError, RoleNotAssumed) as error:
                said = "" if isinstance(error, ClientError) else f" {error}"
                raise NoSuchModel(
                    f"Failed to download model data(bucket: {bucket}, key: {key}). Please ensure that there is an"
                    " object located at the URL and that the role passed to CreateModel has permissions to download"
                    f" the model.{said}"
                ) from error
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def _make_room(self, client: Client, *, spare: str) -> bool:
        """Unloads the model that nobody uses and that was used longest ago; False when there is none."""
        with self._lock:
            idle = {
                name: entry
                for name, entry in self._entries.items()
                if name != spare and entry.in_use == 0 and entry.loading.done()
            }
            if not idle:
                return False
            victim = min(idle, key=lambda name: idle[name].used)
            del self._entries[victim]
        self._unload(client, victim)
        return True

    def _unload(self, client: Client, name: str) -> None:
        with suppress(Exception):  # a container that is gone has unloaded it
            client.call("DELETE", f"/models/{name}", headers={}, timeout_s=_UNLOAD_TIMEOUT_S)

    def _is_listed(self, client: Client, name: str) -> bool:
        return client.call("GET", f"/models/{name}", headers={}, timeout_s=READY_TIMEOUT_S).status == 200

    def _forget(self, name: str) -> None:
        with self._lock:
            self._entries.pop(name, None)


def _microseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1e6


def _opaque_name(target: str) -> str:
    """The name under which the container knows a model: the platform's own hash, not the TargetModel."""
    return hashlib.sha256(target.encode()).hexdigest()[:_NAME_CHARS]
