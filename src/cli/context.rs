//! What commands share: the printer, where the store is, and a pipeline with its plan.

use std::path::{Path, PathBuf};

use super::overrides::FileArgs;
use super::{CliError, CliResult};
use crate::facts::World;
use crate::plan::{Graph, Plan, Selection};
use crate::spec::Selector;
use crate::spec::model::Pipeline;
use crate::store::Store;
use crate::ui::printer::Printer;

/// What every command is given.
pub struct Context {
    /// The way to stdout and stderr.
    pub printer: Printer,
    store: Option<PathBuf>,
}

/// A pipeline, its store, and what of it the command line asks for.
pub(super) struct Chosen {
    pub pipeline: Pipeline,
    pub store: Store,
    /// What was asked for, with all that it needs.
    pub selection: Selection,
    /// What `--force` names.
    pub forced: Selection,
}

impl Context {
    pub(super) fn new(printer: Printer, store: Option<PathBuf>) -> Self {
        Self { printer, store }
    }

    /// Reads a pipeline file, and says what in it deserves a warning.
    pub(super) fn load(&self, args: &FileArgs) -> Result<Pipeline, CliError> {
        let pipeline = crate::spec::load(&args.file, &args.overrides()?)?;
        self.printer.warnings(&pipeline.warnings);
        Ok(pipeline)
    }

    /// The store of a pipeline file.
    pub(super) fn store_of(&self, file: &Path) -> Result<Store, CliError> {
        Ok(Store::open(&self.root(file.parent().unwrap_or(Path::new("."))))?)
    }

    /// Where the store of the current directory is, or would be.
    pub(super) fn root_here(&self) -> Result<PathBuf, CliError> {
        Ok(self.root(&std::env::current_dir()?))
    }

    /// The store of the current directory, if there is one. Looking for results makes none.
    pub(super) fn find_store_here(&self) -> Result<Option<Store>, CliError> {
        let root = self.root_here()?;
        if Store::is_at(&root) { Ok(Some(Store::open(&root)?)) } else { Ok(None) }
    }

    /// The store of the current directory, for commands that name results.
    pub(super) fn store_here(&self) -> Result<Store, CliError> {
        match self.find_store_here()? {
            Some(store) => Ok(store),
            None => Err(self.no_store_here()?),
        }
    }

    /// Says that nothing was run here yet.
    pub(super) fn no_store_here(&self) -> Result<CliError, CliError> {
        let root = self.root_here()?;
        Ok(CliError::usage(format!("there is no store in {}", root.display()))
            .with_hint("`neftpipe run FILE` makes one; --store names one elsewhere"))
    }

    fn root(&self, start: &Path) -> PathBuf {
        match &self.store {
            Some(root) => root.clone(),
            None => project_of(start).unwrap_or_else(|| start.to_owned()).join("cache"),
        }
    }

    /// The instances that selectors on the command line name; everything where there is none.
    pub(super) fn select(&self, pipeline: &Pipeline, selectors: &[String]) -> Result<Selection, CliError> {
        if selectors.is_empty() {
            return Ok(Selection::all(pipeline));
        }
        let mut chosen = Selection::none(pipeline);
        for text in selectors {
            let selector = Selector::parse(text).map_err(|error| CliError::usage(format!("`{text}`: {error}")))?;
            let indexes = selector.select(pipeline).map_err(|error| CliError::usage(error.to_string()))?;
            chosen = chosen.union(&Selection::of(pipeline, &indexes));
        }
        Ok(chosen)
    }

    /// Reads a pipeline file, and its store beside it. A store is made only for a pipeline that can be read.
    fn load_with_store(&self, args: &FileArgs) -> Result<(Pipeline, Store), CliError> {
        let root = self.root(args.file.parent().filter(|folder| *folder != "").unwrap_or(Path::new(".")));
        let open = || Store::is_at(&root).then(|| Store::open(&root));
        let (pipeline, store) = rayon::join(|| self.load(args), open);
        let pipeline = pipeline?;
        Ok((pipeline, store.unwrap_or_else(|| Store::open(&root))?))
    }

    /// Reads a pipeline and selects what is asked for.
    pub(super) fn choose(&self, file: &FileArgs, selectors: &[String], force: &[String]) -> Result<Chosen, CliError> {
        let (pipeline, store) = self.load_with_store(file)?;
        let selection = Graph::new(&pipeline).with_needs(&self.select(&pipeline, selectors)?);
        let mut forced = Selection::none(&pipeline);
        for text in force {
            let meant = self.select(&pipeline, std::slice::from_ref(text))?;
            if !meant.indexes().any(|index| selection.contains(index)) {
                return Err(CliError::usage(format!("--force {text}: this run carries out none of it"))
                    .with_hint(format!("name it among the instances to run, too: '{text}'")));
            }
            forced = forced.union(&meant);
        }
        Ok(Chosen { pipeline, store, selection, forced })
    }

    /// Reads, selects and plans.
    pub(super) fn plan(
        &self,
        file: &FileArgs,
        selectors: &[String],
        force: &[String],
    ) -> Result<(Chosen, Plan), CliError> {
        let chosen = self.choose(file, selectors, force)?;
        let world = World::new(&chosen.store, &chosen.pipeline)?.accepting(file.accept.clone());
        let plan = Plan::new(&chosen.pipeline, &chosen.selection, &chosen.forced, &world);
        Ok((chosen, plan))
    }

    /// Says that the command line asks for something that there is not.
    pub(super) fn refuse(&self, message: impl Into<String>) -> CliResult {
        Err(CliError::usage(message))
    }
}

/// The nearest folder upwards that is a project: it has `pipelines/`, or a store.
fn project_of(start: &Path) -> Option<PathBuf> {
    let start = std::path::absolute(start).ok()?;
    let is_project = |folder: &&Path| folder.join("pipelines").is_dir() || folder.join("cache/CACHEDIR.TAG").is_file();
    start.ancestors().find(is_project).map(Path::to_owned)
}
