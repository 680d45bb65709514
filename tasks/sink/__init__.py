"""Writing back: what differs is found first (`plan`), and only that is written (`load`)."""

from tasks.sink.load import load
from tasks.sink.model import LoadCounts, TablePlan
from tasks.sink.plan import plan

__all__ = ["LoadCounts", "TablePlan", "load", "plan"]
