"""Empathetic replies from open language models (Qian, Zhang and Liu 2023), on your own machine.

Public names are imported on first use, so that `import localemp` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from localemp.utils.torch_builds import hide_mismatched_builds

if TYPE_CHECKING:
    from localemp.commands import study
    from localemp.commands.compare import CompareResult, compare
    from localemp.commands.compare_all import CompareAllResult, compare_all
    from localemp.commands.estimate import estimate, estimate_experiment
    from localemp.commands.experiment import ExperimentResult, experiment, experiment_async
    from localemp.commands.export import ExportResult, export
    from localemp.commands.generate import GenerateResult, generate, generate_async
    from localemp.commands.prompts import check_prompts, export_prompts, list_prompts
    from localemp.commands.read_run import StoredRun, read_run
    from localemp.commands.report import ReportResult, report
    from localemp.commands.respond import respond, respond_async
    from localemp.commands.retrieval import BuiltIndex, build_index
    from localemp.commands.run_list import RunList, list_runs
    from localemp.commands.score import ScoreResult, score
    from localemp.commands.verify import verify
    from localemp.data.sources import load_dialogues
    from localemp.dialogue import EMOTIONS, Dialogue, Message
    from localemp.engines.base import Completion, Engine
    from localemp.errors import LocalempError
    from localemp.estimates.estimate import Estimate
    from localemp.experiments.plan import Plan, read_plan
    from localemp.models.profiles import Profile, load_profile
    from localemp.pipeline.config import RunConfig
    from localemp.pipeline.pipeline import Pipeline
    from localemp.pipeline.responder import Responder
    from localemp.prompting.render import Prompts
    from localemp.prompting.template import load_template
    from localemp.runs.run import Run
    from localemp.runs.verified import Verification
    from localemp.sampling import Sampling
    from localemp.strategies.base import Response
    from localemp.strategies.strategy import Strategy
    from localemp.utils.progress import OnProgress, Progress

    __version__: str

_HOMES = {
    "build_index": "commands.retrieval",
    "BuiltIndex": "commands.retrieval",
    "check_prompts": "commands.prompts",
    "compare": "commands.compare",
    "compare_all": "commands.compare_all",
    "CompareAllResult": "commands.compare_all",
    "CompareResult": "commands.compare",
    "Completion": "engines.base",
    "Dialogue": "dialogue",
    "EMOTIONS": "dialogue",
    "export_prompts": "commands.prompts",
    "list_prompts": "commands.prompts",
    "estimate": "commands.estimate",
    "estimate_experiment": "commands.estimate",
    "Estimate": "estimates.estimate",
    "Engine": "engines.base",
    "export": "commands.export",
    "ExportResult": "commands.export",
    "experiment": "commands.experiment",
    "experiment_async": "commands.experiment",
    "ExperimentResult": "commands.experiment",
    "generate": "commands.generate",
    "generate_async": "commands.generate",
    "GenerateResult": "commands.generate",
    "list_runs": "commands.run_list",
    "load_dialogues": "data.sources",
    "load_profile": "models.profiles",
    "load_template": "prompting.template",
    "LocalempError": "errors",
    "Message": "dialogue",
    "OnProgress": "utils.progress",
    "Pipeline": "pipeline.pipeline",
    "Plan": "experiments.plan",
    "Profile": "models.profiles",
    "Progress": "utils.progress",
    "Prompts": "prompting.render",
    "read_plan": "experiments.plan",
    "read_run": "commands.read_run",
    "report": "commands.report",
    "respond": "commands.respond",
    "respond_async": "commands.respond",
    "ReportResult": "commands.report",
    "Responder": "pipeline.responder",
    "Response": "strategies.base",
    "Run": "runs.run",
    "RunConfig": "pipeline.config",
    "RunList": "commands.run_list",
    "Sampling": "sampling",
    "score": "commands.score",
    "ScoreResult": "commands.score",
    "StoredRun": "commands.read_run",
    "Strategy": "strategies.strategy",
    "Verification": "runs.verified",
    "verify": "commands.verify",
}

__all__ = [
    "EMOTIONS",
    "BuiltIndex",
    "CompareAllResult",
    "CompareResult",
    "Completion",
    "Dialogue",
    "Engine",
    "Estimate",
    "ExperimentResult",
    "ExportResult",
    "GenerateResult",
    "LocalempError",
    "Message",
    "OnProgress",
    "Pipeline",
    "Plan",
    "Profile",
    "Progress",
    "Prompts",
    "ReportResult",
    "Responder",
    "Response",
    "Run",
    "RunConfig",
    "RunList",
    "Sampling",
    "ScoreResult",
    "StoredRun",
    "Strategy",
    "Verification",
    "build_index",
    "check_prompts",
    "compare",
    "compare_all",
    "estimate",
    "estimate_experiment",
    "experiment",
    "experiment_async",
    "export",
    "export_prompts",
    "generate",
    "generate_async",
    "list_prompts",
    "list_runs",
    "load_dialogues",
    "load_profile",
    "load_template",
    "read_plan",
    "read_run",
    "report",
    "respond",
    "respond_async",
    "score",
    "study",
    "verify",
]


hide_mismatched_builds()

# Names of 0.1, which scripts of that time use.
_FORMER = {"Assembly": ("pipeline.former", "Assembly"), "Recipe": ("pipeline.config", "RunConfig")}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("localemp")
    if name in _FORMER:
        module, name = _FORMER[name]
        return getattr(import_module(f"localemp.{module}"), name)
    if name == "study":
        return import_module("localemp.commands.study")
    if name in _HOMES:
        return getattr(import_module(f"localemp.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'localemp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
