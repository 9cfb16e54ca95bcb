"""A picture of a number is read by two containers in a row, as an endpoint and in a batch job."""

NEEDS = ""
