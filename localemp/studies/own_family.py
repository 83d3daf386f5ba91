"""Judges of the same family as a system that they judge: they may prefer its replies.

Which system that is belongs to the key. So it is said to the study's owner, on the screen and in reports, and never
written to a judge's folder, which everybody may see.
"""

from collections.abc import Mapping
from typing import Any

from localemp.models.families import families_in, families_of
from localemp.studies.study import Study

OwnFamily = Mapping[str, frozenset[str]]
"""The systems of a judge's own family, and the families that they share."""


def own_family(study: Study, settings: Mapping[str, Any]) -> OwnFamily:
    """Return the systems of a study that are of the same family as a judge; the study's key is read.

    Args:
        study: What is judged.
        settings: Of the judge's model, as its manifest has them.

    Raises:
        RunError: The key cannot be read.
    """
    return systems_of_own_family(study.key.sources, settings)


def systems_of_own_family(sources: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> OwnFamily:
    """Return the systems that are of the same family as a judge.

    Args:
        sources: Where the replies of each system come from.
        settings: Of the judge's model.
    """
    own = families_of(settings)
    shared = {system: own & families_of_system(system, source) for system, source in sources.items()}
    return {system: families for system, families in shared.items() if families}


def families_of_system(name: str, source: Mapping[str, Any]) -> frozenset[str]:
    """Return the families of a system: by the settings of its run, or by its name where replies came from elsewhere.

    Args:
        name: The system's.
        source: Where its replies come from, as a study's key has it.
    """
    settings = source.get("settings")
    return families_of(settings) if isinstance(settings, Mapping) else families_in(name)


def family_note(judge: str, systems: OwnFamily) -> str:
    """Return what to tell whoever owns the judge's answers."""
    families = sorted(frozenset[str]().union(*systems.values()))
    told = ", ".join(systems)
    return (
        f"{judge} is of the same family as {told} ({', '.join(families)}): judges may prefer the replies of their own "
        "family; ask a judge of another family, too"
    )
