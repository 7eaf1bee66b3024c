-- Observations that count. Data loaders repeat examples to make ranks equally long: an example counts
-- on the first rank that had it in an epoch, there as often as it came.
--
-- `confidence` that was not recorded follows from `loss` where all targets were classes. With soft targets
-- take the column as it is.
SELECT
    run, phase, step, epoch, example, position, correct,
    el2n, loss, margin, el1n, entropy,
    COALESCE(confidence, CAST(CAST(EXP(-loss) AS REAL) AS DOUBLE)) AS confidence
FROM (
    SELECT *, MIN(rank) OVER (PARTITION BY run, phase, epoch, example) AS first_rank
    FROM observations
) AS ranked
WHERE rank = first_rank
