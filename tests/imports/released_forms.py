"""Small files in the forms of the released outputs, in our own words; `~` stands for a space that ends a line."""


def _spaced(text):
    return text.replace("~", " ")


DASHES = "-" * 63

MOEL = _spaced("""Emotion: guilty
Context: ['i broke it .', "what ? it 's yours !", 'no : not mine']
trs: oh : no .
trs+multitask: ref: is what ?
MOE: i see .~
MOE+oracle: MOE: is odd
ref: why ?

Emotion: sad
Context: ["it 's gone ."]
trs: a
trs+multitask: b
MOE: c
MOE+oracle: d
ref: e
""")

MIME = _spaced("""### COMMENT: If using vader, a score above 0 is a good one ###~
EVAL\tLoss\tPPL\tAccuracy\tBleu_g\tBleu_b\tBleu_t
test\t3.6\t37.5\t0.3\t2.7\t3.1\t1.7
emotion:guilty\tvader-score: 0.0129\tpredicted_emotion: terrified
Context:['i broke it .']
Topk:oh , greedy !~
Beam: i see .~
Greedy:really ?~
Ref:why ?
----------------------------------------------------------------------
""")

EMPDG = _spaced("""emotion:guilty~
Context:['i broke it .']~
Emotion_context:['broke']~
Pred:dear me !~~
Ref:feeling bad ?~
emotion:sad~
Context:['it is gone .']~
Emotion_context:[]~
Pred:~
Ref:which one ?~
""")

KEMP = _spaced("""Emotion:guilty~
Context:['i broke it .']~
Concept:[defaultdict(<class 'list'>, {'broke': ['money']})]~
Pred:dear me !~~
Ref:feeling bad ?~
""")

CEM = _spaced(f"""EVAL\tLoss\tPPL\tAccuracy
3.5\t36.1\t2.8\t0.3
Emotion: guilty
Pred Emotions: ashamed, guilty, sad
x_intent:[]
x_react:['bad : very']
Context:['i broke it .']
Beam:eager beaver !~
Greedy:great , greedy !~
Ref:feeling bad ?
{DASHES}
Emotion: sad
Pred Emotions: sad, lonely, afraid
x_intent:[]
x_react:[]
Context:['it is gone .']
Greedy:oh !~
Ref:which one ?
{DASHES}
""")

SEEK = _spaced(f"""Loss\tAccuracy
3.5\t36.1\t0.3\t0.3\t0.3\t0.1\t0.2\t9.00\t
Emotion: guilty
Context:['i broke it .']
Greedy:oh !~
Ref:why ?
{DASHES}
""")

EMPHI = _spaced("""Emotion: guilty
Context: i broke it . [SEP] why ? [SEP] i was angry .
Generated: that is sad .
Reference: you are right : it was .

""")

FILES = {
    "moel": MOEL,
    "mime": MIME,
    "empdg": EMPDG,
    "kemp": KEMP,
    "cem": CEM,
    "case": CEM.replace("Pred Emotions: ashamed, guilty, sad\n", "").replace(
        "Pred Emotions: sad, lonely, afraid\n", ""
    ),
    "seek": SEEK,
    "emphi": EMPHI,
}
