//! Every path in a source file, from the crate's root: `super` resolved, groups taken apart.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path, and where it stands.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// The paths of a file that is this module, without those of test code.
pub(crate) fn references(module: &[String], source: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let tokens: TokenStream = source.parse().expect("Rust source");
    walk(&tokens, module, &mut found);
    found
}

fn walk(tokens: &TokenStream, module: &[String], found: &mut Vec<Reference>) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut place = 0;
    while place < tokens.len() {
        if let Some(after) = test_item(&tokens, place) {
            place = after;
            continue;
        }
        if let (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name)), Some(body)) =
            (tokens.get(place), tokens.get(place + 1), tokens.get(place + 2))
            && word == "mod"
            && let TokenTree::Group(body) = body
        {
            let inner: Vec<String> = module.iter().cloned().chain([name.to_string()]).collect();
            walk(&body.stream(), &inner, found);
            place += 3;
            continue;
        }
        place = match &tokens[place] {
            TokenTree::Ident(_) if !is_joined(&tokens, place) => {
                path(&tokens, place, &[], module, found)
            }
            TokenTree::Group(group) => {
                walk(&group.stream(), module, found);
                place + 1
            }
            _ => place + 1,
        };
    }
}

/// Reads the path that begins here, and all that its braces fan out to. Returns the place after it.
fn path(
    tokens: &[TokenTree],
    start: usize,
    prefix: &[String],
    module: &[String],
    found: &mut Vec<Reference>,
) -> usize {
    let line = tokens[start].span().start().line;
    let (mut segments, mut place) = (prefix.to_vec(), start);
    while let Some(TokenTree::Ident(word)) = tokens.get(place) {
        segments.push(word.to_string());
        place += 1;
        if !is_separator(tokens, place) {
            break;
        }
        match tokens.get(place + 2) {
            Some(TokenTree::Ident(_)) => place += 2,
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                fan_out(group, &segments, module, found);
                return place + 3;
            }
            _ => break,
        }
    }
    if let Some(TokenTree::Ident(word)) = tokens.get(place)
        && word == "as"
        && segments.len() == 1
    {
        segments.push("as".to_owned());
    }
    if segments.len() > 1 {
        found.push(Reference { path: resolved(segments, module), line });
    }
    place
}

/// The parts of `prefix::{a, b::c}`.
fn fan_out(group: &Group, prefix: &[String], module: &[String], found: &mut Vec<Reference>) {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let mut place = 0;
    while place < tokens.len() {
        place = match &tokens[place] {
            TokenTree::Ident(_) => path(&tokens, place, prefix, module, found),
            _ => place + 1,
        };
        // The other name of `a as b` is no path.
        while tokens.get(place).is_some_and(|token| !is_comma(token)) {
            place += 1;
        }
        place += 1;
    }
}

/// From the crate's root, where the path begins with `self` or `super`.
fn resolved(segments: Vec<String>, module: &[String]) -> Vec<String> {
    let mut root = module.to_vec();
    let mut rest = segments.iter().map(String::as_str).peekable();
    if !matches!(rest.peek(), Some(&("self" | "super"))) {
        return segments;
    }
    while let Some(&word) = rest.peek() {
        match word {
            "self" => {}
            "super" => drop(root.pop()),
            _ => break,
        }
        rest.next();
    }
    let rest = rest.map(str::to_owned);
    ["crate".to_owned()].into_iter().chain(root).chain(rest).collect()
}

/// The place after an item that is compiled for tests only, if one begins here.
fn test_item(tokens: &[TokenTree], place: usize) -> Option<usize> {
    let (TokenTree::Punct(hash), TokenTree::Group(attribute)) =
        (tokens.get(place)?, tokens.get(place + 1)?)
    else {
        return None;
    };
    if hash.as_char() != '#'
        || !attribute.stream().to_string().replace(' ', "").contains("cfg(test)")
    {
        return None;
    }
    // To the end of a statement, or of a body.
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let length = tokens[place + 2..].iter().position(ends)?;
    Some(place + 2 + length + 1)
}

/// Whether `::` stands here.
fn is_separator(tokens: &[TokenTree], place: usize) -> bool {
    let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    is_colon(tokens.get(place)) && is_colon(tokens.get(place + 1))
}

/// Whether the word here goes on with what stands before it, as in `<T as Trait>::method`.
fn is_joined(tokens: &[TokenTree], place: usize) -> bool {
    place >= 2 && is_separator(tokens, place - 2)
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}
