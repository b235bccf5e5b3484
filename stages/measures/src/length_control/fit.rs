//! L1-penalised logistic regression with few coefficients, no intercept and soft targets, solved as liblinear solves it.
//!
//! min ‖w‖₁ + C · (Σ s_i · softplus(w·x_i) − w·l), where l = Σ s_i y_i x_i is all that the targets contribute
//! (CE(y, σ(z)) = softplus(z) − y·z). Proximal Newton steps: coordinate descent in random order on the second-order model
//! plus the penalty, then a halving line search (G.-X. Yuan, C.-H. Ho, C.-J. Lin, "An improved GLMNET for L1-regularized
//! logistic regression", 2012).
//!
//! Liblinear stops early, which moves the published win rates by up to 0.02 points. Agreeing with them therefore takes its
//! stopping rules and its order of coordinates, not only its objective, and both are followed here.

use super::LengthControlError;
use crate::random::Mt19937;

/// Length, difficulty, model.
pub(super) const FEATURES: usize = 3;

pub(super) type Vector = [f64; FEATURES];

/// What is minimised.
pub(super) struct Problem {
    /// The rows of the sum over softplus.
    pub rows: Vec<Row>,
    /// Σ s_i y_i x_i.
    pub linear: Vector,
    /// The strength of the data against the penalty.
    pub c: f64,
    /// How many rows have y > 0 and how many y < 1: liblinear sees a soft target as one row of each class.
    pub class_sizes: [usize; 2],
}

/// A row's features and its weight s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub features: Vector,
    pub weight: f64,
}

/// scikit-learn's default `tol`.
const TOLERANCE: f64 = 1e-4;

/// The public fit's generator, `RandomState(123).randint(2**31 - 1)`, seeds liblinear anew for every C that is tried in a row.
pub(super) const SEEDS: [u32; 10] = [
    843_828_734,
    914_636_141,
    1_228_959_102,
    1_840_268_610,
    974_319_580,
    819_844_194,
    220_395_238,
    941_243_409,
    942_612_051,
    2_109_339_754,
];

/// Added to the curvature, so that a coordinate without any can still be divided by.
const RIDGE: f64 = 1e-12;

const MAX_STEPS: usize = 1000;
const MAX_SWEEPS: usize = 1000;
const MAX_HALVINGS: usize = 20;

/// The share of the first-order decrease that a step must reach.
const SUFFICIENT: f64 = 0.01;

/// The coefficients where liblinear stops, which takes its coordinates in an order drawn from `seed`.
pub(super) fn minimise(problem: &Problem, seed: u32) -> Result<Vector, LengthControlError> {
    let mut search = Search::new(problem, seed);
    let mut first_violation = None;
    for _ in 0..MAX_STEPS {
        let model = QuadraticModel::at(problem, search.w);
        let violation = search.shrink(&model);
        let first_violation = *first_violation.get_or_insert(violation);
        if violation <= search.tolerance * first_violation {
            return Ok(search.w);
        }
        let target = search.minimise_model(&model, first_violation);
        search.w = line_search(problem, &model, search.w, target);
    }
    Err(LengthControlError::NotConverged(MAX_STEPS))
}

/// The state that liblinear carries from step to step.
struct Search {
    w: Vector,
    tolerance: f64,
    /// Violations below this share of the last largest one put a zero coefficient aside.
    rows: f64,
    largest_violation: f64,
    inner_tolerance: f64,
    /// The coordinates; those put aside stand behind `active`.
    order: [usize; FEATURES],
    active: usize,
    random: Mt19937,
}

impl Search {
    fn new(problem: &Problem, seed: u32) -> Self {
        let [positive, negative] = problem.class_sizes;
        let rows = (positive + negative).max(1) as f64;
        Self {
            w: [0.0; FEATURES],
            tolerance: TOLERANCE * positive.min(negative).max(1) as f64 / rows,
            rows,
            largest_violation: f64::INFINITY,
            inner_tolerance: 1.0,
            order: std::array::from_fn(|k| k),
            active: FEATURES,
            random: Mt19937::from_seed(seed),
        }
    }

    /// Puts aside the coefficients that are 0 and mean to stay so; returns how much the others violate optimality.
    fn shrink(&mut self, model: &QuadraticModel) -> f64 {
        let mut total = 0.0;
        let mut largest = 0.0_f64;
        self.active = FEATURES;
        let mut place = 0;
        while place < self.active {
            let k = self.order[place];
            match violation(self.w[k], model.gradient[k], self.largest_violation / self.rows) {
                None => {
                    self.active -= 1;
                    self.order.swap(place, self.active);
                }
                Some(violation) => {
                    total += violation;
                    largest = largest.max(violation);
                    place += 1;
                }
            }
        }
        self.largest_violation = largest;
        total
    }

    /// The coefficients that nearly minimise gradient·d + d·H·d/2 + ‖w + d‖₁.
    fn minimise_model(&mut self, model: &QuadraticModel, first_violation: f64) -> Vector {
        let mut target = self.w;
        let mut active = self.active;
        let mut largest_before = f64::INFINITY;
        let mut sweeps = 0;
        while sweeps < MAX_SWEEPS {
            let swept = self.sweep(model, &mut target, active, largest_before);
            sweeps += 1;
            active = swept.active;
            largest_before = swept.largest;
            if swept.total <= self.inner_tolerance * first_violation {
                if active == self.active {
                    break;
                }
                // What was put aside is looked at once more before the model counts as solved.
                active = self.active;
                largest_before = f64::INFINITY;
            }
        }
        if sweeps == 1 {
            self.inner_tolerance *= 0.25;
        }
        target
    }

    fn sweep(&mut self, model: &QuadraticModel, target: &mut Vector, mut active: usize, largest_before: f64) -> Swept {
        for place in 0..active {
            let other = place + self.random.below((active - place) as u32) as usize;
            self.order.swap(place, other);
        }
        let (mut total, mut largest) = (0.0, 0.0_f64);
        let mut place = 0;
        while place < active {
            let k = self.order[place];
            let slope = model.slope(k, self.w, *target);
            let Some(violation) = violation(target[k], slope, largest_before / self.rows) else {
                active -= 1;
                self.order.swap(place, active);
                continue;
            };
            total += violation;
            largest = largest.max(violation);
            target[k] += coordinate_step(target[k], slope, model.hessian[k][k] + RIDGE);
            place += 1;
        }
        Swept { active, total, largest }
    }
}

struct Swept {
    active: usize,
    total: f64,
    largest: f64,
}

/// How far a coefficient is from optimal; `None` where it is 0 and its slope lies inside the penalty's by `margin`.
fn violation(w: f64, slope: f64, margin: f64) -> Option<f64> {
    let (up, down) = (slope + 1.0, slope - 1.0);
    if w > 0.0 {
        Some(up.abs())
    } else if w < 0.0 {
        Some(down.abs())
    } else if up < 0.0 {
        Some(-up)
    } else if down > 0.0 {
        Some(down)
    } else if up > margin && down < -margin {
        None
    } else {
        Some(0.0)
    }
}

/// The exact minimiser of one coordinate, at most 10 away.
fn coordinate_step(w: f64, slope: f64, curvature: f64) -> f64 {
    let (up, down) = (slope + 1.0, slope - 1.0);
    let step = if up < curvature * w {
        -up / curvature
    } else if down > curvature * w {
        -down / curvature
    } else {
        -w
    };
    if step.abs() < 1e-12 { 0.0 } else { step.clamp(-10.0, 10.0) }
}

/// Gradient and Hessian of the smooth part at a point.
struct QuadraticModel {
    gradient: Vector,
    hessian: [Vector; FEATURES],
}

impl QuadraticModel {
    fn at(problem: &Problem, w: Vector) -> Self {
        let mut gradient = problem.linear.map(|value| -problem.c * value);
        let mut hessian = [[0.0; FEATURES]; FEATURES];
        for Row { features, weight } in &problem.rows {
            let p = sigmoid(dot(w, *features));
            let weight = problem.c * weight;
            for k in 0..FEATURES {
                gradient[k] += weight * p * features[k];
                for l in 0..FEATURES {
                    hessian[k][l] += weight * p * (1.0 - p) * features[k] * features[l];
                }
            }
        }
        Self { gradient, hessian }
    }

    /// The slope along coordinate k at `target`, by the model around `w`.
    fn slope(&self, k: usize, w: Vector, target: Vector) -> f64 {
        let d: Vector = std::array::from_fn(|l| target[l] - w[l]);
        self.gradient[k] + RIDGE * d[k] + dot(self.hessian[k], d)
    }
}

/// The first of w + d, w + d/2, w + d/4, … that lowers the objective enough.
fn line_search(problem: &Problem, model: &QuadraticModel, w: Vector, target: Vector) -> Vector {
    let d: Vector = std::array::from_fn(|k| target[k] - w[k]);
    let promised = dot(model.gradient, d) + norm_1(target) - norm_1(w);
    let start = objective(problem, w);
    let mut step = 1.0;
    for _ in 0..MAX_HALVINGS {
        let reached = std::array::from_fn(|k| w[k] + step * d[k]);
        if objective(problem, reached) - start <= SUFFICIENT * step * promised {
            return reached;
        }
        step /= 2.0;
    }
    w
}

fn objective(problem: &Problem, w: Vector) -> f64 {
    let loss: f64 = problem.rows.iter().map(|row| row.weight * softplus(dot(w, row.features))).sum();
    norm_1(w) + problem.c * (loss - dot(w, problem.linear))
}

impl Problem {
    /// The Hessian of the smooth part.
    pub fn curvature(&self, w: Vector) -> [Vector; FEATURES] {
        QuadraticModel::at(self, w).hessian
    }
}

/// x of `matrix` · x = `right` over the active coordinates, by elimination; the others are 0. The matrix is positive
/// definite there.
pub(super) fn solve(matrix: &[Vector; FEATURES], right: Vector, active: [bool; FEATURES]) -> Vector {
    let is_kept = |k: usize, l: usize| active[k] && active[l];
    let mut rows: [Vector; FEATURES] = std::array::from_fn(|k| {
        std::array::from_fn(|l| match (k == l, is_kept(k, l)) {
            (true, true) => matrix[k][l] + RIDGE,
            (true, false) => 1.0,
            (false, true) => matrix[k][l],
            (false, false) => 0.0,
        })
    });
    let mut x: Vector = std::array::from_fn(|k| if active[k] { right[k] } else { 0.0 });
    for k in 0..FEATURES {
        for below in k + 1..FEATURES {
            let share = rows[below][k] / rows[k][k];
            (k..FEATURES).for_each(|l| rows[below][l] -= share * rows[k][l]);
            x[below] -= share * x[k];
        }
    }
    for k in (0..FEATURES).rev() {
        let known: f64 = (k + 1..FEATURES).map(|l| rows[k][l] * x[l]).sum();
        x[k] = (x[k] - known) / rows[k][k];
    }
    x
}

/// σ(z), without overflow.
pub(super) fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

pub(super) fn dot(a: Vector, b: Vector) -> f64 {
    (0..FEATURES).map(|k| a[k] * b[k]).sum()
}

fn norm_1(w: Vector) -> f64 {
    w.iter().map(|value| value.abs()).sum()
}
