"""What endpoints were asked and how they did: the request log, its summary, ratings, and drift from training data."""

from phi3tune.monitor.drift import drift
from phi3tune.monitor.log import RequestLog
from phi3tune.monitor.ratings import Rating, rate
from phi3tune.monitor.records import Kind, RequestRecord, purge
from phi3tune.monitor.summary import summary

__all__ = ["Kind", "Rating", "RequestLog", "RequestRecord", "drift", "purge", "rate", "summary"]
