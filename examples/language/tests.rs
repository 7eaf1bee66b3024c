//! The text and its noise, the network, and the whole example in small.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{D, Device, IndexOp, Tensor, Var};
use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW};
use clap::Parser;
use data_diet::Experiment;
use data_diet::observe::{ModelKind, Phase, Signal};
use data_diet::run::RunStatus;
use data_diet::selection::ScoreColumn;
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::data::{ALPHABET, COPIES, Corpus, IGNORED, Kind, TOKENS, encode};
use crate::network::{Network, Sizes};
use crate::options::Options;
use crate::progress::Meter;
use crate::training::{Task, mean_loss, token_losses, train};
use crate::{run, text};

const SIZES: Sizes = Sizes { vocabulary: 9, tokens: 7, width: 8, heads: 2, blocks: 3 };

fn corpus() -> Corpus {
    Corpus::new(1500, 300, 0)
}

fn small_task() -> Task {
    crate::task(&Corpus::new(200, 20, 0), &Device::Cpu).unwrap()
}

fn network(seed: u64) -> Network {
    Network::new(SIZES, &mut StdRng::seed_from_u64(seed), &Device::Cpu).unwrap()
}

fn of(corpus: &Corpus, kind: Kind) -> Vec<&str> {
    let sequences = corpus.train.iter().filter(|sequence| sequence.kind == kind);
    sequences.map(|sequence| sequence.text.as_str()).collect()
}

fn words<'a>(texts: &[&'a str]) -> BTreeSet<&'a str> {
    texts
        .iter()
        .flat_map(|text| text.split([' ', ',', '.']))
        .filter(|word| !word.is_empty())
        .collect()
}

/// Every weight of a network, bit by bit.
fn bits(network: &Network) -> BTreeMap<String, Vec<u32>> {
    let values = |variable: Var| -> Vec<f32> { variable.flatten_all().unwrap().to_vec1().unwrap() };
    let variables = network.named_variables().into_iter();
    variables
        .map(|(name, variable)| (name, values(variable).into_iter().map(f32::to_bits).collect()))
        .collect()
}

#[test]
fn the_seed_decides_the_text() {
    assert_eq!(corpus(), corpus());
    assert_ne!(corpus(), Corpus::new(1500, 300, 1));
}

#[test]
fn the_noise_is_what_it_says() {
    let corpus = corpus();
    let counts = [Kind::Clean, Kind::Scrambled, Kind::Reordered, Kind::Foreign, Kind::Duplicated]
        .map(|kind| of(&corpus, kind).len());
    assert_eq!(counts, [1205, 75, 75, 75, 70]);

    let mut occurrences: BTreeMap<&str, usize> = BTreeMap::new();
    for sequence in &corpus.train {
        *occurrences.entry(&sequence.text).or_default() += 1;
    }
    for sequence in &corpus.train {
        let expected = if sequence.kind == Kind::Duplicated { COPIES } else { 1 };
        assert_eq!(occurrences[&*sequence.text], expected, "{sequence:?}");
    }
    assert_eq!(corpus.test.len(), 300);
    assert!(corpus.test.iter().all(|text| !occurrences.contains_key(text.as_str())));

    // The words of sentences, reordered or not, are known; foreign and scrambled ones are not.
    let known = words(&of(&corpus, Kind::Clean));
    let share_known = |texts: &[&str]| {
        let words = words(texts);
        words.intersection(&known).count() as f64 / words.len() as f64
    };
    assert!(share_known(&of(&corpus, Kind::Reordered)) > 0.98);
    assert!(share_known(&of(&corpus, Kind::Foreign)) < 0.02);
    assert!(share_known(&of(&corpus, Kind::Scrambled)) < 0.25);
    // Sentences end with their only full stop; of their scrambled characters few do.
    let ends = |texts: &[&str]| texts.iter().filter(|text| text.ends_with('.')).count();
    assert_eq!(ends(&of(&corpus, Kind::Clean)), 1205);
    assert!(ends(&of(&corpus, Kind::Scrambled)) < 15);
}

#[test]
fn noise_keeps_what_it_does_not_change() {
    let mut random = StdRng::seed_from_u64(0);
    let sentence = text::sentence(&mut random);
    let sorted = |text: &str| {
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters
    };
    let scrambled = text::scrambled(&sentence, &mut random);
    assert_eq!(sorted(&scrambled), sorted(&sentence));
    assert_ne!(scrambled, sentence);
    let reordered = text::reordered(&sentence, &mut random);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(words(&reordered), words(&sentence));
    assert_ne!(reordered, sentence);
}

#[test]
fn what_the_sentences_say_of_numbers_is_true() {
    let (corpus, mut checked) = (corpus(), 0);
    for sentence in of(&corpus, Kind::Clean).into_iter().filter(|text| text.contains('+')) {
        for sum in sentence.trim_end_matches('.').split(", ") {
            let numbers = sum.split([' ', '+', '=']).filter_map(|word| word.parse().ok());
            let numbers: Vec<u32> = numbers.collect();
            assert_eq!(numbers[0] + numbers[1], numbers[2], "{sentence}");
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
    let number = |word: &str| {
        let names =
            ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"];
        names.iter().position(|name| *name == word).map_or(12, |place| place + 2)
    };
    for sentence in of(&corpus, Kind::Clean).into_iter().filter(|text| text.contains("s are ")) {
        let words: Vec<&str> = sentence.split([' ', '.']).collect();
        let [first, second, sum] = [0, 3, 6].map(|place| number(words[place]));
        assert_eq!(first + second, sum, "{sentence}");
    }
}

#[test]
fn a_label_is_the_token_that_follows() {
    let text = "3 + 4 = 7, as ben and the old owl say.";
    let (tokens, labels) = encode(text).unwrap();
    let byte = |token: u32| char::from(ALPHABET[token as usize]);
    let read: String = tokens.iter().map(|&token| byte(token)).collect();
    assert_eq!(read, format!("\n{text}{}", "\n".repeat(TOKENS - 1 - text.len())));
    let counted = labels.iter().take_while(|&&label| label != IGNORED);
    let following: String = counted.map(|&label| byte(label as u32)).collect();
    assert_eq!(following, format!("{text}\n"));
    assert!(labels[text.len() + 1..].iter().all(|&label| label == IGNORED));

    assert!(encode(&"a".repeat(TOKENS - 1)).is_ok());
    let error = encode(&"a".repeat(TOKENS)).unwrap_err().to_string();
    assert_eq!(error, "text: expected fewer than 44 bytes, got 44");
    assert_eq!(encode("A").unwrap_err().to_string(), "text: byte 65 is not in the alphabet");
}

#[test]
fn the_network_has_the_parameters_of_its_sizes() {
    // Two embeddings and a position; per block four square matrices and two to and from four times
    // the width.
    let weights: usize = bits(&network(0)).values().map(Vec::len).sum();
    assert_eq!(weights, 2 * 9 * 8 + 7 * 8 + 3 * (4 * 64 + 2 * 4 * 64));
    assert_eq!(weights, SIZES.parameters());
    assert_eq!(bits(&network(3)), bits(&network(3)));
    assert_ne!(bits(&network(3)), bits(&network(4)));
    let sizes = Sizes { heads: 3, ..SIZES };
    let error = Network::new(sizes, &mut StdRng::seed_from_u64(0), &Device::Cpu).err().unwrap();
    assert_eq!(error.to_string(), "width: expected a multiple of 3 heads, got 8");
}

#[test]
fn a_token_sees_none_that_is_later() {
    let network = network(1);
    let logits = |tokens: [u32; 7]| -> Vec<Vec<f32>> {
        let tokens = Tensor::new(&[tokens], &Device::Cpu).unwrap();
        network.forward(&tokens).unwrap().squeeze(0).unwrap().to_vec2().unwrap()
    };
    let tokens = [1, 5, 2, 0, 7, 7, 3];
    let before = logits(tokens);
    for changed in 0..tokens.len() {
        let mut other = tokens;
        other[changed] = 8;
        let after = logits(other);
        assert_eq!(after[..changed], before[..changed], "token {changed}");
        for place in changed..tokens.len() {
            assert_ne!(after[place], before[place], "token {changed} at {place}");
        }
    }
    // A shorter sequence is the beginning of a longer one.
    let short = Tensor::from_slice(&tokens[..4], (1, 4), &Device::Cpu).unwrap();
    let short: Vec<Vec<f32>> = network.forward(&short).unwrap().i(0).unwrap().to_vec2().unwrap();
    for (short, long) in short.iter().flatten().zip(before.iter().flatten()) {
        assert!((short - long).abs() < 1e-5, "{short} {long}");
    }
}

#[test]
fn a_step_reaches_every_weight() {
    let network = network(2);
    let before = bits(&network);
    let mut optimizer = AdamW::new(network.variables(), ParamsAdamW::default()).unwrap();
    let tokens: Vec<u32> = (0..9 * 7).map(|place| place % 9).collect();
    let tokens = Tensor::from_vec(tokens, (9, 7), &Device::Cpu).unwrap();
    let labels = (&tokens * 0.5).unwrap().to_dtype(candle_core::DType::I64).unwrap();
    let loss = mean_loss(&network.forward(&tokens).unwrap(), &labels).unwrap();
    optimizer.backward_step(&loss).unwrap();
    for (name, values) in bits(&network) {
        let unchanged = values.iter().zip(&before[&name]).filter(|(after, before)| after == before);
        assert!(unchanged.count() * 50 < values.len(), "{name} does not learn");
    }
}

#[test]
fn padding_has_no_loss() {
    let labels = Tensor::new(&[[0_i64, 2, IGNORED], [1, IGNORED, IGNORED]], &Device::Cpu).unwrap();
    let logits = |padding: f32| {
        let rows =
            [[0.0, 0.0, 3.0_f32.ln()], [1.0, 1.0, 1.0], [padding; 3], [0.0, 2.0_f32.ln(), 0.0]];
        let rows = [rows[0], rows[1], rows[2], rows[3], [0.0, padding, 0.0], rows[2]].concat();
        Tensor::from_vec(rows, (2, 3, 3), &Device::Cpu).unwrap()
    };
    for padding in [0.0, 50.0] {
        let (losses, counts) = token_losses(&logits(padding), &labels).unwrap();
        let losses: Vec<f32> = losses.flatten_all().unwrap().to_vec1().unwrap();
        // p = 1/5, 1/3 and 2/4.
        let expected = [5.0_f32.ln(), 3.0_f32.ln(), 0.0, 2.0_f32.ln(), 0.0, 0.0];
        assert!(losses.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{losses:?}");
        assert_eq!(counts.sum_all().unwrap().to_scalar::<f32>().unwrap(), 3.0);
        let mean: f32 = mean_loss(&logits(padding), &labels).unwrap().to_scalar().unwrap();
        assert!((mean - 30.0_f32.ln() / 3.0).abs() < 1e-6, "{mean}");
    }
}

#[test]
fn what_is_recorded_is_what_the_network_says_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let task = small_task();
    let trained = |record| {
        let mut meter = Meter::on(ProgressBar::hidden());
        train(&task, &task.train, 25, 5, record, &mut meter).unwrap()
    };
    let recorded = trained(Some(directory.path()));
    assert_eq!(recorded.report.rows.written, 400);
    let unrecorded = trained(None);
    assert_eq!(unrecorded.report.rows.written, 0);
    assert!(bits(&recorded.network) == bits(&unrecorded.network), "recording changes the training");

    let run = Experiment::open(directory.path()).unwrap().run("seed-5").unwrap();
    assert_eq!(run.status(), RunStatus::Finished);
    let batch = task.train.in_order(200).next().unwrap().unwrap();
    let logits = recorded.network.forward(&batch.inputs).unwrap();
    let (losses, counts) = token_losses(&logits, &batch.labels).unwrap();
    let means = (losses.sum(D::Minus1).unwrap() / counts.sum(D::Minus1).unwrap()).unwrap();
    let means: Vec<f32> = means.to_vec1().unwrap();
    let mut rows = 0;
    for part in run.observations(Phase::Score, 0).unwrap() {
        let part = part.unwrap();
        for (&id, &loss) in part.examples().iter().zip(part.signal(Signal::Loss).unwrap()) {
            assert!((loss - means[id as usize]).abs() < 1e-5, "{id}: {loss}");
            rows += 1;
        }
    }
    assert_eq!(rows, 200);
    assert_eq!(run.kind(), ModelKind::Tokens { vocabulary: ALPHABET.len() as u32 });
}

#[test]
fn a_small_session_repeats_itself() {
    let directory = tempfile::tempdir().unwrap();
    let experiment = directory.path().join("language");
    let options = Options {
        experiment: experiment.clone(),
        sequences: 200,
        test: 20,
        epochs: 1,
        seeds: 2,
        retrain: 1,
        ..Options::try_parse_from(["language"]).unwrap()
    };
    let session = || {
        let mut output = Vec::new();
        run(&options, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    };
    let printed = session();
    for expected in [
        "  scrambled          10",
        "  duplicated         10",
        "  everything                                    200     20 %",
        "  without the 30 % of lowest EL2N               140",
        "The hardest by perplexity",
    ] {
        assert!(printed.contains(expected), "{printed}");
    }
    assert!(!printed.contains("NaN"), "{printed}");
    for score in ["loss", "el2n"] {
        let scores = ScoreColumn::read(experiment.join("scores.parquet"), score).unwrap();
        assert!(scores.examples().iter().copied().eq(0..200));
    }
    assert_eq!(session(), printed, "the same seeds should give the same report");
}
