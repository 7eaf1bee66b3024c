//! Which runs started with the weights of which.

use super::metadata::SpawnPoint;
use super::reader::Experiment;
use crate::error::{Error, Result};

impl Experiment {
    /// Returns the weights that all of these runs had at one time: the point where they were
    /// spawned, or that the parent itself passed. Error barriers are measured between children of
    /// one such point.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is no such point, listing
    /// what each run started with; [`NotFound`](crate::ErrorKind::NotFound) for an unknown run,
    /// listing the runs.
    pub fn common_spawn_point(&self, runs: &[impl AsRef<str>]) -> Result<SpawnPoint> {
        let mut origins = Vec::new();
        for name in runs {
            let name = name.as_ref();
            let run = self.run(name)?;
            origins.push((name, run.ranks().find_map(|rank| rank.spawned_from.clone())));
        }
        let point = origins.iter().find_map(|(_, origin)| origin.clone());
        let passes = |point: &SpawnPoint| {
            let same = |(name, origin): &(&str, Option<SpawnPoint>)| {
                origin.as_ref() == Some(point) || (origin.is_none() && *name == point.run)
            };
            origins.iter().all(same)
        };
        if let Some(point) = point.filter(passes) {
            return Ok(point);
        }
        let origins: Vec<String> = origins
            .iter()
            .map(|(name, origin)| match origin {
                Some(SpawnPoint { run, step }) => {
                    format!("`{name}` with those of `{run}` at step {step}")
                }
                None => format!("`{name}` from its own weights"),
            })
            .collect();
        let origins = if origins.is_empty() { "there is none".into() } else { origins.join(", ") };
        Err(Error::invalid(format!(
            "runs: expected runs that started from the same weights of one parent, but {origins}"
        )))
    }
}
