//! The schema of `scores.parquet`: the columns, their types, and the version that readers check.

use arrow::datatypes::{DataType, Field, Schema};

use crate::storage::Identity;

/// Raised when a reader of an older version would misread the file.
const VERSION: u32 = 1;
/// The identity that the file carries.
pub(super) const IDENTITY: Identity = Identity { table: "scores", version: VERSION };
/// The metadata entry that holds [`ScoreInfo`](super::ScoreInfo) as JSON.
pub(super) const INFO_KEY: &str = "data_diet.scores";

const STATISTICS: [(&str, DataType); 3] =
    [("mean", DataType::Float64), ("std", DataType::Float64), ("count", DataType::Int32)];

/// `example`, `label`, `runs`, then three columns for each score. No column is nullable: a missing value
/// is NaN.
pub(super) fn of(scores: &[String]) -> Schema {
    let mut fields = vec![
        Field::new("example", DataType::Int64, false),
        Field::new("label", DataType::Int32, false),
        Field::new("runs", DataType::Int32, false),
    ];
    for score in scores {
        let field = |(statistic, data_type): &(&str, DataType)| {
            Field::new(format!("{score}_{statistic}"), data_type.clone(), false)
        };
        fields.extend(STATISTICS.iter().map(field));
    }
    Schema::new(fields)
}
