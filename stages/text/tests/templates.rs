//! Rendering and encoding against what transformers does with the same files (`fixtures/chat`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use neftpipe_protocol::artifact::{DatasetRow, Message};
use neftpipe_protocol::params::Template;
use neftpipe_text::{Piece, Renderer, TextError, Tokenizer};
use serde_json::Value;

const DATE: &str = "26 Jul 2024";
const MODELS: [&str; 3] = ["chatml", "llama3", "inst"];

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat").join(model)
}

fn tokenizer(model: &str) -> Tokenizer {
    Tokenizer::load(&folder(model)).unwrap()
}

fn golden(model: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder(model).join("golden.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

fn whole(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

fn row(renderer: &Renderer, messages: Vec<Message>) -> Result<Vec<Piece>, TextError> {
    renderer.row(&DatasetRow::Conversation { messages })
}

#[test]
fn texts_encode_and_decode_as_there() {
    for model in MODELS {
        let tokenizer = tokenizer(model);
        for case in golden(model)["texts"].as_array().unwrap() {
            if case["add_special_tokens"] == false {
                let text = case["text"].as_str().unwrap();
                assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{model}: {text:?}");
                assert_eq!(tokenizer.encode_batch(&[text]).unwrap(), [ids(&case["ids"])]);
            }
            assert_eq!(tokenizer.decode(&ids(&case["ids"])).unwrap(), case["decoded"].as_str().unwrap(), "{model}");
        }
    }
}

#[test]
fn conversations_render_and_encode_as_there_with_the_prompt_as_a_prefix() {
    for model in MODELS {
        let tokenizer = tokenizer(model);
        for case in golden(model)["cases"].as_array().unwrap() {
            let date = case["date_string"].as_str().unwrap_or(DATE);
            let renderer = Renderer::new(&Template::Chat, date, &tokenizer).unwrap();
            let messages = messages(&case["messages"]);
            let name = format!("{model}: {}", case["name"]);
            if let [question] = messages.as_slice()
                && case["add_generation_prompt"] == true
            {
                let prompt = renderer.prompt(&question.content, "").unwrap();
                assert_eq!(prompt, case["text"].as_str().unwrap(), "{name}");
                assert_eq!(tokenizer.encode(&prompt).unwrap(), ids(&case["ids"]), "{name}");
            }
            if case["add_generation_prompt"] == true || messages.last().is_none_or(|last| last.role != "assistant") {
                continue;
            }
            let pieces = row(&renderer, messages).unwrap();
            assert_eq!(whole(&pieces), case["text"].as_str().unwrap(), "{name}");
            let encoded = tokenizer.encode_pieces(&pieces).unwrap();
            assert_eq!(encoded.ids, ids(&case["ids"]), "{name}");
            if pieces.iter().filter(|piece| piece.trained).count() == 1 {
                let prompt = encoded.trained.iter().position(|&trained| trained).unwrap();
                assert_eq!(encoded.ids[..prompt], ids(&case["prompt_ids"]), "{name}");
            }
        }
    }
}

#[test]
fn what_a_template_refuses_is_told_in_its_words() {
    for model in MODELS {
        let renderer = Renderer::new(&Template::Chat, DATE, &tokenizer(model)).unwrap();
        for case in golden(model)["refused"].as_array().unwrap() {
            let error = row(&renderer, messages(&case["messages"])).unwrap_err().to_string();
            assert!(error.contains(case["error"].as_str().unwrap()), "{model}: {error}");
        }
    }
}

#[test]
fn answers_of_several_turns_are_trained_each_with_its_end_token() {
    let talk = || {
        ["hi", "hello", "why", "so"].iter().enumerate().map(|(turn, text)| Message {
            role: if turn % 2 == 0 { "user" } else { "assistant" }.to_owned(),
            content: (*text).to_owned(),
        })
    };
    for (model, first, second) in [
        ("chatml", "hello<|im_end|>", "so<|im_end|>"),
        ("llama3", "hello<|eot_id|>", "so<|eot_id|>"),
        ("inst", " hello </s>", " so </s>"),
    ] {
        let renderer = Renderer::new(&Template::Chat, DATE, &tokenizer(model)).unwrap();
        let pieces = row(&renderer, talk().collect()).unwrap();
        let trained: Vec<&str> = pieces.iter().filter(|piece| piece.trained).map(|piece| piece.text.as_str()).collect();
        assert_eq!(trained, [first, second], "{model}");
    }
}

#[test]
fn the_begin_token_stands_once() {
    for (model, bos) in [("llama3", "<|begin_of_text|>"), ("inst", "<s>")] {
        let tokenizer = tokenizer(model);
        assert!(tokenizer.adds_bos(), "{model}");
        for template in [Template::Alpaca, Template::Chat] {
            let renderer = Renderer::new(&template, DATE, &tokenizer).unwrap();
            let prompt = renderer.prompt("Say hi", "").unwrap();
            assert_eq!(prompt.matches(bos).count(), 1, "{model}: {prompt}");
            let ids = tokenizer.encode(&prompt).unwrap();
            assert_eq!(ids[0], tokenizer.bos_token_id().unwrap());
            assert!(!ids[1..].contains(&ids[0]));
        }
    }
    let chatml = tokenizer("chatml");
    assert!(!chatml.adds_bos());
    let prompt = Renderer::new(&Template::Alpaca, DATE, &chatml).unwrap().prompt("Say hi", "").unwrap();
    assert!(prompt.starts_with("Below is an instruction that describes a task. Write"), "{prompt}");
}

#[test]
fn alpaca_rows_end_with_the_end_token_and_their_prompt_is_that_of_generation() {
    let instruction = |input: &str| DatasetRow::Instruction {
        instruction: "Add".to_owned(),
        input: input.to_owned(),
        output: "3".to_owned(),
    };
    for model in MODELS {
        let tokenizer = tokenizer(model);
        let renderer = Renderer::new(&Template::Alpaca, DATE, &tokenizer).unwrap();
        for input in ["", "1 2"] {
            let pieces = renderer.row(&instruction(input)).unwrap();
            let prompt = renderer.prompt("Add", input).unwrap();
            assert!(prompt.ends_with("### Response:") && prompt.contains("### Input:\n1 2") != input.is_empty());
            assert_eq!((pieces[0].text.as_str(), pieces[0].trained), (prompt.as_str(), false));
            let encoded = tokenizer.encode_pieces(&pieces).unwrap();
            assert!(encoded.ids.starts_with(&tokenizer.encode(&prompt).unwrap()));
            assert_eq!(*encoded.ids.last().unwrap(), tokenizer.eos_token_id().unwrap());
            assert!(encoded.trained.last().unwrap());
            assert_eq!(tokenizer.decode(&encoded.ids).unwrap().matches("Response:3").count(), 1, "{model}");
        }
        let official = Renderer::new(&Template::AlpacaOfficialEval, DATE, &tokenizer).unwrap();
        assert!(official.prompt("Add", "").unwrap().ends_with("### Response:\n"));
    }
}

#[test]
fn a_template_of_one_exchange_takes_no_longer_conversation() {
    let renderer = Renderer::new(&Template::Alpaca, DATE, &tokenizer("chatml")).unwrap();
    let turn = |role: &str| Message { role: role.to_owned(), content: "x".to_owned() };
    let pair = row(&renderer, vec![turn("user"), turn("assistant")]).unwrap();
    assert_eq!(pair[1].text, "x<|im_end|>");
    let longer = row(&renderer, vec![turn("user"), turn("assistant"), turn("user"), turn("assistant")]);
    assert!(longer.unwrap_err().to_string().contains("a conversation of 4 turns"));
}

#[test]
fn jinja_files_write_prompts_or_whole_conversations() {
    let tokenizer = tokenizer("chatml");
    let row = DatasetRow::Instruction { instruction: "Why?".into(), input: "Here.".into(), output: "So.".into() };
    let prompt = Template::Jinja("{{ date_string }}\nQ: {{ instruction }} {{ input }}\nA:\n".to_owned());
    let renderer = Renderer::new(&prompt, DATE, &tokenizer).unwrap();
    assert_eq!(whole(&renderer.row(&row).unwrap()), "26 Jul 2024\nQ: Why? Here.\nA:So.<|im_end|>");
    let turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}\
                 {% if add_generation_prompt %}assistant: {% endif %}";
    let renderer = Renderer::new(&Template::Jinja(turns.to_owned()), DATE, &tokenizer).unwrap();
    let pieces = renderer.row(&row).unwrap();
    assert_eq!(pieces[0].text, "user: Why?\n\nHere.<|im_end|>assistant: ");
    assert_eq!((pieces[1].text.as_str(), pieces[1].trained), ("So.<|im_end|>", true));
}

#[test]
fn templates_are_told_that_there_are_no_tools() {
    let asks = "{% if tools is not none or documents is not none %}tools{% endif %}{{ messages[0].content }}";
    let renderer = Renderer::new(&Template::Jinja(asks.to_owned()), DATE, &tokenizer("chatml")).unwrap();
    assert_eq!(renderer.prompt("Why?", "").unwrap(), "Why?");
}

#[test]
fn none_is_the_text_as_it_is() {
    let renderer = Renderer::new(&Template::None, DATE, &tokenizer("llama3")).unwrap();
    assert_eq!(renderer.prompt("Once", "upon").unwrap(), "Once\n\nupon");
    let row = DatasetRow::Instruction { instruction: "Once".into(), input: String::new(), output: " upon".into() };
    assert_eq!(whole(&renderer.row(&row).unwrap()), "Once upon");
}

#[test]
fn a_model_without_a_chat_template_says_so() {
    let bare = tempfile::tempdir().unwrap();
    std::fs::copy(folder("chatml").join("tokenizer.json"), bare.path().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::load(bare.path()).unwrap();
    assert!(matches!(Renderer::new(&Template::Chat, DATE, &tokenizer), Err(TextError::NoChatTemplate)));
    std::fs::write(bare.path().join("tokenizer.json"), "{").unwrap();
    assert!(Tokenizer::load(bare.path()).err().unwrap().to_string().contains("tokenizer.json: "));
}
