"""The draft of a price file: from what the AWS Price List answers, for a person to confirm."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.stub import Stubber

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.cost import draft, prices


def product(use: str, *numbers: str, unit: str = "Hrs", currency: str = "USD") -> str:
    """An entry as the list has it: attributes, and terms with price dimensions."""
    dimensions = {
        f"dimension-{index}": {"unit": unit, "pricePerUnit": {currency: number}} for index, number in enumerate(numbers)
    }
    return json.dumps(
        {
            "product": {"attributes": {"platoinstancetype": use, "regionCode": "eu-central-1"}},
            "terms": {"OnDemand": {"term": {"priceDimensions": dimensions}}},
        }
    )


def drafted(capsys: pytest.CaptureFixture[str], *pages: list[str]) -> str:
    client = botocore.session.get_session().create_client(
        "pricing", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stub:
        for number, page in enumerate(pages):
            asked: dict[str, Any] = {
                "ServiceCode": "AmazonSageMaker",
                "Filters": [
                    {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "eu-central-1"},
                    {"Type": "TERM_MATCH", "Field": "instanceName", "Value": "ml.g6.xlarge"},
                ],
            }
            answer: dict[str, Any] = {"PriceList": page}
            if number:
                asked["NextToken"] = "more"
            if number < len(pages) - 1:
                answer["NextToken"] = "more"
            stub.add_response("get_products", answer, asked)
        assert draft.main(["--region", "eu-central-1", "ml.g6.xlarge"], price_list=client) == 0
        stub.assert_no_pending_responses()
    return capsys.readouterr().out


def test_each_use_of_an_instance_gets_its_own_price(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = drafted(
        capsys,
        [product("Hosting", "2.0000000000"), product("Training", "9.0")],
        [product("BatchTransform", "3.5000000000"), product("AsyncInf", "2.25")],
    )
    path = tmp_path / "prices.toml"
    path.write_text(text.replace('confirmed_by = ""', 'confirmed_by = "Ada"'))

    found = prices.read(path)

    assert found.endpoint_hour == {"ml.g6.xlarge": Decimal("2")}
    assert found.transform_hour == {"ml.g6.xlarge": Decimal("3.5")}
    assert found.async_hour == {"ml.g6.xlarge": Decimal("2.25")}
    assert (found.currency, found.region) == ("USD", "eu-central-1")


def test_a_draft_is_refused_until_somebody_puts_a_name_to_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(drafted(capsys, [product("Hosting", "2")]))

    with pytest.raises(ConfigurationError, match=r"prices\.toml: confirmed_by='' is empty; write it out"):
        prices.read(path)


def test_where_the_list_has_no_price_or_two_there_is_a_comment_and_no_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = drafted(capsys, [product("Hosting", "2", "4"), product("AsyncInf", "1", unit="GB")])

    assert '# "ml.g6.xlarge": the list has 2 and 4; choose one' in text
    assert text.count('# "ml.g6.xlarge": not in the list') == 2
    assert '\n"ml.g6.xlarge" =' not in text


def test_prices_in_another_currency_are_not_taken_for_dollars(capsys: pytest.CaptureFixture[str]) -> None:
    assert '\n"ml.g6.xlarge" =' not in drafted(capsys, [product("Hosting", "2", currency="CNY")])


def test_without_a_type_the_command_says_what_it_needs() -> None:
    command = subprocess.run(
        [sys.executable, "-m", "infra.cost.draft", "--region", "eu-central-1"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )

    assert command.returncode == 2
    assert "the following arguments are required: TYPE" in command.stderr


def test_a_list_that_cannot_be_read_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    client = botocore.session.get_session().create_client(
        "pricing", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stub:
        stub.add_client_error("get_products", "AccessDeniedException", "not authorized")
        status = draft.main(["--region", "eu-central-1", "ml.g6.xlarge"], price_list=client)

    assert status == 1
    error = capsys.readouterr().err
    assert error.startswith("draft: error: the AWS Price List cannot be read: ")
    assert error.count("\n") == 1
