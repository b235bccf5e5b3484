//! Which pairs AlpacaEval shows to the judge in swapped order: a coin fixed by the instruction and the seed.
//!
//! Source: alpaca_eval 0.6.6, `random.Random("is_switched_outputs" + instruction + str(seed)).choices([False, True])[0]`.

use crate::random::CPythonRandom;

/// Whether the two outputs of this instruction change places before the judge sees them. AlpacaEval's seed is 0.
pub fn is_switched(instruction: &str, seed: i64) -> bool {
    draw(instruction, seed) >= 0.5
}

fn draw(instruction: &str, seed: i64) -> f64 {
    CPythonRandom::from_text(&format!("is_switched_outputs{instruction}{seed}")).random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_instruction_of_alpaca_eval_is_switched() {
        let instruction = "What are the names of some famous actors that started their careers on Broadway?";
        assert_eq!(draw(instruction, 0), 0.756_880_458_911_348_3);
        assert!(is_switched(instruction, 0));
    }
}
