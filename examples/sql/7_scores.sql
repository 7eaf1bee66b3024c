-- Every score under the name that it has in `scores.parquet`: one row for each score and example, with
-- mean, sample standard deviation and count over runs. What has no number in any run has no row. The
-- deviation is NULL for one run, and where the mean is infinite.
SELECT
    signal || '_' || phase || '_epoch_' || CAST(epoch AS STRING) AS score,
    example, mean, std, count
FROM epoch_scores
UNION ALL
SELECT epoch_scores.signal AS score, epoch_scores.example AS example,
    epoch_scores.mean AS mean, epoch_scores.std AS std, epoch_scores.count AS count
FROM epoch_scores
JOIN latest ON epoch_scores.phase = latest.phase AND epoch_scores.epoch = latest.epoch
UNION ALL
SELECT
    score, example,
    AVG(value) AS mean,
    CASE
        WHEN MAX(value) < CAST('Infinity' AS DOUBLE)
            THEN STDDEV_SAMP(CASE WHEN value < CAST('Infinity' AS DOUBLE) THEN value END)
    END AS std,
    COUNT(value) AS count
FROM run_scores
WHERE value IS NOT NULL
GROUP BY score, example
