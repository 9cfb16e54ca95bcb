"""Alarms that are looked at: evaluated every minute of the cloud's clock, and acting when their state changes.

moto stores alarms and lets a caller set their state. What changes it here is the metrics.
"""
