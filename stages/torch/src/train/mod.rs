//! `train`: fine-tunes a model on tokenised rows, with noise on the embeddings if asked.
//!
//! What each step does (rows, rate, noise strength) comes from `protocol::training`, so `plan` can tell beforehand;
//! this module carries it out. It knows nothing of keys or of the store.

mod account;
mod checkpoint;
mod data;
mod loss;
mod measured;
mod optimizer;
mod probe;
mod sparsity;
mod step;
mod stopping;
pub mod trial;

use std::path::Path;

use neftpipe_protocol::artifact::{AdapterInfo, TokensInfo, TrainStep};
use neftpipe_protocol::event::EventBody;
use neftpipe_protocol::params::TrainParams;
use neftpipe_protocol::params::train::Lora;
use neftpipe_protocol::request::Success;
use neftpipe_protocol::training::{TrainingPlan, batches, batches_by_length};
use neftpipe_protocol::worker::{Job, Outcome, write_json};
use neftpipe_protocol::{ArtifactType, Failure};
use serde_json::json;

use crate::device::{self, Devices};
use crate::lora;
use crate::measure;
use crate::model::{Llama, LlamaConfig};
use crate::model_files::write_model;

use account::{Account, Stopping};
use checkpoint::State;
use data::Split;
use measured::Meter;
use optimizer::{AdamW, Trained};
use probe::ProbeSet;
use sparsity::{Masks, Seen};
use step::StepPlan;
use stopping::Best;

/// Carries out a `train` stage.
///
/// # Errors
/// The failure that the person should read.
pub fn run(job: &Job, devices: &Devices) -> Result<Outcome, Failure> {
    let params: TrainParams = job.params()?;
    let device = devices.choose(params.device)?;
    device::settle(device, params.deterministic);
    job.emit(EventBody::Started { device: Some(device::name(device)) });
    let inputs = Inputs::load(job)?;
    let mut model = Llama::load(&job.input("model")?.path, device, device::kind(params.precision))?;
    let trained = make_trainable(job, &params, &mut model)?;
    let optimizer = AdamW::new(&trained, params.betas, params.eps, params.weight_decay);
    Trainer::new(job, params, inputs, model, trained, optimizer)?.run()
}

/// The tokenised rows.
struct Inputs {
    train: Split,
    heldout: Split,
    info: TokensInfo,
}

impl Inputs {
    /// Reads and checks the rows before the weights are touched: what is wrong with them is then known at once.
    fn load(job: &Job) -> Result<Self, Failure> {
        let tokens = &job.input("tokens")?.path;
        let model = LlamaConfig::load(&job.input("model")?.path)?;
        let info = data::info(tokens)?;
        let train = Split::load(&tokens.join("train.safetensors"), &model)?;
        train.check_every_row_teaches()?;
        let heldout = Split::load(&tokens.join("heldout.safetensors"), &model)?;
        if train.is_empty() {
            return Err(Failure::data(format!("{}: there are no rows to train on", tokens.display()))
                .with_hint("the `tokenize` stage says how many rows it dropped, and why"));
        }
        Ok(Self { train, heldout, info })
    }
}

/// Marks what is trained: the adapter of the slot or a fresh one, or every weight.
fn make_trainable(job: &Job, params: &TrainParams, model: &mut Llama) -> Result<Trained, Failure> {
    let start = job.optional_input("adapter");
    let trained = match (params.full, start) {
        (true, Some(_)) => {
            return Err(Failure::usage("`full: true` trains all weights and takes no `adapter`")
                .with_hint("leave the slot `adapter` out, or merge the adapter into the model first"));
        }
        (true, None) => model.weights(),
        (false, Some(input)) => {
            let found = lora::attach(&input.path, model)?;
            if found.sparse {
                return Err(Failure::usage("training cannot start from an adapter with masks")
                    .with_hint("train with `sparsity` from the start, or start from a dense adapter"));
            }
            check_same_shape(&found.lora, &params.lora)?;
            lora::tensors(model)
        }
        (false, None) => {
            lora::start(model, &params.lora, params.seed);
            lora::tensors(model)
        }
    };
    for (_, tensor) in &trained {
        let _ = tensor.set_requires_grad(true);
    }
    Ok(trained)
}

/// An adapter goes on as it is: parameters that say another shape would be passed over in silence.
fn check_same_shape(found: &Lora, said: &Lora) -> Result<(), Failure> {
    let targets = |lora: &Lora| {
        Lora::ALL_TARGETS.into_iter().filter(|&name| lora.targets.iter().any(|it| it == name)).collect::<Vec<_>>()
    };
    let same = found.rank == said.rank
        && found.effective_alpha() == said.effective_alpha()
        && found.rslora == said.rslora
        && targets(found) == targets(said);
    if same {
        return Ok(());
    }
    let (rank, alpha, rslora) = (found.rank, found.effective_alpha(), found.rslora);
    let targets = targets(found).join(", ");
    Err(Failure::usage("`lora` does not say the shape of the adapter that training starts from")
        .with_hint(format!("say `lora: {{ rank: {rank}, alpha: {alpha}, rslora: {rslora}, targets: [{targets}] }}`")))
}

/// A loss so many times that of guessing has no way back.
const EXPLODED: f64 = 10.0;

/// What training changes, as a checkpoint after so many steps has it: the trained tensors as the optimizer has them, in f32, then
/// the masks.
fn live(trained: &Trained, optimizer: &AdamW, masks: Option<&Masks>, step: u64) -> Trained {
    let named = trained.iter().enumerate();
    let trained = named.map(|(at, (name, _))| (name.clone(), optimizer.weight(at).shallow_clone()));
    trained.chain(masks.into_iter().flat_map(|masks| masks.state(step))).collect()
}

/// A run at work.
struct Trainer<'a> {
    job: &'a Job,
    params: TrainParams,
    inputs: Inputs,
    plan: TrainingPlan,
    batches: Vec<Vec<u64>>,
    probes: ProbeSet,
    model: Llama,
    trained: Trained,
    optimizer: AdamW,
    best: Option<Best>,
    masks: Option<Masks>,
    account: Account,
    meter: Meter,
}

impl<'a> Trainer<'a> {
    fn new(
        job: &'a Job,
        params: TrainParams,
        inputs: Inputs,
        model: Llama,
        trained: Trained,
        optimizer: AdamW,
    ) -> Result<Self, Failure> {
        let rows = inputs.train.len() as u64;
        let plan = TrainingPlan::new(&params, rows);
        let batches = if params.group_by_length {
            let lengths = inputs.train.lengths();
            batches_by_length(&lengths, params.batch.size, plan.steps(), params.shuffle, params.seed)
        } else {
            batches(rows, params.batch.size, plan.steps(), params.shuffle, params.seed)
        };
        let probes = ProbeSet::new(&batches, &inputs.heldout);
        let fresh = job.optional_input("adapter").is_none();
        let masks = Masks::new(&params, &plan, fresh, &model, &trained)?;
        let live = live(&trained, &optimizer, masks.as_ref(), u64::MAX);
        let best = params.early_stopping.as_ref().map(|rule| Best::new(rule, &live, probes.heldout_rows()));
        let best = best.transpose()?;
        let (account, meter) = (Account::default(), Meter::default());
        Ok(Self { job, params, inputs, plan, batches, probes, model, trained, optimizer, best, masks, account, meter })
    }

    fn run(mut self) -> Result<Outcome, Failure> {
        let steps = self.plan.steps();
        if let Some(account) = checkpoint::resume(self.job, steps, |step| self.state(step))? {
            self.account = account;
            if let Some(masks) = &mut self.masks {
                masks.resume(self.account.steps(), &mut self.model);
            }
        }
        let resumed = self.account.steps();
        self.report_progress(None);
        while self.account.steps() < steps && !self.is_over() {
            if self.job.should_stop() {
                return self.interrupt(resumed);
            }
            self.take_step()?;
            self.evaluate_if_due();
            if self.job.request.checkpoints.contains(&self.account.steps()) {
                self.save()?;
            }
        }
        self.finish(resumed)
    }

    fn take_step(&mut self) -> Result<(), Failure> {
        let step = self.account.steps();
        let rows = &self.batches[step as usize];
        let (learning_rate, alpha) = (self.plan.learning_rates[step as usize], self.plan.alphas[step as usize]);
        let row_tokens = rows.iter().map(|&row| self.inputs.train.row(row as usize).ids.len());
        let padded_tokens = row_tokens.max().unwrap_or(0);
        let plan = StepPlan::new(&self.params, alpha, step, padded_tokens);
        let update = self.plan.mask_updates[step as usize].map(|update| (step, update));
        self.meter.start_step();
        if let (Some(masks), Some(update)) = (&self.masks, update) {
            masks.watch(update, &mut self.model);
        }
        let seen = step::accumulate(&self.model, &self.inputs.train, rows, &plan);
        let mut of_masked = Seen::default();
        if let Some(masks) = &self.masks {
            if let Some(update) = update {
                of_masked = masks.seen(update, &mut self.model, &self.trained);
            }
            masks.mask_gradients(&self.trained);
        }
        let gradient_norm = optimizer::clip(&self.trained, self.params.clip);
        self.check_sound(seen.loss, gradient_norm, step)?;
        self.optimizer.step(&self.trained, step + 1, learning_rate);
        if let (Some(masks), Some(update)) = (&mut self.masks, update) {
            let figures = masks.update(update, &of_masked, &mut self.model, &self.trained, &self.optimizer);
            self.job.metric(figures.step, account::figures(&figures));
            self.account.mask_updates.push(figures);
        }
        optimizer::zero_gradients(&self.trained);
        self.meter.end_step(seen.tokens);
        let record = TrainStep {
            step: step + 1,
            loss: seen.loss,
            learning_rate,
            alpha,
            noise_magnitude: seen.noise_magnitude,
            gradient_norm,
            tokens: seen.tokens,
            supervised_tokens: seen.supervised_tokens,
        };
        let mut figures = account::figures(&record);
        figures.extend(self.masks.iter().map(|masks| ("sparsity".to_owned(), json!(masks.sparsity()))));
        figures.extend(self.meter.figures_of_step(self.model.device()));
        self.job.metric(record.step, figures);
        self.account.records.push(record);
        self.report_progress(Some(seen.loss));
        Ok(())
    }

    /// A loss that is no number, or many times that of guessing, stops the run where it happened: nothing after it would
    /// mean anything.
    fn check_sound(&self, loss: f64, gradient_norm: f64, step: u64) -> Result<(), Failure> {
        let guessing = (self.model.config().vocab_size as f64).ln();
        let exploded = loss > EXPLODED * guessing;
        if loss.is_finite() && gradient_norm.is_finite() && !exploded {
            return Ok(());
        }
        let (what, value) = match loss.is_finite() {
            true if exploded => ("loss", format!("{loss:.1}, where a model that guesses has {guessing:.1}")),
            true => ("gradient", gradient_norm.to_string()),
            false => ("loss", loss.to_string()),
        };
        let rows = self.batches[step as usize].iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let saved = self.job.request.checkpoints.iter().copied().filter(|&saved| saved <= step).max();
        let saved = saved
            .map_or("there is no checkpoint".to_owned(), |saved| format!("the last checkpoint is of step {saved}"));
        Err(Failure::data(format!(
            "step {} of {}: the {what} is {value}; rows of train.safetensors: {rows}; {saved}",
            step + 1,
            self.plan.steps()
        ))
        .with_hint(if step == 0 {
            "nothing was trained yet: the model's weights themselves give this (is there NaN or infinity among them?), or \
             these rows do"
        } else {
            "lower `learning_rate`, lengthen `warmup`, or look at these rows"
        }))
    }

    fn evaluate_if_due(&mut self) {
        let step = self.account.steps();
        if self.params.eval_every.is_some_and(|every| step.is_multiple_of(every)) {
            let probe = self.probe();
            let figures = [("probe_train_loss", &probe.train), ("probe_heldout_loss", &probe.heldout)];
            let figures = figures.into_iter().map(|(name, part)| (name.to_owned(), part.mean_loss().into())).collect();
            self.job.metric(step, figures);
            self.account.evaluations.push(probe);
            if let Some(best) = &self.best {
                best.keep_if_best(&self.live(u64::MAX), &self.account.evaluations);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.best.as_ref().is_some_and(|best| best.says_stop(&self.account.evaluations))
    }

    /// What lives from step to step, under its names in the checkpoint of this step.
    fn state(&self, step: u64) -> State {
        let mut state: State = self.trained.iter().map(|(name, it)| (name.clone(), it.shallow_clone())).collect();
        state.extend(self.optimizer.state(&self.trained));
        state.extend(self.masks.iter().flat_map(|masks| masks.state(step)));
        state.extend(self.best.iter().flat_map(|best| best.state(&self.live(step))));
        state
    }

    fn live(&self, step: u64) -> Trained {
        live(&self.trained, &self.optimizer, self.masks.as_ref(), step)
    }

    fn probe(&self) -> probe::Probe {
        self.probes.measure(&self.model, self.account.steps(), &self.inputs.train, &self.inputs.heldout)
    }

    fn save(&self) -> Result<(), Failure> {
        checkpoint::save(self.job, &self.state(self.account.steps()), &self.account)
    }

    fn interrupt(&self, resumed: u64) -> Result<Outcome, Failure> {
        let step = self.account.steps();
        if step > resumed && !self.job.request.checkpoints.contains(&step) {
            self.save()?;
        }
        Ok(Outcome::Interrupted)
    }

    fn finish(mut self, resumed: u64) -> Result<Outcome, Failure> {
        let (name, artifact_type) =
            if self.params.full { ("model", ArtifactType::Model) } else { ("adapter", ArtifactType::Adapter) };
        let probe = self.choose_weights();
        let folder = self.job.output(name)?;
        if self.params.full {
            write_model(&self.job.input("model")?.path, &self.model, self.model.kind(), &folder)?;
        } else {
            lora::save(&folder, &self.model, &self.params.lora)?;
        }
        let trained_parameters: usize = self.trained.iter().map(|(_, tensor)| tensor.numel()).sum();
        let mut metrics = self.account.metrics(&probe, trained_parameters as u64, self.stopping());
        if let Some(masks) = &self.masks {
            let mut report = masks.report(&self.model, &self.optimizer, &self.job.input("model")?.path)?;
            report["updates"] = json!(self.account.mask_updates);
            metrics.insert("sparsity".to_owned(), report);
        }
        self.account.write_steps(&folder)?;
        write_json(&folder.join("metrics.json"), &metrics)?;
        self.write_info(&folder, probe.step)?;
        Ok(Outcome::Succeeded(Box::new(Success {
            outputs: [(name.to_owned(), artifact_type)].into_iter().collect(),
            metrics,
            measured: self.meter.figures(
                self.model.device(),
                self.plan.steps(),
                self.account.steps() - resumed,
                resumed,
            ),
            provenance: measure::provenance(self.job.request.threads, self.model.device()),
            resolved: None,
        })))
    }

    /// Leaves the best weights in the model where early stopping asks for them, else those of the end; returns their probe.
    fn choose_weights(&mut self) -> probe::Probe {
        let last = self.last_probe();
        let Some(best) = &self.best else { return last };
        let mut evaluations = self.account.evaluations.clone();
        if evaluations.last() != Some(&last) {
            evaluations.push(last.clone());
            best.keep_if_best(&self.live(u64::MAX), &evaluations);
        }
        let chosen = best.restore(&self.live(u64::MAX), &evaluations).cloned().unwrap_or(last);
        self.optimizer.round_into(&self.trained);
        if let Some(masks) = &mut self.masks {
            masks.resume(chosen.step, &mut self.model);
        }
        chosen
    }

    fn stopping(&self) -> Option<Stopping> {
        self.best.as_ref().map(|best| Stopping { stopped: best.says_stop(&self.account.evaluations) })
    }

    /// The probe of the end, which an evaluation may have been.
    fn last_probe(&self) -> probe::Probe {
        match self.account.evaluations.last() {
            Some(last) if last.step == self.account.steps() => last.clone(),
            _ => self.probe(),
        }
    }

    fn write_info(&self, folder: &Path, steps: u64) -> Result<(), Failure> {
        let info = AdapterInfo {
            template: self.inputs.info.template.clone(),
            date_string: self.inputs.info.date_string.clone(),
            base_model: self.job.input("model")?.digest,
            steps,
        };
        write_json(&folder.join(lora::INFO_FILE), &info)
    }

    fn report_progress(&self, loss: Option<f64>) {
        let message = loss.map(|loss| format!("loss {loss:.3}"));
        self.job.progress(self.account.steps(), Some(self.plan.steps()), "steps", message);
    }
}
