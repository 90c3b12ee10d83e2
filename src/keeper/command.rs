//! From a command as it is written to an argument vector, by the rules of jail(8).
//!
//! Source: `usr.sbin/jail/command.c:run_command`; facts/jails.md 4.3.

use crate::config::spec::CommandLine;
use crate::host::Failure;

/// The characters that make jail(8) hand a command to `/bin/sh`.
const SHELL_CHARACTERS: &[char] =
    &['!', '"', '$', '&', '\'', '(', ')', '*', ';', '<', '>', '?', '[', '\\', ']', '`', '{', '|', '}', '~'];

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Program and arguments; never empty. The program is looked for along PATH if it holds no slash.
    pub argv: Vec<String>,
    /// Whether nobody waits for it: a command whose first special character is an `&` at its very end. It counts as
    /// having succeeded as soon as it runs.
    pub background: bool,
}

/// Decides how a command is executed.
///
/// # Errors
/// An empty command.
pub fn argv(command: &CommandLine) -> Result<Arguments, Failure> {
    let empty = || Failure::new("the command is empty").hint("leave the parameter out instead");
    let split = |text: &str| -> Vec<String> { text.split_ascii_whitespace().map(str::to_owned).collect() };
    let arguments = match command {
        CommandLine::Argv(argv) => Arguments { argv: argv.clone(), background: false },
        CommandLine::Shell(text) => match text.find(SHELL_CHARACTERS) {
            None => Arguments { argv: split(text), background: false },
            Some(at) if text.get(at..) == Some("&") => {
                Arguments { argv: split(text.get(..at).unwrap_or_default()), background: true }
            }
            Some(_) => Arguments {
                argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
                background: false,
            },
        },
    };
    if arguments.argv.first().is_none_or(String::is_empty) { Err(empty()) } else { Ok(arguments) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> (Vec<String>, bool) {
        let it = argv(&CommandLine::Shell(text.to_owned())).unwrap();
        (it.argv, it.background)
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn plain_words_are_split() {
        assert_eq!(shell("/bin/echo  a\tb "), (words("/bin/echo a b"), false));
        assert_eq!(shell("sh /etc/rc"), (words("sh /etc/rc"), false));
        assert_eq!(shell("env A=b #x %y"), (words("env A=b #x %y"), false));
    }

    #[test]
    fn a_special_character_asks_for_the_shell() {
        for c in SHELL_CHARACTERS {
            let text = format!("echo {c} b");
            assert_eq!(shell(&text), (vec!["/bin/sh".into(), "-c".into(), text], false), "{c}");
        }
    }

    #[test]
    fn a_lone_final_ampersand_is_the_background() {
        assert_eq!(shell("sleep 5 &"), (words("sleep 5"), true));
        assert_eq!(shell("sleep 5&"), (words("sleep 5"), true));
        assert_eq!(shell("sleep 5 > log &").0[0], "/bin/sh");
        assert_eq!(shell("sleep 5 & ").0[0], "/bin/sh");
        assert!(!shell("a && b &").1);
    }

    #[test]
    fn an_argument_vector_is_left_alone() {
        let it = argv(&CommandLine::Argv(vec!["echo".into(), "a b;c".into(), "&".into()])).unwrap();
        assert_eq!(
            it,
            Arguments { argv: vec!["echo".into(), "a b;c".into(), "&".into()], background: false }
        );
    }

    #[test]
    fn nothing_is_not_a_command() {
        for text in ["", "  ", "&", " &"] {
            assert!(argv(&CommandLine::Shell(text.into())).is_err(), "{text:?}");
        }
        assert!(argv(&CommandLine::Argv(vec![])).is_err());
    }
}
