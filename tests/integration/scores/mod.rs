//! Scores and selections against references that hold everything in memory and do it the plain way.

mod choices;
mod closed_forms;
mod derived;
mod errors;
mod files;
mod fold;
mod over_time;
mod plan;
mod reference;
mod selection;
