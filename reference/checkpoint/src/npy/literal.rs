//! A parser for the subset of Python's literals that numpy's headers use.

/// Largest depth of nested containers. A header has two levels; one that describes records has more.
const MAX_DEPTH: usize = 16;

/// A Python literal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Int(i128),
    Bool(bool),
    None,
    Tuple(Vec<Literal>),
    List(Vec<Literal>),
    /// The entries in order. All keys must be strings, as they are in a header.
    Dict(Vec<(String, Literal)>),
}

/// Parses a text that is one literal; `None` if it is anything else.
pub(super) fn parse(text: &str) -> Option<Literal> {
    let mut parser = Parser { rest: text };
    let value = parser.value(0)?;
    // numpy pads its headers with spaces; some writers pad them with zeros.
    parser
        .rest
        .trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0')
        .is_empty()
        .then_some(value)
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        self.rest.chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[wanted.len_utf8()..];
        }
        found
    }

    fn value(&mut self, depth: usize) -> Option<Literal> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            '{' => self.dict(depth),
            '(' => self.tuple(depth),
            '[' => {
                self.eat('[');
                self.items(']', depth).map(|(items, _)| Literal::List(items))
            }
            '\'' | '"' => self.text().map(Literal::Text),
            _ => self.word(),
        }
    }

    fn dict(&mut self, depth: usize) -> Option<Literal> {
        self.eat('{');
        let mut entries = Vec::new();
        while !self.eat('}') {
            let Literal::Text(key) = self.value(depth + 1)? else { return None };
            if !self.eat(':') {
                return None;
            }
            entries.push((key, self.value(depth + 1)?));
            if !self.eat(',') && self.peek() != Some('}') {
                return None;
            }
        }
        Some(Literal::Dict(entries))
    }

    /// Parses a tuple, or a single value in parentheses.
    fn tuple(&mut self, depth: usize) -> Option<Literal> {
        self.eat('(');
        let (mut items, comma) = self.items(')', depth)?;
        match items.len() == 1 && !comma {
            true => items.pop(),
            false => Some(Literal::Tuple(items)),
        }
    }

    /// Parses values up to a closing bracket; also returns whether a comma precedes the bracket.
    fn items(&mut self, end: char, depth: usize) -> Option<(Vec<Literal>, bool)> {
        let (mut items, mut comma) = (Vec::new(), false);
        while !self.eat(end) {
            items.push(self.value(depth + 1)?);
            comma = self.eat(',');
            if !comma && self.peek() != Some(end) {
                return None;
            }
        }
        Some((items, comma))
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.peek()?;
        let mut out = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Some(out);
                }
                '\n' => return None,
                '\\' => out.push(match chars.next()?.1 {
                    'x' => {
                        let (high, low) = (chars.next()?.1, chars.next()?.1);
                        char::from_u32(high.to_digit(16)? * 16 + low.to_digit(16)?)?
                    }
                    'n' => '\n',
                    't' => '\t',
                    c @ ('\\' | '\'' | '"') => c,
                    _ => return None,
                }),
                c => out.push(c),
            }
        }
        None
    }

    /// Parses a number, a constant, or a string with a prefix letter.
    fn word(&mut self) -> Option<Literal> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-');
        let end = self.rest.find(|c: char| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "True" => Some(Literal::Bool(true)),
            "False" => Some(Literal::Bool(false)),
            "None" => Some(Literal::None),
            "u" | "b" | "U" | "B" if rest.starts_with(['\'', '"']) => {
                self.text().map(Literal::Text)
            }
            number => integer(number).map(Literal::Int),
        }
    }
}

/// Parses an integer such as `3`, `3L` (as Python 2 writes it), `+3`, `0x3` or `1_000`.
fn integer(word: &str) -> Option<i128> {
    let word = word.strip_suffix(['L', 'l']).unwrap_or(word);
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let plain = digits.replace('_', "");
    let number = match plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with(['+', '-']) => i128::from_str_radix(hex, 16).ok()?,
        _ if plain.starts_with(|c: char| c.is_ascii_digit()) => plain.parse().ok()?,
        _ => return None,
    };
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_texts_give_none() {
        let texts = [
            "",
            "{",
            "{'a'",
            "{'a': }",
            "{'a': 1 'b': 2}",
            "(1 2)",
            "'open",
            "1)",
            "{'a': 1} x",
            "{1: 2}",
            "True()",
            "__import__('os')",
            "0x",
            "0x-1",
            "+-1",
            "'\\q'",
            "--1",
            "-0x-1",
        ];
        for text in texts {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"(".repeat(100_000)), None);
        assert_eq!(parse("(1)"), Some(Literal::Int(1)));
        assert_eq!(parse("(1,)"), Some(Literal::Tuple(vec![Literal::Int(1)])));
        assert_eq!(parse("[None]"), Some(Literal::List(vec![Literal::None])));
        assert_eq!(parse("()"), Some(Literal::Tuple(vec![])));
    }
}
