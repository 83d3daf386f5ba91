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
BESIDE = (
    "Wins, losses and ties of the comparison's first system; below, its wins among wins and losses, with Wilson's 95 % "
    "interval, which takes votes for independent. People's votes are pooled."
)
BESIDE_RATINGS = "Means, with 95 % intervals over dialogues."
BESIDE_AGREEMENT = (
    "Alpha, with its 95 % interval over dialogues, and what follows it are of judges alone: how far they agree with "
    "each other on what two of them or more answered (Both). Judges that agree may share their errors."
)
TOO_FEW = f"With fewer than {FEW} dialogues, intervals over dialogues are rather too narrow."
BIAS = (
    "Shares of choices for the reply shown first, each with its 95 % interval over dialogues; 50 % is no bias. First "
    "shown: as it is, each order that a pair was shown in for itself, ties and probabilities as parts of a choice. "
    "The others are of one logistic regression, all else equal: of being shown first (Position), of having twice as "
    "many words (separated by white space), of being a reply of the judge's own model, and of being the one that all "
    "people prefer, which is no bias: a judge with 50 % there does not see what people see. What people think of the "
    "systems over all dialogues is held equal, too, where there are three systems or more; what people miss of single "
    "replies stays in length."
)
OWN = "Own model: replies of {systems}."
OWN_UNKNOWN = "Own model: no system is known to be of this judge's family; `study calibrate --own SYSTEM` names one."
ACCURACY = (
    "Both orders of a pair are averaged. As people: share of the pairs with a preference of people in which the judge "
    "prefers the same reply, however little, its ties half; 50 % is chance. Kappa: Cohen's, of first, second and tie "
    "(a share of exactly one half, which judges with probabilities hardly ever have). "
    "Tau-b, Spearman: of the judge's share for a reply with people's, each pair in both directions. Intervals: 95 % "
    "over dialogues."
)
WIN_RATES = (
    "Over all aspects and all other systems. Won: the judge's share for the system. Equal length: what a logistic "
    "regression for each pair of systems predicts where both replies have the same number of words, after AlpacaEval 2 "
    "(which counts characters and has further terms). Words more: mean difference to the other reply. Strength: "
    "Bradley and Terry's, log odds against a system of mean strength. Intervals: 95 % over dialogues."
)
WIN_RATES_PEOPLE = "People: the same of people's choices on these pairs."
CORRECTED = (
    "The first system's share, over all aspects. Sensitivity and specificity: the judge's share for the system that "
    "people prefer, where that is the first and where it is the second. Corrected: the share that people would have "
    "for the first, given these (Rogan and Gladen), if the pairs that people answered are like the others. Intervals: "
    "95 % over dialogues."
)
LENIENCY = (
    "Ratings as a share of the scale: 0 % is the lowest, 100 % the highest. Judge, People: means; people's is of each "
    "reply's mean. Difference above 0: the judge is lenient. Spread: standard deviation of the judge's ratings over "
    "that of single people's; below 1 it uses less of the scale. Highest: share of ratings at the top of the scale. A "
    "judge with probabilities rates by means of the scale, which vary less and are hardly ever the highest. Intervals: "
    "95 % over dialogues."
)
EFFECTIVE = (
    "Independent judges: n / (1 + (n - 1) x mean correlation), Kish's effective sample size. An error is a judge's "
    "answer less people's; without people it is the answer itself, and the number a lower bound. What people's "
    "answers have of noise is in every judge's error, so that correlations are rather too high. Intervals: 95 % over "
    "dialogues."
)
RATING_BIAS = (
    "What a judge's rating gains, as a share of the scale, all else equal in one linear regression: by twice as many "
    "words, by being a reply of the judge's own model, and from the lowest to the highest of people's mean ratings, "
    "which is no bias: 100 % would follow people. What people think of the systems over all dialogues is held equal, "
    "too, where there are three systems or more; what people miss of single replies stays in length. Intervals: 95 % "
    "over dialogues."
)
