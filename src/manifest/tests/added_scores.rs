//! Scores that kept rows carry: the other bytes stay what they were.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::{Manifest, ManifestFormat, Unscored};
use super::filter;
use crate::error::ErrorKind;
use crate::selection::ScoreColumn;

/// Half of the id for ids below 100; none for 6.
fn halves() -> Arc<ScoreColumn> {
    let scores = (0..100).map(|id| if id == 6 { f64::NAN } else { f64::from(id) / 2.0 }).collect();
    Arc::new(ScoreColumn::new((0..100).collect(), vec![0; 100], scores).unwrap())
}

fn with_half(format: ManifestFormat) -> Manifest {
    Manifest::new(format).key("id").unscored(Unscored::Keep).with_score("half", halves())
}

#[test]
fn text_gains_columns_at_the_end() {
    let manifest = with_half(ManifestFormat::Csv).with_score("a,\"b\"", halves());
    let text = "\u{feff}\"x\",id\r\n\"1, \"\"2\"\"\",2\r\n\r\ny,3\r\n,4\rz,6\n5\",8\nw,200";
    let (kept, _) = filter(&manifest, text).unwrap();
    let expected = "\u{feff}\"x\",id,half,\"a,\"\"b\"\"\"\r\n\"1, \"\"2\"\"\",2,1,1\r\n,4,2,2\rz,6,,\n\
                    5\",8,4,4\nw,200,100,100";
    let expected = expected.replace("w,200,100,100", "w,200,,");
    assert_eq!(String::from_utf8(kept).unwrap(), expected);
    let manifest = with_half(ManifestFormat::Tsv).header(false).key("0");
    let (kept, _) = filter(&manifest, "2\n3\n10\n").unwrap();
    assert_eq!(kept, b"2\t1\n10\t5\n");
    let manifest = with_half(ManifestFormat::Tsv).quotes(false).with_score("a\tb", halves());
    assert!(filter(&manifest, "id\n2\n").unwrap_err().to_string().contains("needs quotes"));
}

#[test]
fn json_gains_fields() {
    let text = "{\"id\":2}\n { \"id\" : 4 , \"x\":\"}\" } \r\n{\"id\":6}\n{\"id\":3}";
    let (kept, _) = filter(&with_half(ManifestFormat::Jsonl), text).unwrap();
    let expected = "{\"id\":2,\"half\":1.0}\n { \"id\" : 4 , \"x\":\"}\" ,\"half\":2.0} \r\n\
                    {\"id\":6,\"half\":null}\n";
    assert_eq!(String::from_utf8(kept).unwrap(), expected);
    let rows = Manifest::new(ManifestFormat::Jsonl).with_score("h\"", halves());
    assert_eq!(filter(&rows, "{}\n{}\n{ }\n").unwrap().0, b"{\"h\\\"\":0.0}\n{ \"h\\\"\":1.0}\n");
    let infinite = ScoreColumn::new(vec![2], vec![0], vec![f64::INFINITY]).unwrap();
    let manifest = with_half(ManifestFormat::Jsonl).with_score("inf", infinite);
    let error = filter(&manifest, "{\"id\":2}\n").unwrap_err();
    assert!(error.to_string().contains("the `inf` of example 2 is inf"), "{error}");
}

#[test]
fn digits_read_back_as_the_same_numbers() {
    let scores: Vec<f64> = vec![0.1 + 0.2, 1e-300, 1e300, -0.0, f64::MIN_POSITIVE, 1.0 / 3.0];
    let ids: Vec<i64> = (0..6).map(|id| 2 * id).collect();
    let column = Arc::new(ScoreColumn::new(ids.clone(), vec![0; 6], scores.clone()).unwrap());
    let lines = |line: &dyn Fn(&i64) -> String| ids.iter().map(line).collect::<Vec<_>>().concat();
    let csv = lines(&|id| format!("{id}\n"));
    let manifest =
        Manifest::new(ManifestFormat::Csv).key("id").with_score("s", Arc::clone(&column));
    let (kept, _) = filter(&manifest, format!("id\n{csv}")).unwrap();
    let kept = String::from_utf8(kept).unwrap();
    let read = kept.lines().skip(1).map(|line| line.split_once(',').unwrap().1.parse().unwrap());
    assert_eq!(
        read.map(f64::to_bits).collect::<Vec<_>>(),
        scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>()
    );
    let jsonl = lines(&|id| format!("{{\"id\":{id}}}\n"));
    let manifest = Manifest::new(ManifestFormat::Jsonl).key("id").with_score("s", column);
    let (kept, _) = filter(&manifest, jsonl).unwrap();
    for (line, score) in String::from_utf8(kept).unwrap().lines().zip(scores) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["s"].as_f64().unwrap().to_bits(), score.to_bits());
    }
}

#[test]
fn parquet_gains_a_column() {
    let ids: Int64Array = (0..90).chain([200]).map(Some).collect();
    let rows = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    for start in (0..91).step_by(13) {
        writer.write(&rows.slice(start, 13)).unwrap();
        writer.flush().unwrap();
    }
    let bytes = writer.into_inner().unwrap();
    let (kept, summary) = filter(&with_half(ManifestFormat::Parquet), bytes.clone()).unwrap();
    assert_eq!(summary.kept, 46);
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(kept)).unwrap();
    let mut found = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let ids = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
        let halves = batch.column(1).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            found.push((ids.value(row), halves.is_valid(row).then(|| halves.value(row))));
        }
    }
    let half = |id: i64| (id != 6 && id < 100).then_some(id as f64 / 2.0);
    let ids = (0..90).filter(|id| id % 2 == 0).chain([200]);
    assert_eq!(found, ids.map(|id| (id, half(id))).collect::<Vec<_>>());
    let manifest = with_half(ManifestFormat::Parquet).with_score("id", halves());
    assert_eq!(filter(&manifest, bytes).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn names_that_are_taken_are_refused() {
    for (format, text) in [
        (ManifestFormat::Csv, "id,half\n2,x\n"),
        (ManifestFormat::Jsonl, "{\"half\":1,\"id\":2}\n"),
    ] {
        let error = filter(&with_half(format), text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("there already is a column `half`"), "{error}");
    }
    let twice = with_half(ManifestFormat::Csv).with_score("half", halves());
    assert_eq!(filter(&twice, "id\n2\n").unwrap_err().kind(), ErrorKind::InvalidArgument);
}
