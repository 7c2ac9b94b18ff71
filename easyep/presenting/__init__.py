"""A report: what was gathered -> figures, tables and one page."""

from easyep.presenting.report import Report, report

__all__ = ["Report", "report"]
