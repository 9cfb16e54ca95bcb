"""What the CDK command line calls in the place of docker, with a client that only says what it was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.local_cloud import asset_docker

BUILD = ["build", "--tag", "asset", "--platform", "linux/amd64", "--output=type=image,oci-mediatypes=false", "."]


@pytest.mark.parametrize(("version", "keeps"), [("20.10.24", False), ("23.0.1", True), ("29.0.1", True)])
def test_an_older_client_builds_without_the_output_that_it_cannot_choose(
    version: str, keeps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it makes by itself is pushed as a Docker manifest anyway."""
    client, asked = tmp_path / "docker", tmp_path / "asked"
    client.write_text(
        f'#!/bin/sh\ncase "$1" in version) echo {version};; build) shift; echo build "$@" >{asked};; esac\n'
    )
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    assert asset_docker.main(BUILD) == 0
    wanted = BUILD if keeps else [word for word in BUILD if not word.startswith("--output")]
    assert asked.read_text().split() == wanted
