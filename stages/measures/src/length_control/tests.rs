use super::*;

fn pair(instruction: &str, lengths: (usize, usize), preference: Option<f64>) -> JudgedPair<'_> {
    JudgedPair { instruction, length_1_characters: lengths.0, length_2_characters: lengths.1, preference }
}

fn control() -> LengthControl {
    LengthControl::from_json(
        r#"{"instructions": ["a", "b"], "instruction_difficulty": [1.0, -1.0], "gamed_tanh": [[0.5, 0.6], [-0.5, -0.4]],
            "T_gamed_sum_tanhlen_times_y": -0.3, "G_gamed_sum_difficulty_times_y": 0.1, "gamed_weight": 0.1}"#,
    )
    .unwrap()
}

#[test]
fn a_judge_that_only_looks_at_length_is_seen_through() {
    // The longer output always wins and the model's is mostly the longer one: raw 75%, at equal length even.
    let pairs: Vec<_> = (0..400)
        .map(|i| if i % 4 == 0 { pair("x", (300, 100), Some(1.0)) } else { pair("x", (100, 300 - i % 7), Some(2.0)) })
        .collect();
    let figures = length_controlled_minimal(&pairs, Strength::default()).unwrap();
    assert!((figures.length_controlled_winrate - 50.0).abs() < 10.0, "{figures:?}");
    assert!(figures.weights.length < -1.0, "{figures:?}");
}

#[test]
fn unread_rows_are_predicted_but_not_fitted() {
    let fitted = [pair("a", (10, 20), Some(2.0)), pair("b", (10, 5), Some(1.3)), pair("a", (7, 9), None)];
    let figures = length_controlled(&fitted, &control(), Strength::Fixed(1.0)).unwrap();
    assert_eq!(figures.predicted.len(), 3);
    assert_eq!(figures.predicted[0], figures.predicted[2]);
}

#[test]
fn a_strong_penalty_says_even() {
    let pairs = [pair("a", (10, 20), Some(2.0)), pair("b", (10, 5), Some(1.3))];
    let figures = length_controlled(&pairs, &control(), Strength::Fixed(1e-4)).unwrap();
    assert_eq!(figures.weights, Weights { length: 0.0, difficulty: 0.0, model: 0.0 });
    assert_eq!(figures.length_controlled_winrate, 50.0);
}

#[test]
fn what_cannot_be_fitted_is_an_error() {
    let fit = |pairs: &[JudgedPair<'_>], c| length_controlled(pairs, &control(), Strength::Fixed(c)).unwrap_err();
    let good = [pair("a", (10, 20), Some(2.0)), pair("b", (10, 5), Some(1.3))];
    assert!(matches!(fit(&good, 0.0), LengthControlError::BadC(_)));
    assert!(matches!(fit(&good, f64::NAN), LengthControlError::BadC(_)));
    assert!(matches!(fit(&[], 1.0), LengthControlError::ConstantLength(0)));
    let constant = [pair("a", (10, 20), Some(2.0)), pair("b", (20, 30), Some(1.3))];
    assert!(matches!(fit(&constant, 1.0), LengthControlError::ConstantLength(2)));
    let unread = [pair("a", (10, 20), None), pair("b", (10, 5), Some(9.0))];
    assert!(matches!(fit(&unread, 1.0), LengthControlError::NothingToFit(2)));
    let foreign = [good[0], pair("z", (10, 5), Some(1.3))];
    assert!(matches!(fit(&foreign, 1.0), LengthControlError::UnknownInstructions { missing: 1, pairs: 2, .. }));
}

#[test]
fn a_malformed_file_says_what_is_wrong() {
    let error = |text: &str| LengthControl::from_json(text).unwrap_err();
    assert!(matches!(error("{"), LengthControlError::Malformed(_)));
    let file = |instructions: &str, difficulty: &str| {
        format!(
            r#"{{"instructions": {instructions}, "instruction_difficulty": {difficulty}, "gamed_tanh": [],
                "T_gamed_sum_tanhlen_times_y": 0, "G_gamed_sum_difficulty_times_y": 0}}"#
        )
    };
    assert!(matches!(error(&file(r#"["a"]"#, "[1, 2]")), LengthControlError::UnequalLists { entries: 2, .. }));
    assert!(matches!(error(&file(r#"["a", "a"]"#, "[1, 2]")), LengthControlError::DuplicateInstruction(_)));
}

const GAMED: &str = "preference,index,std_delta_len,instruction_difficulty,not_gamed_baseline,model
0.25,0,0.5493061443340549,1.0,False,concise
1.0,1,-0.5,-1.0,False,concise
,0,2.0,1.0,False,verbose
0.5,1,0.1,-1.0,False,verbose
";

#[test]
fn the_official_tables_are_read_by_place_and_column() {
    let files = |gamed: &str| vec![("data/df_gamed.csv".to_owned(), gamed.to_owned())];
    let control = LengthControl::from_files(&files(GAMED), &["a", "b"]).unwrap();
    assert_eq!(control.difficulty["b"], -1.0);
    // The row without a preference is left out.
    let expected = [0.5 * 0.25 + (-0.5_f64).tanh() + 0.5 * 0.1_f64.tanh(), 0.25 - 1.5];
    for (ours, expected) in control.gamed.sums_with_target.iter().zip(expected) {
        assert!((ours - expected).abs() < 1e-12, "{ours} {expected}");
    }
    assert_eq!(control.gamed.class_sizes(), [3, 2]);

    let error = |gamed: &str| LengthControl::from_files(&files(gamed), &["a", "b"]).unwrap_err().to_string();
    assert!(error("index,preference\n0,1\n").contains("instruction_difficulty"));
    assert!(error(&GAMED.replace("0.25,0", "x,0")).contains("line 2"));
    assert!(error(&GAMED.replace("0.25,0", "1.25,0")).contains("not between 0 and 1"));
    let other = LengthControl::from_files(&files(GAMED), &["a"]).unwrap_err();
    assert!(matches!(other, LengthControlError::OtherCount { known: 2, pairs: 1 }));
    assert!(matches!(LengthControl::from_files(&[], &[]), Err(LengthControlError::NoFile)));
}

#[test]
fn sums_alone_cannot_choose_the_strength() {
    let pairs = [pair("a", (10, 20), Some(2.0)), pair("b", (10, 5), Some(1.3))];
    let error = length_controlled(&pairs, &control(), Strength::CrossValidated).unwrap_err();
    assert!(matches!(error, LengthControlError::NoTargets));
}
