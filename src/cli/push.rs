//! `neftpipe push`.

use clap::Args;

use super::share::ShareArgs;
use super::{CliResult, Context};
use crate::store::Store;

/// Copy results of this store into another, for other machines to pull.
#[derive(Debug, Args)]
pub struct PushArgs {
    #[command(flatten)]
    share: ShareArgs,
}

pub(super) fn run(context: &Context, args: &PushArgs) -> CliResult {
    let (here, there) = (context.store_here()?, Store::open(&args.share.remote()?)?);
    args.share.copy(context, &here, &there, ["pushed", "there"])
}
