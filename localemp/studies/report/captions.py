"""Notes below the tables of a study: what its results mean, and how reliable they are."""

FEW = 30  # dialogues, below which percentiles of samples are too close to one another

PREFERENCES = (
    "Won: wins among wins and losses, with Wilson's 95 % interval; beside it the 95 % interval by bootstrap over "
    "dialogues. p: exact binomial test of wins against losses, two-sided. t, p (t): paired t-test over dialogues, "
    "two-sided, as the paper reports, of the share of votes for the first less that for the second; it takes lose, tie "
    "and win as equally far apart. Neither is corrected for the number of rows."
)
POOLED = (
    "Rows of votes pool the votes of all raters over all items, as the paper's Table 4 does. Votes on one item are not "
    "independent: where raters agree, Wilson's interval is too narrow and p too small. Rows of majorities have one "
    "vote an item, a tie where no answer has most. Intervals over dialogues and t hold for both."
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
MEAN = "The raters of a reply are averaged first."
MAJORITY = "A reply has the rating that more than half of its raters gave; where there is none, their median."
MEAN_RATING = "Of ratings; people's is the mean of a reply's raters."
MAJORITY_RATING = (
    "Of ratings; people's is that of more than half of a reply's raters; where there is none, their median."
)
STEPS = "They take the steps of the scale as equal."
PERSON = (
    "Intervals: 95 % over dialogues. Person: one rater with the others of the same items, mean over raters weighted by "
    "what they share, lowest and highest of those who share much; a judge cannot be expected to do much better."
)
WITHIN = (
    "Rows that name no {part} pool all. What is pooled is above 0 already where people and judge prefer the same "
    "systems and agree on no item of any {part}: read the rows of each {part}."
)
FIRST = (
    "First shown: the reply that the rater saw first, among choices other than ties, with Wilson's 95 % interval; 50 % "
    "is fair."
)
UNREAD = "Unread: answers that could not be read; no vote was made of them."
FLIPS = (
    "Flips: pairs whose two orders disagree. They count as ties, except where both orders have probabilities: there "
    "the mean of the two decides. First shown: among answers that prefer a reply; 50 % is fair. "
    "Intervals: Wilson's, 95 %."
)
MEASURED = (
    "First shown (P), Confidence and Mass are of judges whose answers have probabilities: the share of the probability "
    "of either reply that the one shown first has (50 % is fair), the mean probability of a vote (of a rating, of the "
    "likeliest one), and how probable the answers are together. With a mass below 50 % a judge would mostly write "
    "something else than an answer: trust it little."
)
TOO_FEW = f"With fewer than {FEW} dialogues, intervals over dialogues are rather too narrow."
