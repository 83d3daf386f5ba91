"""Overlap with people's replies, of the released outputs of MoEL, EmpDG and CEM, against public implementations.

The values were computed once, on all replies of each file to the published test rows, with these packages:

    ROUGE-L  rouge-score 0.1.2      RougeScorer(["rougeL"]).score(reference, reply)["rougeL"].fmeasure, the mean x100
    METEOR   nltk 3.10.4            meteor_score([reference], reply) of the words, the mean x100; WordNet 3.0
    CIDEr    pycocoevalcap 1.2      Cider().compute_score of the words, without punctuation, joined by spaces, x100

Words of METEOR and CIDEr are those of `tokens.py` in lower case.
"""

import pytest
from wordnet_here import real_wordnet

from localemp.imports.reading import read_import
from localemp.metrics.cider import Cider
from localemp.metrics.meteor import Meteor
from localemp.metrics.rouge import RougeL

VALUES = {
    ("moel", "MoEL/generation_result.txt.gz", "MOE"): (14.724276615841381, 13.43879813203664, 18.17584340911956),
    ("empdg", "EmpDG/EmpDG.txt.gz", "Pred"): (14.631474274564205, 13.461988503176613, 19.189438433472255),
    ("cem", "CEM_ComFact/CEM_link.txt.gz", "Greedy"): (14.294807285424527, 12.20517374547719, 17.12152275163736),
}


@pytest.mark.parametrize(("file", "values"), VALUES.items(), ids=[key[0] for key in VALUES])
def test_equal_to_public_implementations(shared_data, file, values):
    form, path, hypothesis = file
    read = read_import(
        form, shared_data / "baseline_outputs" / path, str(shared_data / "empathetic_dialogues"), hypothesis
    )
    rouge, meteor, cider = values
    assert RougeL().score(read.replies).value == pytest.approx(rouge, abs=1e-9)
    assert Cider().score(read.replies).value == pytest.approx(cider, abs=1e-9)
    assert Meteor(real_wordnet).score(read.replies).value == pytest.approx(meteor, abs=1e-9)
