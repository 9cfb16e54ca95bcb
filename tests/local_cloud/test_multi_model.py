"""Multi-model endpoints: archives under a prefix, fetched and loaded when they are first asked for."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true, model_archive


def multi_model(account: Account, prefix: str, **container: Any) -> str:
    """An endpoint in service whose models are the archives under `prefix`."""
    name = account.name("many")
    described = {"Image": "serve", "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/{prefix}/", **container}
    account.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=described)
    return account.endpoint(name)


def place(account: Account, key: str, **files: str) -> None:
    account.put(key, model_archive(files or {"word": key.rpartition("/")[2].partition(".")[0]}))


def loaded(account: Account, endpoint: str) -> int:
    """How many models the endpoint's one container has loaded, as the local cloud tells it."""
    url = f"{account.cloud.environment['AWS_ENDPOINT_URL_SAGEMAKER']}/local/endpoints/{endpoint}"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        return len(json.load(answer)["LoadedModels"]["variant-0"])


@pytest.fixture(scope="module")
def endpoint(account: Account) -> Iterator[str]:
    """Room for two models; four archives, of which one cannot be loaded."""
    for word in ("one", "two", "three"):
        place(account, f"many/{word}.tar.gz")
    place(account, "many/broken.tar.gz", refuse="model_fn is missing")
    name = multi_model(account, "many")
    yield name
    account.delete(name)


def test_a_model_is_loaded_by_its_first_request_and_knows_its_target(account: Account, endpoint: str) -> None:
    assert account.invoke(endpoint, b"a", TargetModel="one.tar.gz").split()[:3] == [b"one", b"a", b"one.tar.gz"]
    assert account.invoke(endpoint, b"b", TargetModel="one.tar.gz").split()[:2] == [b"one", b"b"]


def test_a_full_container_unloads_what_was_used_longest_ago(account: Account, endpoint: str) -> None:
    for word in ("one", "two", "one", "three", "one"):
        answer = account.invoke(endpoint, b"a", TargetModel=f"{word}.tar.gz").decode().split()
        assert answer[0] == word
        assert int(answer[3]) <= 2
    assert loaded(account, endpoint) == 2


def test_many_callers_at_once_each_get_their_own_model(account: Account, endpoint: str) -> None:
    words = ["one", "two"] * 8
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda word: account.invoke(endpoint, b"a", TargetModel=f"{word}.tar.gz"), words)
    assert [answer.decode().split()[0] for answer in answers] == words


def test_a_model_that_cannot_be_loaded_is_a_model_error_and_the_others_go_on(account: Account, endpoint: str) -> None:
    with pytest.raises(ClientError) as caught:
        account.invoke(endpoint, b"a", TargetModel="broken.tar.gz")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 500
    assert caught.value.response["OriginalMessage"] == "model_fn is missing"
    assert account.invoke(endpoint, b"a", TargetModel="one.tar.gz").startswith(b"one")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"TargetModel": "nobody.tar.gz"}, rf"download model data\(bucket: {BUCKET}, key: many/nobody.tar.gz\)"),
        ({}, "is a multi-model endpoint: a request needs TargetModel"),
    ],
)
def test_a_request_without_an_existing_target_is_a_validation_error(
    account: Account, endpoint: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises(ClientError, match=words) as caught:
        account.invoke(endpoint, b"a", **options)
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_a_model_that_the_container_lost_is_loaded_again(account: Account, endpoint: str) -> None:
    account.invoke(endpoint, b"a", TargetModel="one.tar.gz")
    # The second try meets the same body, so the container forgets again, and its own 404 is the answer.
    with pytest.raises(ClientError, match="lost"):
        account.invoke(endpoint, b"lose", TargetModel="one.tar.gz")
    assert account.invoke(endpoint, b"a", TargetModel="one.tar.gz").startswith(b"one")


def test_a_container_that_died_starts_empty_and_loads_again(account: Account, endpoint: str) -> None:
    with pytest.raises(ClientError) as caught:
        account.invoke(endpoint, b"die", TargetModel="one.tar.gz")
    assert caught.value.response["OriginalStatusCode"] == 0

    def answers() -> bool:
        try:
            return account.invoke(endpoint, b"a", TargetModel="one.tar.gz").endswith(b"one.tar.gz 1")
        except account.runtime.exceptions.ModelError:
            return False

    await_true(answers, "the successor answers with one model loaded")


def test_without_a_cache_a_model_goes_after_its_request(account: Account) -> None:
    place(account, "fleeting/one.tar.gz")
    endpoint = multi_model(account, "fleeting", MultiModelConfig={"ModelCacheSetting": "Disabled"})
    assert account.invoke(endpoint, b"a", TargetModel="one.tar.gz").startswith(b"one")
    assert loaded(account, endpoint) == 0
    place(account, "fleeting/one.tar.gz", word="another")
    assert account.invoke(endpoint, b"a", TargetModel="one.tar.gz").startswith(b"another")
    account.delete(endpoint)


def test_a_single_model_takes_no_target(account: Account) -> None:
    endpoint = account.endpoint(account.model())
    with pytest.raises(ClientError, match="is not a multi-model endpoint"):
        account.invoke(endpoint, b"a", TargetModel="one.tar.gz")
    account.delete(endpoint)


def test_a_prefix_must_end_with_a_slash(account: Account) -> None:
    container = {"Image": "serve", "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    with pytest.raises(ClientError, match="a prefix and ends with a slash"):
        account.sagemaker.create_model(ModelName="no", ExecutionRoleArn=ROLE, PrimaryContainer=container)
