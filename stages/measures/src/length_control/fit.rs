//! L1-penalised logistic regression with few coefficients, no intercept and soft targets, solved to machine precision.
//!
//! min ‖w‖₁ + C · (Σ s_i · softplus(w·x_i) − w·l), where l = Σ s_i y_i x_i is all that the targets contribute
//! (CE(y, σ(z)) = softplus(z) − y·z). Liblinear's L1-regularised logistic regression minimises the same, less exactly.
//! Proximal Newton steps: coordinate descent on the second-order model plus the penalty, then a backtracking line search
//! (G.-X. Yuan, C.-H. Ho, C.-J. Lin, "An improved GLMNET for L1-regularized logistic regression", 2012).

use super::LengthControlError;

/// Length, difficulty, model.
pub(super) const FEATURES: usize = 3;

pub(super) type Vector = [f64; FEATURES];

/// A row's features and its weight s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub features: Vector,
    pub weight: f64,
}

const MAX_STEPS: usize = 200;

/// Steps below this, relative to the coefficients, end the search.
const TOLERANCE: f64 = 1e-12;

/// The coefficients at the minimum.
pub(super) fn minimise(rows: &[Row], linear: Vector, c: f64) -> Result<Vector, LengthControlError> {
    let mut w = [0.0; FEATURES];
    for _ in 0..MAX_STEPS {
        let model = quadratic_model(rows, linear, c, w);
        let direction = model.minimise_with_penalty(w);
        let step = line_search(rows, linear, c, w, direction, model.predicted_decrease(w, direction));
        let moved = (0..FEATURES).map(|k| (step * direction[k]).abs()).fold(0.0, f64::max);
        w = along(w, direction, step);
        if moved <= TOLERANCE * (1.0 + largest(w)) {
            return Ok(w);
        }
    }
    Err(LengthControlError::NotConverged(MAX_STEPS))
}

/// σ(z), without overflow.
pub(super) fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

fn dot(a: Vector, b: Vector) -> f64 {
    (0..FEATURES).map(|k| a[k] * b[k]).sum()
}

fn along(w: Vector, direction: Vector, step: f64) -> Vector {
    std::array::from_fn(|k| w[k] + step * direction[k])
}

fn largest(w: Vector) -> f64 {
    w.iter().fold(0.0, |most, value| value.abs().max(most))
}

fn norm_1(w: Vector) -> f64 {
    w.iter().map(|value| value.abs()).sum()
}

fn objective(rows: &[Row], linear: Vector, c: f64, w: Vector) -> f64 {
    let loss: f64 = rows.iter().map(|row| row.weight * softplus(dot(w, row.features))).sum();
    norm_1(w) + c * (loss - dot(w, linear))
}

/// Gradient and Hessian of the smooth part at a point.
struct QuadraticModel {
    gradient: Vector,
    hessian: [Vector; FEATURES],
}

fn quadratic_model(rows: &[Row], linear: Vector, c: f64, w: Vector) -> QuadraticModel {
    let mut gradient = linear.map(|value| -c * value);
    let mut hessian = [[0.0; FEATURES]; FEATURES];
    for Row { features, weight } in rows {
        let p = sigmoid(dot(w, *features));
        for k in 0..FEATURES {
            gradient[k] += c * weight * p * features[k];
            for l in 0..FEATURES {
                hessian[k][l] += c * weight * p * (1.0 - p) * features[k] * features[l];
            }
        }
    }
    QuadraticModel { gradient, hessian }
}

impl QuadraticModel {
    /// The step d that minimises gradient·d + d·H·d/2 + ‖w + d‖₁, one coordinate at a time.
    fn minimise_with_penalty(&self, w: Vector) -> Vector {
        let mut d = [0.0; FEATURES];
        for _ in 0..10_000 {
            let mut moved = 0.0_f64;
            for k in 0..FEATURES {
                let curvature = self.hessian[k][k];
                if curvature <= 0.0 {
                    continue;
                }
                let slope = self.gradient[k] + dot(self.hessian[k], d);
                let target = soft_threshold(w[k] + d[k] - slope / curvature, 1.0 / curvature);
                moved = moved.max((target - w[k] - d[k]).abs());
                d[k] = target - w[k];
            }
            if moved <= TOLERANCE * 1e-2 {
                break;
            }
        }
        d
    }

    /// How much the objective falls over a full step by first order: at most 0.
    fn predicted_decrease(&self, w: Vector, direction: Vector) -> f64 {
        dot(self.gradient, direction) + norm_1(along(w, direction, 1.0)) - norm_1(w)
    }
}

fn soft_threshold(value: f64, threshold: f64) -> f64 {
    value.signum() * (value.abs() - threshold).max(0.0)
}

/// The largest of 1, 1/2, 1/4, … that lowers the objective by a hundredth of what first order promises.
fn line_search(rows: &[Row], linear: Vector, c: f64, w: Vector, direction: Vector, promised: f64) -> f64 {
    let start = objective(rows, linear, c, w);
    // Near the minimum the fall drowns in rounding: the full Newton step is the better one there.
    let rounding = 1e-14 * start.abs();
    let falls_enough =
        |step: f64| objective(rows, linear, c, along(w, direction, step)) <= start + 0.01 * step * promised + rounding;
    (0..40).map(|halvings| 0.5_f64.powi(halvings)).find(|&step| falls_enough(step)).unwrap_or(0.0)
}
