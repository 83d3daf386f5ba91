"""Empathetic replies from open language models (Qian, Zhang and Liu 2023), on your own machine.

The public names are imported when they are first used, so that `import localemp` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localemp.assembly import Assembly
    from localemp.data.sources import load_dialogues
    from localemp.dialogue import EMOTIONS, Dialogue, Message
    from localemp.engines.base import Completion, Engine, Sampling
    from localemp.errors import LocalempError
    from localemp.profiles import Profile, load_profile
    from localemp.prompts import Prompts
    from localemp.recipe import Recipe
    from localemp.responder import Responder
    from localemp.runs import Run
    from localemp.strategies.base import Response, Strategy
    from localemp.template import load_template

_HOMES = {
    "Assembly": "assembly",
    "Completion": "engines.base",
    "Dialogue": "dialogue",
    "EMOTIONS": "dialogue",
    "Engine": "engines.base",
    "LocalempError": "errors",
    "Message": "dialogue",
    "Profile": "profiles",
    "Prompts": "prompts",
    "Recipe": "recipe",
    "Responder": "responder",
    "Response": "strategies.base",
    "Run": "runs",
    "Sampling": "engines.base",
    "Strategy": "strategies.base",
    "load_dialogues": "data.sources",
    "load_profile": "profiles",
    "load_template": "template",
}

__all__ = [
    "EMOTIONS",
    "Assembly",
    "Completion",
    "Dialogue",
    "Engine",
    "LocalempError",
    "Message",
    "Profile",
    "Prompts",
    "Recipe",
    "Responder",
    "Response",
    "Run",
    "Sampling",
    "Strategy",
    "load_dialogues",
    "load_profile",
    "load_template",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"localemp.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'localemp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
