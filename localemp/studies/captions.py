"""What stands below the tables of a study: how its figures are meant, and how far they can be trusted."""

FEW = 30  # dialogues, below which percentiles of samples are too close to one another

PREFERENCES = (
    "Won: wins among wins and losses, with Wilson's 95 % interval; beside it the 95 % interval by bootstrap over "
    "dialogues. p: exact binomial test of wins against losses, two-sided, not corrected for the number of rows."
)
POOLED = (
    "Rows of votes count every vote, as the paper does. Votes on one item are not independent: where raters agree, "
    "Wilson's interval is too narrow and p too small. Rows of majorities have one vote an item, a tie where no answer "
    "has most votes. Intervals over dialogues hold for both."
)
ORDER = (
    "Answers count as lose, tie and win of a comparison's first system, in this order. To name the systems in another "
    "order changes what is pooled over several comparisons, and nothing within one."
)
AGREEMENT = (
    "Alpha: Krippendorff's, ordinal, with its 95 % interval over dialogues. Kappa: Fleiss', which knows only equal and "
    "unequal. Equal: among all pairs of raters of one item. Spearman: mean over pairs of raters, weighted by what both "
    "answered. Chance is 0 for all but Equal."
)
LABELS = "Of the labels win 1, tie 0 and lose −1 of a comparison's first system; people's is that of their majority."
MEANS = "Of ratings; people's is the mean of a reply's raters."
PERSON = (
    "Intervals: 95 % over dialogues. Person: one rater with the others of the same items, mean over raters weighted by "
    "what they share, lowest and highest of those who share much; of a judge nobody can expect much more."
)
WITHIN = (
    "Rows that name no {part} pool all. What is pooled is above 0 already where people and judge prefer the same "
    "systems and agree on no item of any {part}: read the rows of each {part}."
)
FIRST = (
    "First shown: the reply that the rater saw first, among choices that are no tie, with Wilson's 95 % interval; 50 % "
    "is fair."
)
UNREAD = "Unread: answers that could not be read; no vote was made of them."
FLIPS = (
    "Flips: pairs whose two orders disagree, which makes them ties. First shown: among answers that prefer a reply; "
    "50 % is fair. Intervals: Wilson's, 95 %."
)
TOO_FEW = f"With fewer than {FEW} dialogues, intervals over dialogues are rather too narrow."
