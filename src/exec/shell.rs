//! Where in a shell command a text is put decides how it must be written there.
//!
//! The reader follows quotes, `$(…)`, comments and backslashes of a POSIX shell as far as filling in needs it. The body of a
//! here-document is taken for plain commands.

/// What surrounds a place of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    /// Nothing: words of commands.
    Bare,
    /// `'…'`
    Single,
    /// `"…"`
    Double,
}

/// Reads a script piece by piece, and knows what surrounds its end.
#[derive(Debug)]
pub(super) struct Reader {
    /// The innermost last; never empty.
    open: Vec<Around>,
    previous: char,
    is_escaped: bool,
    is_comment: bool,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { open: vec![Around::Bare], previous: '\n', is_escaped: false, is_comment: false }
    }

    /// Goes on over a piece of the script.
    pub(super) fn read(&mut self, piece: &str) {
        piece.chars().for_each(|c| self.step(c));
    }

    fn around(&self) -> Around {
        *self.open.last().expect("the outermost stays")
    }

    fn step(&mut self, c: char) {
        let previous = std::mem::replace(&mut self.previous, c);
        if self.is_comment {
            self.is_comment = c != '\n';
            return;
        }
        if std::mem::take(&mut self.is_escaped) {
            return;
        }
        match (self.around(), c) {
            (Around::Bare | Around::Double, '\\') => self.is_escaped = true,
            (Around::Single, '\'') | (Around::Double, '"') => self.close(),
            (Around::Bare, '\'') => self.open.push(Around::Single),
            (Around::Bare, '"') => self.open.push(Around::Double),
            (Around::Bare, '#') if previous.is_whitespace() || ";&|(".contains(previous) => self.is_comment = true,
            (Around::Bare, '(') => self.open.push(Around::Bare),
            (Around::Double, '(') if previous == '$' => self.open.push(Around::Bare),
            (Around::Bare, ')') => self.close(),
            _ => {}
        }
    }

    fn close(&mut self) {
        if self.open.len() > 1 {
            self.open.pop();
        }
    }

    /// Texts, with a space between two of them, as they must be written here: each one word where nothing is quoted.
    pub(super) fn words<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> String {
        let word = |text: &str| match self.around() {
            Around::Bare => quote(text),
            Around::Single => text.replace('\'', r"'\''"),
            Around::Double => escape(text),
        };
        texts.into_iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// A reference to a variable, as it must be written here.
    pub(super) fn variable(&self, name: &str) -> String {
        match self.around() {
            Around::Bare => format!("\"${{{name}}}\""),
            Around::Single => format!("'\"${{{name}}}\"'"),
            Around::Double => format!("${{{name}}}"),
        }
    }
}

/// The text as one word of the shell; bare where nothing in it is special.
fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_^".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn escape(text: &str) -> String {
    text.chars().flat_map(|c| "\\\"$`".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "it's \"q\" $HOME `x` \\";

    /// What a shell makes of the text, put between these two.
    fn shown(before: &str, after: &str, text: &str) -> String {
        let mut reader = Reader::new();
        reader.read(before);
        let script = format!("{before}{}{after}", reader.words([text]));
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_text_arrives_as_it_is_wherever_it_is_put() {
        for (before, after) in [
            ("printf '<%s>' ", ""),
            ("printf '<%s>' '", "'"),
            ("printf '<%s>' \"", "\""),
            ("# don't\nprintf '<%s>' ", ""),
            ("echo a\\'b >/dev/null; printf '<%s>' \"", "\""),
            ("printf '<%s>' \"$(printf %s ", ")\""),
            ("printf '<%s>' \"$(printf %s '", "')\""),
            ("printf '<%s>' \"$(printf %s \"", "\")\""),
            ("(true); case x in x) printf '<%s>' \"", "\";; esac"),
        ] {
            assert_eq!(shown(before, after, NASTY), format!("<{NASTY}>"), "{before}");
        }
    }

    #[test]
    fn several_texts_are_several_words_only_outside_quotes() {
        let words = |before: &str| {
            let mut reader = Reader::new();
            reader.read(before);
            reader.words(["a", "b c"])
        };
        assert_eq!(words("f "), "a 'b c'");
        assert_eq!(words("f \""), "a b c");
        assert_eq!(words("f '"), "a b c");
    }

    #[test]
    fn a_variable_is_filled_in_by_the_shell_wherever_it_is_put() {
        for (before, after) in [("printf '<%s>' ", ""), ("printf '<%s>' 'x", "'"), ("printf '<%s>' \"x", "\"")] {
            let mut reader = Reader::new();
            reader.read(before);
            let script = format!("{before}{}{after}", reader.variable("VALUE"));
            let output =
                std::process::Command::new("/bin/sh").args(["-c", &script]).env("VALUE", NASTY).output().unwrap();
            let x = if after.is_empty() { "" } else { "x" };
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("<{x}{NASTY}>"), "{script}");
        }
    }
}
