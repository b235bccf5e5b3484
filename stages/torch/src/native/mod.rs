//! The C++ beside the worker: what tch does not bind (`native.cpp`), and the kernels of a block on the CPU (`kernels.h`).
//!
//! Here is its border alone. As tch's operators do, these panic with libtorch's message where libtorch refuses.

use std::ffi::{CStr, c_char};
use std::ptr;

use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn neftpipe_last_error() -> *const c_char;
    fn neftpipe_be_deterministic();
    fn neftpipe_use_level(width: i64) -> bool;
    fn neftpipe_cross_entropies(
        logits: *const C_tensor,
        targets: *const C_tensor,
        scale: f64,
        wants_slopes: bool,
    ) -> *mut C_tensor;
    fn neftpipe_adamw(
        weights: *const *const C_tensor,
        gradients: *const *const C_tensor,
        means: *const *const C_tensor,
        squares: *const *const C_tensor,
        count: usize,
        step: f64,
        learning_rate: f64,
        betas: *const f64,
        weight_decay: f64,
        eps: f64,
    ) -> bool;
    fn neftpipe_to_gpu(values: *const C_tensor, index: i64) -> *mut C_tensor;
    fn neftpipe_gpu_peak_bytes(index: i64) -> i64;
    fn neftpipe_product(x: *const C_tensor, weight: *const C_tensor, added: *const C_tensor) -> *mut C_tensor;
    fn neftpipe_attention_half(
        x: *const C_tensor,
        norm: *const C_tensor,
        qkv: *const C_tensor,
        o: *const C_tensor,
        adapters: *const *const C_tensor,
        cos: *const C_tensor,
        sin: *const C_tensor,
        lengths: *const i64,
        rows: usize,
        heads: *const i64,
        before: *const *const C_tensor,
        eps: f64,
        scaling: f64,
        seen: *mut *mut C_tensor,
    ) -> *mut C_tensor;
    fn neftpipe_mlp_half(
        x: *const C_tensor,
        norm: *const C_tensor,
        gate_up: *const C_tensor,
        down: *const C_tensor,
        adapters: *const *const C_tensor,
        eps: f64,
        scaling: f64,
    ) -> *mut C_tensor;
}

/// A and B of a projection, where it has an adapter.
pub type Factors<'a> = Option<(&'a Tensor, &'a Tensor)>;

/// Half a block: its norm, the joined weight that reads the normed input, the weight that writes to the residual stream.
pub struct Half<'a> {
    /// Weight of the norm [hidden].
    pub norm: &'a Tensor,
    /// Its epsilon.
    pub eps: f64,
    /// Weights of the projections that read, one below the other [out, hidden].
    pub reads: &'a Tensor,
    /// Weight of the projection that writes [hidden, in].
    pub writes: &'a Tensor,
    /// s of the adapters.
    pub scaling: f64,
}

/// Whole rows, one after the other, and the heads of a token.
pub struct Layout<'a> {
    /// Tokens of each row.
    pub lengths: &'a [i64],
    /// H, K and D.
    pub heads: [i64; 3],
    /// Cosines of the angles [N, D/2], f32.
    pub cos: &'a Tensor,
    /// Their sines.
    pub sin: &'a Tensor,
    /// Turned keys and values [K, T, D] that stand before every row, in the format of the weights: without gradients.
    pub before: Option<&'a [Tensor; 2]>,
}

/// Makes a GPU compute the same bytes from run to run; an operator that cannot then refuses. For good, and before the
/// first product.
pub fn be_deterministic() {
    // SAFETY: it takes nothing, and the threads of a worker that reads the environment come later.
    unsafe { neftpipe_be_deterministic() }
}

/// Has the kernels of a block computed with what every processor has (0), with AVX2 (1) or AVX-512 (2), where the widest
/// that there is would be taken else. False where this processor lacks it. For tests: results differ in their last bits.
pub fn use_level(width: i64) -> bool {
    // SAFETY: it takes a number, and says of one that names nothing that it does.
    unsafe { neftpipe_use_level(width) }
}

/// Most bytes that libtorch has held of a GPU's memory at a time, if it says so.
pub fn gpu_peak_bytes(index: usize) -> Option<u64> {
    // SAFETY: it takes a number, and refuses one that names no GPU.
    u64::try_from(unsafe { neftpipe_gpu_peak_bytes(index as i64) }).ok()
}

/// Values of the host on a GPU, from pinned memory and without waiting for the copy.
pub fn to_gpu(values: &Tensor, index: usize) -> Tensor {
    // SAFETY: the pointer is that of a living tensor; libtorch refuses a number that names no GPU.
    taken(unsafe { neftpipe_to_gpu(values.as_ptr(), index as i64) })
}

/// x·Wᵀ, plus what is added, for a weight that is not trained; the sum is rounded once.
pub fn product(x: &Tensor, weight: &Tensor, added: Option<&Tensor>) -> Tensor {
    // SAFETY: the pointers are those of living tensors, or null for what may be absent.
    taken(unsafe { neftpipe_product(x.as_ptr(), weight.as_ptr(), pointer(added)) })
}

/// x + o(attention(norm(x))), causal within each row, with the adapters of q, k, v and o; and of all tokens the rotated
/// queries and keys and the values [N, (H + 2K)·D], for a cache. x is in f32, whatever the weights are in.
pub fn attention_half(x: &Tensor, half: &Half<'_>, adapters: [Factors<'_>; 4], rows: &Layout<'_>) -> (Tensor, Tensor) {
    let mut seen = ptr::null_mut();
    let adapters = pointers(&adapters);
    let before = [0, 1].map(|at| pointer(rows.before.map(|before| &before[at])));
    // SAFETY: the pointers are those of living tensors and slices, or null; the lists have the lengths that the C++ reads.
    let y = taken(unsafe {
        neftpipe_attention_half(
            x.as_ptr(),
            half.norm.as_ptr(),
            half.reads.as_ptr(),
            half.writes.as_ptr(),
            adapters.as_ptr(),
            rows.cos.as_ptr(),
            rows.sin.as_ptr(),
            rows.lengths.as_ptr(),
            rows.lengths.len(),
            rows.heads.as_ptr(),
            before.as_ptr(),
            half.eps,
            half.scaling,
            &mut seen,
        )
    });
    (y, taken(seen))
}

/// x + down(silu(gate(norm(x)))∘up(norm(x))), with the adapters of gate, up and down. x is in f32.
pub fn mlp_half(x: &Tensor, half: &Half<'_>, adapters: [Factors<'_>; 3]) -> Tensor {
    let adapters = pointers(&adapters);
    // SAFETY: as above.
    taken(unsafe {
        neftpipe_mlp_half(
            x.as_ptr(),
            half.norm.as_ptr(),
            half.reads.as_ptr(),
            half.writes.as_ptr(),
            adapters.as_ptr(),
            half.eps,
            half.scaling,
        )
    })
}

/// Cross-entropies [S] in f32 of logits [S, V] on the CPU, in f32 or bf16, against targets [S]. With a scale the logits
/// become their slopes times that: scale · (softmax − onehot).
pub fn cross_entropies(logits: &mut Tensor, targets: &Tensor, scale: Option<f64>) -> Tensor {
    let (scale, wants_slopes) = (scale.unwrap_or(0.0), scale.is_some());
    // SAFETY: the pointers are those of living tensors.
    taken(unsafe { neftpipe_cross_entropies(logits.as_ptr(), targets.as_ptr(), scale, wants_slopes) })
}

/// What an optimizer step is given besides the tensors.
pub struct AdamStep {
    /// Its number, from 1.
    pub step: u64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What is added to the root of the second moment.
    pub eps: f64,
}

/// A step of PyTorch's fused AdamW on weights, with their gradients, means and squares, in f32.
pub fn adamw(weights: &[&Tensor], gradients: &[&Tensor], moments: [&[&Tensor]; 2], step: &AdamStep) {
    let [means, squares] = moments;
    assert!([gradients, means, squares].iter().all(|it| it.len() == weights.len()), "a list for each weight");
    if weights.is_empty() {
        return;
    }
    let list = |tensors: &[&Tensor]| -> Vec<*const C_tensor> { tensors.iter().map(|it| it.as_ptr()).collect() };
    let (weights, gradients, means, squares) = (list(weights), list(gradients), list(means), list(squares));
    let AdamStep { step, learning_rate, betas, weight_decay, eps } = step;
    // SAFETY: the pointers are those of living tensors, in lists of one length.
    let done = unsafe {
        neftpipe_adamw(
            weights.as_ptr(),
            gradients.as_ptr(),
            means.as_ptr(),
            squares.as_ptr(),
            weights.len(),
            *step as f64,
            *learning_rate,
            betas.as_ptr(),
            *weight_decay,
            *eps,
        )
    };
    if !done {
        refuse();
    }
}

fn pointer(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(ptr::null(), Tensor::as_ptr)
}

fn pointers(adapters: &[Factors<'_>]) -> Vec<*const C_tensor> {
    adapters.iter().flat_map(|it| [pointer(it.map(|(a, _)| a)), pointer(it.map(|(_, b)| b))]).collect()
}

/// The tensor that the C++ made.
fn taken(made: *mut C_tensor) -> Tensor {
    if made.is_null() {
        refuse();
    }
    // SAFETY: the C++ made it for us alone, with the allocator that tch frees with.
    unsafe { Tensor::from_ptr(made) }
}

fn refuse() -> ! {
    // SAFETY: the text lives until the next call of this thread, and is copied before.
    let message = unsafe { CStr::from_ptr(neftpipe_last_error()) }.to_string_lossy().into_owned();
    panic!("libtorch: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn random(shape: [i64; 2], scale: f64) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale
    }

    #[test]
    fn what_is_added_counts_where_it_is_smaller_than_a_rounding_step() {
        tch::manual_seed(3);
        let to_bf16 = |x: Tensor| x.to_kind(Kind::BFloat16);
        let (x, weight) = (to_bf16(random([64, 256], 1.0)), to_bf16(random([128, 256], 0.1)));
        // y is about 1.6, where bf16 steps by 2⁻⁷; what is added is a fortieth of that.
        let added = to_bf16(random([64, 128], 2e-4));
        let plain = product(&x, &weight, None);
        let in_sum = product(&x, &weight, Some(&added));
        let naive = &plain + &added;
        let share = |y: &Tensor| {
            let wide = |x: &Tensor| x.to_kind(Kind::Float);
            let exact = wide(&x).mm(&wide(&weight).tr());
            let total = |x: Tensor| x.sum(Kind::Double).double_value(&[]);
            // How much of what was added is found in the result, over all places.
            let error = wide(&plain) - &exact;
            total((wide(y) - exact - error) * wide(&added)) / total(wide(&added).square())
        };
        assert!((share(&in_sum) - 1.0).abs() < 0.3, "{}", share(&in_sum));
        assert!(share(&naive).abs() < 0.3, "{}", share(&naive));
    }

    #[test]
    fn products_and_their_gradients_are_those_of_tch() {
        tch::manual_seed(4);
        let weight = random([7, 5], 1.0);
        let inputs = || {
            tch::manual_seed(5);
            [random([3, 5], 1.0), random([3, 7], 1.0)].map(|it| it.set_requires_grad(true))
        };
        let ([x, added], [x_too, added_too]) = (inputs(), inputs());
        let (ours, theirs) = (product(&x, &weight, Some(&added)), x_too.linear(&weight, None::<&Tensor>) + &added_too);
        for y in [&ours, &theirs] {
            y.square().sum(Kind::Float).backward();
        }
        for (ours, theirs) in [(ours, theirs), (x.grad(), x_too.grad()), (added.grad(), added_too.grad())] {
            assert!((ours - theirs).abs().max().double_value(&[]) < 1e-5);
        }
    }

    #[test]
    #[should_panic(expected = "libtorch: ")]
    fn what_libtorch_refuses_is_a_panic_with_its_words() {
        let _ = product(&random([3, 5], 1.0), &random([7, 4], 1.0), None);
    }
}
