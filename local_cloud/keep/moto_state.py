"""The state of moto: its backends, which hold everything, one for each service, account and region.

They are plain objects but for what `plain` and the reducers below see to. A backend is read into the place of the one
that moto has made meanwhile.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.hazmat.bindings._rust import openssl as rust
from cryptography.hazmat.primitives import serialization
from moto.core.base_backend import AccountSpecificBackend, BackendDict, BaseBackend
from moto.iam.models import AWSManagedPolicy, iam_backends
from moto.s3 import models as s3_models
from moto.s3.models import s3_backends
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.utilities.utils import get_partition

from tidegate.local_cloud.keep import plain

PREFIX = "moto's "
_S3_NAMES = f"{PREFIX}names of buckets"


def parts(partition: str) -> dict[str, Any]:
    """Each service with its backends by account and region; those that moto makes in other partitions stay empty."""
    found: dict[str, Any] = {}
    for service, backends in _services():
        found[service] = (
            backends.backend,
            [place for place in list(backends.iter_backends()) if get_partition(place[1]) == partition],
        )
    found[_S3_NAMES] = s3_backends.bucket_accounts
    return found


def restore(state: Mapping[str, Any]) -> None:
    """Puts backends in the place of moto's own."""
    for name, held in state.items():
        if name == _S3_NAMES:
            s3_backends.bucket_accounts.clear()
            s3_backends.bucket_accounts.update(held)
            continue
        kind, backends = held
        for account, region, backend in backends:
            dict.__setitem__(_dict_of(kind)[account], region, backend)


def reducers() -> dict[type, plain.Reducer]:
    """What of moto is shared or alive, or of a class that another process does not have."""
    kinds = {type(backends) for _, backends in _services()} | {BackendDict}
    return {
        vars(s3_models)["datetime"].datetime: _reduced_moment,  # moto_time.py
        **dict.fromkeys(kinds, _reduced_dict),
        AccountSpecificBackend: lambda regions: (_account_of, (regions.backend, regions.account_id)),
        AWSManagedPolicy: _reduced_policy,
        **dict.fromkeys((rust.rsa.RSAPrivateKey, rust.ec.ECPrivateKey), _reduced_key),
        ExecutionWorker: _reduced_worker,
    }


def _reduced_dict(backends: Any) -> Any:
    return _dict_of, (backends.backend,)


def _services() -> Iterator[tuple[str, BackendDict[Any]]]:
    instances: list[BackendDict[Any]] = list(vars(BackendDict)["_instances"])
    for backends in instances:
        if list(backends.iter_backends()):
            # Step Functions has two kinds of backends, of which one has an interpreter.
            yield f"{PREFIX}{backends.service_name} ({vars(backends)['backend'].__name__})", backends


def _dict_of(kind: type[BaseBackend]) -> BackendDict[Any]:
    """The dictionary in which moto looks for the backends of a class: one of its module's, or of its package's."""
    path = kind.__module__
    while path:
        for value in list(vars(importlib.import_module(path)).values()):
            if isinstance(value, BackendDict) and value.backend is kind:
                return value
        path = path.rpartition(".")[0]
    raise LookupError(f"moto has no place for {kind.__module__}.{kind.__qualname__}")


def _account_of(kind: type[BaseBackend], account: str) -> AccountSpecificBackend[Any]:
    found: AccountSpecificBackend[Any] = _dict_of(kind)[account]
    return found


def _reduced_key(key: Any) -> Any:
    """The private part of a key of KMS, which cryptography does not let pickle."""
    nobody = serialization.NoEncryption()
    content = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, nobody)
    return _key_from, (content,)


def _key_from(content: bytes) -> Any:
    return serialization.load_der_private_key(content, None)


def _reduced_moment(moment: datetime.datetime) -> Any:
    return datetime.datetime, moment.__reduce_ex__(plain.PROTOCOL)[1]


def _reduced_policy(policy: AWSManagedPolicy) -> Any:
    """One of AWS's own policies: moto reads them from a file, so that only who has them is worth keeping."""
    return _policy_of_aws, (policy.account_id, policy.arn), {"attachment_count": policy.attachment_count}


def _policy_of_aws(account: str, arn: str) -> AWSManagedPolicy:
    backend = iam_backends[account][arn.split(":")[1]]
    policy: Any = backend.managed_policies[arn]
    found: AWSManagedPolicy = policy
    return found


def _reduced_worker(worker: ExecutionWorker) -> Any:
    """What carries a state machine's execution out, of which only the history is of use to another process."""
    return PastWorker, ([] if worker.env is None else list(worker.env.event_manager.get_event_history()),)


class PastWorker:
    """In the place of the worker of an execution that is over; moto asks it for ``env.event_manager``."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events

    @property
    def env(self) -> PastWorker:
        return self

    @property
    def event_manager(self) -> PastWorker:
        return self

    def get_event_history(self) -> list[Any]:
        """What GetExecutionHistory answers; the list itself, which may be added to."""
        return self.events
