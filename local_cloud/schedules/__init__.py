"""Schedules that fire: rules of EventBridge, EventBridge Scheduler's own, and scheduled actions of scaling."""
