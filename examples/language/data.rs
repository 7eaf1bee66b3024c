//! The sequences: sentences with known noise among them to train on, clean ones to test on, and
//! both as tokens. [`super::text`] makes the sentences.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::Result;
use super::dataset::Dataset;
use super::text;

/// Every byte that may occur, a token each; the first begins, ends and pads a sequence.
pub(crate) const ALPHABET: &[u8] = b"\n abcdefghijklmnopqrstuvwxyz0123456789.,+=";
/// Tokens in a sequence with its end.
pub(crate) const TOKENS: usize = 44;
/// The label of a token that does not count: padding.
pub(crate) const IGNORED: i64 = -100;
/// A sequence has at least so many bytes, and fewer than [`TOKENS`].
const SHORTEST: usize = 32;
/// How often a duplicated sequence occurs.
pub(crate) const COPIES: usize = 10;
/// One in so many sequences is noise of each kind.
const ONE_IN: usize = 20;

/// What a sequence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sentence that occurs once.
    Clean,
    /// The characters of a sentence in random order.
    Scrambled,
    /// The words of a sentence in random order.
    Reordered,
    /// Of another language.
    Foreign,
    /// A sentence that occurs [`COPIES`] times.
    Duplicated,
}

/// A sequence and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

/// What is trained on, by id, and what is tested on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Corpus {
    pub(crate) train: Vec<Sequence>,
    pub(crate) test: Vec<String>,
}

impl Kind {
    pub(crate) const NOISE: [Self; 4] =
        [Self::Scrambled, Self::Reordered, Self::Foreign, Self::Duplicated];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Scrambled => "scrambled",
            Self::Reordered => "reordered",
            Self::Foreign => "foreign",
            Self::Duplicated => "duplicated",
        }
    }

    /// Whether a model that has learned the sentences finds it harder than those.
    pub(crate) fn is_hard(self) -> bool {
        matches!(self, Self::Scrambled | Self::Reordered | Self::Foreign)
    }
}

impl Corpus {
    /// So many sequences to train on, a fifth of them noise, and some to test on.
    pub(crate) fn new(sequences: usize, test: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let noisy = sequences / ONE_IN;
        let originals = noisy / COPIES;
        let mut seen = BTreeSet::new();
        let mut fresh = |random: &mut StdRng| loop {
            let text = fitting(|| text::sentence(random));
            if seen.insert(text.clone()) {
                return text;
            }
        };
        let mut train = Vec::new();
        let mut add = |text, kind| train.push(Sequence { text, kind });
        for _ in 0..noisy {
            let text = fresh(&mut random);
            add(changed(&text, || text::scrambled(&text, &mut random)), Kind::Scrambled);
            let text = fresh(&mut random);
            add(changed(&text, || text::reordered(&text, &mut random)), Kind::Reordered);
            add(fitting(|| text::foreign(&mut random)), Kind::Foreign);
        }
        for _ in 0..originals {
            let text = fresh(&mut random);
            (0..COPIES).for_each(|_| add(text.clone(), Kind::Duplicated));
        }
        for _ in 0..sequences - 3 * noisy - originals * COPIES {
            add(fresh(&mut random), Kind::Clean);
        }
        let test = (0..test).map(|_| fresh(&mut random)).collect();
        train.shuffle(&mut random);
        Self { train, test }
    }

    /// The share of these sequences that is noise of any kind.
    pub(crate) fn noise_share(&self, ids: &[i64]) -> f64 {
        let noisy = ids.iter().filter(|&&id| self.train[id as usize].kind != Kind::Clean).count();
        noisy as f64 / ids.len() as f64
    }

    /// What is trained on; the id of a sequence is its place.
    pub(crate) fn train_set(&self, device: &Device) -> Result<Dataset> {
        dataset(self.train.iter().map(|sequence| sequence.text.as_str()), device)
    }

    pub(crate) fn test_set(&self, device: &Device) -> Result<Dataset> {
        dataset(self.test.iter().map(String::as_str), device)
    }
}

/// The first text that fits into a sequence.
fn fitting(mut draw: impl FnMut() -> String) -> String {
    loop {
        let text = draw();
        if (SHORTEST..TOKENS).contains(&text.len()) {
            return text;
        }
    }
}

/// The first text that is not the given one.
fn changed(text: &str, mut draw: impl FnMut() -> String) -> String {
    loop {
        let drawn = draw();
        if drawn != text {
            return drawn;
        }
    }
}

/// Tokens `[sequences, tokens]` and, as labels, the tokens that follow them.
fn dataset<'a>(texts: impl Iterator<Item = &'a str>, device: &Device) -> Result<Dataset> {
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    let mut sequences = 0;
    for text in texts {
        let (tokens, following) = encode(text)?;
        inputs.extend(tokens);
        labels.extend(following);
        sequences += 1;
    }
    let inputs = Tensor::from_vec(inputs, (sequences, TOKENS), device)?;
    let labels = Tensor::from_vec(labels, (sequences, TOKENS), device)?;
    Dataset::of_tensors((0..sequences as i64).collect(), inputs, labels)
}

/// The end of a line and the text, and beside each token the one that follows: the text and the end
/// of a line. The padding after them does not count.
pub(crate) fn encode(text: &str) -> Result<([u32; TOKENS], [i64; TOKENS])> {
    if text.len() >= TOKENS {
        return Err(format!("text: expected fewer than {TOKENS} bytes, got {}", text.len()).into());
    }
    let (mut tokens, mut following) = ([0; TOKENS], [IGNORED; TOKENS]);
    for (place, byte) in text.bytes().enumerate() {
        let token = ALPHABET.iter().position(|&other| other == byte);
        let token = token.ok_or_else(|| format!("text: byte {byte} is not in the alphabet"))?;
        tokens[place + 1] = token as u32;
        following[place] = token as i64;
    }
    following[text.len()] = 0;
    Ok((tokens, following))
}
