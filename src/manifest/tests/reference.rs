//! Delimited text as `csv-core` alone splits it, record by record: what the faster way has to agree with.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::super::{Manifest, Unscored};
use crate::selection::{Decision, Selection};

/// Where the records of a text end, and their fields.
fn records(text: &[u8], delimiter: u8, quotes: bool) -> Vec<(usize, Vec<String>)> {
    let mut parser = ReaderBuilder::new().delimiter(delimiter).quoting(quotes).build();
    let mut at = if text.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
    let mut found = Vec::new();
    while let Some((read, fields)) = record(&mut parser, &text[at..]) {
        at += read;
        if text[at - 1] == b'\r' && text.get(at) == Some(&b'\n') {
            at += 1;
        }
        found.push((at, fields));
    }
    found
}

fn record(parser: &mut Reader, text: &[u8]) -> Option<(usize, Vec<String>)> {
    let (mut bytes, mut ends) = (vec![0; text.len() + 8], vec![0; text.len() + 8]);
    let (mut read, mut wrote, mut ended) = (0, 0, 0);
    loop {
        let (result, more, text, fields) =
            parser.read_record(&text[read..], &mut bytes[wrote..], &mut ends[ended..]);
        (read, wrote, ended) = (read + more, wrote + text, ended + fields);
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::End => return None,
            ReadRecordResult::Record => break,
            other => unreachable!("{other:?}"),
        }
    }
    let mut start = 0;
    let fields = ends[..ended].iter().map(|&end| {
        let field = String::from_utf8_lossy(&bytes[start..end]).into_owned();
        start = end;
        field
    });
    Some((read, fields.collect()))
}

/// The kept bytes of a text with a header, or the start of a message, all ids in the column `id`;
/// duplicates are allowed.
pub(super) fn kept(
    manifest: &Manifest,
    selection: &Selection,
    text: &[u8],
    delimiter: u8,
) -> Result<Vec<u8>, &'static str> {
    let open = "a quote is opened and never closed";
    let all = records(text, delimiter, manifest.has_quotes());
    // Within quotes one more line feed becomes a part of the last field.
    let more = records(&[text, b"\n"].concat(), delimiter, manifest.has_quotes());
    let last_field =
        |all: &[(usize, Vec<String>)]| all.last().and_then(|(_, fields)| fields.last().cloned());
    let is_open = last_field(&all) != last_field(&more);
    let mut kept = Vec::new();
    let mut start = 0;
    let mut key = None;
    let mut trailing = false;
    for (place, (end, fields)) in all.iter().enumerate() {
        if is_open && place + 1 == all.len() {
            return Err(open);
        }
        let raw = &text[start..*end];
        start = *end;
        let Some((column, columns)) = key else {
            let mut places = (0..fields.len()).filter(|&it| fields[it] == "id");
            let column = places.next().ok_or("no key column `id`")?;
            if places.next().is_some() {
                return Err("two columns have the key's name");
            }
            trailing = fields.last().is_some_and(String::is_empty);
            key = Some((column, fields.len()));
            kept.extend_from_slice(raw);
            continue;
        };
        // A delimiter too many at the end of a line is no column.
        let line = String::from_utf8_lossy(raw);
        let one_more = fields.len() == columns + 1
            && fields.last().is_some_and(String::is_empty)
            && line.trim_end_matches(['\r', '\n']).ends_with(char::from(delimiter));
        let one_less = fields.len() + 1 == columns && trailing;
        if columns != fields.len() && !one_more && !one_less {
            return Err("expected");
        }
        let id = fields[column].strip_prefix('\u{feff}').unwrap_or(&fields[column]);
        if fields[column].trim_ascii().is_empty() {
            return Err("expected an example id");
        }
        let id = id.trim_ascii();
        let whole = id.split_once('.').filter(|(_, zeros)| zeros.chars().all(|it| it == '0'));
        let id = whole.map_or(id, |(whole, _)| whole);
        let id: i64 = id.parse().map_err(|_error| "expected an example id")?;
        if id < 0 {
            return Err("expected an example id");
        }
        let decision = selection.get(id).map_or(Decision::Unscored, |selected| selected.decision);
        let keep = match decision {
            Decision::Kept => true,
            Decision::Pruned => false,
            Decision::Unscored => manifest.unscored == Unscored::Keep,
        };
        if keep {
            kept.extend_from_slice(raw);
        }
    }
    if key.is_none() {
        return Err("is empty");
    }
    kept.extend_from_slice(&text[start..]);
    Ok(kept)
}
