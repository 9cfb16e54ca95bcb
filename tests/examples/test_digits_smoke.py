"""The smoke script up to the border of AWS: what it asks, in which order it works, and that it always tidies up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.child_processes import CommandFailed
from examples.digits import smoke
from examples.digits.smoke import Identity, Options, Smoke, SmokeFailed, Stopped, Trained

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/tidegate:0.1.0"
ACCOUNT = "123456789012"
LABELS = [str(number % 10) for number in range(60)]


class FakeCloud:
    """Remembers what it was asked, and fails where it is told to."""

    def __init__(self, *, present: Sequence[str] = (), fail: str = "", error: BaseException | None = None) -> None:
        self.calls: list[str] = []
        self.arguments: dict[str, tuple[object, ...]] = {}
        self.made = list(present)
        self.emptied: list[str] = []
        self.destroys_in_vain = 0
        self.accuracy = 1.0
        self._fail, self._error = fail, error or CommandFailed("cdk ended with status 1")

    def _called(self, name: str, *arguments: object) -> None:
        self.calls.append(name)
        self.arguments[name] = arguments
        if name == self._fail:
            raise self._error

    def identity(self) -> Identity:
        self._called("identity")
        return Identity(account=ACCOUNT, region="eu-central-1")

    def stacks(self, prefix: str) -> list[str]:
        return [name for name in self.made if name.startswith(prefix)]

    def deploy(self, stack: str, *options: str) -> dict[str, str]:
        # What failed half way is there as well.
        self.made.append(f"tidegate-smoke-{stack}")
        self._called(f"deploy {stack}", *options)
        return {"BucketName": "bucket", "EndpointName": "tidegate-smoke", "ModelName": "model"}

    def upload(self, archive: Path, bucket: str) -> str:
        self._called("upload", archive, bucket)
        return f"s3://{bucket}/models/smoke/model.tar.gz"

    def _predict(self, count: int) -> list[dict[str, Any]]:
        wrong = round(count * (1 - self.accuracy))
        return [{"label": "?" if row < wrong else LABELS[row]} for row in range(count)]

    def ask(self, endpoint: str, images: np.ndarray) -> list[dict[str, Any]]:
        self._called("ask", endpoint, len(images))
        return self._predict(len(images))

    def transform(self, model: str, images: np.ndarray, bucket: str) -> list[dict[str, Any]]:
        self._called("transform", model, len(images), bucket)
        return self._predict(len(images))

    def destroy(self, buckets: Sequence[str]) -> None:
        self.emptied = list(buckets)
        self._called("destroy")
        if self.destroys_in_vain:
            self.destroys_in_vain -= 1
            raise CommandFailed("the bucket is not empty")
        self.made.clear()

    def forget_logs(self, endpoint: str) -> None:
        self._called("forget_logs", endpoint)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The script takes signals for itself; the test runner gets them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def trained() -> Trained:
    return Trained(archive=Path("model.tar.gz"), images=np.zeros((len(LABELS), 8, 8)), labels=LABELS)


def run(
    cloud: FakeCloud, *arguments: str, ask: Callable[[str], str] = lambda _: ACCOUNT, image: str | None = IMAGE
) -> int:
    options = smoke.parse([*(("--image-uri", image) if image else ()), *arguments])
    return Smoke(cloud, options, train=trained, ask=ask).run()


def test_a_run_deploys_asks_transforms_and_destroys_in_this_order() -> None:
    cloud = FakeCloud()

    assert run(cloud) == 0
    assert cloud.calls == [
        *("identity", "deploy storage", "upload", "deploy endpoint", "ask", "transform"),
        *("destroy", "forget_logs"),
    ]
    assert cloud.made == []
    assert cloud.arguments["deploy endpoint"] == ("-c", "model_data_url=s3://bucket/models/smoke/model.tar.gz")
    assert cloud.arguments["ask"] == ("tidegate-smoke", smoke.SINGLE_REQUESTS)
    assert cloud.arguments["transform"] == ("model", len(LABELS), "bucket")
    assert cloud.arguments["forget_logs"] == ("tidegate-smoke",)


@pytest.mark.parametrize("fail", ["deploy storage", "upload", "deploy endpoint", "ask", "transform"])
def test_whatever_fails_everything_is_destroyed_and_the_failure_is_told(fail: str) -> None:
    cloud = FakeCloud(fail=fail)

    with pytest.raises(CommandFailed, match="cdk ended with status 1"):
        run(cloud)

    assert cloud.calls[-2:] == ["destroy", "forget_logs"]
    assert cloud.made == []


def test_ctrl_c_while_the_endpoint_starts_destroys_what_was_made() -> None:
    cloud = FakeCloud(fail="deploy endpoint", error=Stopped(130))

    with pytest.raises(Stopped):
        run(cloud)

    assert "destroy" in cloud.calls
    assert cloud.made == []


def test_a_second_ctrl_c_does_not_interrupt_the_tidying_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = FakeCloud(fail="ask")
    destroy = cloud.destroy

    def interrupted(buckets: Sequence[str]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        destroy(buckets)

    monkeypatch.setattr(cloud, "destroy", interrupted)
    with pytest.raises(CommandFailed):
        run(cloud)

    assert cloud.made == []


@pytest.mark.parametrize("typed", ["", "y", "yes", "210987654321"])
def test_nothing_is_made_before_the_accounts_own_number_was_typed(typed: str) -> None:
    cloud = FakeCloud()

    with pytest.raises(SmokeFailed, match="is not the number of this account, 123456789012; nothing was made"):
        run(cloud, ask=lambda _: typed)

    assert cloud.calls == ["identity"]


def test_the_question_says_what_will_run_and_that_it_costs_money(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return ACCOUNT

    run(FakeCloud(), "--instance-type", "ml.g6.xlarge", ask=ask)

    warning = capsys.readouterr().out
    assert "1 x ml.g6.xlarge behind an endpoint" in warning
    assert "AWS charges for it; this script knows no prices" in warning
    assert asked == ["Type the account's number, 123456789012, to go on: "]


def test_a_number_on_the_command_line_stands_for_typing_it_and_must_be_right() -> None:
    def never(_: str) -> str:
        raise AssertionError("asked")

    assert run(FakeCloud(), "--yes", ACCOUNT, ask=never) == 0
    with pytest.raises(SmokeFailed, match="is not the number of this account"):
        run(FakeCloud(), "--yes", "210987654321", ask=never)


def test_stacks_that_are_there_already_are_left_alone() -> None:
    cloud = FakeCloud(present=["tidegate-smoke-storage", "tidegate-prod-storage"])

    with pytest.raises(SmokeFailed, match="tidegate-smoke-storage is there already"):
        run(cloud)

    assert cloud.calls == ["identity"]


def test_clean_up_only_destroys_and_asks_first() -> None:
    cloud = FakeCloud(present=["tidegate-smoke-storage"])

    assert run(cloud, "--clean-up", image=None) == 0
    assert cloud.calls == ["identity", "destroy", "forget_logs"]
    with pytest.raises(SmokeFailed, match="nothing was made"):
        run(FakeCloud(present=["tidegate-smoke-storage"]), "--clean-up", image=None, ask=lambda _: "no")


def test_a_bucket_that_gets_one_more_log_object_is_emptied_again() -> None:
    cloud = FakeCloud()
    cloud.destroys_in_vain = 2

    assert run(cloud) == 0
    assert cloud.calls.count("destroy") == 3
    assert cloud.emptied == [f"tidegate-smoke-{use}-{ACCOUNT}-eu-central-1" for use in ("data", "logs")]


def test_what_could_not_be_destroyed_is_named_with_what_to_do() -> None:
    cloud = FakeCloud()
    cloud.destroys_in_vain = 99

    with pytest.raises(SmokeFailed) as raised:
        run(cloud)

    assert "tidegate-smoke-storage, tidegate-smoke-endpoint could not be destroyed and may cost money" in str(
        raised.value
    )
    assert "--clean-up" in str(raised.value)
    assert cloud.calls.count("destroy") == smoke.DESTROY_ATTEMPTS


def test_a_model_that_answers_wrongly_fails_and_is_destroyed() -> None:
    cloud = FakeCloud()
    cloud.accuracy = 0.5

    with pytest.raises(SmokeFailed, match=r"the accuracy of the endpoint is 0\.5"):
        run(cloud)

    assert "destroy" in cloud.calls


def test_the_stage_that_it_deploys_is_pinned_to_the_account_and_keeps_nothing(tmp_path: Path) -> None:
    from tidegate.infra.stage import stage_file

    options = Options(image_uri=IMAGE, instance_type="ml.g6.xlarge", prefix="mine", yes=None, clean_up=False)
    path = tmp_path / "smoke.toml"
    path.write_text(smoke.stage_file(Identity(account=ACCOUNT, region="eu-central-1"), options))

    stage = stage_file.read(path)

    assert (stage.name, stage.prefix, stage.account, stage.region) == ("smoke", "mine", ACCOUNT, "eu-central-1")
    assert not stage.bootstrapped
    assert not stage.retention.keep_data
    assert stage.hosting.mode == "realtime"
    assert stage.hosting.instance_type == "ml.g6.xlarge"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--image-uri is missing; docs/image.md says how to build and push it"),
        (["--image-uri", IMAGE, "--instances", "2"], "unrecognized arguments: --instances 2"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(arguments: list[str], sentence: str) -> None:
    """Really started, as its user would, with nothing to reach AWS with."""
    script = subprocess.run(
        [sys.executable, "-m", "examples.digits.smoke", *arguments],
        cwd=smoke.REPOSITORY,
        env={"PATH": os.defpath, "AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert script.returncode == 2
    assert sentence in script.stderr
    assert "Traceback" not in script.stderr


def test_without_a_region_it_says_so_and_reaches_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)

    assert smoke.main(["--image-uri", IMAGE]) == 1
    assert "smoke: error: no Region is set; export AWS_DEFAULT_REGION=eu-central-1" in capsys.readouterr().err
