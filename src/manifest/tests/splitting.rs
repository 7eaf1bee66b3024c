//! The fast way through delimited text against `csv-core` alone, on texts of any kind, cut anywhere.

use proptest::prelude::*;

use super::super::{Duplicates, Manifest, ManifestFormat, ManifestInput, Unscored};
use super::{Trickle, even, reference};

/// Pieces of which texts are made that quote well, badly or not at all.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec!["2", "3", "10", "a", " 4", "x y", "é"]),
        6 => Just(","),
        5 => prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n"]),
        4 => prop::sample::select(vec!["\"", "\"\"", "\"a\"", "\"2\"", "\",\"", "\"\n\"", "\"a\"\"b\""]),
        1 => Just("\u{feff}"),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Rows of two columns, as writers make them, with odd quotes now and then.
fn rows() -> impl Strategy<Value = Vec<u8>> {
    let field = prop::sample::select(vec![
        "a",
        "",
        "\"\"",
        "\"b, c\"",
        "\"d\"\"e\"",
        "\"\r\n\"",
        "5\" pipe",
        "\"f\"g",
        "\"\"\"\"",
    ]);
    let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n"]);
    let row = (0..1000_u32, any::<bool>(), field, end).prop_map(|(id, quoted, field, end)| {
        if quoted { format!("\"{id}\",{field}{end}") } else { format!("{id},{field}{end}") }
    });
    prop::collection::vec(row, 0..300).prop_map(|rows| rows.concat().into_bytes())
}

fn agrees(text: &[u8], step: usize, quotes: bool) -> Result<(), TestCaseError> {
    let manifest = Manifest::new(ManifestFormat::Csv)
        .key("id")
        .quotes(quotes)
        .unscored(Unscored::Keep)
        .duplicates(Duplicates::Allow);
    let expected = reference::kept(&manifest, &even(), text, b',');
    let mut kept = Vec::new();
    let input = ManifestInput::stream(Trickle { bytes: text, step });
    let outcome = manifest.filter(&even(), input, &mut kept);
    match (expected, outcome) {
        (Ok(expected), Ok(_)) => {
            prop_assert_eq!(String::from_utf8_lossy(&kept), String::from_utf8_lossy(&expected));
        }
        (Ok(_), Err(error)) => {
            prop_assert_eq!(error.kind(), crate::error::ErrorKind::Empty, "{}", error);
        }
        (Err(expected), Ok(_)) => prop_assert!(false, "passed, and not `{expected}`"),
        (Err(expected), Err(error)) => {
            prop_assert!(error.to_string().contains(expected), "{error}, and not `{expected}`");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_is_split_as_csv_core_does(
        text in pieces(), step in 1_usize..40, quotes: bool, header in prop::sample::select(
            vec!["id\n", "id,b\n", "\u{feff}id,b\r\n", "\"id\",\"b\"\n", "\n\na,id,c\r", ""]),
    ) {
        let text = [header.as_bytes(), &text].concat();
        agrees(&text, step, quotes)?;
    }
}

proptest! {
    #[test]
    fn rows_over_many_blocks_are_split_as_csv_core_does(text in rows(), step in 1_usize..9000) {
        agrees(&[b"id,text\n", &text[..]].concat(), step, true)?;
    }

    #[test]
    fn bytes_of_any_kind_are_split_as_csv_core_does(
        text in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(b"\",\n\r2".to_vec())], 0..200),
        step in 1_usize..40,
    ) {
        agrees(&[b"id\n", &text[..]].concat(), step, true)?;
    }
}

#[test]
fn rows_longer_than_many_blocks_cost_what_they_weigh() {
    // Looked at anew with every block, this would take minutes.
    let long = "x".repeat(40 << 20);
    let text = format!("id,text\n2,\"{long}\"\n3,y\n");
    let manifest = Manifest::new(ManifestFormat::Csv).key("id");
    let mut kept = Vec::new();
    manifest.filter(&even(), ManifestInput::stream(text.as_bytes()), &mut kept).unwrap();
    assert!(kept == text.as_bytes()[..text.len() - 4]);
}
