-- One run's value of each signal at an epoch: the mean over the example's observations in it. NULL is
-- left out, so what has no number at all stays NULL.
SELECT
    run, phase, epoch, example,
    AVG(el2n) AS el2n,
    AVG(loss) AS loss,
    AVG(margin) AS margin,
    AVG(el1n) AS el1n,
    AVG(confidence) AS confidence,
    AVG(entropy) AS entropy
FROM counted
GROUP BY run, phase, epoch, example
