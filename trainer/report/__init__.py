"""The evaluation as one self-contained HTML page."""

from trainer.report.write_report import write_report, write_run_report

__all__ = ["write_report", "write_run_report"]
