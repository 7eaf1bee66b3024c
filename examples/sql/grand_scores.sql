-- GraNd at each epoch, under the names in `scores.parquet`, for experiments that have recorded it. `gradients`
-- holds the rows of the table `grand`, NaN as NULL. An example counts on the first rank that had it in an
-- epoch; a run's value is the mean over its rows in it.
SELECT
    'grand_epoch_' || CAST(epoch AS STRING) AS score,
    example, AVG(value) AS mean, STDDEV_SAMP(value) AS std, COUNT(value) AS count
FROM (
    SELECT run, epoch, example, AVG(grand) AS value
    FROM (
        SELECT *, MIN(rank) OVER (PARTITION BY run, epoch, example) AS first_rank
        FROM gradients
    ) AS ranked
    WHERE rank = first_rank AND grand IS NOT NULL
    GROUP BY run, epoch, example
) AS of_runs
GROUP BY epoch, example
