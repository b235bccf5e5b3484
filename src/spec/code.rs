//! Stable codes of problems. `docs/diagnostics.md` shows each with an example.

use std::fmt;

use serde::Serialize;

/// A stable name of a kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "`meaning` says what each means")]
pub enum Code {
    UnreadableFile,
    NotUtf8,
    YamlSyntax,
    EmptyFile,
    DuplicateKey,
    MergeKey,
    UnsupportedYaml,
    BadVersion,
    UnknownKey,
    MissingKey,
    WrongType,
    BadValue,
    Conflict,
    BadName,
    DuplicateName,
    BadInclude,
    KindCount,
    UnknownParam,
    UnusedParam,
    UnknownProfile,
    BadOverride,
    AxisOverride,
    BadReference,
    UnknownStage,
    UnknownOutput,
    UnknownSlot,
    MissingSlot,
    SlotArity,
    SlotType,
    Cycle,
    BadAxis,
    UnknownAxis,
    UnknownAxisValue,
    AxisRedeclared,
    AxisConflict,
    BadCombination,
    EmptyJoin,
    TooManyInstances,
    UnknownField,
    MissingFile,
    ScriptNotInFiles,
    NoEffect,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 42] = [
        Self::UnreadableFile,
        Self::NotUtf8,
        Self::YamlSyntax,
        Self::EmptyFile,
        Self::DuplicateKey,
        Self::MergeKey,
        Self::UnsupportedYaml,
        Self::BadVersion,
        Self::UnknownKey,
        Self::MissingKey,
        Self::WrongType,
        Self::BadValue,
        Self::Conflict,
        Self::BadName,
        Self::DuplicateName,
        Self::BadInclude,
        Self::KindCount,
        Self::UnknownParam,
        Self::UnusedParam,
        Self::UnknownProfile,
        Self::BadOverride,
        Self::AxisOverride,
        Self::BadReference,
        Self::UnknownStage,
        Self::UnknownOutput,
        Self::UnknownSlot,
        Self::MissingSlot,
        Self::SlotArity,
        Self::SlotType,
        Self::Cycle,
        Self::BadAxis,
        Self::UnknownAxis,
        Self::UnknownAxisValue,
        Self::AxisRedeclared,
        Self::AxisConflict,
        Self::BadCombination,
        Self::EmptyJoin,
        Self::TooManyInstances,
        Self::UnknownField,
        Self::MissingFile,
        Self::ScriptNotInFiles,
        Self::NoEffect,
    ];

    /// What it says, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::UnreadableFile => "the file, or one that it includes, cannot be read",
            Self::NotUtf8 => "the file holds bytes that are no UTF-8",
            Self::YamlSyntax => "the file is no YAML",
            Self::EmptyFile => "the file holds nothing",
            Self::DuplicateKey => "a key stands twice in one map",
            Self::MergeKey => "a YAML merge (`<<`): `defaults` does that",
            Self::UnsupportedYaml => "a tag, a key that is no plain text, a number that is not finite",
            Self::BadVersion => "`version` is absent or not 1",
            Self::UnknownKey => "a key that nothing reads",
            Self::MissingKey => "a key without which the stage means nothing",
            Self::WrongType => "a value of another type than wanted",
            Self::BadValue => "a value that cannot be",
            Self::Conflict => "two values that exclude each other",
            Self::BadName => "a name that references could not spell",
            Self::DuplicateName => "a name that two files give",
            Self::BadInclude => "a file that includes itself",
            Self::KindCount => "a stage without a kind, or with several",
            Self::UnknownParam => "`${params.x}` without an `x` under `params`",
            Self::UnusedParam => "a value under `params` that no `${params.x}` uses",
            Self::UnknownProfile => "a `--profile` that the file lacks",
            Self::BadOverride => "a `--set` or profile on what cannot be set",
            Self::AxisOverride => "a `--set` or profile on a path that an axis sets",
            Self::BadReference => "text that is no `NAME.output[axis=value]`",
            Self::UnknownStage => "a stage that is not there",
            Self::UnknownOutput => "an output that its stage does not have",
            Self::UnknownSlot => "an input that the kind does not take",
            Self::MissingSlot => "an input that the kind does not do without",
            Self::SlotArity => "a list where one artifact is wanted",
            Self::SlotType => "an artifact of another type than the slot wants",
            Self::Cycle => "stages that need each other",
            Self::BadAxis => "an axis without values, or with values that need labels",
            Self::UnknownAxis => "an axis that is not there, or that is no parameter",
            Self::UnknownAxisValue => "a value that the axis does not have",
            Self::AxisRedeclared => "an axis that flows in already",
            Self::AxisConflict => "two axes that set one parameter",
            Self::BadCombination => "an `exclude` or `include` that means nothing",
            Self::EmptyJoin => "inputs that share no combination",
            Self::TooManyInstances => "a matrix beyond all reason",
            Self::UnknownField => "`{params.x}`, `{in.x}` or `{env.X}` in a `run` whose stage has no such thing",
            Self::MissingFile => "a template or script that is not there",
            Self::ScriptNotInFiles => "warning: `run` names a file that `files` does not hold",
            Self::NoEffect => "warning: a parameter that changes nothing here",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Serialize::serialize(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_print_as_in_the_table() {
        assert_eq!(Code::NotUtf8.to_string(), "not_utf8");
        assert_eq!(Code::AxisOverride.to_string(), "axis_override");
    }
}
