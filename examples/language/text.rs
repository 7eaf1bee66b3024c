//! Sentences of a small grammar, and what looks like them and is none. Every function draws from a
//! generator that the caller has seeded; whether a text fits into a sequence is the caller's business.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

const NAMES: &[&str] = &[
    "anna", "ben", "clara", "david", "emma", "felix", "greta", "henry", "ida", "jonas", "karen",
    "leo", "maria", "nils", "olga", "peter", "rosa", "simon", "tina", "viktor",
];
const ANIMALS: &[&str] = &[
    "badger", "bear", "beetle", "cat", "cow", "crow", "deer", "dog", "donkey", "duck", "eagle",
    "fish", "fox", "frog", "goat", "goose", "hare", "hen", "horse", "lamb", "mole", "mouse",
    "otter", "owl", "pig", "rabbit", "raven", "snail", "swan", "wolf",
];
const PLACES: &[&str] = &[
    "barn", "beach", "bridge", "castle", "cellar", "church", "field", "forest", "garden", "gate",
    "harbour", "hill", "house", "island", "kitchen", "lake", "library", "market", "meadow", "mill",
    "mountain", "orchard", "park", "pond", "river", "road", "school", "station", "tower",
    "village",
];
const THINGS: &[&str] = &[
    "apple", "bag", "ball", "basket", "bell", "blanket", "book", "boot", "bottle", "bowl", "box",
    "brush", "button", "candle", "chair", "clock", "coat", "coin", "cup", "drum", "hammer", "hat",
    "jug", "key", "kite", "ladder", "lamp", "letter", "map", "mirror", "needle", "pear", "pencil",
    "picture", "plate", "ring", "rope", "shirt", "spoon", "table",
];
const ADJECTIVES: &[&str] = &[
    "black", "blue", "broken", "brown", "clean", "cold", "empty", "green", "grey", "heavy",
    "large", "light", "little", "long", "new", "old", "plain", "quiet", "red", "round", "short",
    "small", "smooth", "soft", "strong", "tall", "warm", "white", "wide", "yellow",
];
const ACTIONS: &[&str] = &[
    "eats", "hides", "hunts", "jumps", "lives", "plays", "rests", "runs", "sings", "sits",
    "sleeps", "stands", "stays", "swims", "waits", "walks",
];
const DEEDS: &[&str] = &[
    "borrow", "break", "buy", "carry", "clean", "drop", "find", "hide", "keep", "lose", "make",
    "mend", "paint", "see", "sell", "want",
];
const RELATIONS: &[&str] = &["behind", "beside", "in front of", "near", "outside", "under"];
const DAYS: &[&str] =
    &["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const NUMBERS: &[&str] = &[
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
];

/// One sentence of the grammar.
pub(crate) fn sentence(random: &mut StdRng) -> String {
    match random.random_range(0..9) {
        0 => animal_at_a_place(random),
        1 => on_a_day(random),
        2 => two_people(random),
        3 => purchase(random),
        4 => gift(random),
        5 => condition(random),
        6 => comparison(random),
        7 => sums(random),
        _ => pile(random),
    }
}

fn word(words: &'static [&'static str], random: &mut StdRng) -> &'static str {
    words.choose(random).copied().unwrap_or_default()
}

fn animal_at_a_place(random: &mut StdRng) -> String {
    let (adjective, animal) = (word(ADJECTIVES, random), word(ANIMALS, random));
    let (action, relation) = (word(ACTIONS, random), word(RELATIONS, random));
    format!("the {adjective} {animal} {action} {relation} the {}.", word(PLACES, random))
}

fn on_a_day(random: &mut StdRng) -> String {
    let (day, animal, action) = (word(DAYS, random), word(ANIMALS, random), word(ACTIONS, random));
    format!(
        "on {day} the {animal} {action} {} the {}.",
        word(RELATIONS, random),
        word(PLACES, random)
    )
}

fn two_people(random: &mut StdRng) -> String {
    let (first, second, deed) = (word(NAMES, random), word(NAMES, random), word(DEEDS, random));
    format!(
        "{first} and {second} {deed} the {} {}.",
        word(ADJECTIVES, random),
        word(THINGS, random)
    )
}

fn purchase(random: &mut StdRng) -> String {
    let (day, name) = (word(DAYS, random), word(NAMES, random));
    let number = NUMBERS[random.random_range(2..NUMBERS.len())];
    format!("every {day} {name} buys {number} {} {}s.", word(ADJECTIVES, random), thing(random))
}

/// A thing whose plural takes an `s` alone.
fn thing(random: &mut StdRng) -> &'static str {
    let things = THINGS.iter().filter(|thing| !thing.ends_with(['x', 'h']));
    let things: Vec<&str> = things.copied().collect();
    things.choose(random).copied().unwrap_or_default()
}

/// Who gives some of what they have has the rest.
fn gift(random: &mut StdRng) -> String {
    let (name, thing) = (word(NAMES, random), thing(random));
    let had = random.random_range(4..NUMBERS.len());
    let given = random.random_range(2..had - 1);
    let (had, given, left) = (NUMBERS[had], NUMBERS[given], NUMBERS[had - given]);
    format!("{name} had {had} {thing}s, gave {given}, has {left}.")
}

fn condition(random: &mut StdRng) -> String {
    let (name, place, animal) = (word(NAMES, random), word(PLACES, random), word(ANIMALS, random));
    format!("if {name} is at the {place}, the {animal} {}.", word(ACTIONS, random))
}

fn comparison(random: &mut StdRng) -> String {
    let (thing, adjective) = (word(THINGS, random), word(ADJECTIVES, random));
    format!(
        "the {thing} is as {adjective} as the {} in the {}.",
        word(ANIMALS, random),
        word(PLACES, random)
    )
}

fn sums(random: &mut StdRng) -> String {
    let (a, b) = (random.random_range(1..10), random.random_range(1..10));
    let (sum, more) = (a + b, random.random_range(1..10));
    format!("{a} + {b} = {sum}, {b} + {a} = {sum}, {sum} + {more} = {}.", sum + more)
}

fn pile(random: &mut StdRng) -> String {
    let (thing, a) = (thing(random), random.random_range(2..NUMBERS.len() - 2));
    let b = random.random_range(2..NUMBERS.len() - a);
    let (sum, a, b) = (NUMBERS[a + b], NUMBERS[a], NUMBERS[b]);
    format!("{a} {thing}s and {b} {thing}s are {sum} {thing}s.")
}

/// The characters of a text in random order.
pub(crate) fn scrambled(text: &str, random: &mut StdRng) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    characters.shuffle(random);
    characters.into_iter().collect()
}

/// The words of a text in random order.
pub(crate) fn reordered(text: &str, random: &mut StdRng) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    words.shuffle(random);
    words.join(" ")
}

/// A sentence of another language: syllables of few consonants and vowels, no word of it learned
/// from elsewhere.
pub(crate) fn foreign(random: &mut StdRng) -> String {
    const CONSONANTS: &[&str] = &["b", "j", "k", "kr", "m", "q", "v", "x", "z", "zh"];
    const VOWELS: &[&str] = &["a", "aa", "i", "o", "oi", "u", "uu"];
    let words = (0..random.random_range(5..9)).map(|_| {
        let syllables = (0..random.random_range(1..4))
            .map(|_| [word(CONSONANTS, random), word(VOWELS, random)].concat());
        syllables.collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ") + "."
}
