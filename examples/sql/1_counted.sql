-- Observations that count. Data loaders repeat examples to make ranks equally long: an example counts
-- on the first rank that had it in an epoch, there as often as it came.
SELECT
    run, phase, step, epoch, example, position, correct,
    el2n, loss, margin, el1n, confidence, entropy
FROM (
    SELECT *, MIN(rank) OVER (PARTITION BY run, phase, epoch, example) AS first_rank
    FROM observations
) AS ranked
WHERE rank = first_rank
