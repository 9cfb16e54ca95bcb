"""Which rooms of an account are emptied after a test: every one that the local cloud fills."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from tidegate.local_cloud.leftovers import ROOMS, STOPPED, Room
from tidegate.local_cloud.sagemaker.capabilities import SUPPORT

ROOT = Path(__file__).parents[2]
WITHOUT_A_ROOM = {
    "ec2": "networks, in which nothing runs",
    "kms": "keys, which AWS does not delete either",
    "sts": "has nothing",
    "sagemaker-runtime": "has nothing",
}


def test_what_sagemaker_creates_is_deleted_or_else_stopped() -> None:
    gone = {room.delete for room in ROOMS} | {stop for _, stop in STOPPED.values()}
    forgotten = [
        operation
        for operation in SUPPORT
        if operation.startswith("Create")
        and not {xform_name(operation.replace("Create", verb, 1)) for verb in ("Delete", "Stop")} & gone
    ]
    assert forgotten == []


def test_each_service_that_a_stack_fills_has_a_room() -> None:
    sources = (ROOT / "local_cloud" / "cloudformation").glob("*.py")
    used = {name for path in sources for name in re.findall(r'client\("([\w-]+)"', path.read_text(encoding="utf-8"))}
    assert len(used) > 10
    assert used - {room.service for room in ROOMS} - WITHOUT_A_ROOM.keys() == set()


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: f"{room.service}-{room.delete}-{room.member}")
def test_a_room_is_listed_and_deleted_as_the_model_of_its_service_has_it(room: Room) -> None:
    model = botocore.session.Session().get_service_model(room.service)
    operations = {xform_name(name): model.operation_model(name) for name in model.operation_names}
    listing, delete = operations[room.listing], operations[room.delete]
    items = listing.output_shape.members[room.member].member
    assert set(room.asked) <= set(listing.input_shape.members)
    assert set(room.key) <= set(items.members if room.key else ())
    given = {*(room.parameters or room.key), *room.further}
    assert set(delete.input_shape.required_members) <= given <= set(delete.input_shape.members)
