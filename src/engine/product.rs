//! What instances of a run have made so far, for those that need it.

use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use neftpipe_protocol::Digest;

use super::chain::training_rows;
use super::stage::StageInput;
use crate::plan::lineage::Made;
use crate::spec::model::{InputRef, Instance, Pipeline};
use crate::store::{Manifest, Store};

/// Finished instances, by their index in the pipeline.
pub struct Products(Vec<OnceLock<Product>>);

struct Product {
    manifest: Arc<Manifest>,
    digests: IndexMap<String, Digest>,
}

impl Products {
    /// Of none of so many instances.
    pub fn none(count: usize) -> Self {
        Self((0..count).map(|_| OnceLock::new()).collect())
    }

    /// Adds what an instance has made, unless it is known.
    pub fn add(&self, index: usize, manifest: Arc<Manifest>) {
        self.0[index].get_or_init(|| Product { digests: manifest.digests(), manifest });
    }

    /// Whether the result of an instance is found or made.
    pub fn has(&self, index: usize) -> bool {
        self.0[index].get().is_some()
    }

    /// The result of an instance, where it is.
    pub fn manifest(&self, index: usize) -> Option<Arc<Manifest>> {
        self.0[index].get().map(|product| Arc::clone(&product.manifest))
    }

    /// Digests of an instance's outputs by name; none before it is finished.
    pub fn digests(&self, index: usize) -> IndexMap<String, Digest> {
        self.0[index].get().map_or_else(IndexMap::new, |product| product.digests.clone())
    }

    /// What an instance has made, if it is finished.
    pub fn made(&self, index: usize) -> Option<Made<'_>> {
        self.0[index].get().map(|product| Made {
            key: product.manifest.key,
            outputs: &product.digests,
            training_rows: None,
        })
    }

    /// The same, with the rows to train on where it made tokens.
    pub fn made_of_rows(&self, index: usize, store: &Store) -> Option<Made<'_>> {
        let product = self.0[index].get()?;
        let tokens = product.manifest.outputs.get("tokens");
        let training_rows = tokens.and_then(|tokens| training_rows(store, tokens).ok());
        Some(Made { training_rows, ..self.made(index)? })
    }

    /// Inputs of an instance whose needs are finished, by slot.
    pub fn inputs(&self, pipeline: &Pipeline, instance: &Instance) -> IndexMap<String, Vec<StageInput>> {
        let of_slot = |references: &[InputRef]| references.iter().map(|r| self.input(pipeline, r)).collect();
        instance.inputs.iter().map(|(slot, references)| (slot.clone(), of_slot(references))).collect()
    }

    fn input(&self, pipeline: &Pipeline, reference: &InputRef) -> StageInput {
        let maker = &pipeline.instances[reference.instance];
        let product = self.0[reference.instance].get().expect("a stage starts when its inputs are made");
        let stage = if reference.output == maker.plain_output() {
            maker.id.clone()
        } else {
            maker.id.replacen(&maker.stage, &format!("{}.{}", maker.stage, reference.output), 1)
        };
        let artifact = product.manifest.outputs[&reference.output].clone();
        StageInput { artifact, stage, label: maker.label.clone(), axes: maker.axes.clone() }
    }
}
