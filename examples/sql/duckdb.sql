-- `observations` for DuckDB, over the directory that the variable `experiment` names:
--
--     SET VARIABLE experiment = 'runs/digits';
--     .read examples/sql/duckdb.sql
--
-- `run`, `phase` and `rank` come from the directories' names. Signals that were not recorded are NULL, and
-- so are those of logits that were not finite. `position` orders the rows of a rank as they were
-- recorded: parts by their numbers, rows as they lie in a part.
CREATE OR REPLACE VIEW observations AS
WITH every_column AS (
    SELECT
        NULL::FLOAT AS el2n, NULL::FLOAT AS loss, NULL::FLOAT AS margin,
        NULL::FLOAT AS el1n, NULL::FLOAT AS confidence, NULL::FLOAT AS entropy
    WHERE false
),
recorded AS (
    SELECT * FROM every_column
    UNION ALL BY NAME
    SELECT * FROM read_parquet(
        getvariable('experiment') || '/observations/**/*.parquet',
        hive_partitioning = true, hive_types = {'run': VARCHAR, 'phase': VARCHAR, 'rank': BIGINT},
        union_by_name = true, filename = true, file_row_number = true
    )
)
SELECT
    run, phase, rank, step, epoch, example, label, correct,
    regexp_extract(parse_filename(filename), '\d+')::BIGINT * 4294967296 + file_row_number AS position,
    CASE WHEN isfinite(el2n) OR isinf(el2n) THEN el2n::DOUBLE END AS el2n,
    CASE WHEN isfinite(loss) OR isinf(loss) THEN loss::DOUBLE END AS loss,
    CASE WHEN isfinite(margin) OR isinf(margin) THEN margin::DOUBLE END AS margin,
    CASE WHEN isfinite(el1n) OR isinf(el1n) THEN el1n::DOUBLE END AS el1n,
    CASE WHEN isfinite(confidence) OR isinf(confidence) THEN confidence::DOUBLE END AS confidence,
    CASE WHEN isfinite(entropy) OR isinf(entropy) THEN entropy::DOUBLE END AS entropy
FROM recorded;
