-- The epoch that a signal's name stands for without one: the last that all runs of a phase have, of the
-- score phase if it has one, else of the train phase, else of the held-out phase.
WITH epochs AS (
    SELECT DISTINCT run, phase, epoch FROM observations
),
of_phases AS (
    SELECT phase, COUNT(DISTINCT run) AS runs FROM epochs GROUP BY phase
),
of_epochs AS (
    SELECT phase, epoch, COUNT(*) AS runs FROM epochs GROUP BY phase, epoch
)
SELECT of_epochs.phase AS phase, of_epochs.epoch AS epoch
FROM of_epochs
JOIN of_phases ON of_epochs.phase = of_phases.phase AND of_epochs.runs = of_phases.runs
-- `score`, `train`, `held_out`: text, since Polars cannot order by a CASE of numbers.
ORDER BY
    CASE of_epochs.phase WHEN 'score' THEN 'a' WHEN 'train' THEN 'b' ELSE 'c' END,
    of_epochs.epoch DESC
LIMIT 1
