//! CSV, TSV and JSON Lines: kept rows come through byte for byte.

use proptest::prelude::*;

use super::super::{ClassCounts, Manifest, ManifestFormat, ManifestInput, Unscored};
use super::{Trickle, even, filter, selection};

/// A field as some writer may have put it: bare, quoted, with everything inside that quotes allow.
fn field(delimiter: char) -> impl Strategy<Value = String> {
    let bare = proptest::string::string_regex("[a-zA-Z0-9 é'._-]{0,8}").unwrap();
    let inside = prop::collection::vec(
        prop_oneof![Just("\"\""), Just("\n"), Just("\r\n"), Just(","), Just("\t"), Just("ü x")],
        0..5,
    );
    let quoted = inside.prop_map(|inside| format!("\"{}\"", inside.concat()));
    // A quote within a bare field is an ordinary character.
    let inch = Just("5\" pipe".to_owned());
    prop_oneof![4 => bare, 3 => quoted, 1 => inch].prop_filter("a bare delimiter", move |text| {
        text.starts_with('"') || !text.contains(delimiter)
    })
}

fn records(delimiter: char) -> impl Strategy<Value = Vec<(i64, bool, String, String)>> {
    let ids = Just((0..40_i64).collect::<Vec<_>>()).prop_shuffle();
    let rest = prop::collection::vec((any::<bool>(), field(delimiter), field(delimiter)), 0..40);
    (ids, rest).prop_map(|(ids, rest)| {
        ids.into_iter().zip(rest).map(|(id, (quoted, a, b))| (id, quoted, a, b)).collect()
    })
}

fn check(delimiter: char, records: &[(i64, bool, String, String)], step: usize, ends: [&str; 2]) {
    let format = if delimiter == ',' { ManifestFormat::Csv } else { ManifestFormat::Tsv };
    let header = format!("\u{feff}text{delimiter}id{delimiter}\"more\"{}", ends[0]);
    let (mut all, mut expected) = (header.clone(), header);
    for (place, (id, quoted, a, b)) in records.iter().enumerate() {
        let id_text = if *quoted { format!("\"{id}\"") } else { format!(" {id}") };
        let end = if place + 1 == records.len() { ends[1] } else { ends[0] };
        let record = format!("{a}{delimiter}{id_text}{delimiter}{b}{end}");
        all.push_str(&record);
        if id % 2 == 0 {
            expected.push_str(&record);
        }
    }
    let manifest = Manifest::new(format).quotes(true).key("id");
    let mut kept = Vec::new();
    let input = ManifestInput::stream(Trickle { bytes: all.as_bytes(), step });
    let summary = manifest.filter(&even(), input, &mut kept);
    let count = records.iter().filter(|record| record.0 % 2 == 0).count() as u64;
    if count == 0 && !records.is_empty() {
        assert_eq!(summary.unwrap_err().kind(), crate::error::ErrorKind::Empty);
        return;
    }
    let summary = summary.unwrap();
    assert_eq!(String::from_utf8(kept).unwrap(), expected);
    assert_eq!((summary.rows, summary.kept), (records.len() as u64, count));
    assert_eq!(summary.missing, 500 - count);
    let by_class: u64 = summary.classes.iter().map(|class| class.kept).sum();
    assert_eq!(by_class, count);
}

proptest! {
    #[test]
    fn csv_rows_keep_their_bytes(records in records(','), step in 1_usize..40, crlf: bool, open: bool) {
        let end = if crlf { "\r\n" } else { "\n" };
        check(',', &records, step, [end, if open { "" } else { end }]);
    }

    #[test]
    fn tsv_rows_keep_their_bytes(records in records('\t'), step in 1_usize..40, open: bool) {
        check('\t', &records, step, ["\n", if open { "" } else { "\n" }]);
    }

    #[test]
    fn jsonl_rows_keep_their_bytes(
        ids in Just((0..40_i64).collect::<Vec<_>>()).prop_shuffle(),
        texts in prop::collection::vec(".{0,12}", 1..40),
        step in 1_usize..40,
    ) {
        let (mut all, mut expected) = (String::new(), String::new());
        for (place, (id, text)) in ids.iter().zip(&texts).enumerate() {
            let text = serde_json::to_string(text).unwrap();
            let record = match place % 4 {
                0 => format!("{{\"id\":{id},\"text\":{text}}}\n"),
                1 => format!("  {{ \"a\": {{\"id\": 7}}, \"text\" : {text} , \"\\u0069d\": {id} }}\r\n"),
                2 => format!("{{\"list\":[1,{{\"id\":[]}}],\"id\":\"{id}\"}}\n"),
                _ => format!("{{\"id\":{id},\"big\":1e400000,\"z\":null}}\n"),
            };
            if id % 2 == 0 {
                expected.push_str(&record);
            }
            all.push_str(&record);
            if place % 5 == 0 {
                all.push('\n');
            }
        }
        prop_assume!(!expected.is_empty());
        let mut kept = Vec::new();
        let input = ManifestInput::stream(Trickle { bytes: all.as_bytes(), step });
        let manifest = Manifest::new(ManifestFormat::Jsonl).key("id");
        let summary = manifest.filter(&even(), input, &mut kept).unwrap();
        prop_assert_eq!(String::from_utf8(kept).unwrap(), expected);
        prop_assert_eq!(summary.rows as usize, ids.len().min(texts.len()));
    }
}

#[test]
fn the_row_number_is_the_id_without_a_key() {
    let manifest = Manifest::new(ManifestFormat::Csv);
    let (kept, _) = filter(&manifest, "file\na\nb\nc\n").unwrap();
    assert_eq!(kept, b"file\na\nc\n");
    let (kept, _) = filter(&manifest.header(false), "a,0\nb,0\nc,0\n").unwrap();
    assert_eq!(kept, b"a,0\nc,0\n");
    let (kept, _) = filter(&Manifest::new(ManifestFormat::Jsonl), "{}\n\n{\"a\":1}\n{}\n").unwrap();
    assert_eq!(kept, b"{}\n{}\n", "blank lines are no rows");
}

#[test]
fn columns_without_a_header_are_numbers() {
    let manifest = Manifest::new(ManifestFormat::Csv).header(false).key("1");
    let (kept, _) = filter(&manifest, "a,3\nb,4\n").unwrap();
    assert_eq!(kept, b"b,4\n");
}

#[test]
fn quotes_can_be_ordinary_characters() {
    let manifest = Manifest::new(ManifestFormat::Tsv).key("id").quotes(false);
    let (kept, _) = filter(&manifest, "id\ttext\n2\t\"open\n3\t\"\n4\tb\n").unwrap();
    assert_eq!(kept, b"id\ttext\n2\t\"open\n4\tb\n");
}

#[test]
fn records_longer_than_the_buffer_come_through() {
    let long = "x".repeat(3 << 20);
    let text = format!("id,text\n2,\"{long}\n\"\n3,{long}\n4,y\n");
    let (kept, _) = filter(&Manifest::new(ManifestFormat::Csv).key("id"), &text).unwrap();
    assert!(kept == format!("id,text\n2,\"{long}\n\"\n4,y\n").as_bytes());
}

#[test]
fn unscored_rows_follow_the_policy_and_no_class() {
    // Id 4 has a NaN score, id 9 none.
    let selection = selection(&[(0, 2.0), (3, 0.5), (4, f64::NAN), (6, 1.0)]);
    let text = "id\n0\n3\n4\n9\n";
    for (policy, expected) in [(Unscored::Keep, "id\n0\n4\n9\n"), (Unscored::Prune, "id\n0\n")] {
        let manifest = Manifest::new(ManifestFormat::Csv).key("id").unscored(policy);
        let mut kept = Vec::new();
        let input = ManifestInput::stream(text.as_bytes());
        let summary = manifest.filter(&selection, input, &mut kept).unwrap();
        assert_eq!(String::from_utf8(kept).unwrap(), expected);
        assert_eq!((summary.rows, summary.unscored, summary.missing), (4, 2, 1));
        assert_eq!(summary.classes, [ClassCounts { label: 0, kept: 1, pruned: 1 }]);
    }
}
