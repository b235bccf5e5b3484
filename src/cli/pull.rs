//! `neftpipe pull`.

use clap::Args;
use neftpipe_protocol::Failure;

use super::share::ShareArgs;
use super::{CliResult, Context};
use crate::store::Store;

/// Copy results of another store into this one: a run finds them as if they were made here.
#[derive(Debug, Args)]
pub struct PullArgs {
    #[command(flatten)]
    share: ShareArgs,
}

pub(super) fn run(context: &Context, args: &PullArgs) -> CliResult {
    let remote = args.share.remote()?;
    if !Store::is_at(&remote) {
        return Err(Failure::environment(format!("there is no store in {}", remote.display()))
            .with_hint("`neftpipe push --remote DIR` makes one")
            .into());
    }
    let here = Store::open(&context.root_here()?)?;
    args.share.copy(context, &Store::open(&remote)?, &here, ["pulled", "here"])
}
