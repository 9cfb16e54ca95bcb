"""CloudWatch's metrics: what this cloud's services emit, kept in memory by the minute, beside what clients put."""
