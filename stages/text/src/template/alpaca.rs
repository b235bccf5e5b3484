//! The Alpaca prompt (stanford_alpaca), word for word.

/// The prompt up to and with `### Response:`, without a newline after it.
pub(super) fn prompt(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        return format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        );
    }
    format!(
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
         response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\
         \n\n### Response:"
    )
}
