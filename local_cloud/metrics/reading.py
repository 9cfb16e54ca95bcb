"""GetMetricData and GetMetricStatistics: what is kept of series, period by period, with percentiles and metric math.

moto's own have neither, and add up the series of a client that have further dimensions. CloudWatch takes each
combination of dimensions for a metric of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

from tidegate.local_cloud.metrics.expressions import ExpressionError, evaluate_all, names_in
from tidegate.local_cloud.metrics.moto_metrics import add_to
from tidegate.local_cloud.metrics.store import Tally, is_statistic
from tidegate.local_cloud.request_gate import Refusal

Json = dict[str, Any]
_STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_MOST_POINTS = 1440  # of GetMetricStatistics
_MOST_QUERIES = 500
_MOST_PERIODS = 1_000_000
_FINE_PERIODS_S = (1, 5, 10, 20, 30)


def check(operation: str, request: Json) -> None:
    """Raises :class:`.Refusal` for what CloudWatch, or this cloud, does not read."""
    match operation:
        case "GetMetricStatistics":
            _check_statistics(request)
        case "GetMetricData":
            _check_queries(request)


@dataclass(frozen=True, slots=True)
class MetricReading:
    """Answers from what ``backend`` has."""

    backend: CloudWatchBackend

    def statistics(self, request: Json) -> Json:
        """The answer to GetMetricStatistics, as moto has its members."""
        period = timedelta(seconds=request["Period"])
        wanted = [*(request.get("Statistics") or []), *(request.get("ExtendedStatistics") or [])]
        begin, end = _from_full_period(request["StartTime"], period), _naive(request["EndTime"])
        found, units = self._tallies(request, begin, end, period)
        points = []
        for place in sorted(found):
            point: Json = {"Timestamp": begin + place * period, "Unit": units[place]}
            values = {name: found[place].statistic(name) for name in wanted}
            point |= {name: value for name, value in values.items() if name in _STATISTICS}
            extended = {name: value for name, value in values.items() if name not in _STATISTICS and value is not None}
            points.append(point | ({"ExtendedStatistics": extended} if extended else {}))
        return {"Label": request["MetricName"], "Datapoints": points}

    def data(self, request: Json) -> Json:
        """The answer to GetMetricData. Raises :class:`.Refusal` for an expression that cannot be computed."""
        queries: Sequence[Json] = request["MetricDataQueries"]
        period = _common_period(queries)
        begin, end = _from_full_period(request["StartTime"], period), _naive(request["EndTime"])
        count = max(0, -((begin - end) // period))
        values: dict[str, list[float | None]] = {}
        for query in queries:
            if "MetricStat" in query:
                values[query["Id"]] = self._values(query["MetricStat"], begin, end, period, count)
        metrics = frozenset(values)
        results: dict[str, list[list[float | None]]] = {name: [each] for name, each in values.items()}
        for query in _in_order(queries):
            try:
                results[query["Id"]] = evaluate_all(query["Expression"], values, count, metrics=metrics)
            except ExpressionError as error:
                raise _bad_expression(query["Id"], error) from error
            if len(results[query["Id"]]) == 1:
                values[query["Id"]] = results[query["Id"]][0]
        answered = []
        for query in queries:
            if query.get("ReturnData", True):
                for each in results[query["Id"]]:
                    answered.append(_result(query, each, begin, period, request.get("ScanBy")))
        return {"MetricDataResults": answered}

    def _values(self, stat: Json, begin: datetime, end: datetime, period: timedelta, count: int) -> list[float | None]:
        """One value for each period of the whole query, of a metric whose own periods may be longer."""
        own = timedelta(seconds=stat["Period"])
        wide = own // period
        start = _from_full_period(begin, own)
        found, _ = self._tallies({**stat["Metric"], "Unit": stat.get("Unit")}, start, end, own)
        values: list[float | None] = [None] * count
        first = (start - begin) // period
        for place, tally in found.items():
            target = first + place * wide
            if 0 <= target < count:
                values[target] = tally.statistic(stat["Stat"])
        return values

    def _tallies(
        self, metric: Json, begin: datetime, end: datetime, period: timedelta
    ) -> tuple[dict[int, Tally], dict[int, str]]:
        """What was seen of exactly that metric, by the number of the period from ``begin`` on, and the units."""
        dimensions = Counter((each["Name"], each["Value"]) for each in metric.get("Dimensions") or [])
        found: dict[int, Tally] = defaultdict(Tally)
        units: dict[int, str] = {}
        for datum in self.backend.get_all_metrics():
            if (datum.namespace, datum.name) != (metric["Namespace"], metric["MetricName"]):
                continue
            moment = _naive(datum.timestamp)
            if not begin <= moment < end or (metric.get("Unit") and datum.unit != metric["Unit"]):
                continue
            if Counter((each.name, each.value) for each in datum.dimensions) != dimensions:
                continue
            place = (moment - begin) // period
            add_to(found[place], datum)
            units[place] = datum.unit or "None"
        return found, units


def _data(self: CloudWatchResponse) -> ActionResult:
    return ActionResult(MetricReading(self.cloudwatch_backend).data(self._get_params()))


def _statistics(self: CloudWatchResponse) -> ActionResult:
    return ActionResult(MetricReading(self.cloudwatch_backend).statistics(self._get_params()))


CloudWatchResponse.get_metric_data = _data  # type: ignore[method-assign]
CloudWatchResponse.get_metric_statistics = _statistics  # type: ignore[method-assign]


def _check_statistics(request: Json) -> None:
    extended = request.get("ExtendedStatistics") or []
    if not request.get("Statistics") and not extended:
        raise Refusal("Must specify either Statistics or ExtendedStatistics", code="InvalidParameterCombination")
    for name in extended:
        _demand_statistic(name, "ExtendedStatistics")
    _check_period(request["Period"])
    begin, end = _naive(request["StartTime"]), _naive(request["EndTime"])
    if begin >= end:
        said = "The parameter StartTime must be less than the parameter EndTime."
        raise Refusal(said, code="InvalidParameterValue")
    points = -((begin - end) // timedelta(seconds=request["Period"]))
    if points > _MOST_POINTS:
        raise Refusal(
            f"You have requested up to {points:,} datapoints, which exceeds the limit of {_MOST_POINTS:,}. You may"
            " reduce the datapoints requested by increasing Period, or decreasing the time range.",
            code="InvalidParameterCombination",
        )


def _check_queries(request: Json) -> None:
    begin, end = _naive(request["StartTime"]), _naive(request["EndTime"])
    if begin > end:
        raise Refusal("The parameter EndTime must be greater than StartTime.")
    if begin == end:
        raise Refusal("The parameter StartTime must not equal parameter EndTime.")
    queries = request["MetricDataQueries"]
    if len(queries) > _MOST_QUERIES:
        raise Refusal(f"The collection MetricDataQueries must not have a size greater than {_MOST_QUERIES}.")
    seen: set[str] = set()
    for number, query in enumerate(queries, start=1):
        if "MetricStat" not in query and "Expression" not in query:
            raise Refusal(f"The parameter MetricDataQueries.member.{number}.MetricStat is required.\n")
        if "MetricStat" in query and "Expression" in query:
            raise Refusal(
                f"The parameters MetricDataQueries.member.{number}.MetricStat and"
                f" MetricDataQueries.member.{number}.Expression are mutually exclusive and you have specified both."
            )
        if query["Id"] in seen:
            raise Refusal("The values for parameter id in MetricDataQueries are not unique.")
        seen.add(query["Id"])
        if "MetricStat" in query:
            _demand_statistic(query["MetricStat"]["Stat"], f"MetricDataQueries.member.{number}.MetricStat.Stat")
            _check_period(query["MetricStat"]["Period"])
        elif query["Expression"].lstrip().upper().startswith(("SELECT", "SEARCH")):
            word = query["Expression"].split(maxsplit=1)[0].partition("(")[0].upper()
            raise Refusal(f"The local cloud does not have {word} in GetMetricData.")
    if (end - begin) / _common_period(queries) > _MOST_PERIODS:
        raise Refusal(
            f"The local cloud reads at most {_MOST_PERIODS:,} periods at once: ask for a shorter time, or a longer"
            " Period."
        )
    if not any(query.get("ReturnData", True) for query in queries):
        raise Refusal("At least one element of MetricDataQueries must return data.")


def _check_period(period_s: int) -> None:
    if period_s not in _FINE_PERIODS_S and period_s % 60:
        raise Refusal(
            f"The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60, and is {period_s}.",
            code="InvalidParameterValue",
        )


def _demand_statistic(name: str, member: str) -> None:
    if not is_statistic(name):
        raise Refusal(
            f"The local cloud does not have the statistic {name} of {member}: it has {', '.join(_STATISTICS)} and"
            " percentiles such as p99.9.",
            code="InvalidParameterValue",
        )


def _in_order(queries: Sequence[Json]) -> Iterable[Json]:
    """The expressions, each behind those that it names. Raises :class:`.Refusal` for a circle."""
    waiting = {query["Id"]: query for query in queries if "Expression" in query}
    named: dict[str, set[str]] = {}
    for name, query in waiting.items():
        try:
            named[name] = names_in(query["Expression"])
        except ExpressionError as error:
            raise _bad_expression(name, error) from error
    while waiting:
        ready = [name for name in waiting if not (named[name] & waiting.keys())]
        if not ready:
            raise Refusal(f"The expressions {', '.join(waiting)} name one another in a circle.")
        for name in ready:
            yield waiting.pop(name)


def _bad_expression(name: str, error: ExpressionError) -> Refusal:
    return Refusal(f"Error in expression '{name}': {error}")


def _common_period(queries: Sequence[Json]) -> timedelta:
    """The shortest of the metrics' periods, over which expressions are computed."""
    periods = [query["MetricStat"]["Period"] for query in queries if "MetricStat" in query]
    periods += [query["Period"] for query in queries if "Period" in query]
    return timedelta(seconds=min(periods, default=60))


def _result(query: Json, values: Sequence[float | None], begin: datetime, period: timedelta, order: Any) -> Json:
    stat = query.get("MetricStat")
    name = query["Id"] if stat is None else f"{stat['Metric']['MetricName']} {stat['Stat']}"
    points = [(begin + place * period, value) for place, value in enumerate(values) if value is not None]
    if order != "TimestampAscending":
        points.reverse()
    return {
        "Id": query["Id"],
        "Label": query.get("Label") or name,
        "Timestamps": [moment for moment, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete",
    }


def _naive(moment: datetime) -> datetime:
    """As moto has them: UTC, without a time zone and in full seconds."""
    plain = moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    return plain.replace(microsecond=0)


def _from_full_period(moment: datetime, period: timedelta) -> datetime:
    """The beginning of the minute that a time is in, of a shorter period the second ("rounded down", API reference)."""
    plain = _naive(moment)
    return plain.replace(second=0) if period >= timedelta(minutes=1) else plain
