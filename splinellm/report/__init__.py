"""Reports: what was measured, as one page that needs nothing else, or as records."""

from splinellm.report.evaluation import evaluation_page
from splinellm.report.page import Cell, Figure, Page, Section, Table, write_report
from splinellm.report.records import report_records, write_records
from splinellm.report.training import training_page

__all__ = [
    "evaluation_page",
    "training_page",
    "Page",
    "Section",
    "Table",
    "Cell",
    "Figure",
    "write_report",
    "report_records",
    "write_records",
]
