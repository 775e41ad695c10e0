//! Numbers, names and command lines formatted for the pages.

/// Three significant digits, with an exponent for magnitudes of 1e5 or more and below 1e-2.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "inf".to_owned(),
        f64::NEG_INFINITY => "-inf".to_owned(),
        0.0 => "0".to_owned(),
        v if (1e-2..1e5).contains(&v.abs()) => plain(v),
        v => format!("{v:.2e}"),
    }
}

/// Three significant digits without an exponent.
fn plain(value: f64) -> String {
    let before_point = value.abs().log10().floor() as i32;
    let decimals = (2 - before_point).max(0) as usize;
    format!("{value:.decimals$}")
}

/// A cosine. Near 1 the difference from 1 is shown, since the first digits would all be 9.
pub(crate) fn cosine(value: f64) -> String {
    let difference = 1.0 - value;
    if difference.is_finite() && difference.abs() < 1e-3 && difference != 0.0 {
        let sign = if difference < 0.0 { '+' } else { '−' };
        return format!("1 {sign} {:.1e}", difference.abs());
    }
    short(value)
}

/// A count with a metric suffix: `28.9 M`.
pub(crate) fn metric(value: u64) -> String {
    const SUFFIXES: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let value = value as f64;
    match SUFFIXES.iter().find(|(factor, _)| value >= *factor) {
        Some((factor, suffix)) => format!("{} {suffix}", plain(value / factor)),
        None => format!("{value}"),
    }
}

/// A number with its noun in singular or plural: `1 layer`, `2 layers`.
pub fn count(number: usize, word: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {word}{ending}")
}

/// A whole number raised above the line: `⁻⁷`.
pub(crate) fn superscript(number: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raise = |c: char| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]);
    number.to_string().chars().map(raise).collect()
}

/// A JSON name as words: `not_compared` becomes `not compared`.
pub(crate) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// The dimensions of a shape: `64 × 112 × 112`.
pub(crate) fn shape(dimensions: &[u64]) -> String {
    dimensions.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ")
}

/// A module path as markup that may wrap after a dot, except before an index. The path is escaped.
pub(crate) fn wrapping(path: &str) -> String {
    let mut pieces = path.split('.');
    let mut markup = pieces.next().map(escape).unwrap_or_default();
    for piece in pieces {
        let index = piece.starts_with(|c: char| c.is_ascii_digit());
        markup.push_str(if index { "." } else { ".<wbr>" });
        markup.push_str(&escape(piece));
    }
    markup
}

/// Escapes text for HTML and SVG, also inside quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A command line that can be pasted into a shell: words are quoted where necessary.
pub(crate) fn shell(words: &[String]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A text with its first letter in upper case.
pub fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (99_999.0, "99999"),
            (0.05, "0.0500"),
            (1.25e-7, "1.25e-7"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn a_cosine_near_one_shows_its_difference_from_one() {
        assert_eq!(cosine(1.0), "1.00");
        assert_eq!(cosine(1.0 - 2f64.powi(-40)), "1 − 9.1e-13");
        assert_eq!(cosine(0.5), "0.500");
        assert_eq!(cosine(f64::NAN), "NaN");
    }

    #[test]
    fn paths_wrap_before_names_and_not_before_indexes() {
        assert_eq!(wrapping("layer1.0.conv2.glo_conv.3"), "layer1.0.<wbr>conv2.<wbr>glo_conv.3");
        assert_eq!(wrapping("<b>.x"), "&lt;b&gt;.<wbr>x");
        assert_eq!(wrapping(""), "");
    }

    #[test]
    fn counts_get_a_suffix() {
        assert_eq!(metric(0), "0");
        assert_eq!(metric(999), "999");
        assert_eq!(metric(28_890_000), "28.9 M");
        assert_eq!(metric(5_483_000_000), "5.48 G");
    }

    #[test]
    fn shell_words_are_quoted_where_needed() {
        let words = ["harness", "diff", "--input", "my clip.npy", "it's", ""].map(str::to_owned);
        assert_eq!(shell(&words), r"harness diff --input 'my clip.npy' 'it'\''s' ''");
    }
}
