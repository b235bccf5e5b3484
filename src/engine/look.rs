//! Looks at instances whose inputs are made: the key of each, and what the store has under it.
//!
//! A look changes nothing, so many are taken at once.

use neftpipe_protocol::{Digest, Failure};
use rayon::prelude::*;

use super::product::Products;
use super::{Run, stage};
use crate::plan::{self, Preimage};
use crate::spec::model::Pipeline;
use crate::store::Lookup;

/// Fewer are not worth another core.
const LEAST_A_CORE: usize = 4;

/// What was seen of an instance.
pub struct Look {
    /// What its key is made of, where that is known.
    pub preimage: Option<Preimage>,
    /// The key; where it is not known, what stands for it.
    pub identity: Digest,
    /// What the store has.
    pub found: Result<Lookup, Failure>,
}

impl Look {
    /// The key, where it is known.
    pub fn key(&self) -> Option<Digest> {
        self.preimage.as_ref().map(|_| self.identity)
    }
}

/// Looks at these instances, whose inputs are made; on all cores as long as no stage is at work: those who hash its files
/// would be waited for.
pub fn look_at(
    run: &Run<'_>,
    pipeline: &Pipeline,
    products: &Products,
    indices: &[usize],
    is_at_work: bool,
) -> Vec<Result<Look, Failure>> {
    let look = |&index: &usize| look(run, pipeline, products, index);
    if is_at_work {
        return indices.iter().map(look).collect();
    }
    indices.par_iter().with_min_len(LEAST_A_CORE).map(look).collect()
}

/// Looks at an instance.
///
/// # Errors
/// Where something that its key is made of cannot be read.
pub fn look(run: &Run<'_>, pipeline: &Pipeline, products: &Products, index: usize) -> Result<Look, Failure> {
    let preimage = plan::preimage(pipeline, index, &|at| products.made(at), run.world)?;
    Ok(match preimage {
        None => {
            let identity = stage::source_identity(&pipeline.instances[index]);
            Look { preimage, identity, found: Ok(Lookup::Miss) }
        }
        Some(ref known) => {
            let key = known.key();
            Look { preimage, identity: key, found: run.store.lookup(&key).map_err(Failure::from) }
        }
    })
}
