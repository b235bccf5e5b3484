//! `tokenize` through the worker: what stands in its outputs, what it counts and what it refuses.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_protocol::Kind;
use neftpipe_protocol::artifact::{Message, PreviewPiece, PromptRow, TokensInfo};
use neftpipe_text::Tokenizer;
use serde_json::{Value, json};

use support::{Attempt, Workplace, read_json, read_lines};

/// A model folder: the tokenizer of a fixture and a configuration that says the window.
fn model(place: &Workplace, fixture: &str, window: u64) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../text/tests/fixtures/chat").join(fixture);
    let folder = place.file("model", "config.json", &json!({"max_position_embeddings": window}).to_string());
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        if source.join(file).exists() {
            fs::copy(source.join(file), folder.join(file)).unwrap();
        }
    }
    folder
}

fn tokenize(place: &Workplace, name: &str, params: Value, dataset: &Path, model: &Path) -> Attempt {
    place.run(name, Kind::Tokenize, params, &[("dataset", "dataset", dataset), ("tokenizer", "model", model)])
}

/// The rows of a split: ids with their loss mask.
fn split(attempt: &Attempt, name: &str) -> Vec<(Vec<u32>, Vec<bool>)> {
    let bytes = fs::read(attempt.out("tokens").join(format!("{name}.safetensors"))).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let data = |name: &str| tensors.tensor(name).unwrap().data().to_vec();
    let ids: Vec<u32> =
        data("input_ids").as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).try_into().unwrap()).collect();
    let trained: Vec<bool> = data("trained").iter().map(|&flag| flag == 1).collect();
    let offsets: Vec<usize> = data("offsets").as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as usize).collect();
    assert_eq!((ids.len(), offsets.last()), (trained.len(), Some(&ids.len())));
    offsets.windows(2).map(|row| (ids[row[0]..row[1]].to_vec(), trained[row[0]..row[1]].to_vec())).collect()
}

fn pair(instruction: &str, output: &str) -> Value {
    json!({"instruction": instruction, "output": output})
}

/// 60 questions with three answers each.
fn questions(place: &Workplace) -> PathBuf {
    let rows: Vec<Value> = (0..180).map(|i| pair(&format!("question {}", i % 60), &format!("answer {i}"))).collect();
    place.lines("data", "rows.jsonl", &rows)
}

#[test]
fn an_alpaca_row_is_its_prompt_and_then_its_answer_with_the_end_token_trained() {
    let place = Workplace::new();
    let model = model(&place, "chatml", 512);
    let rows = [json!({"instruction": "Add.", "input": "1 2", "output": " It is 3. "}), pair("Hi", "")];
    let dataset = place.lines("data", "rows.jsonl", &rows);
    let attempt = tokenize(&place, "a", json!({"trained": 1}), &dataset, &model).succeeded();

    let tokenizer = Tokenizer::load(&model).unwrap();
    let prompt = "Below is an instruction that describes a task, paired with an input that provides further context. Write \
                  a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### \
                  Response:";
    let (prompt_ids, answer_ids) = (tokenizer.encode(prompt).unwrap(), tokenizer.encode(" It is 3. ").unwrap());
    let end = tokenizer.eos_token_id().unwrap();
    let rows = split(&attempt, "train");
    assert_eq!(rows[0].0, [prompt_ids.as_slice(), &answer_ids, &[end]].concat());
    assert!(rows[0].1.iter().enumerate().all(|(at, &trained)| trained == (at >= prompt_ids.len())));
    assert_eq!((rows[1].0.last(), rows[1].1.iter().filter(|&&flag| flag).count()), (Some(&end), 1));
    assert!(split(&attempt, "heldout").is_empty());

    let info: TokensInfo = read_json(&attempt.out("tokens/tokens.json"));
    assert_eq!((info.eos_token_id, info.train.rows, info.train.groups), (end, 2, 2));
    assert_eq!(info.train.trained_tokens as usize, answer_ids.len() + 2);
    let preview: Vec<Vec<PreviewPiece>> = read_lines(&attempt.out("tokens/preview.jsonl"));
    let piece = |text: &str, trained| PreviewPiece { text: text.to_owned(), trained };
    assert_eq!(preview[0], [piece(prompt, false), piece(" It is 3. <|im_end|>", true)]);
    assert_eq!(attempt.events("sample").next().unwrap()["value"]["pieces"], serde_json::to_value(&preview[0]).unwrap());
    assert_eq!(attempt.result["metrics"]["tokens"], info.train.tokens);
    assert_eq!(attempt.result["outputs"], json!({"tokens": "tokens", "heldout": "prompts", "trained": "prompts"}));
}

#[test]
fn conversations_are_encoded_as_the_template_writes_them_with_answers_trained() {
    for fixture in ["chatml", "llama3", "inst"] {
        let place = Workplace::new();
        let model = model(&place, fixture, 4096);
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../text/tests/fixtures/chat").join(fixture);
        let golden: Value = read_json(&golden.join("golden.json"));
        let cases: Vec<&Value> = golden["cases"].as_array().unwrap().iter().collect();
        let whole = |case: &&Value| {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
            case["add_generation_prompt"] == false
                && case["date_string"].as_str().is_none_or(|date| date == "26 Jul 2024")
                && messages.last().is_some_and(|message| message.role == "assistant")
        };
        let cases: Vec<&Value> = cases.into_iter().filter(whole).collect();
        assert!(!cases.is_empty(), "{fixture}");
        let rows: Vec<Value> = cases.iter().map(|case| json!({"messages": case["messages"]})).collect();
        let dataset = place.lines("data", "rows.jsonl", &rows);
        let attempt =
            tokenize(&place, "a", json!({"template": "chat", "max_length": 4096}), &dataset, &model).succeeded();
        for (case, (ids, trained)) in cases.iter().zip(split(&attempt, "train")) {
            let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(ids, expected, "{fixture}: {}", case["name"]);
            let prompt = case["prompt_ids"].as_array().unwrap().len();
            assert!(trained[prompt], "{fixture}: {}", case["name"]);
            assert!(!trained[prompt - 1] && !trained[0], "{fixture}: {}", case["name"]);
        }
    }
}

#[test]
fn long_conversations_are_split_at_turns_and_stay_in_one_split() {
    let place = Workplace::new();
    let model = model(&place, "chatml", 4096);
    let long = |topic: usize| {
        let first = [("user", format!("question {topic}")), ("assistant", "yes".to_owned())];
        let middle = (0..8).map(|at| (["user", "assistant"][at % 2], format!("turn {at} with some words")));
        let last = [("user", "and?".to_owned()), ("assistant", "x ".repeat(300))];
        let turns = first.into_iter().chain(middle).chain(last);
        let turns: Vec<Value> = turns.map(|(role, content)| json!({"role": role, "content": content})).collect();
        json!({"messages": turns})
    };
    let rows: Vec<Value> = (0..20).map(long).collect();
    let data = place.lines("data", "rows.jsonl", &rows);
    let whole = tokenize(&place, "whole", json!({"template": "chat", "max_length": 4096}), &data, &model);
    let info: TokensInfo = read_json(&whole.out("tokens").join("tokens.json"));
    assert_eq!((info.train.rows, info.train.split_conversations, info.train.truncated_rows), (20, 0, 0));

    let parts =
        tokenize(&place, "parts", json!({"template": "chat", "max_length": 256, "holdout": 0.3}), &data, &model);
    let info: TokensInfo = read_json(&parts.out("tokens").join("tokens.json"));
    assert_eq!(info.train.split_conversations + info.heldout.split_conversations, 20);
    assert_eq!(info.heldout.groups, info.heldout.split_conversations, "a conversation is in one split");
    assert_eq!(info.train.groups, info.train.split_conversations);
    assert_eq!(info.train.truncated_rows, info.train.groups, "the long last exchange alone is cut");
    assert!(info.train.rows > 2 * info.train.groups && info.heldout.rows > 2 * info.heldout.groups);
    let tokenizer = Tokenizer::load(&model).unwrap();
    for (ids, trained) in split(&parts, "train") {
        assert!(ids.len() <= 256 && trained.contains(&true));
        assert!(tokenizer.spell(&ids).unwrap().starts_with("<|im_start|>"), "a part begins with a turn");
    }
}

#[test]
fn groups_are_held_out_whole_and_other_parameters_do_not_move_them() {
    let place = Workplace::new();
    let (model, dataset) = (model(&place, "chatml", 512), questions(&place));
    let params = json!({"holdout": 0.3, "trained": 10});
    let attempt = tokenize(&place, "a", params, &dataset, &model).succeeded();
    let heldout: Vec<PromptRow> = read_lines(&attempt.out("heldout/prompts.jsonl"));
    let trained: Vec<PromptRow> = read_lines(&attempt.out("trained/prompts.jsonl"));
    assert!((8..30).contains(&heldout.len()), "{}", heldout.len());
    assert_eq!(trained.len(), 10);
    assert!(heldout.iter().chain(&trained).all(|row| row.reference.len() == 3));
    let names: HashSet<&str> = heldout.iter().chain(&trained).map(|row| row.instruction.as_str()).collect();
    assert_eq!(names.len(), heldout.len() + 10);
    assert_eq!(split(&attempt, "heldout").len(), 3 * heldout.len());
    assert_eq!(split(&attempt, "train").len(), 180 - 3 * heldout.len());

    let bytes = |attempt: &Attempt| fs::read(attempt.out("heldout/prompts.jsonl")).unwrap();
    let other = json!({"holdout": 0.3, "trained": 5, "template": "none", "max_length": 40, "deduplicate": true});
    let moved = tokenize(&place, "b", other, &dataset, &model).succeeded();
    assert_eq!(bytes(&moved), bytes(&attempt));
    let fewer: Vec<PromptRow> = read_lines(&moved.out("trained/prompts.jsonl"));
    assert!(fewer.len() == 5 && fewer.iter().all(|row| trained.contains(row)));
    let reseeded = tokenize(&place, "c", json!({"holdout": 0.3, "seed": 1}), &dataset, &model).succeeded();
    assert_ne!(bytes(&reseeded), bytes(&attempt));
}

#[test]
fn equal_requests_give_equal_bytes_on_any_number_of_threads() {
    let place = Workplace::new();
    let (model, dataset) = (model(&place, "llama3", 512), questions(&place));
    let inputs: [(&str, &str, &Path); 2] = [("dataset", "dataset", &dataset), ("tokenizer", "model", &model)];
    let run = |name, threads| {
        let params = json!({"holdout": 0.2, "trained": 7});
        place.run_with(name, Kind::Tokenize, params, &inputs, json!({"threads": threads})).succeeded()
    };
    let (one, many) = (run("one", 1), run("many", 4));
    let files =
        ["tokens/train.safetensors", "tokens/heldout.safetensors", "tokens/tokens.json", "tokens/preview.jsonl"];
    for file in files.into_iter().chain(["heldout/prompts.jsonl", "trained/prompts.jsonl"]) {
        assert_eq!(fs::read(one.out(file)).unwrap(), fs::read(many.out(file)).unwrap(), "{file}");
    }
    assert_eq!(one.result["metrics"], many.result["metrics"]);
}

#[test]
fn long_rows_are_cut_and_counted_and_rows_without_an_answer_dropped() {
    let place = Workplace::new();
    let model = model(&place, "chatml", 512);
    let long_answer = "word ".repeat(60);
    let long_question = "word ".repeat(200);
    let rows = [pair("short", "a"), pair("short too", &long_answer), pair(&long_question, "a")];
    let dataset = place.lines("data", "rows.jsonl", &rows);
    let attempt = tokenize(&place, "a", json!({"template": "none", "max_length": 30}), &dataset, &model).succeeded();
    let info: TokensInfo = read_json(&attempt.out("tokens/tokens.json"));
    assert_eq!((info.train.rows, info.train.truncated_rows, info.dropped["no_trained_token"]), (2, 1, 1));
    assert!(info.train.longest_tokens > 200);
    assert_eq!(split(&attempt, "train")[1].0.len(), 30);
    assert_eq!(attempt.warnings(), ["truncated_rows", "no_trained_token"]);
    let preview: Vec<Vec<PreviewPiece>> = read_lines(&attempt.out("tokens/preview.jsonl"));
    assert!(preview[1].last().unwrap().text.len() < 60, "the preview ends where the row is cut");
}

#[test]
fn duplicates_and_evaluation_prompts_are_dropped_when_asked() {
    let place = Workplace::new();
    let model = model(&place, "chatml", 512);
    let rows = [pair("a", "x"), pair("a", "x"), json!({"instruction": "b", "input": "c", "output": "x"})];
    let dataset = place.lines("data", "rows.jsonl", &rows);
    let exclude = place.lines("exclude", "prompts.jsonl", &[json!({"instruction": "b\n\nc"})]);
    let inputs: [(&str, &str, &Path); 3] =
        [("dataset", "dataset", &dataset), ("tokenizer", "model", &model), ("exclude", "prompts", &exclude)];
    let params = json!({"deduplicate": true, "decontaminate": true});
    let attempt = place.run("a", Kind::Tokenize, params, &inputs).succeeded();
    let info: TokensInfo = read_json(&attempt.out("tokens/tokens.json"));
    assert_eq!((info.train.rows, info.dropped["duplicate"], info.dropped["contaminated"]), (1, 1, 1));
    assert_eq!(attempt.result["metrics"]["dropped_rows"], 2);

    let near = place.lines("near", "prompts.jsonl", &[json!({"instruction": "B:\n\nC."})]);
    let inputs_near = [inputs[0], inputs[1], ("exclude", "prompts", near.as_path())];
    let kept = place.run("d", Kind::Tokenize, json!({"decontaminate": true}), &inputs_near).succeeded();
    assert_eq!((kept.warnings(), &kept.result["metrics"]["rows"]), (vec!["nearly_contaminated"], &json!(3)));
    let params = json!({"decontaminate": true, "contamination": {"text": "normalised"}});
    let folded = place.run("e", Kind::Tokenize, params, &inputs_near).succeeded();
    assert_eq!((folded.warnings().len(), &folded.result["metrics"]["dropped_contaminated_words"]), (0, &json!(1)));
    let unused = place.run("b", Kind::Tokenize, json!({}), &inputs).succeeded();
    assert_eq!((unused.warnings(), &unused.result["metrics"]["rows"]), (vec!["exclude_unused"], &json!(3)));
    let lacking = tokenize(&place, "c", json!({"decontaminate": true}), &dataset, &model);
    assert_eq!(lacking.failure(), ("usage", "decontaminate needs the prompts to keep out of training"));
}

#[test]
fn what_cannot_be_done_is_refused_with_the_place() {
    let place = Workplace::new();
    let model = model(&place, "chatml", 512);
    let dataset = place.lines("data", "rows.jsonl", &[pair("a", "x")]);
    let refuse = |name: &str, params: Value, dataset: &Path| {
        let attempt = tokenize(&place, name, params, dataset, &model);
        let (class, message) = attempt.failure();
        (class.to_owned(), message.to_owned())
    };
    let (class, message) = refuse("window", json!({"max_length": 513}), &dataset);
    assert!(class == "usage" && message.contains("513") && message.contains("512"), "{message}");

    let empty = place.lines("empty", "rows.jsonl", &[] as &[Value]);
    assert_eq!(refuse("empty", json!({}), &empty).0, "data");

    let (class, message) = refuse("heldout", json!({"holdout": 0.999_999_999}), &dataset);
    assert!(class == "data" && message.contains("1 held out (holdout 0.999999999)"), "{message}");

    let talk = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
                                   {"role": "user", "content": "r"}]});
    let talks = place.lines("talks", "rows.jsonl", &[pair("a", "x"), talk]);
    let (class, message) = refuse("talk", json!({}), &talks);
    assert!(class == "data" && message.starts_with("row 2 of the dataset: "), "{message}");

    let broken = place.file("broken", "rows.jsonl", "{\"instruction\": 3}\n");
    let (class, message) = refuse("broken", json!({}), &broken);
    assert!(class == "data" && message.contains("rows.jsonl:1"), "{message}");
}
