"""A transform job looked at afterwards: how long it took and where the time went, its requests, its errors.

DescribeTransformJob ─┐
log streams ─▶ lines ─┼▶ figures ─▶ report ─▶ text, JSON, page
S3: input, output ────┤ (bounded memory)
CloudWatch metrics ───┘

Everything in it was left by the job. What cannot be had is named with the reason, and the rest is shown.
"""

from tidegate.client.report.making import make
from tidegate.client.report.page import as_page
from tidegate.client.report.report import Report
from tidegate.client.report.text import as_text

__all__ = ["Report", "as_page", "as_text", "make"]
