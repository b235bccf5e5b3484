//! A trial: a model of random weights takes some steps on random rows, in memory alone. It tells what a device computes, how
//! fast, and with how much memory, with the code that trains; it knows nothing of jobs and files.

use neftpipe_protocol::question::{Trial, Tried};
use neftpipe_protocol::training::{TrainingPlan, batches};
use neftpipe_protocol::{Digest, Failure};
use tch::Kind;

use super::data::Split;
use super::measured::Meter;
use super::optimizer::{self, AdamW, Trained};
use super::step::{self, StepPlan};
use crate::device::{self, Devices};
use crate::lora;
use crate::measure::peak_memory_bytes;
use crate::model::{Llama, LlamaConfig, Weights};

/// Makes the model and trains it.
///
/// # Errors
/// Where the device is not there or computes no number, or the shape is none that can be computed.
pub fn run(trial: &Trial, devices: &Devices) -> Result<Tried, Failure> {
    let params = &trial.params;
    let device = devices.choose(params.device)?;
    device::settle(device, params.deterministic);
    tch::set_num_threads(trial.threads.max(1) as i32);
    let config = LlamaConfig::parse(&trial.config.to_string()).map_err(Failure::usage)?;
    let split = Split::random(&trial.row_tokens, config.vocab_size, params.seed);
    split.check_every_row_teaches()?;
    let mut model = Llama::with_weights(config, &Weights::random(params.seed), device, device::kind(params.precision))?;
    lora::start(&mut model, &params.lora, params.seed);
    let trained = lora::tensors(&model);
    for (_, tensor) in &trained {
        let _ = tensor.set_requires_grad(true);
    }
    let (losses, meter) = train(trial, &split, &model, &trained)?;
    Ok(Tried {
        device: device::name(device),
        losses,
        adapter: digest(&trained),
        tokens_per_second: meter.tokens_per_second(),
        peak_memory_bytes: peak_memory_bytes(device),
    })
}

fn train(trial: &Trial, split: &Split, model: &Llama, trained: &Trained) -> Result<(Vec<f64>, Meter), Failure> {
    let params = &trial.params;
    let plan = TrainingPlan::new(params, split.len() as u64);
    let batches = batches(split.len() as u64, params.batch.size, plan.steps(), params.shuffle, params.seed);
    let padded_tokens = trial.row_tokens.iter().max().map_or(0, |&tokens| tokens as usize);
    let mut optimizer = AdamW::new(trained, params.betas, params.eps, params.weight_decay);
    let mut meter = Meter::default();
    let mut losses = Vec::new();
    for (step, rows) in batches.iter().enumerate() {
        let step_plan = StepPlan::new(params, plan.alphas[step], step as u64, padded_tokens);
        meter.start_step();
        let seen = step::accumulate(model, split, rows, &step_plan);
        optimizer::clip(trained, params.clip);
        optimizer.step(trained, step as u64 + 1, plan.learning_rates[step]);
        optimizer::zero_gradients(trained);
        meter.end_step(seen.tokens);
        if !seen.loss.is_finite() {
            let (step, device) = (step + 1, device::name(model.device()));
            return Err(Failure::environment(format!("the loss of step {step} is {} on {device}", seen.loss)));
        }
        losses.push(seen.loss);
    }
    Ok((losses, meter))
}

fn digest(trained: &Trained) -> Digest {
    let numbers = trained.iter().flat_map(|(_, tensor)| {
        let flat = tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).flatten(0, -1);
        Vec::<f32>::try_from(flat).expect("a flat tensor of f32 is a list of them")
    });
    Digest::of(&numbers.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}
