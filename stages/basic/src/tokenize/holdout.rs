//! Which groups are held out of training, and which trained ones are looked at again.
//!
//! Both are pure functions of the group and the seed: neither other rows nor other parameters move a group, and a larger
//! fraction or number only adds to a smaller one.

use neftpipe_protocol::KeyHasher;

use super::question::Question;

/// A seeded split of groups.
#[derive(Debug, Clone, Copy)]
pub struct Holdout {
    /// Fraction of the groups that is held out.
    pub fraction: f64,
    /// Seed of the split.
    pub seed: u64,
}

impl Holdout {
    /// Whether the group of this question is held out.
    pub fn holds_out(&self, question: Question) -> bool {
        let uniform = (self.hash("neftpipe 2026 held-out groups v1", question) >> 11) as f64 / (1u64 << 53) as f64;
        uniform < self.fraction
    }

    /// The place of a trained group in the order in which groups are chosen to be looked at again.
    pub fn rank(&self, question: Question) -> u64 {
        self.hash("neftpipe 2026 trained prompts v1", question)
    }

    fn hash(&self, purpose: &str, question: Question) -> u64 {
        let digest = KeyHasher::new(purpose).add(&self.seed).add(question.instruction).add(question.input).finish();
        let (first, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
        u64::from_le_bytes(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_out(fraction: f64, seed: u64) -> Vec<usize> {
        let holdout = Holdout { fraction, seed };
        let names: Vec<String> = (0..2000).map(|index| format!("question {index}")).collect();
        let question = |index: &usize| Question { instruction: &names[*index], input: "" };
        (0..names.len()).filter(|index| holdout.holds_out(question(index))).collect()
    }

    #[test]
    fn about_the_fraction_is_held_out_and_a_larger_one_holds_the_smaller() {
        let (small, large) = (held_out(0.05, 0), held_out(0.2, 0));
        assert!((70..=130).contains(&small.len()), "{}", small.len());
        assert!((340..=460).contains(&large.len()), "{}", large.len());
        assert!(small.iter().all(|index| large.contains(index)));
        assert!(held_out(0.0, 0).is_empty());
    }

    #[test]
    fn the_seed_and_the_border_between_instruction_and_input_matter() {
        assert_ne!(held_out(0.05, 0), held_out(0.05, 1));
        let holdout = Holdout { fraction: 0.5, seed: 0 };
        let rank = |instruction, input| holdout.rank(Question { instruction, input });
        assert_ne!(rank("ab", "c"), rank("a", "bc"));
    }
}
