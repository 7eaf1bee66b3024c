//! What `data-diet filter` is to do: by its options, or by a recipe and what the options add to it.

use std::path::{Path, PathBuf};

use data_diet::{Manifest, ManifestOrigin, Recipe, RecipeFile, ScoresOrigin};

use super::filter::STANDARD_STREAM;
use crate::Failure;
use crate::args::Filter;
use crate::text::tell;

/// A choice, and what it is applied to.
pub(super) struct Plan {
    pub(super) recipe: Recipe,
    pub(super) scores: PathBuf,
    pub(super) manifest: PathBuf,
    pub(super) read_as: Manifest,
    /// Where the recipe of this call goes.
    save_to: Option<PathBuf>,
    scores_origin: Option<ScoresOrigin>,
}

impl Plan {
    pub(super) fn of(arguments: &Filter) -> Result<Self, Failure> {
        let save_to = save_to(arguments);
        if save_to.is_some() && save_to == arguments.output {
            let message = "--save-recipe: expected another file than that of the output";
            return Err(Failure::Arguments(message.to_owned()));
        }
        let Some(path) = &arguments.recipe else {
            // The grammar does not ask for what the other options exclude.
            if arguments.exact {
                return Err(Failure::Arguments("--exact goes with --recipe".to_owned()));
            }
            let recipe = arguments.choice.recipe().map_err(Failure::Arguments)?;
            // The grammar has made sure of both.
            let scores = arguments.scores.clone().unwrap_or_default();
            let manifest = arguments.manifest.clone().unwrap_or_default();
            let read_as = arguments.manifest(&manifest)?;
            let scores_origin = save_to.as_ref().map(|_| ScoresOrigin::of(&scores)).transpose()?;
            return Ok(Self { recipe, scores, manifest, read_as, save_to, scores_origin });
        };
        let file = RecipeFile::read(path)?;
        let needs = |what: &str| {
            Failure::Arguments(format!("{}: names no {what}; name it by --{what}", path.display()))
        };
        let scores = arguments.scores.clone();
        let scores =
            scores.or_else(|| file.scores.as_ref().map(|origin| origin.path.clone().into()));
        let scores = scores.ok_or_else(|| needs("scores"))?;
        let origin = file.manifest.as_ref();
        let manifest = arguments.manifest.clone();
        let manifest = manifest.or_else(|| origin?.path.as_ref().map(PathBuf::from));
        let manifest = manifest.ok_or_else(|| needs("manifest"))?;
        let read_as = match origin {
            Some(origin) => origin.read_as.clone(),
            None => arguments.manifest(&manifest)?,
        };
        let scores_origin = ScoresOrigin::of(&scores)?;
        compare(file.scores.as_ref(), &scores_origin, arguments.exact)?;
        let scores_origin = Some(scores_origin);
        Ok(Self { recipe: file.recipe, scores, manifest, read_as, save_to, scores_origin })
    }

    /// Where to write the recipe, and all that is known before it was applied.
    pub(super) fn file(self) -> Option<(PathBuf, RecipeFile)> {
        let mut file = RecipeFile::new(self.recipe);
        file.scores = self.scores_origin;
        let path = (self.manifest != Path::new(STANDARD_STREAM)).then_some(&*self.manifest);
        file.manifest = Some(ManifestOrigin::new(path, self.read_as));
        Some((self.save_to?, file))
    }
}

fn save_to(arguments: &Filter) -> Option<PathBuf> {
    let beside = arguments.output.as_ref().filter(|path| *path != Path::new(STANDARD_STREAM));
    let beside = beside.map(|output| output.with_extension("recipe.json"));
    arguments.save_recipe.clone().or(beside.filter(|_| !arguments.no_recipe))
}

/// Whether these are the scores that a recipe was made from.
fn compare(then: Option<&ScoresOrigin>, now: &ScoresOrigin, exact: bool) -> Result<(), Failure> {
    let differs = match then {
        Some(then) if then.has_content_of(now) => return Ok(()),
        Some(then) => format!(
            "{} ({} bytes, CRC-32C {}) are not the scores that the recipe was made from ({} bytes, \
             CRC-32C {})",
            now.path, now.bytes, now.crc32c, then.bytes, then.crc32c
        ),
        None => "the recipe does not say which scores it was made from".to_owned(),
    };
    if exact {
        return Err(Failure::Finding(differs));
    }
    if then.is_some() {
        tell(format_args!("warning: {differs}; the choice can differ"));
    }
    Ok(())
}
