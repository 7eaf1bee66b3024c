-- The scores of the train phase, one row for each run, example and score.
--
-- An example that was never answered right ranks above all others: `forgetting` counts it as the number
-- of presentations (the most that any example of the run had), `forgetting_inf` as infinity.
WITH ranked AS (
    SELECT *, MAX(presentations) OVER (PARTITION BY run) AS most
    FROM histories
)
SELECT run, example, 'forgetting' AS score,
    CAST(CASE WHEN first_learned IS NULL THEN most ELSE events END AS DOUBLE) AS value
FROM ranked
UNION ALL
SELECT run, example, 'forgetting_inf' AS score,
    CASE
        WHEN first_learned IS NULL THEN CAST('Infinity' AS DOUBLE)
        ELSE CAST(events AS DOUBLE)
    END AS value
FROM ranked
UNION ALL
SELECT run, example, 'never_learned' AS score,
    CAST(CASE WHEN first_learned IS NULL THEN 1 ELSE 0 END AS DOUBLE) AS value
FROM ranked
UNION ALL
SELECT run, example, 'first_learned' AS score, CAST(first_learned AS DOUBLE) AS value
FROM ranked
UNION ALL
SELECT run, example, 'presentations' AS score, CAST(presentations AS DOUBLE) AS value
FROM ranked
UNION ALL
SELECT run, example, 'aum' AS score, aum AS value
FROM ranked
UNION ALL
SELECT run, example, 'cartography_confidence' AS score, confidence AS value
FROM ranked
UNION ALL
SELECT run, example, 'cartography_variability' AS score, variability AS value
FROM ranked
UNION ALL
SELECT run, example, 'cartography_correctness' AS score, correctness AS value
FROM ranked
