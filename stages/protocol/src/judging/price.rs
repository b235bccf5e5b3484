//! Tokens and what they cost.

use serde::{Deserialize, Serialize};

use crate::params::judge::Endpoint;

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
}

impl Usage {
    /// The most that a prompt of this size can be: no token is shorter than a byte, and every message has some around it.
    pub fn most(prompt_bytes: usize, max_tokens: u64) -> Self {
        const AROUND: u64 = 32;
        Self { prompt_tokens: prompt_bytes as u64 + AROUND, completion_tokens: max_tokens }
    }

    /// What a prompt of this size usually is: four bytes a token.
    pub fn likely(prompt_bytes: usize, max_tokens: u64) -> Self {
        Self { prompt_tokens: prompt_bytes as u64 / 4, completion_tokens: max_tokens }
    }
}

/// Dollars a token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Prices {
    input: f64,
    output: f64,
}

impl Prices {
    const PER: f64 = 1e6;

    /// The prices of a service. One that is started here costs nothing; of others nothing is known without a table.
    pub fn of(endpoint: &Endpoint) -> Option<Self> {
        match &endpoint.prices {
            Some(table) => {
                let price = |name: &str| table.get(name).copied().unwrap_or(0.0) / Self::PER;
                Some(Self { input: price("input"), output: price("output") })
            }
            None => endpoint.serve.as_ref().map(|_| Self::default()),
        }
    }

    /// Dollars.
    pub fn cost(&self, usage: Usage) -> f64 {
        self.input * usage.prompt_tokens as f64 + self.output * usage.completion_tokens as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prices_are_of_a_million_tokens() {
        let endpoint = |more: serde_json::Value| -> Endpoint { serde_json::from_value(more).unwrap() };
        let prices = Prices::of(&endpoint(json!({"model": "m", "prices": {"input": 10.0, "output": 30.0}}))).unwrap();
        let cost = prices.cost(Usage { prompt_tokens: 1000, completion_tokens: 100 });
        assert!((cost - 0.013).abs() < 1e-12, "{cost}");
        assert_eq!(Prices::of(&endpoint(json!({"model": "m"}))), None);
        let free = Prices::of(&endpoint(json!({"model": "m", "serve": "serve"}))).unwrap();
        assert_eq!(free.cost(Usage::most(1000, 5)), 0.0);
    }
}
