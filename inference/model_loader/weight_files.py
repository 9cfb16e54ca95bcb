"""From the address of weights to a file of this machine that holds them."""

from __future__ import annotations

import glob
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.inference.errors import DeploymentError
from tidegate.inference.model_loader.progress import Progress
from tidegate.inference.model_loader.weight_addresses import EPOCH, Address, folder_of
from tidegate.inference.model_loader.weight_cache import WeightCache
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.s3_store import S3Store
from tidegate.inference.repository.store import EntryChanged, Store, StoreFailed
from tidegate.inference.repository.transfer import AnotherHash, Transfer


def addresses_like(template: str) -> Iterable[str]:
    """The files, or objects of S3, whose address may be made of a template with `{epoch}`. Raises `DeploymentError`."""
    if not template.startswith("s3://"):
        root = Path(template).anchor
        pattern = "*".join(glob.escape(part) for part in template.removeprefix(root).split(EPOCH))
        return map(str, Path(root).glob(pattern))
    folder = folder_of(template)
    try:
        return [folder + entry.path for entry in S3Store.open(folder, connections=1).list_all().entries]
    except StoreFailed as error:
        raise DeploymentError(str(error)) from None


@contextmanager
def weights_at(address: Address, cache: Callable[[], WeightCache]) -> Iterator[Path]:
    """A file with the weights of this address, which stays as long as the context lasts.

    What is in S3 comes through the cache, which is asked for only then; if the configuration declares its SHA-256 and
    the cache has it, nobody is asked. Raises `DeploymentError`.
    """
    in_s3 = address.bucket_and_key
    if in_s3 is None:
        path = Path(address.text)
        _check_file(path, address.sha256)
        yield path
        return
    bucket, key = in_s3
    kept = cache()
    with kept.held(address.sha256) as here:
        if here is not None:
            yield here
            return
    try:
        store = S3Store.open(f"s3://{bucket}", connections=1)
        entry = store.find(key)
    except StoreFailed as error:
        raise DeploymentError(str(error)) from None
    with kept.weights(_InStore(store, entry), address.sha256) as path:
        yield path


def _check_file(path: Path, sha256: str | None) -> None:
    if path.is_dir():
        raise DeploymentError(f"{path} is a folder, and the configuration names it as a file of weights.")
    try:
        with path.open("rb") as file:
            found = None if sha256 is None else hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DeploymentError(f"{path} is not there, and the configuration names it as the weights.") from None
    except OSError as error:
        raise DeploymentError(f"{path} cannot be read: {error.strerror}.") from None
    if found != sha256:
        raise _another_hash(str(path), found, sha256)


def _another_hash(name: str, found: object, declared: object) -> DeploymentError:
    return DeploymentError(
        f"{name} is not what the configuration says: its SHA-256 is {found}, and {declared} is declared; it is "
        "damaged, or another file."
    )


class _InStore:
    """An object of a store, as the cache fetches it."""

    def __init__(self, store: Store, entry: Entry) -> None:
        self._store, self._entry = store, entry
        self.name = store.address(entry.path)
        self.version = entry.tag
        self.size_bytes = entry.size_bytes

    def bring(self, path: Path, sha256: str | None) -> str:
        """See `weight_cache.Origin`."""
        progress = Progress(self.name, self.size_bytes)
        try:
            return Transfer(self._store, check=progress.at, wait=time.sleep).bring(self._entry, path, sha256)
        except AnotherHash as error:
            raise _another_hash(self.name, error, sha256) from None
        except EntryChanged as error:
            path.unlink(missing_ok=True)
            raise DeploymentError(str(error)) from None
        except StoreFailed as error:
            come = path.stat().st_size
            goes_on = f" {come} bytes were downloaded; the next attempt resumes there." if come else ""
            raise DeploymentError(f"{error}{goes_on}") from None
        finally:
            progress.end()
