"""A report: what was gathered -> figures, tables and one page."""

from easyep.presenting.writing import Report, report

__all__ = ["Report", "report"]
