//! The words of a command of this program, for a user or a script to run next.

/// The words of a command.
pub struct CommandLine(Vec<String>);

impl CommandLine {
    /// A command of these words.
    pub fn new(words: Vec<String>) -> Self {
        CommandLine(words)
    }

    /// The command that is running; the program's own name goes without its folder.
    pub fn this() -> Self {
        let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        CommandLine(std::iter::once("harness".to_owned()).chain(words).collect())
    }

    /// The command with the program as the user has called it, which scripts/harness says.
    pub fn with_program(self) -> Self {
        let called = std::env::var("HARNESS_PROGRAM").unwrap_or_default();
        let called: Vec<String> = called.split_whitespace().map(str::to_owned).collect();
        match self.0.split_first() {
            Some((first, rest)) if first == "harness" && !called.is_empty() => {
                CommandLine([&called, rest].concat())
            }
            _ => self,
        }
    }

    /// The words.
    pub fn into_words(self) -> Vec<String> {
        self.0
    }

    /// The command without a flag and its value.
    pub fn without(self, flag: &str) -> Self {
        let mut words = vec![];
        let mut rest = self.0.into_iter().peekable();
        while let Some(word) = rest.next() {
            if word == flag {
                rest.next_if(|value| !value.starts_with("--"));
            } else if !word.starts_with(&format!("{flag}=")) {
                words.push(word);
            }
        }
        CommandLine(words)
    }

    /// The command with this value of a flag.
    pub fn with(self, flag: &str, value: &str) -> Self {
        let mut command = self.without(flag);
        command.0.extend([flag.to_owned(), value.to_owned()]);
        command
    }

    /// The command for a shell.
    pub fn in_words(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
        let quoted = self.0.iter().map(|word| match !word.is_empty() && word.chars().all(plain) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', "'\\''")),
        });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> CommandLine {
        CommandLine(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn flags_are_replaced_and_added() {
        let command = "harness diff --size 64 --suggest-map --map=a";
        assert_eq!(
            line(command).with("--size", "57x65").in_words(),
            "harness diff --suggest-map --map=a --size 57x65"
        );
        assert_eq!(
            line(command).without("--map").in_words(),
            "harness diff --size 64 --suggest-map"
        );
        assert_eq!(line(command).without("--suggest-map").0.len(), 5);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let command = CommandLine(vec!["a b".to_owned(), "it's".to_owned(), String::new()]);
        assert_eq!(command.in_words(), "'a b' 'it'\\''s' ''");
    }
}
