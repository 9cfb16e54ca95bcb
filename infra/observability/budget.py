"""The budget of a stage: what its tags may cost in a month, and who hears of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import aws_budgets as budgets
from constructs import Construct


class MonthlyBudget(Construct):
    """A cost budget over everything that carries all of `tags`; mails when a percentage is spent, or will be.

    AWS counts by tag only what carried the tag after it was activated as a cost allocation tag in the Billing console,
    and forecasts only after about five weeks of data.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        monthly_usd: float,
        tags: Mapping[str, str],
        email: str,
        actual_percent: Sequence[int] = (80,),
        forecast_percent: Sequence[int] = (100,),
    ) -> None:
        super().__init__(scope, id_)
        kinds = [("ACTUAL", percent) for percent in actual_percent]
        kinds += [("FORECASTED", percent) for percent in forecast_percent]
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=name,
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=monthly_usd, unit="USD"),
                metrics=["UnblendedCost"],
                # Both tags together: cost filters, the older form, would add up what has either.
                filter_expression=budgets.CfnBudget.ExpressionProperty(
                    and_=[
                        budgets.CfnBudget.ExpressionProperty(
                            tags=budgets.CfnBudget.TagValuesProperty(key=key, values=[value], match_options=["EQUALS"])
                        )
                        for key, value in tags.items()
                    ]
                ),
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        notification_type=kind,
                        comparison_operator="GREATER_THAN",
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[budgets.CfnBudget.SubscriberProperty(subscription_type="EMAIL", address=email)],
                )
                for kind, percent in kinds
            ],
        )
