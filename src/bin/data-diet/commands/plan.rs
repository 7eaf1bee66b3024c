//! What `data-diet filter` is to do, from its options or from a recipe and the options beside it.

use std::path::{Path, PathBuf};

use data_diet::manifest::recipe::{KeyMapOrigin, ManifestOrigin, Recipe, RecipeFile, ScoresOrigin};
use data_diet::manifest::{
    ImageFiles, KeyMap, Manifest, ManifestDirectory, ManifestFormat, ManifestInput,
};
use data_diet::selection::ScoreColumn;

use super::outputs::{Files, STANDARD_STREAM};
use crate::CommandError;
use crate::args::{Filter, Format};
use crate::text::tell;

/// A selection, and what to apply it to.
pub(super) struct Plan {
    pub(super) recipe: Recipe,
    pub(super) scores: PathBuf,
    pub(super) manifest: PathBuf,
    /// How to read the manifest, whose path is [`manifest`](Self::manifest).
    origin: ManifestOrigin,
    /// Where to write the recipe of this call.
    save_to: Option<PathBuf>,
    scores_origin: Option<ScoresOrigin>,
    /// Options that concern the machine, not the outcome.
    memory: u64,
    force: bool,
    images: ImageFiles,
}

impl Plan {
    pub(super) fn of(arguments: &Filter) -> Result<Self, CommandError> {
        let save_to = save_to(arguments);
        let (memory, force, images) = (arguments.memory, arguments.force, arguments.images.into());
        let Some(path) = &arguments.recipe else {
            // The parser does not ask for what other options exclude.
            if arguments.exact {
                return Err(CommandError::Arguments("--exact goes with --recipe".to_owned()));
            }
            let recipe = arguments.choice.recipe().map_err(CommandError::Arguments)?;
            // The parser guarantees both.
            let scores = arguments.scores.clone().unwrap_or_default();
            let manifest = arguments.manifest.clone().unwrap_or_default();
            let origin = origin(arguments, &manifest)?;
            let scores_origin =
                save_to.as_ref().map(|_| ScoresOrigin::from_file(&scores)).transpose()?;
            return Ok(Self {
                recipe,
                scores,
                manifest,
                origin,
                save_to,
                scores_origin,
                memory,
                force,
                images,
            });
        };
        let file = RecipeFile::read(path)?;
        let needs = |what: &str| {
            CommandError::Arguments(format!(
                "{}: names no {what}; name it by --{what}",
                path.display()
            ))
        };
        let scores = arguments.scores.clone();
        let scores =
            scores.or_else(|| file.scores.as_ref().map(|origin| origin.path.clone().into()));
        let scores = scores.ok_or_else(|| needs("scores"))?;
        let manifest = arguments.manifest.clone();
        let manifest =
            manifest.or_else(|| file.manifest.as_ref()?.path.as_ref().map(PathBuf::from));
        let manifest = manifest.ok_or_else(|| needs("manifest"))?;
        let origin = match file.manifest {
            Some(origin) => origin,
            None => origin(arguments, &manifest)?,
        };
        let scores_origin = ScoresOrigin::from_file(&scores)?;
        compare(file.scores.as_ref(), &scores_origin, arguments.exact)?;
        let scores_origin = Some(scores_origin);
        Ok(Self {
            recipe: file.recipe,
            scores,
            manifest,
            origin,
            save_to,
            scores_origin,
            memory,
            force,
            images,
        })
    }

    /// Refuses outputs that are inputs or, without `--force`, exist.
    pub(super) fn check_files(&self, arguments: &Filter) -> Result<(), CommandError> {
        let key_map = self.origin.key_map.as_ref().map(|map| Path::new(&map.path));
        Files::default()
            .input("--scores", Some(&self.scores))
            .input("--manifest", Some(&self.manifest))
            .input("--key-map", key_map)
            .input("--recipe", arguments.recipe.as_deref())
            .output("--output", arguments.output.as_deref())
            .output("--rejected", arguments.rejected.as_deref())
            .output("--save-recipe", self.save_to.as_deref())
            .check(arguments.force)
    }

    /// Returns the manifest's files, if it is a directory.
    pub(super) fn directory(&self) -> data_diet::Result<Option<ManifestDirectory<'static>>> {
        if self.origin.image_folder {
            return ManifestDirectory::image_folder(&self.manifest).map(Some);
        }
        let format = Some(self.origin.read_as.format());
        let is_directory = self.manifest.is_dir();
        is_directory.then(|| ManifestDirectory::open(&self.manifest, format)).transpose()
    }

    /// Returns how to read the manifest, with its key map and added scores.
    pub(super) fn read_as(&self) -> data_diet::Result<Manifest> {
        let mut manifest = self
            .origin
            .read_as
            .clone()
            .memory(self.memory)
            .overwrite(self.force)
            .images(self.images);
        if let Some(KeyMapOrigin { path, key, example }) = &self.origin.key_map {
            manifest = manifest.key_map(KeyMap::read(path, key, example)?);
        }
        for name in &self.origin.with_scores {
            manifest = manifest.with_score(name, ScoreColumn::read(&self.scores, name)?);
        }
        Ok(manifest)
    }

    /// Returns where to write the recipe, and all that is known before it is applied.
    pub(super) fn file(self) -> Option<(PathBuf, RecipeFile)> {
        let mut file = RecipeFile::new(self.recipe);
        file.scores = self.scores_origin;
        let path = (self.manifest != Path::new(STANDARD_STREAM)).then_some(&self.manifest);
        let path = path.map(|path| path.display().to_string());
        let mut origin = self.origin;
        origin.path = path;
        file.manifest = Some(origin);
        Some((self.save_to?, file))
    }
}

/// Returns how the options say to read the manifest of this path.
fn origin(arguments: &Filter, path: &Path) -> Result<ManifestOrigin, CommandError> {
    if path != Path::new(STANDARD_STREAM) && !path.exists() {
        // What the system says about it comes before questions about its format.
        ManifestInput::file(path)?;
    }
    let (format, image_folder) = match arguments.format {
        Some(Format::Imagefolder) => (ManifestDirectory::image_folder(path)?.format(), true),
        _ if path.is_dir() => {
            let directory = ManifestDirectory::open(path, arguments.file_format())?;
            (directory.format(), directory.is_image_folder())
        }
        _ => (arguments.file_format().map_or_else(|| ManifestFormat::from_path(path), Ok)?, false),
    };
    let key = arguments.key(image_folder);
    let mut origin = ManifestOrigin::new(None, arguments.manifest(format, key));
    origin.image_folder = image_folder;
    origin.with_scores = arguments.added_scores();
    if let Some(path) = &arguments.key_map {
        let Some(key) = arguments.key_map_key.as_deref().or(key).filter(|_| key.is_some()) else {
            let message = "key map: expected a key column beside it; name it by --key";
            return Err(CommandError::Arguments(message.to_owned()));
        };
        let (path, key) = (path.display().to_string(), key.to_owned());
        let example = arguments.key_map_example.clone();
        origin.key_map = Some(KeyMapOrigin { path, key, example });
    }
    Ok(origin)
}

/// Beside the output: `kept.recipe.json` for `kept.csv`, `kept.csv.gz` and the directory `kept`.
fn save_to(arguments: &Filter) -> Option<PathBuf> {
    let beside = arguments.output.as_ref().filter(|path| *path != Path::new(STANDARD_STREAM));
    let beside = beside.and_then(|output| {
        let name = output.file_name()?.to_string_lossy();
        let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
        let known = |extension: &str| ManifestFormat::from_path(format!("x.{extension}")).is_ok();
        let stem = name.rsplit_once('.').filter(|(_, extension)| known(extension));
        let stem = stem.map_or(name, |(stem, _)| stem);
        Some(output.with_file_name(format!("{stem}.recipe.json")))
    });
    arguments.save_recipe.clone().or(beside.filter(|_| !arguments.no_recipe))
}

/// Compares the scores with those that the recipe was made from.
fn compare(
    then: Option<&ScoresOrigin>,
    now: &ScoresOrigin,
    exact: bool,
) -> Result<(), CommandError> {
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
        return Err(CommandError::Finding(differs));
    }
    if then.is_some() {
        tell(format_args!("warning: {differs}; the selection can differ"));
    }
    Ok(())
}
