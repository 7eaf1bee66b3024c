//! Kinds of text that people report about tools of this sort: each is read, or refused in words that
//! help.

use super::super::{Duplicates, Manifest, ManifestFormat, Unscored};
use super::{even, filter};
use crate::manifest::ManifestInput;

fn passes(manifest: &Manifest, text: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
    let (kept, _) = filter(manifest, text).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&kept),
        String::from_utf8_lossy(expected.as_ref()),
        "every byte"
    );
    assert!(kept == expected.as_ref());
}

fn refuses(manifest: &Manifest, text: impl AsRef<[u8]>, expected: &str) {
    let error = filter(manifest, text).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

fn csv() -> Manifest {
    Manifest::new(ManifestFormat::Csv).key("id")
}

fn jsonl() -> Manifest {
    Manifest::new(ManifestFormat::Jsonl).key("id")
}

#[test]
fn json_lines_need_a_valid_key_and_nothing_more() {
    let lines: [&[u8]; 6] = [
        b"{\"w\": NaN, \"id\": 2}\n",
        b"{\"id\":4,\"w\":-Infinity}\r\n",
        b"{\"\\ud800\": \"\\udc00\", \"id\": 6}\n",
        b" {\"id\": 8.0, \"t\": \"\xff\xfe\"} \n",
        b"{\"id\": \"10\", \"deep\": [[{\"id\": 3}]]}\n",
        b"{\"\\u0069d\": 12}",
    ];
    let odd = b"{\"id\": 3, \"w\": NaN}\n".to_vec();
    let all = [odd, lines.concat()].concat();
    passes(&jsonl(), &all, lines.concat());
    // A byte order mark stays, even before a row that goes.
    let marked = [&b"\xef\xbb\xbf"[..], &all].concat();
    passes(&jsonl(), marked, [&b"\xef\xbb\xbf"[..], &lines.concat()].concat());
    refuses(&jsonl(), "{\"id\": NaN}\n", "got nothing");
    refuses(&jsonl(), "{\"id\": 2,}\n", "no name of a field at column");
    refuses(&jsonl(), "{\"id\": 2\n", "line 1 (row 0, from 0): expected a JSON object on the line");
    refuses(&jsonl(), "{\"id\": 1e3}\n", "got `1e3`");
}

#[test]
fn ids_are_integers_however_they_are_spelled() {
    let text = "id,note\n2.0,a\n3.0,b\n004,c\n 6,d\n+8,e\n";
    let (kept, summary) = filter(&csv(), text).unwrap();
    assert_eq!(kept, b"id,note\n2.0,a\n004,c\n 6,d\n+8,e\n");
    assert_eq!(summary.respelled, 5);
    assert!(summary.to_string().contains("5 with an id that is spelled like 007"), "{summary}");
    refuses(&csv(), "id\n2\n3.5\n", "line 3 (row 1, from 0): expected an example id");
    refuses(&csv(), "id\n9007199254740993.0\n", "got `9007199254740993.0`");
}

#[test]
fn other_delimiters_get_a_hint_and_an_option() {
    refuses(&csv(), "id;note\n2;a\n", "seem to be separated by `;`: set `delimiter`");
    refuses(&csv(), "id\tnote\n2\ta\n", "separated by a tab: set `delimiter`");
    passes(&csv().delimiter(';'), "id;note\n2;a,b\n3;c\n", "id;note\n2;a,b\n");
    passes(&csv().delimiter('|'), "note|id\n\"a|b\"|2\n", "note|id\n\"a|b\"|2\n");
    refuses(&csv().delimiter('"'), "id\n", "delimiter: expected an ASCII character");
    refuses(&csv().delimiter('é'), "id\n", "delimiter: expected an ASCII character");
}

#[test]
fn encodings_are_named_with_the_way_out() {
    let wide = |text: &str, little: bool| -> Vec<u8> {
        let bytes = |unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    };
    for (text, encoding) in [
        (wide("\u{feff}id\n2\n", true), "utf-16"),
        (wide("\u{feff}id\n2\n", false), "utf-16"),
        (wide("id\n2\n", true), "utf-16le"),
        (wide("id\n2\n", false), "utf-16be"),
    ] {
        let hint =
            format!("is {encoding} text; convert it, for example by `iconv -f {encoding} -t");
        refuses(&csv(), &text, &hint);
        refuses(&jsonl(), &text, &hint);
    }
    let latin1 = b"gr\xf6\xdfe_id,note\n2,a\n";
    refuses(&csv().key("größe_id"), latin1, "the names are not UTF-8: convert the file");
    // Other columns may hold any bytes.
    passes(&csv(), b"id,gr\xf6\xdfe\n2,\xff\n", b"id,gr\xf6\xdfe\n2,\xff\n");
}

#[test]
fn first_lines_that_are_no_header_get_a_hint() {
    refuses(&csv(), "sep=,\nid,note\n2,a\n", "an instruction to a spreadsheet, not a header");
    refuses(&csv(), "# exported\nid,note\n2,a\n", "seems to be a comment, not a header");
}

#[test]
fn quotes_are_ordinary_in_tsv_unless_asked() {
    let tsv = Manifest::new(ManifestFormat::Tsv).key("id");
    let text = "id\tnote\n2\t\"open\n3\tb\n4\tc\"\n";
    passes(&tsv, text, "id\tnote\n2\t\"open\n4\tc\"\n");
    let quoted = "id\tnote\n2\t\"a\tb\nc\"\n3\td\n";
    passes(&tsv.clone().quotes(true), quoted, "id\tnote\n2\t\"a\tb\nc\"\n");
    refuses(&tsv, quoted, "if quotes go around fields here, switch `quotes` on");
    refuses(&csv(), "id,note\n2,\"open\n4,b\n", "line 2 (row 0, from 0): a quote is opened");
}

#[test]
fn line_breaks_of_the_other_kind_are_named() {
    let hint = "a line ends with LF and the header with CR LF, so a field may hold a line break";
    refuses(&csv(), "id,note\r\n2,a\nb\r\n", hint);
    refuses(&csv(), "id,x,note\r\n2,a\nb,c\r\n", hint);
    refuses(&csv(), "id,note\n2,a\rb\n", "a line ends with CR and the header with LF");
}

#[test]
fn a_delimiter_too_many_is_no_column() {
    passes(&csv(), "id,note\n2,a,\n3,b,\n4,c\n", "id,note\n2,a,\n4,c\n");
    passes(&csv(), "id,note,\n2,a\n3,b\n", "id,note,\n2,a\n");
    refuses(&csv(), "id,note\n2,a,b\n", "expected 2 columns, got 3");
    refuses(&csv(), "id,note\n2,a,,\n", "expected 2 columns, got 4");
}

#[test]
fn where_nothing_meets_one_of_each_side_is_shown() {
    refuses(
        &csv(),
        "id\n5021\n6000\n",
        "none of 2 rows is of an example with a score: line 2 (row 0, from 0) has the id 5021, and \
         the scores have ids such as 0",
    );
    let prune = csv().unscored(Unscored::Prune);
    refuses(&prune, "id\n5021\n", "has the id 5021, and the scores have ids such as");
    refuses(&csv(), "id\n1\n3\n", "the rows are of examples that the selection prunes");
}

/// A message names the line even if it is many buffers away, and quoted line breaks lie between.
#[test]
fn lines_are_those_of_an_editor() {
    let mut text = "id,note\n".to_owned();
    for row in 0..3000 {
        text += if row % 3 == 0 { "2,\"two\nlines\"\n" } else { "\n2,one\n" };
    }
    let line = text.lines().count() + 1;
    text += "x,y\n";
    let manifest = csv().duplicates(Duplicates::Allow);
    refuses(&manifest, &text, &format!("line {line} (row 3000, from 0): expected an example id"));
    let lines = "{\"id\": 2}\n\n".repeat(3000) + "{\"id\": []}\n";
    let manifest = jsonl().duplicates(Duplicates::Allow);
    refuses(&manifest, &lines, "line 6001 (row 3000, from 0): expected an example id");
    // The first of what a policy refuses.
    let unscored = "{\"id\": 2}\n\n".repeat(3000) + "{\"id\": 5000}\n";
    refuses(&manifest, &unscored, "first line 6001 (row 3000, from 0) with id 5000");
}

#[test]
fn zstd_windows_keep_to_the_memory_limit() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.long_distance_matching(true).unwrap();
    std::io::Write::write_all(&mut encoder, b"id\n2\n3\n").unwrap();
    let bytes = encoder.finish().unwrap();
    let kept = |memory: u64| {
        let mut kept = Vec::new();
        let input = ManifestInput::stream(&bytes[..]);
        csv().memory(memory).filter(&even(), input, &mut kept).map(|_| kept)
    };
    assert_eq!(kept(1 << 28).unwrap(), b"id\n2\n");
    let error = kept(1 << 27).unwrap_err().to_string();
    let expected = "its zstd window takes 256 MiB of memory and 128 MiB are allowed";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn gzip_may_have_members_and_padding() {
    let member = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let members = [member("id\n2\n"), member(""), member("3\n4\n")].concat();
    passes(&csv(), &members, "id\n2\n4\n");
    let padded = [members.clone(), vec![0; 100_000]].concat();
    let (kept, summary) = filter(&csv(), padded).unwrap();
    assert_eq!((&kept[..], summary.ignored_bytes), (&b"id\n2\n4\n"[..], 0));
    let (kept, summary) = filter(&csv(), [&members[..], b"\0\0signed"].concat()).unwrap();
    assert_eq!((&kept[..], summary.ignored_bytes), (&b"id\n2\n4\n"[..], 6));
    assert!(summary.to_string().contains("ignored 6 bytes behind the gzip data"), "{summary}");
    // A member that is cut short is damage.
    let cut = [&members[..], &member("5\n")[..9]].concat();
    refuses(&csv(), cut, "is truncated in the middle of its gzip data");
}

/// Files that were joined by `cat`: a mark, or a header, where one of them began.
#[test]
fn joined_files_are_told() {
    let csv = csv().duplicates(Duplicates::Allow);
    passes(&csv, "\u{feff}id\n3\n\u{feff}2\n", "\u{feff}id\n\u{feff}2\n");
    let joined = "\u{feff}id,note\n2,a\n\u{feff}id,note\n4,b\n";
    refuses(&csv, joined, "line 3 (row 1, from 0): expected an example id");
    refuses(&csv, joined, "a header again: files that have one each seem to have been joined");
}

#[test]
fn ids_that_a_spreadsheet_has_rounded_are_refused() {
    refuses(&csv(), "id,name\n204,a\n2.2E+11,b\n", "a spreadsheet may have rounded it");
}

/// Other separators of lines than line feeds are ordinary characters, and so is NUL.
#[test]
fn unusual_characters_pass() {
    let line = "{\"id\":2,\"text\":\"a\u{2028}b\u{2029}c\u{85}d\u{b}\"}\n";
    passes(&jsonl(), format!("{line}{{\"id\":3}}\n"), line);
    passes(&csv(), "id,a\n2,x\0\u{2028}\u{c}y\n3,\0\n", "id,a\n2,x\0\u{2028}\u{c}y\n");
}
