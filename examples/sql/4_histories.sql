-- What one run's training showed of an example. Presentations are ordered by step, then by position in
-- the batch.
--
-- A forgetting event is a wrong answer right after a right one (Toneva et al. 2018). `aum` is the mean
-- margin (Pleiss et al. 2020); `confidence`, its deviation among all of these observations, and the
-- share of right answers are the data map of Swayamdipta et al. 2020.
SELECT
    run, example,
    COUNT(*) AS presentations,
    SUM(CASE WHEN correct_before AND NOT correct THEN 1 ELSE 0 END) AS events,
    MIN(CASE WHEN correct THEN presentation END) AS first_learned,
    AVG(margin) AS aum,
    AVG(confidence) AS confidence,
    CASE
        WHEN COUNT(confidence) = 1 THEN CAST(0 AS DOUBLE)
        ELSE STDDEV_SAMP(confidence)
            * SQRT(CAST(COUNT(confidence) - 1 AS DOUBLE) / CAST(COUNT(confidence) AS DOUBLE))
    END AS variability,
    AVG(CAST(CASE WHEN correct THEN 1 ELSE 0 END AS DOUBLE)) AS correctness
FROM (
    SELECT
        run, example, correct, margin, confidence,
        LAG(correct) OVER (PARTITION BY run, example ORDER BY step, position) AS correct_before,
        ROW_NUMBER() OVER (PARTITION BY run, example ORDER BY step, position) - 1 AS presentation
    FROM counted
    WHERE phase = 'train'
) AS answers
GROUP BY run, example
