//! `neftpipe run`.

use std::mem::ManuallyDrop;

use clap::{Args, ValueEnum};
use neftpipe_protocol::judging::{LOCAL, Prices};
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::{Failure, Kind};

use super::confirm::{self, Limit};
use super::detach;
use super::overrides::FileArgs;
use super::{Chosen, CliError, CliResult, Context};
use crate::engine::event::{Event, RunOutcome};
use crate::engine::{self, Options};
use crate::exec::{GpuLocks, Local, Machine, Stop, Workers};
use crate::exit::Exit;
use crate::facts::World;
use crate::record::{self, Recorder};
use crate::ui::progress::Progress;

/// Bring a pipeline, or some instances and what they need, up to date.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only these instances and what they need: `train[variant=neft5]`; a trailing `+` adds what depends on them.
    #[arg(value_name = "SELECTOR")]
    selectors: Vec<String>,
    /// Say what would run, and why, and do nothing (as `plan`).
    #[arg(long)]
    dry_run: bool,
    /// Carry these out although their results are there.
    #[arg(long, value_name = "SELECTOR")]
    force: Vec<String>,
    /// Start nothing more once a stage has failed.
    #[arg(long)]
    fail_fast: bool,
    /// Let stages that gather go on with the instances that succeeded.
    #[arg(long)]
    partial: bool,
    /// Stages at a time [default: as many as the machine holds].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// GPUs that may be used: `0,1`.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    gpus: Option<Vec<String>>,
    /// Ask first where the work will take longer, going by earlier runs, or judges may cost more: `1h`, `$20`.
    #[arg(long, value_name = "TIME|$N", value_parser = Limit::parse)]
    confirm_over: Option<Limit>,
    /// Let all stages together spend at most this much on judges that cost money; what is paid for is kept.
    #[arg(long, value_name = "N", value_parser = super::plan::dollars)]
    max_cost_usd: Option<f64>,
    /// Where stages are carried out.
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = Where::Local)]
    executor: Where,
    /// Resolve movable sources anew.
    #[arg(long, conflicts_with = "offline")]
    refresh: bool,
    /// Let no stage touch the network.
    #[arg(long)]
    offline: bool,
    /// Go on after the terminal closes; `neftpipe logs RUN --follow` attaches again.
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
    /// This process is the detached one, and carries out this run.
    #[arg(long, hide = true, value_name = "RUN", conflicts_with = "detach")]
    detached_as: Option<String>,
}

/// Where stages are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// On this machine, or in the job of a cluster that this process is.
    Local,
    /// Each as a job of its own: not yet there.
    #[value(hide = true)]
    Slurm,
}

pub(super) fn run(context: &Context, args: &RunArgs) -> CliResult {
    if args.dry_run {
        let (chosen, plan) = context.plan(&args.file, &args.selectors, &args.force)?;
        super::plan::print(context, &chosen, &plan, args.max_cost_usd)?;
        return Ok(Exit::Success);
    }
    if args.executor == Where::Slurm {
        return Err(Failure::usage("stages as Slurm jobs of their own are not there yet")
            .with_hint("let one job carry out the pipeline: sbatch --requeue --wrap 'neftpipe run FILE'")
            .into());
    }
    let chosen = match args.confirm_over.filter(|_| args.detached_as.is_none()) {
        Some(limit) => confirm::choose(context, &args.file, &args.selectors, &args.force, limit, args.max_cost_usd)?,
        None => context.choose(&args.file, &args.selectors, &args.force)?,
    };
    if args.max_cost_usd.is_some() {
        check_prices(&chosen)?;
    }
    if args.detach {
        return detach::start(context, &chosen.store);
    }
    carry_out(context, args, chosen)
}

/// What is spent can be told of every judge that asks a service.
fn check_prices(chosen: &Chosen) -> Result<(), CliError> {
    let instances = chosen.selection.indexes().map(|index| &chosen.pipeline.instances[index]);
    for instance in instances.filter(|instance| instance.kind == Kind::Judge) {
        let params: JudgeParams = instance.typed_params()?;
        let is_asked = params.annotator.as_deref().is_some_and(|name| name != LOCAL);
        if is_asked && params.endpoint.as_ref().is_some_and(|endpoint| Prices::of(endpoint).is_none()) {
            let message =
                format!("--max-cost-usd: {} has no `endpoint.prices`, so nothing tells what it spends", instance.id);
            return Err(CliError::usage(message).with_hint(
                "say `prices: { input: …, output: … }` in dollars per million tokens; 0 for a service of your own",
            ));
        }
    }
    Ok(())
}

fn carry_out(context: &Context, args: &RunArgs, chosen: Chosen) -> CliResult {
    let Chosen { pipeline, store, selection, forced } = chosen;
    // The program ends when the run does: taking thousands of instances apart piece by piece would only be waited for.
    let pipeline = ManuallyDrop::new(pipeline);
    let world = World::new(&store, &pipeline)?.accepting(args.file.accept.clone());
    if args.refresh {
        world.lock().refresh();
    }
    let mut machine = Machine::detect(crate::env::visible_gpus().as_deref());
    if let Some(gpus) = &args.gpus {
        machine.use_gpus(gpus)?;
    }
    let stop = Stop::on_signals(args.detached_as.is_some())
        .map_err(|error| Failure::internal(format!("signals cannot be handled: {error}")))?;
    let id = match &args.detached_as {
        Some(id) => id.clone(),
        None => record::new_run(&store.runs_dir())?,
    };
    let workers = Workers::new(crate::env::workers(), store.workers_file());
    let executor = Local::new(workers, engine::attempts_of_run(&store, &id));
    let mut recorder = Recorder::begin(&store.runs_dir(), &id, &pipeline, selection.indexes())?;
    let mut progress = Progress::new(context.printer);
    let run = engine::Run {
        id: &id,
        pipeline: &pipeline,
        selection: &selection,
        forced: &forced,
        store: &store,
        world: &world,
        executor: &executor,
        machine,
        options: Options {
            jobs: args.jobs.map(|jobs| jobs as usize),
            fail_fast: args.fail_fast,
            partial: args.partial,
            max_cost_usd: args.max_cost_usd,
            offline: args.offline || crate::env::offline(),
            gpu_locks: Some(GpuLocks::new(crate::env::runtime_folder(), crate::env::cluster_job())),
        },
        stop,
    };
    let mut closed = None;
    let summary = engine::run(&run, &mut |event: &Event| {
        recorder.note(event);
        progress.show(event);
        if context.printer.is_json()
            && let Err(error) = context.printer.json(event)
        {
            closed.get_or_insert(error);
        }
    });
    // Both have ten thousand things to write down, or to let go of.
    let (recorded, ()) = rayon::join(|| recorder.finish(), || drop(store));
    recorded?;
    let summary = summary?;
    match (closed, summary.outcome) {
        (Some(error), _) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::from(error)),
        (_, RunOutcome::Interrupted) => Ok(Exit::Interrupted),
        (_, RunOutcome::Succeeded) => Ok(Exit::Success),
        (_, RunOutcome::Failed) => Ok(Exit::of_failures(summary.failures)),
    }
}
