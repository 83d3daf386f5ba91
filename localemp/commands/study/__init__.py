"""`study`: plan, create, serve, judge, import, report and export a blinded study of replies (sections 4.3 and 5.4).

from localemp import study

study.create(["runs/a", "runs/b"], out="studies/mine")
study.judge("studies/mine", model="llama")
print(study.report("studies/mine").results.as_dict())
"""

from localemp.commands.study.calibrating import CalibrationResult, calibrate
from localemp.commands.study.creating import CreateResult, create
from localemp.commands.study.exporting import ExportResult, export
from localemp.commands.study.importing import ImportResult, import_
from localemp.commands.study.judging import JudgeResult, judge, judge_all
from localemp.commands.study.planning import PowerResult, power
from localemp.commands.study.reporting import StudyReport, report
from localemp.commands.study.serving import ServedStudy, serve

__all__ = [
    "CalibrationResult",
    "CreateResult",
    "ExportResult",
    "ImportResult",
    "JudgeResult",
    "PowerResult",
    "ServedStudy",
    "StudyReport",
    "calibrate",
    "create",
    "export",
    "import_",
    "judge",
    "judge_all",
    "power",
    "report",
    "serve",
]
