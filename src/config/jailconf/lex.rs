//! Tokens of jail.conf, by the rules of jail(8)'s own scanner (`usr.sbin/jail/jaillex.l`).
//!
//! What there are a scanner's longest-match rules are here a few functions, one per kind of token; where two rules of
//! the original compete (a variable that is closed late, a quote that is not closed), the comment says which wins. A
//! value comes in pieces, because quoted, bare and variable parts may stand side by side: a piece that continues the one
//! before it has [`Token::joined`].

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, its escapes undone. As in C it ends at a NUL.
    Text(Vec<u8>),
    /// A variable's name.
    Var(Vec<u8>),
    /// `+=`.
    Append,
    /// One of `, ; = { }`.
    Sign(u8),
    /// A byte with no meaning outside quotes.
    Stray(u8),
    /// The end of the text.
    End,
}

/// A token and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
    /// Whether nothing stands between it and the piece before.
    pub(super) joined: bool,
}

/// What is not closed in a text that can be scanned all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A comment that is not closed.
    Comment,
    /// A quote that is not closed.
    String,
    /// `${` that is not closed.
    Var,
}

/// A comment that begins right behind a bare word: `/etc/jail.conf.d/*.conf`, `/jails//web`. Legal, and seldom meant.
#[derive(Debug, Clone)]
pub(super) struct Glued {
    /// The two bytes that open it.
    pub(super) span: Range<usize>,
    /// Where the word begins.
    pub(super) word: usize,
}

/// The scanner.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// The place of the closing quote, while inside double quotes that hold a variable.
    quoted: Option<usize>,
    /// Whether the next piece continues a value.
    joined: bool,
    /// Where the current bare word began.
    word: usize,
    pub(super) troubles: Vec<(Trouble, Range<usize>)>,
    pub(super) glued: Vec<Glued>,
    /// Where comments stand, with what encloses them.
    pub(super) comments: Vec<Range<usize>>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            quoted: None,
            joined: false,
            word: 0,
            troubles: Vec::new(),
            glued: Vec::new(),
            comments: Vec::new(),
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// The next token. After the last one, [`Kind::End`] for ever.
    pub(super) fn next(&mut self) -> Token {
        loop {
            let found = match self.quoted {
                Some(close) => self.inside(close),
                None => self.outside(),
            };
            if let Some(token) = found {
                return token;
            }
        }
    }

    fn piece(&mut self, kind: Kind, end: usize) -> Option<Token> {
        let span = self.at..end;
        let joined = std::mem::replace(&mut self.joined, true);
        if !joined {
            self.word = self.at;
        }
        self.at = end;
        Some(Token { kind, span, joined })
    }

    fn sign(&mut self, kind: Kind, length: usize) -> Option<Token> {
        let span = self.at..self.at + length;
        self.at += length;
        self.joined = false;
        Some(Token { kind, span, joined: false })
    }

    /// One token outside double quotes; `None` if there was only something to skip.
    fn outside(&mut self) -> Option<Token> {
        let Some(byte) = self.peek(0) else { return self.sign(Kind::End, 0) };
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.at += 1;
                self.joined = false;
                None
            }
            b'#' => self.line_comment(),
            b'/' if self.peek(1) == Some(b'/') => {
                self.glue();
                self.line_comment()
            }
            b'/' if self.peek(1) == Some(b'*') => {
                self.glue();
                self.block_comment()
            }
            b'+' if self.peek(1) == Some(b'=') => self.sign(Kind::Append, 2),
            b',' | b';' | b'=' | b'{' | b'}' => self.sign(Kind::Sign(byte), 1),
            b'\'' => match close(self.text, self.at + 1, b'\'') {
                Some(end) => {
                    let text = unescape(self.text, self.at + 1..end);
                    self.piece(Kind::Text(text), end + 1)
                }
                None => self.open_string(),
            },
            b'"' => match close(self.text, self.at + 1, b'"') {
                Some(end) => {
                    let stop = variable_in(self.text, self.at + 1, end);
                    let text = unescape(self.text, self.at + 1..stop.unwrap_or(end));
                    self.quoted = stop.map(|_| end);
                    self.piece(Kind::Text(text), stop.unwrap_or(end + 1))
                }
                None => self.open_string(),
            },
            b'$' => self.variable(false),
            b'\\' => self.escape(),
            b'*' | b'+' | b'/' => self.piece(Kind::Text(vec![byte]), self.at + 1),
            _ if is_bare(byte) => {
                let rest = &self.text[self.at..];
                let length = rest.iter().position(|b| !is_bare(*b)).unwrap_or(rest.len());
                self.piece(Kind::Text(rest[..length].to_vec()), self.at + length)
            }
            // A character of several bytes is one slip, not several.
            _ => {
                let rest = &self.text[self.at + 1..];
                let more = rest.iter().position(|b| b & 0xc0 != 0x80).unwrap_or(rest.len());
                self.sign(Kind::Stray(byte), 1 + if byte < 0x80 { 0 } else { more })
            }
        }
    }

    /// One token inside double quotes that hold a variable, whose closing quote is at `end`.
    fn inside(&mut self, end: usize) -> Option<Token> {
        match self.peek(0) {
            Some(b'"') | None => {
                self.quoted = None;
                self.at = (self.at + 1).min(self.text.len());
                None
            }
            Some(b'$') => self.variable(true),
            Some(b'\\') => self.escape(),
            Some(_) if self.at < end => {
                let stop = variable_in(self.text, self.at, end);
                let text = unescape(self.text, self.at..stop.unwrap_or(end));
                if stop.is_none() {
                    self.quoted = None;
                }
                self.piece(Kind::Text(text), stop.unwrap_or(end + 1))
            }
            Some(_) => {
                self.quoted = None;
                None
            }
        }
    }

    fn glue(&mut self) {
        if self.joined {
            self.glued.push(Glued { span: self.at..self.at + 2, word: self.word });
        }
    }

    fn line_comment(&mut self) -> Option<Token> {
        let rest = &self.text[self.at..];
        let end = self.at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        self.comments.push(self.at..end);
        self.at = end;
        self.joined = false;
        None
    }

    fn block_comment(&mut self) -> Option<Token> {
        let body = self.at + 2;
        match self.text[body..].windows(2).position(|two| two == b"*/") {
            Some(length) => {
                self.comments.push(self.at..body + length + 2);
                self.at = body + length + 2;
                self.joined = false;
            }
            None => {
                self.troubles.push((Trouble::Comment, self.at..body));
                self.at = self.text.len();
            }
        }
        None
    }

    /// A quote that nothing closes: what is left of its line is skipped.
    fn open_string(&mut self) -> Option<Token> {
        let mut end = self.at + 1;
        while let Some(&byte) = self.text.get(end) {
            match byte {
                b'\n' => break,
                b'\\' if matches!(self.text.get(end + 1), None | Some(b'\n')) => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        self.troubles.push((Trouble::String, self.at..end));
        self.at = end;
        None
    }

    /// `$name`, `${any text}`, or a `$` that is only itself.
    fn variable(&mut self, quoted: bool) -> Option<Token> {
        let start = self.at;
        let rest = &self.text[start + 1..];
        if rest.first() == Some(&b'{') {
            let (closed, open) = braces(self.text, start + 2, quoted);
            // The longer rule wins, and of two as long as each other the one that is whole.
            return match closed.filter(|end| *end + 1 >= open) {
                Some(end) => {
                    let name = unescape(self.text, start + 2..end);
                    self.piece(Kind::Var(name), end + 1)
                }
                None => {
                    self.troubles.push((Trouble::Var, start..open));
                    self.at = open;
                    None
                }
            };
        }
        let first = rest.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
        if !first {
            return self.piece(Kind::Text(vec![b'$']), start + 1);
        }
        let length = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(rest.len());
        self.piece(Kind::Var(rest[..length].to_vec()), start + 1 + length)
    }

    /// A backslash and what belongs to it.
    fn escape(&mut self) -> Option<Token> {
        let digits = |from: usize, most: usize, is: fn(&u8) -> bool| {
            self.text[from.min(self.text.len())..].iter().take(most).take_while(|b| is(b)).count()
        };
        let length = match self.peek(1) {
            None => 1,
            Some(b'0'..=b'7') => 1 + digits(self.at + 1, 3, |b| (b'0'..=b'7').contains(b)),
            Some(b'x') => 2 + digits(self.at + 2, 2, u8::is_ascii_hexdigit),
            Some(_) => 2,
        };
        let text = unescape(self.text, self.at..self.at + length);
        self.piece(Kind::Text(text), self.at + length)
    }
}

/// The bytes of a bare word. `$ * + /` and `\` may stand in one too, each a piece of its own.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_!%&()-.:<>?@[]^`|~".contains(&byte)
}

/// The place of the quote that closes a string whose text begins at `from`.
fn close(text: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            _ if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// The first `$` without a backslash in a range.
fn variable_in(text: &[u8], from: usize, to: usize) -> Option<usize> {
    let mut at = from;
    while at < to {
        match text[at] {
            b'\\' => at += 2,
            b'$' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// Where a `${` whose name begins at `from` is closed, and how far it would reach if it were not. A backslash may escape what
/// follows it or stand for itself: both are followed, and the longest match counts.
fn braces(text: &[u8], from: usize, quoted: bool) -> (Option<usize>, usize) {
    let barred = |byte: u8| matches!(byte, b'\n' | b'{' | b'}') || quoted && byte == b'"';
    let (mut plain, mut escaped) = (true, false);
    let (mut closed, mut open) = (None, from);
    // The open rule takes no escaped newline; once one was passed it has ended.
    let mut open_plain = true;
    for (at, &byte) in text.iter().enumerate().skip(from) {
        if plain && byte == b'}' {
            closed = Some(at);
        }
        let next = plain && !barred(byte) || escaped;
        open_plain = open_plain && next && (byte != b'\n');
        if open_plain {
            open = at + 1;
        }
        escaped = plain && byte == b'\\';
        plain = next;
        if !plain && !escaped {
            break;
        }
    }
    (closed, open)
}

/// A range with its escapes undone: C's, and a backslash before a newline joins the lines. It ends at a NUL, as strings of C do.
fn unescape(text: &[u8], range: Range<usize>) -> Vec<u8> {
    let (mut at, end) = (range.start, range.end);
    // A backslash that ends the range takes what follows the range.
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    let mut plain = Vec::with_capacity(end - at);
    while at < end {
        if byte(at) != b'\\' {
            plain.push(byte(at));
            at += 1;
            continue;
        }
        at += 1;
        let value = match byte(at) {
            digit @ b'0'..=b'7' => {
                let mut value = digit - b'0';
                for _ in 0..2 {
                    if at + 1 < end && (b'0'..=b'7').contains(&byte(at + 1)) {
                        at += 1;
                        value = value.wrapping_mul(8).wrapping_add(byte(at) - b'0');
                    }
                }
                value
            }
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'\n' => {
                at += 1;
                continue;
            }
            b'x' => {
                let mut value: u8 = 0;
                for _ in 0..2 {
                    let digit = if at + 1 < end { char::from(byte(at + 1)).to_digit(16) } else { None };
                    let Some(digit) = digit else { break };
                    at += 1;
                    value = value.wrapping_mul(16).wrapping_add(digit as u8);
                }
                value
            }
            other => other,
        };
        plain.push(value);
        at += 1;
    }
    if let Some(nul) = plain.iter().position(|b| *b == 0) {
        plain.truncate(nul);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> String {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut shown = Vec::new();
        loop {
            let token = lexer.next();
            let glue = if token.joined { "+" } else { "" };
            shown.push(match token.kind {
                Kind::Text(text) => format!("{glue}{:?}", String::from_utf8_lossy(&text)),
                Kind::Var(name) => format!("{glue}${{{}}}", String::from_utf8_lossy(&name)),
                Kind::Append => "+=".into(),
                Kind::Sign(byte) => char::from(byte).to_string(),
                Kind::Stray(byte) => format!("?{byte:02x}"),
                Kind::End => break,
            });
        }
        for (trouble, span) in lexer.troubles {
            shown.push(format!("Open{trouble:?}@{}..{}", span.start, span.end));
        }
        shown.join(" ")
    }

    #[test]
    fn bare_words_end_where_the_scanner_of_jail_8_ends_them() {
        assert_eq!(tokens("a=b;"), r#""a" = "b" ;"#);
        assert_eq!(tokens("ip4.addr += lo1|10.0.0.1/24;"), r#""ip4.addr" += "lo1|10.0.0.1" +"/" +"24" ;"#);
        assert_eq!(tokens("a/b c"), r#""a" +"/" +"b" "c""#);
        assert_eq!(tokens("%%NAME%% [x]"), r#""%%NAME%%" "[x]""#);
        assert_eq!(tokens("{{@}}"), r#"{ { "@" } }"#);
        assert_eq!(tokens("\u{e9}"), "?c3");
    }

    #[test]
    fn comments_are_of_three_kinds_and_end_a_word() {
        assert_eq!(tokens("a# b\nc // d\ne /* f\n*/ g"), r#""a" "c" "e" "g""#);
        assert_eq!(tokens("/jails//x;\n;"), r#""/" +"jails" ;"#);
        assert_eq!(tokens("a/*b*/c"), r#""a" "c""#);
        assert_eq!(tokens("/*/ a */b"), r#""b""#);
        assert_eq!(tokens("a /* b"), r#""a" OpenComment@2..4"#);
    }

    #[test]
    fn escapes_are_those_of_c() {
        assert_eq!(tokens(r#""\n\101\x41\q\"""#), r#""\nAAq\"""#);
        assert_eq!(tokens("'a\\\nb'"), r#""ab""#);
        assert_eq!(tokens(r"a\ b"), r#""a" +" " +"b""#);
        assert_eq!(tokens(r"\x4g \xg"), "\"\\u{4}\" +\"g\" \"\" +\"g\"");
        assert_eq!(tokens(r"'\0a'"), r#""""#);
        assert_eq!(tokens(r"'\777'"), "\"\u{fffd}\"");
        assert_eq!(tokens("a\\"), r#""a" +"""#);
    }

    #[test]
    fn variables_stand_in_double_quotes_and_bare_words_only() {
        assert_eq!(tokens(r#"'$a' "$a" $a"#), r#""$a" "" +${a} ${a}"#);
        assert_eq!(tokens(r#""a$b c${d e}f""#), r#""a" +${b} +" c" +${d e} +"f""#);
        assert_eq!(tokens(r#""a"b$c"#), r#""a" +"b" +${c}"#);
        assert_eq!(tokens(r#""$1 $" $"#), r#""" +"$" +"1 " +"$" "$""#);
        assert_eq!(tokens(r#""\$a$b\"c""#), r#""$a" +${b} +"\"" +"c""#);
        assert_eq!(tokens(r#""$a\n b""#), "\"\" +${a} +\"\\n\" +\" b\"");
    }

    #[test]
    fn braces_close_as_late_as_an_escape_lets_them() {
        assert_eq!(tokens(r"${a\}b}"), "${a}b}");
        assert_eq!(tokens(r"${a\}"), "${a}}");
        assert_eq!(tokens(r"${a\}b"), "OpenVar@0..6");
        assert_eq!(tokens("${a\n"), "OpenVar@0..3");
        assert_eq!(tokens(r#""${a" b"#), r#""" "b" OpenVar@1..4"#);
        assert_eq!(tokens(r#"${a"b}"#), r#"${a"b}"#);
    }

    #[test]
    fn an_open_string_costs_its_line_only() {
        assert_eq!(tokens("a = \"b;\nc;"), r#""a" = "c" ; OpenString@4..7"#);
        assert_eq!(tokens("it's;\nc;"), r#""it" "c" ; OpenString@2..5"#);
    }

    #[test]
    fn a_comment_that_begins_in_a_word_is_noticed() {
        let glued = |text: &str| {
            let mut lexer = Lexer::new(text.as_bytes());
            while lexer.next().kind != Kind::End {}
            lexer.glued.iter().map(|g| (g.word, g.span.start)).collect::<Vec<_>>()
        };
        assert_eq!(glued("a = /etc/jail.conf.d/*.conf;"), [(4, 20)]);
        assert_eq!(glued("path = /jails//x;"), [(7, 13)]);
        assert_eq!(glued("a; // b\n/* c */"), []);
    }
}
