"""The progress of a study for its owner: answers, attention checks and agreement so far."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from localemp.studies.answers import AnswerStore
from localemp.studies.attention_checks import check_results
from localemp.studies.stats.agreement import CONSTANT, NO_TWO, alpha_of
from localemp.studies.stats.coverage import coverage
from localemp.studies.stats.matrix import RatingMatrix
from localemp.studies.study import JUDGES, Study

FEW = 10
"""Below this many items that two people answered, agreement is not meaningful."""


def overview(study: Study, answers: AnswerStore) -> dict[str, Any]:
    """Return each person's progress, people's agreement on each aspect, and other raters; it names no system."""
    everybody = answers.timed_votes()
    given = [each for each in everybody if each.vote.kind == "person"]
    votes = [each.vote for each in given]
    last = {each.vote.rater: each.at for each in given}
    checked = {each.rater: each for each in check_results(study, votes)}
    matrix, planned = RatingMatrix.of(study, votes), study.manifest.annotators
    return {
        "title": study.manifest.title,
        "items": len(study.items),
        "checks": len(study.key.checks),
        "raters": [
            {
                "name": name,
                "done": done,
                "last": last.get(name, ""),
                "missed": checked[name].missed if name in checked else 0,
                "checked": checked[name].of if name in checked else 0,
            }
            for name, done in answers.progress().items()
        ],
        "coverage": asdict(coverage(matrix, planned)) if planned else None,
        "few": FEW,
        "imported": Counter(each.vote.rater for each in everybody if each.vote.kind == "import"),
        "judges": sorted(folder.name for folder in (study.folder / JUDGES).glob("*/")),
        "agreement": [{"aspect": each.name, **_agreement(matrix.only(each.name))} for each in study.manifest.aspects],
    }


def _agreement(matrix: RatingMatrix) -> dict[str, Any]:
    """Return Krippendorff's ordinal alpha and how often two raters agree, as in `study report` but fast."""
    told = np.isfinite(matrix.values).sum(axis=0)
    answered = np.unique(matrix.values[np.isfinite(matrix.values)]).tolist()
    if not (told > 1).any():
        return {"units": 0, "items": 0, "equal": None, "alpha": None, "why": NO_TWO}
    counts, several = matrix.counts(answered)[told > 1], told[told > 1]
    items = {unit.item for unit, count in zip(matrix.units, told, strict=True) if count > 1}
    alpha = float(alpha_of(counts)(np.ones((1, len(counts))))[0])
    return {
        "units": len(counts),
        "items": len(items),
        "equal": float((counts * (counts - 1)).sum() / (several * (several - 1)).sum()),
        "alpha": alpha if np.isfinite(alpha) else None,
        "why": "" if np.isfinite(alpha) else CONSTANT,
    }
