-- Mean, sample standard deviation and count over runs of each signal at each epoch. The deviation of
-- one run is NULL.
SELECT
    'el2n' AS signal, phase, epoch, example,
    AVG(el2n) AS mean, STDDEV_SAMP(el2n) AS std, COUNT(el2n) AS count
FROM epoch_values
WHERE el2n IS NOT NULL
GROUP BY phase, epoch, example
UNION ALL
SELECT
    'loss' AS signal, phase, epoch, example,
    AVG(loss) AS mean, STDDEV_SAMP(loss) AS std, COUNT(loss) AS count
FROM epoch_values
WHERE loss IS NOT NULL
GROUP BY phase, epoch, example
UNION ALL
SELECT
    'margin' AS signal, phase, epoch, example,
    AVG(margin) AS mean, STDDEV_SAMP(margin) AS std, COUNT(margin) AS count
FROM epoch_values
WHERE margin IS NOT NULL
GROUP BY phase, epoch, example
UNION ALL
SELECT
    'el1n' AS signal, phase, epoch, example,
    AVG(el1n) AS mean, STDDEV_SAMP(el1n) AS std, COUNT(el1n) AS count
FROM epoch_values
WHERE el1n IS NOT NULL
GROUP BY phase, epoch, example
UNION ALL
SELECT
    'confidence' AS signal, phase, epoch, example,
    AVG(confidence) AS mean, STDDEV_SAMP(confidence) AS std, COUNT(confidence) AS count
FROM epoch_values
WHERE confidence IS NOT NULL
GROUP BY phase, epoch, example
UNION ALL
SELECT
    'entropy' AS signal, phase, epoch, example,
    AVG(entropy) AS mean, STDDEV_SAMP(entropy) AS std, COUNT(entropy) AS count
FROM epoch_values
WHERE entropy IS NOT NULL
GROUP BY phase, epoch, example
