"""Sentences of an English text, by nltk's Punkt tokenizer (Kiss and Strunk 2006).

Punkt needs a trained model, which does not ship with nltk. The word lists below stand in for what the model knows about
abbreviations, initials and sentence starts; docs/metrics.md reports how often the sentences differ from the trained
model's.
"""

from localemp.metrics.nltk_parts import PunktParameters, PunktSentenceTokenizer


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# One word with their full stop. Punkt's English model learned them from a newspaper: "ok." and "ill." are states, and
# "etc.", "e.g." and "i.e." are unknown to it.
ABBREVIATIONS = _word_set("""
    dr mr mrs ms messrs jr sr st prof gen col lt maj adm sen rep reps ph.d m.b.a
    a.m p.m p.a.m a.d yr vs ft ct mg chg ave inc co cos corp ltd cie bros
    u.s u.k u.n u.s.a u.s.s.r n.y n.j n.h n.c n.d n.m n.v s.c s.g s.a d.c l.a w.va b.v c.v
    jan feb aug sep sept oct nov dec tues wed fri
    ala ariz calif colo conn fla ga ill kan ky mich minn nev ok okla ore pa tenn va vt wash wis
    c d e f g h k l m n r s t v w
""")

# Capitalised after an abbreviation, these start a sentence.
_STARTERS = _word_set("""
    almost although always among anyone anything anyway apparently ask being better both but despite didn does doesn
    dogs either enjoy especially even eventually except feels felt finally fingers going guess hang happy he her
    here honestly however if imagine in instead isn it kids looking losing many meanwhile mine moreover most nor
    nothing okay otherwise please pretty probably regardless remember sadly seeing seems separately seriously
    similarly since so some someone sometimes sorry sounds still such taking thank thanks the there these they
    things think thinking this though thus took totally true try turns under unfortunately unless us very waiting
    were when whenever which while wish without yes yesterday yet your
""")
SENTENCE_STARTERS = _STARTERS | {"i"}

# Words that also occur in lower case: after "I.", one of them starts a sentence and is not a surname.
KNOWN_WORDS = _STARTERS | _word_set("""
    a about actually after again all also am an and any are as at be because been before best by can come could
    definitely did do don each every everyone everything family feel few find first for from getting give go good
    got great had hard has have having his hope how is its just keep kind last let life like little look lots love
    made make makes man may maybe me might more must my never new next no not now of on once one only or others our
    out people perhaps plus poor really school she should something stay take talk tell that then those time to
    today too two until up usually was we well what where who why will with would you
""")

# Punkt's bits for: starts a sentence capitalised; is capitalised inside one; is not capitalised inside one.
_LOWER_AND_UPPER_CASE = 1 << 1 | 1 << 2 | 1 << 5


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, without the space between them."""
    return list(_PUNKT.tokenize(text))


def _punkt() -> PunktSentenceTokenizer:
    parameters = PunktParameters()
    parameters.abbrev_types.update(ABBREVIATIONS)
    parameters.sent_starters.update(SENTENCE_STARTERS)
    for word in KNOWN_WORDS:
        parameters.ortho_context[word] = _LOWER_AND_UPPER_CASE
    return PunktSentenceTokenizer(parameters)


_PUNKT = _punkt()
