//! The Llama architecture (arXiv 2302.13971, 2407.21783): embedding, blocks of attention and feed-forward, norm, head.
//!
//! All rows of a batch lie one after the other without padding, so every product but attention is over N tokens.
//! Axes: B rows, N tokens of all rows, T tokens of one row, H query heads, K key-value heads, D head dim, V vocabulary.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::native::{self, Half, Layout};

use super::decoder::floats;
use super::{AdapterInput, Angles, Cache, Linear, LlamaConfig, ModelError, Place, Prefix, Rope, Rows, Weights};

/// A Llama in memory.
pub struct Llama {
    config: LlamaConfig,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    /// None where it is the embedding.
    head: Option<Tensor>,
    rope: Rope,
    kind: Kind,
    device: Device,
}

struct Block {
    attention_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
    /// The weights of q, k and v, one below the other; theirs are views of it.
    qkv: Tensor,
    /// The weights of gate and up.
    gate_up: Tensor,
}

/// The weights of a model on the CPU in f32, where nothing stands beside them.
pub(super) struct Plain<'a> {
    pub embedding: &'a [f32],
    pub blocks: Vec<PlainBlock<'a>>,
    pub norm: &'a [f32],
    pub head: &'a [f32],
}

/// Those of a block; see [`Block`].
pub(super) struct PlainBlock<'a> {
    pub attention_norm: &'a [f32],
    pub qkv: &'a [f32],
    pub o: &'a [f32],
    pub mlp_norm: &'a [f32],
    pub gate_up: &'a [f32],
    pub down: &'a [f32],
}

/// What attention looks at besides the tokens of this pass.
pub(super) enum Context<'a> {
    /// Whole rows, each by itself.
    Rows { lengths: &'a [i64], kept: Option<Kept<'a>>, adapter_input: Option<&'a dyn AdapterInput> },
    /// One more token of each row of a cache, at these places [B], under this mask [B, 1, 1, T].
    Next { cache: &'a Cache, places: &'a Tensor, mask: &'a Tensor },
}

/// Rows whose keys and values are kept, to be continued.
pub(super) struct Kept<'a> {
    cache: &'a Cache,
    /// What stands before every row.
    prefix: Option<&'a Prefix>,
    /// Places of the rows' last tokens [B]: behind the last attention only they are wanted.
    ends: &'a Tensor,
}

impl Kept<'_> {
    /// Puts keys and values [N, K, D] into the cache.
    fn keep(&self, layer: usize, lengths: &[i64], keys_and_values: [&Tensor; 2]) {
        self.cache.fill(layer, lengths, self.prefix, keys_and_values);
    }

    /// Keys and values of what stands before every row.
    fn before(&self, layer: usize) -> Option<[Tensor; 2]> {
        self.prefix.map(|prefix| prefix.layer(layer))
    }
}

impl Context<'_> {
    fn kept(&self) -> Option<&Kept<'_>> {
        match self {
            Self::Rows { kept, .. } => kept.as_ref(),
            Self::Next { .. } => None,
        }
    }

    /// The tokens of x [N, hidden] that are wanted behind the attention of a layer.
    fn wanted(&self, x: Tensor, layer: usize, config: &LlamaConfig) -> Tensor {
        match self.kept() {
            Some(kept) if layer + 1 == config.layers => x.index_select(0, kept.ends),
            _ => x,
        }
    }

    fn adapter_input(&self) -> Option<&dyn AdapterInput> {
        match self {
            Self::Rows { adapter_input, .. } => *adapter_input,
            Self::Next { .. } => None,
        }
    }
}

impl Llama {
    /// Reads a model folder in the Hugging Face layout, converting the weights to `kind`.
    ///
    /// # Errors
    /// Where the files are missing, damaged, or of an architecture that is not supported.
    pub fn load(model: &Path, device: Device, kind: Kind) -> Result<Self, ModelError> {
        let config = LlamaConfig::load(model)?;
        Self::with_weights(config, &Weights::open(model)?, device, kind)
    }

    /// A model of this shape with these weights, converted to `kind`.
    ///
    /// # Errors
    /// Where a weight is missing or has another shape.
    pub fn with_weights(
        config: LlamaConfig,
        weights: &Weights,
        device: Device,
        kind: Kind,
    ) -> Result<Self, ModelError> {
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let embedding = weights.read(EMBEDDING, &[vocab, hidden], kind, device)?;
        let head = if config.tied { None } else { Some(weights.read(HEAD, &[vocab, hidden], kind, device)?) };
        let norm = weights.read(NORM, &[hidden], kind, device)?;
        let blocks = (0..config.layers)
            .map(|layer| Block::load(weights, layer, &config, (kind, device)))
            .collect::<Result<_, _>>()?;
        let rope = Rope::new(&config, device);
        Ok(Self { config, embedding, blocks, norm, head, rope, kind, device })
    }

    /// Its shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Number format of its weights.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// A cache for so many tokens in all, in rows of so many tokens each.
    pub fn cache(&self, tokens: usize, capacity_tokens: usize) -> Cache {
        Cache::new(&self.config, tokens, capacity_tokens, self.kind, self.device)
    }

    /// Embeddings [N, hidden] of ids [N].
    pub fn embed(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, ids, -1, false, false)
    }

    /// Hidden states [N, hidden] after the last norm, from embeddings [N, hidden] of whole rows.
    pub fn hidden_states(&self, embedded: Tensor, rows: &Rows) -> Tensor {
        self.training_states(embedded, rows, None)
    }

    /// Hidden states as of [`Self::hidden_states`], with another input to the adapters: dropout, in training.
    pub fn training_states(&self, embedded: Tensor, rows: &Rows, adapter_input: Option<&dyn AdapterInput>) -> Tensor {
        let context = Context::Rows { lengths: rows.lengths(), kept: None, adapter_input };
        self.run_blocks(embedded, rows.positions(), &context)
    }

    /// Logits [.., V] of hidden states [.., hidden].
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        native::product(hidden, self.head_weight(), None)
    }

    /// The weight of the head [V, hidden]: the embedding's where they are tied.
    pub fn head_weight(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Reads what many rows begin with, to be put before each of them.
    pub fn read_prefix(&self, ids: &[i32]) -> Prefix {
        let mut cache = self.cache(ids.len(), ids.len());
        let _ = self.prefill(&Rows::new([ids], self.device), None, &mut cache);
        Prefix(cache)
    }

    /// Reads whole rows into a cache, behind the rows at work; with a prefix, what each row has after that. Returns the
    /// hidden states of each one's last token [B, hidden].
    pub fn prefill(&self, rows: &Rows, prefix: Option<&Prefix>, cache: &mut Cache) -> Tensor {
        tch::no_grad(|| {
            cache.push_rows(rows.lengths(), prefix);
            let positions = rows.positions() + prefix.map_or(0, Prefix::tokens);
            let kept = Kept { cache, prefix, ends: &rows.last_places() };
            let context = Context::Rows { lengths: rows.lengths(), kept: Some(kept), adapter_input: None };
            self.run_blocks(self.embed(rows.ids()), &positions, &context) // [B, hidden]
        })
    }

    /// Reads one more token of each row of the cache, ids [B]; returns its hidden states [B, hidden].
    pub fn decode(&self, ids: &Tensor, cache: &mut Cache) -> Tensor {
        tch::no_grad(|| {
            let places = cache.next_places(self.device);
            let mask = cache.mask(&places);
            let context = Context::Next { cache, places: &places, mask: &mask };
            let hidden = self.run_blocks(self.embed(ids), &places, &context);
            cache.grow();
            hidden
        })
    }

    /// The projection of a block, by its name in the files: `q_proj` … `down_proj`.
    pub fn projection_mut(&mut self, layer: usize, name: &str) -> Option<&mut Linear> {
        self.blocks.get_mut(layer)?.projections_mut().into_iter().find(|(known, _)| *known == name).map(|(_, it)| it)
    }

    /// The full name of a block's projection in the files, without `.weight`.
    pub fn projection_name(layer: usize, projection: &str) -> String {
        full_name(layer, projection)
    }

    /// All projections with their names in the files, without `.weight`.
    pub fn projections(&self) -> Vec<(String, &Linear)> {
        self.blocks
            .iter()
            .enumerate()
            .flat_map(|(layer, block)| {
                block.projections().into_iter().map(move |(name, it)| (full_name(layer, name), it))
            })
            .collect()
    }

    /// All weights under their names in the files; a tied head is there once, as the embedding.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        let mut weights = vec![(EMBEDDING.to_owned(), self.embedding.shallow_clone())];
        for (layer, block) in self.blocks.iter().enumerate() {
            for (name, norm) in [(ATTENTION_NORM, &block.attention_norm), (MLP_NORM, &block.mlp_norm)] {
                weights.push((format!("model.layers.{layer}.{name}.weight"), norm.shallow_clone()));
            }
        }
        for (name, projection) in self.projections() {
            weights.push((format!("{name}.weight"), projection.weight.shallow_clone()));
            weights.extend(projection.bias.iter().map(|bias| (format!("{name}.bias"), bias.shallow_clone())));
        }
        weights.push((NORM.to_owned(), self.norm.shallow_clone()));
        weights.extend(self.head.iter().map(|head| (HEAD.to_owned(), head.shallow_clone())));
        weights
    }

    /// Its weights as numbers, if that is all there is to it: no biases, adapters or training, on the CPU in f32.
    pub(super) fn plain(&self) -> Option<Plain<'_>> {
        let plain = |block: &Block| block.is_plain() && block.projections().iter().all(|(_, it)| it.adapter.is_none());
        let is_plain = self.kind == Kind::Float && self.blocks.iter().all(plain);
        is_plain.then(|| Plain {
            embedding: floats(&self.embedding),
            blocks: self.blocks.iter().map(Block::plain).collect(),
            norm: floats(&self.norm),
            head: floats(self.head_weight()),
        })
    }

    /// Cosines and sines of the angles of positions [N], as [N, D/2].
    pub(super) fn flat_angles(&self, positions: &Tensor) -> [Vec<f32>; 2] {
        let (cos, sin) = self.angles(positions).flat();
        [cos, sin].map(|it| floats(&it.contiguous()).to_vec())
    }

    fn run_blocks(&self, embedded: Tensor, positions: &Tensor, context: &Context<'_>) -> Tensor {
        let angles = self.angles(positions);
        let x = (0..self.blocks.len()).fold(embedded, |x, layer| self.run_block(layer, x, &angles, context));
        self.last_norm(&x)
    }

    pub(super) fn angles(&self, positions: &Tensor) -> Angles {
        self.rope.angles(positions, self.kind)
    }

    pub(super) fn run_block(&self, layer: usize, x: Tensor, angles: &Angles, context: &Context<'_>) -> Tensor {
        self.blocks[layer].forward(x, layer, &self.config, angles, context)
    }

    pub(super) fn last_norm(&self, x: &Tensor) -> Tensor {
        rms_norm(x, &self.norm.to_kind(x.kind()), self.config.rms_norm_eps).to_kind(self.kind)
    }
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const NORM: &str = "model.norm.weight";
const HEAD: &str = "lm_head.weight";
const ATTENTION_NORM: &str = "input_layernorm";
const MLP_NORM: &str = "post_attention_layernorm";

/// A block's projections, in the order of [`Place::projection`].
const PROJECTIONS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

fn named<T>(projections: [T; 7]) -> [(&'static str, T); 7] {
    let mut names = PROJECTIONS.into_iter();
    projections.map(|projection| (names.next().expect("seven names"), projection))
}

fn full_name(layer: usize, projection: &str) -> String {
    let part = if projection.len() == "q_proj".len() { "self_attn" } else { "mlp" };
    format!("model.layers.{layer}.{part}.{projection}")
}

/// x · w / √(mean(x²) + eps), over the last axis.
fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    x.rms_norm(weight.size(), Some(weight), eps)
}

impl Block {
    fn load(
        weights: &Weights,
        layer: usize,
        config: &LlamaConfig,
        (kind, device): (Kind, Device),
    ) -> Result<Self, ModelError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let norm = |name| weights.read(&format!("model.layers.{layer}.{name}.weight"), &[hidden], kind, device);
        let linear = |name, room, bias| {
            let projection = PROJECTIONS.iter().position(|known| *known == name).expect("one of the seven");
            Linear::load(weights, &full_name(layer, name), Place { layer, projection }, room, bias)
        };
        let attention = |name, room| linear(name, room, config.attention_bias);
        let mlp = |name, room| linear(name, room, config.mlp_bias);
        let room = |outputs, inputs| Tensor::empty([outputs, inputs], (kind, device));
        let (qkv, gate_up) = (room(queries + 2 * keys, hidden), room(2 * inner, hidden));
        Ok(Self {
            attention_norm: norm(ATTENTION_NORM)?,
            q: attention("q_proj", qkv.narrow(0, 0, queries))?,
            k: attention("k_proj", qkv.narrow(0, queries, keys))?,
            v: attention("v_proj", qkv.narrow(0, queries + keys, keys))?,
            o: attention("o_proj", room(hidden, queries))?,
            mlp_norm: norm(MLP_NORM)?,
            gate: mlp("gate_proj", gate_up.narrow(0, 0, inner))?,
            up: mlp("up_proj", gate_up.narrow(0, inner, inner))?,
            down: mlp("down_proj", room(hidden, inner))?,
            qkv,
            gate_up,
        })
    }

    fn projections(&self) -> [(&'static str, &Linear); 7] {
        let Self { q, k, v, o, gate, up, down, .. } = self;
        named([q, k, v, o, gate, up, down])
    }

    fn projections_mut(&mut self) -> [(&'static str, &mut Linear); 7] {
        let Self { q, k, v, o, gate, up, down, .. } = self;
        named([q, k, v, o, gate, up, down])
    }

    fn forward(&self, x: Tensor, layer: usize, config: &LlamaConfig, angles: &Angles, context: &Context<'_>) -> Tensor {
        if let Context::Rows { lengths, adapter_input: None, .. } = context
            && self.is_plain()
        {
            // The residual stream stays in f32: in bf16 it would be rounded 60 times on its way through 30 blocks.
            return self.forward_natively(&x.to_kind(Kind::Float), layer, config, angles, lengths, context);
        }
        let x = x.to_kind(self.qkv.kind());
        let normed = rms_norm(&x, &self.attention_norm, config.rms_norm_eps);
        let x = context.wanted(x + self.attend(&normed, layer, config, angles, context), layer, config);
        let normed = rms_norm(&x, &self.mlp_norm, config.rms_norm_eps);
        let input = context.adapter_input();
        let inner = self.gate.forward(&normed, input).silu() * self.up.forward(&normed, input); // [N, inner]
        x + self.down.forward(&inner, input)
    }

    /// Whether the halves of the block can be computed whole: on the CPU, with frozen weights and dense adapters.
    fn is_plain(&self) -> bool {
        let on_cpu = self.qkv.device() == Device::Cpu && matches!(self.qkv.kind(), Kind::Float | Kind::BFloat16);
        let frozen_norms = !self.attention_norm.requires_grad() && !self.mlp_norm.requires_grad();
        on_cpu && frozen_norms && self.projections().iter().all(|(_, it)| it.is_plain())
    }

    fn plain(&self) -> PlainBlock<'_> {
        PlainBlock {
            attention_norm: floats(&self.attention_norm),
            qkv: floats(&self.qkv),
            o: floats(&self.o.weight),
            mlp_norm: floats(&self.mlp_norm),
            gate_up: floats(&self.gate_up),
            down: floats(&self.down.weight),
        }
    }

    /// Both halves by kernels.
    fn forward_natively(
        &self,
        x: &Tensor,
        layer: usize,
        config: &LlamaConfig,
        angles: &Angles,
        lengths: &[i64],
        context: &Context<'_>,
    ) -> Tensor {
        let Self { q, k, v, o, gate, up, down, .. } = self;
        // One configuration makes all adapters of a model.
        let adapter = self.projections().into_iter().find_map(|(_, it)| it.adapter.as_ref());
        let scaling = adapter.map_or(0.0, |adapter| adapter.scaling);
        let half = |norm, reads, writes| Half { norm, eps: config.rms_norm_eps, reads, writes, scaling };
        let (cos, sin) = angles.flat();
        let heads = [config.heads, config.kv_heads, config.head_dim];
        let before = context.kept().and_then(|kept| kept.before(layer));
        let rows = Layout { lengths, heads, cos: &cos, sin: &sin, before: before.as_ref() };
        let attention = half(&self.attention_norm, &self.qkv, &o.weight);
        let (x, seen) = native::attention_half(x, &attention, [q, k, v, o].map(Linear::factors), &rows);
        if let Some(kept) = context.kept() {
            let heads = seen.view([-1, config.heads + 2 * config.kv_heads, config.head_dim]);
            let of = |first| heads.narrow(1, first, config.kv_heads);
            kept.keep(layer, lengths, [&of(config.heads), &of(config.heads + config.kv_heads)]);
        }
        let x = context.wanted(x, layer, config);
        let mlp = half(&self.mlp_norm, &self.gate_up, &down.weight);
        native::mlp_half(&x, &mlp, [gate, up, down].map(Linear::factors))
    }

    fn attend(&self, x: &Tensor, layer: usize, config: &LlamaConfig, angles: &Angles, context: &Context<'_>) -> Tensor {
        let (tokens, input) = (x.size()[0], context.adapter_input());
        let heads = |projection: &Linear, heads| projection.forward(x, input).view([tokens, heads, config.head_dim]);
        let q = angles.rotate(&heads(&self.q, config.heads)); // [N, H, D]
        let k = angles.rotate(&heads(&self.k, config.kv_heads)); // [N, K, D]
        let v = heads(&self.v, config.kv_heads); // [N, K, D]
        let mixed = match context {
            Context::Rows { lengths, kept, .. } => {
                if let Some(kept) = kept {
                    kept.keep(layer, lengths, [&k, &v]);
                }
                let before = kept.as_ref().and_then(|kept| kept.before(layer));
                attend_within_rows([&q, &k, &v], lengths, before.as_ref())
            }
            Context::Next { cache, places, mask } => {
                let (keys, values) = cache.append(layer, places, &k, &v);
                attend_to_cache(&q, &keys, &values, mask)
            }
        };
        self.o.forward(&mixed.reshape([tokens, config.heads * config.head_dim]), input)
    }
}

/// Causal attention of each row by itself: q [N, H, D], k and v [N, K, D] to [N, H, D]. Keys and values [K, T, D] may stand
/// before every row.
fn attend_within_rows([q, k, v]: [&Tensor; 3], lengths: &[i64], before: Option<&[Tensor; 2]>) -> Tensor {
    // Splitting once, and not narrowing row by row, keeps the backward pass to one pass over the tokens.
    let split = |x: &Tensor| x.split_with_sizes(lengths, 0);
    let rows: Vec<Tensor> = split(q)
        .iter()
        .zip(split(k))
        .zip(split(v))
        .map(|((q, k), v)| {
            let by_head = |x: &Tensor| x.transpose(0, 1).unsqueeze(0); // [1, heads, T, D]
            let grouped = q.size()[1] != k.size()[1];
            let (q, [k, v]) = (by_head(q), [&k, &v].map(by_head));
            let causal = |q: &Tensor, k: &Tensor, v: &Tensor| {
                Tensor::scaled_dot_product_attention(q, k, v, None::<&Tensor>, 0.0, true, None, grouped)
            };
            match before {
                None => causal(&q, &k, &v),
                // Zeros stand in for the queries of what is before: a mask in their place has no quick kernels.
                Some([keys, values]) => {
                    let all = |before: &Tensor, own: &Tensor| Tensor::cat(&[&before.unsqueeze(0), own], 2);
                    let (heads, known, own) = (q.size()[1], keys.size()[1], q.size()[2]);
                    let none = q.new_zeros([heads, known, q.size()[3]], (q.kind(), q.device()));
                    causal(&all(&none, &q), &all(keys, &k), &all(values, &v)).narrow(2, known, own)
                }
            }
            .squeeze_dim(0)
            .transpose(0, 1) // [T, H, D]
        })
        .collect();
    Tensor::cat(&rows, 0)
}

/// Attention of one token a row: q [B, H, D] over keys and values [B, K, T, D] to [B, H, D].
fn attend_to_cache(q: &Tensor, keys: &Tensor, values: &Tensor, mask: &Tensor) -> Tensor {
    let (rows, kv_heads, dim) = (keys.size()[0], keys.size()[1], keys.size()[3]);
    // The query heads that share a key-value head stand in for a sequence of queries: no key is repeated.
    let queries = q.view([rows, kv_heads, -1, dim]); // [B, K, H/K, D]
    Tensor::scaled_dot_product_attention(&queries, keys, values, Some(mask), 0.0, false, None, false)
        .reshape([rows, -1, dim]) // [B, H, D]
}
