//! Stable codes of problems.
//!
//! | code | means |
//! |---|---|
//! | `unreadable_file` | the file, or one that it includes, cannot be read |
//! | `not_utf8` | the file holds bytes that are no UTF-8 |
//! | `yaml_syntax` | the file is no YAML |
//! | `empty_file` | the file holds nothing |
//! | `duplicate_key` | a key stands twice in one map |
//! | `merge_key` | a YAML merge (`<<`): `defaults` does that |
//! | `unsupported_yaml` | a tag, a key that is no plain text, a number that is not finite |
//! | `bad_version` | `version` is absent or not 1 |
//! | `unknown_key` | a key that nothing reads |
//! | `missing_key` | a key without which the stage means nothing |
//! | `wrong_type` | a value of another type than wanted |
//! | `bad_value` | a value that cannot be |
//! | `conflict` | two values that exclude each other |
//! | `bad_name` | a name that references could not spell |
//! | `duplicate_name` | a name that two files give |
//! | `bad_include` | a file that includes itself |
//! | `kind_count` | a stage without a kind, or with several |
//! | `unknown_param`, `unused_param` | `${params.x}` without `x`; `x` without `${params.x}` |
//! | `unknown_profile` | a `--profile` that the file lacks |
//! | `bad_override` | a `--set` or profile on what cannot be set |
//! | `axis_override` | a `--set` or profile on a path that an axis sets |
//! | `bad_reference` | text that is no `NAME.output[axis=value]` |
//! | `unknown_stage`, `unknown_output` | a stage or output that is not there |
//! | `unknown_slot`, `missing_slot` | an input that the kind does not take, or does not do without |
//! | `slot_arity` | a list where one artifact is wanted |
//! | `slot_type` | an artifact of another type than the slot wants |
//! | `cycle` | stages that need each other |
//! | `bad_axis` | an axis without values, or with values that need labels |
//! | `unknown_axis`, `unknown_axis_value` | an axis, or a value of it, that is not there |
//! | `axis_redeclared` | an axis that flows in already |
//! | `axis_conflict` | two axes that set one parameter |
//! | `bad_combination` | an `exclude` or `include` that means nothing |
//! | `empty_join` | inputs that share no combination |
//! | `too_many_instances` | a matrix beyond all reason |
//! | `missing_file` | a template or script that is not there |
//! | `script_not_in_files` | warning: `run` names a file that `files` does not hold |
//! | `no_effect` | warning: a parameter that changes nothing here |

use std::fmt;

use serde::Serialize;

/// A stable name of a kind of problem; the table is above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table above says what each means")]
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
    MissingFile,
    ScriptNotInFiles,
    NoEffect,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 41] = [
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
        Self::MissingFile,
        Self::ScriptNotInFiles,
        Self::NoEffect,
    ];
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
