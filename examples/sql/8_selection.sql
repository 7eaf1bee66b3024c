-- A selection: the highest 70 % by EL2N, as `data-diet filter --keep highest --fraction 0.7` makes it.
-- Ties break by example id, a half rounds upwards, and an example without the score is not kept.
SELECT example
FROM (
    SELECT
        example,
        ROW_NUMBER() OVER (ORDER BY mean DESC, example DESC) AS place,
        COUNT(*) OVER () AS scored
    FROM scores
    WHERE score = 'el2n'
) AS placed
-- What is a half in decimals may be a hair less in binary: 0.7 * 45.
WHERE place <= FLOOR(CAST(0.7 AS DOUBLE) * CAST(scored AS DOUBLE) + CAST(0.5000001 AS DOUBLE))
