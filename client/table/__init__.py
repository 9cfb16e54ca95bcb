"""A finished transform job as one Parquet file of a table: needs pyarrow, the extra `table`.

DescribeTransformJob ─▶ objects ─▶ blocks of whole lines ─▶ columns ─▶ row groups ─▶ one upload
                    (pairs of input   (input beside output,    (as the table     (whole, or
                      and output)       line by line)            has them)        nothing)
"""

from tidegate.client.table.column import Column, columns_of
from tidegate.client.table.job_table import Written, write

__all__ = ["Column", "Written", "columns_of", "write"]
