"""Words of English that carry grammar or turn-taking rather than content, in lower case, as `words` splits them.

Closed classes: articles, pronouns, prepositions, conjunctions, auxiliaries, question words, words of quantity, degree
and negation, a few adverbs that stand in for nothing else, interjections. What signatures say of the list is
`STOPWORDS_VERSION`, which rises when it changes.
"""

STOPWORDS_VERSION = "localemp-1"

_CLASSES = {
    "articles and demonstratives": "a an the this that these those such",
    "pronouns": """
        i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
        herself it its itself they them their theirs themselves one ones oneself someone somebody something anyone
        anybody anything everyone everybody everything nobody nothing none u ur y'all
    """,
    "question and relative words": """
        who whom whose which what when where why how whoever whatever whichever whenever wherever however
    """,
    "prepositions and particles": """
        about above across after against along among around as at away back before behind below beneath beside besides
        between beyond by down during except for from in inside into like near of off on onto out outside over past per
        since through throughout till to toward towards under until up upon via with within without
    """,
    "conjunctions": """
        and but or nor so yet if unless because cause cuz although though while whereas whether than then either neither
        both
    """,
    "auxiliaries": """
        be am is are was were been being do does did done doing have has had having can could may might must shall
        should will would ought used let lets get gets got getting go goes going gon gonna wan wanna ta got
        cannot
    """,
    "pieces of contractions": """
        's 'm 're 've 'll 'd n't 't s m re ve ll d t ai ca wo sha don didn doesn isn wasn aren weren hasn haven hadn
        couldn wouldn shouldn ain im ive youre youve youll youd hes shes thats theres theyre theyve whats
        dont didnt doesnt isnt wasnt arent werent hasnt havent hadnt cant couldnt wouldnt shouldnt wont aint
    """,
    "negation and quantity": """
        no not never all any anymore another each every few fewer less least little lot lots many more most much several
        some other others enough half only own same else
    """,
    "degree and manner": """
        very too quite rather really pretty just even ever still also almost already always again once often sometimes
        usually maybe perhaps probably actually definitely certainly surely indeed instead somewhat anyway anyways now
        here there soon later ago far well kind sort kinda sorta especially mostly together
    """,
    "interjections and answers": """
        oh ah aw aww awww ooh oops ouch wow whoa yay yikes gosh hey hi hello hmm hm huh uh um yes yeah yea yep yup nope
        nah ok okay alright sure please thanks haha ha lol omg
    """,
}

STOPWORDS = frozenset(word for words in _CLASSES.values() for word in words.split())
