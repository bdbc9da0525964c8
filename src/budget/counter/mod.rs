//! The numbers of tokens that texts have for a model.

mod pieces;
mod tokenizer;

pub use tokenizer::Tokenizer;

/// The bytes that [`TokenCounter::estimate`] takes for one token.
const BYTES_A_TOKEN: usize = 3;

/// Counts the tokens of a text.
///
/// [`Tokenizer`] implements it for the models whose tokenizers are public, and approximates others.
/// A counter of a program's own needs [`count`](Self::count) only:
///
/// ```
/// use rmcp_layers::budget::TokenCounter;
///
/// struct Words;
///
/// impl TokenCounter for Words {
///     fn count(&self, text: &str) -> usize {
///         text.split_whitespace().count()
///     }
/// }
///
/// assert_eq!(Words.count("two words"), 2);
/// assert_eq!(Words.count_up_to("two words", 1), None);
/// assert_eq!(&"two words"[..Words.prefix("two words", 1)], "two ");
/// ```
///
/// A long text is counted on a thread for blocking work.
pub trait TokenCounter: Send + Sync + 'static {
    /// Returns the number of tokens of a text. Special tokens in it, such as `<|endoftext|>`, count
    /// as the text that they are.
    fn count(&self, text: &str) -> usize;

    /// Returns the number of tokens if it is at most `limit`, else `None`. A counter that can stop
    /// at the limit overrides it.
    fn count_up_to(&self, text: &str, limit: usize) -> Option<usize> {
        Some(self.count(text)).filter(|count| *count <= limit)
    }

    /// Returns the length in bytes of a start of the text that has at most `limit` tokens. It is
    /// close to the longest such start, and ends between characters.
    fn prefix(&self, text: &str, limit: usize) -> usize {
        longest_prefix(text, |start| self.count_up_to(start, limit).is_some())
    }

    /// Returns a number of tokens that no text of this many bytes exceeds. A text whose bound is
    /// within its share of the budget fits without being counted.
    ///
    /// Default: the number of bytes. A counter with more tokens than bytes overrides it.
    fn upper_bound(&self, bytes: usize) -> usize {
        bytes
    }

    /// Returns the number of tokens that a text of this many bytes has by a rule of thumb.
    ///
    /// Default: a token for each 3 bytes, which is more than most English text and JSON has.
    fn estimate(&self, bytes: usize) -> usize {
        bytes.div_ceil(BYTES_A_TOKEN)
    }
}

/// Returns the length of the longest start of a text that fits, by bisection.
fn longest_prefix(text: &str, fits: impl Fn(&str) -> bool) -> usize {
    use crate::util::text::boundary;

    // The length doubles first, so that a short start of a long text costs little.
    let (mut fitting, mut end) = (0, 64);
    loop {
        let at = boundary(text, end);
        if at > fitting && !fits(&text[..at]) {
            end = at;
            break;
        }
        fitting = at;
        if at == text.len() {
            return at;
        }
        end *= 2;
    }
    while end - fitting > 1 {
        let at = boundary(text, fitting + (end - fitting) / 2);
        match at > fitting {
            true if fits(&text[..at]) => fitting = at,
            true => end = at,
            // The character at the middle ends beyond it.
            false => {
                let next = text[fitting..].chars().next().map_or(1, char::len_utf8);
                if fitting + next >= end || !fits(&text[..fitting + next]) {
                    break;
                }
                fitting += next;
            }
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Characters;

    impl TokenCounter for Characters {
        fn count(&self, text: &str) -> usize {
            text.chars().count()
        }
    }

    #[test]
    fn a_prefix_is_the_longest_that_fits_and_ends_between_characters() {
        let text: String = "aé日😀".chars().cycle().take(301).collect();
        for limit in 0..=302 {
            let prefix = &text[..Characters.prefix(&text, limit)];
            assert_eq!(prefix.chars().count(), limit.min(301));
        }
        assert_eq!(Characters.prefix("", 5), 0);
    }
}
