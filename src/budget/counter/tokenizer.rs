use std::{
    collections::HashSet,
    sync::{Mutex, OnceLock},
};

use tiktoken_rs::tokenizer::{Tokenizer as Encoding, get_tokenizer};

use super::{TokenCounter, pieces};
use crate::{
    ConfigError,
    util::{lock, text::boundary},
};

/// The factor for models whose tokenizers are not public.
const FACTOR: f64 = 1.2;

/// The length in bytes of the longest token of any encoding.
const LONGEST_TOKEN: usize = 128;

/// The bytes that are kept of a piece of text without a word's end. To encode one takes up to half a
/// microsecond a byte.
const LONGEST_RUN: usize = 16 * 1024;

/// The number of models that the log names as approximated.
const MAX_NAMED: usize = 100;

/// Counts the tokens of a model.
///
/// Models of OpenAI have public tokenizers. Their counts are those of Python's `tiktoken`. A model
/// without one (`claude-*`, `gemini-*`, `llama-*`, …) is approximated: the number of tokens in
/// `o200k_base`, times a [factor](Self::factor). The log names such a model once, as a warning. No
/// name is an error.
///
/// ```
/// use rmcp_layers::budget::{TokenCounter, Tokenizer};
///
/// let gpt = Tokenizer::for_model("gpt-5");
/// assert_eq!(gpt.count("Hello, world!"), 4);
/// assert_eq!(Tokenizer::for_model("OpenAI/GPT-5").count("Hello, world!"), 4);
///
/// let claude = Tokenizer::for_model("claude-opus-4-6");
/// assert_eq!(claude.count("Hello, world!"), 5); // 4 * 1.2, rounded up
/// ```
///
/// An encoding takes about 50 MB of memory once it is used, for all tokenizers together. The tables
/// are built at the first count, in about 0.1 s. [`prepare`](Self::prepare) does so earlier.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenizer {
    encoding: Encoding,
    factor: Option<f64>,
}

impl Tokenizer {
    /// Creates the tokenizer of a model. Case does not matter, and a provider may be in front:
    /// `gpt-4o`, `GPT-4o`, `openai/gpt-4o`, `ft:gpt-4o:org:name:id`.
    pub fn for_model(model: &str) -> Self {
        match encoding_of(model) {
            Some(encoding) => Self {
                encoding,
                factor: None,
            },
            None => {
                warn_once(model);
                Self {
                    encoding: Encoding::O200kBase,
                    factor: Some(FACTOR),
                }
            }
        }
    }

    /// Sets the factor for a model without a public tokenizer. It has no effect on other models.
    /// Default: 1.2.
    ///
    /// # Errors
    ///
    /// The factor is not between 0.1 and 10.
    pub fn factor(mut self, factor: f64) -> Result<Self, ConfigError> {
        if !(0.1..=10.0).contains(&factor) {
            let reason = format!("{factor} is not between 0.1 and 10");
            return Err(ConfigError::new("budget", "factor", reason));
        }
        if let Some(own) = &mut self.factor {
            *own = factor;
        }
        Ok(self)
    }

    /// Returns `true` if the model has no public tokenizer.
    pub fn is_approximate(&self) -> bool {
        self.factor.is_some()
    }

    /// Builds the tables of the encoding. It takes about 0.1 s, once in a process.
    pub fn prepare(&self) {
        self.plain_count("");
    }

    /// Returns the implementation that can stop at a limit, if there is one for the encoding.
    fn fast(&self) -> Option<&'static bpe_openai::Tokenizer> {
        match self.encoding {
            // The harmony encoding has other special tokens, and the same ordinary ones.
            Encoding::O200kBase | Encoding::O200kHarmony => Some(bpe_openai::o200k_base()),
            Encoding::Cl100kBase => Some(bpe_openai::cl100k_base()),
            Encoding::P50kBase | Encoding::R50kBase | Encoding::P50kEdit | Encoding::Gpt2 => None,
        }
    }

    fn plain_count(&self, text: &str) -> usize {
        match self.fast() {
            Some(fast) => {
                let pieces = fast.split(text);
                pieces
                    .map(|piece| pieces::count(&fast.bpe, piece.as_bytes()))
                    .sum()
            }
            None => match tiktoken_rs::bpe_for_tokenizer(self.encoding) {
                Ok(bpe) => bpe.count_ordinary(text),
                // No table is missing: they are compiled in.
                Err(_) => bpe_openai::o200k_base().count(text),
            },
        }
    }

    /// Returns the count of the model for a count of the encoding.
    fn scaled(&self, count: usize) -> usize {
        match self.factor {
            Some(factor) => (count as f64 * factor).ceil() as usize,
            None => count,
        }
    }

    /// Returns the greatest count of the encoding whose count of the model is within a limit.
    fn unscaled(&self, limit: usize) -> usize {
        let Some(factor) = self.factor else {
            return limit;
        };
        let count = (limit as f64 / factor) as usize;
        match self.scaled(count) <= limit {
            true => count,
            false => count.saturating_sub(1),
        }
    }
}

impl TokenCounter for Tokenizer {
    fn count(&self, text: &str) -> usize {
        self.scaled(self.plain_count(text))
    }

    fn count_up_to(&self, text: &str, limit: usize) -> Option<usize> {
        if self.upper_bound(text.len()) <= limit {
            return Some(self.count(text));
        }
        let limit = self.unscaled(limit);
        if text.len() > limit.saturating_mul(LONGEST_TOKEN) {
            return None;
        }
        let count = match self.fast() {
            Some(fast) => fast.split(text).try_fold(0, |count, piece| {
                let left = limit - count;
                // A long piece has to be counted as a whole, unless its length alone exceeds the limit.
                let may_fit = piece.len() <= left.saturating_mul(LONGEST_TOKEN);
                let more = || pieces::count_up_to(&fast.bpe, piece.as_bytes(), left);
                may_fit.then(more).flatten().map(|more| count + more)
            }),
            None => Some(self.plain_count(text)).filter(|count| *count <= limit),
        };
        count.map(|count| self.scaled(count))
    }

    fn prefix(&self, text: &str, limit: usize) -> usize {
        let Some(fast) = self.fast() else {
            let fits = |start: &str| self.count_up_to(start, limit).is_some();
            return super::longest_prefix(text, fits);
        };
        let mut left = self.unscaled(limit);
        let mut end = 0;
        // A piece may be as long as the text. No more of it is looked at than may fit.
        let max = left.saturating_add(1).saturating_mul(LONGEST_TOKEN);
        for piece in fast.split(&text[..boundary(text, max)]) {
            if piece.len() > LONGEST_RUN
                && let Some(count) = pieces::count_of_runs(&fast.bpe, piece.as_bytes())
                && count <= left
            {
                end += piece.len();
                left -= count;
                continue;
            }
            let start = &piece[..boundary(piece, LONGEST_RUN)];
            let tokens = fast.bpe.encode_via_backtracking(start.as_bytes());
            if tokens.len() <= left {
                end += start.len();
                left -= tokens.len();
                if start.len() == piece.len() {
                    continue;
                }
                return end;
            }
            let lengths = tokens.iter().map(|token| fast.bpe.token_len(*token));
            let kept = boundary(start, lengths.take(left).sum());
            let is_within = |kept: &usize| fast.bpe.count(&start.as_bytes()[..*kept]) <= left;
            // Tokens may join differently at another end.
            let mut shorter = std::iter::successors(Some(kept), |kept| {
                kept.checked_sub(1).map(|at| boundary(start, at))
            });
            return end + shorter.find(is_within).unwrap_or_default();
        }
        end
    }

    fn upper_bound(&self, bytes: usize) -> usize {
        self.scaled(bytes)
    }

    fn estimate(&self, bytes: usize) -> usize {
        self.scaled(bytes.div_ceil(super::BYTES_A_TOKEN))
    }
}

/// Returns the encoding of a model: by its name, or without what is in front of the last `/`.
fn encoding_of(model: &str) -> Option<Encoding> {
    let model = model.trim().to_ascii_lowercase();
    let name = model.rsplit('/').next().unwrap_or(&model);
    get_tokenizer(name)
}

/// Says once in the log that the counts of a model are approximate.
fn warn_once(model: &str) {
    static NAMED: OnceLock<Mutex<HashSet<String>>> = OnceLock::new();
    let mut named = lock(NAMED.get_or_init(Mutex::default));
    if named.len() < MAX_NAMED && named.insert(model.to_owned()) {
        tracing::warn!(
            model,
            "the model has no public tokenizer; its tokens are those of o200k_base times a factor"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_model_is_known_in_any_case_and_behind_a_provider() {
        for (model, encoding) in [
            ("gpt-5", Encoding::O200kBase),
            ("OpenAI/GPT-4o", Encoding::O200kBase),
            (" azure/openai/gpt-4 ", Encoding::Cl100kBase),
            ("ft:gpt-4o:org:name:id", Encoding::O200kBase),
            ("gpt-oss-20b", Encoding::O200kHarmony),
            ("text-davinci-003", Encoding::P50kBase),
        ] {
            let tokenizer = Tokenizer::for_model(model);
            assert_eq!(tokenizer.encoding, encoding, "{model}");
            assert!(!tokenizer.is_approximate(), "{model}");
        }
    }

    #[test]
    fn a_model_without_a_public_tokenizer_has_more_tokens_by_a_factor() {
        let text = "Some words of a text. ".repeat(100);
        let exact = Tokenizer::for_model("gpt-5").count(&text);
        for model in [
            "claude-opus-4-6",
            "google/gemini-2.5-pro",
            "gpt-6",
            "llama-4",
            "",
        ] {
            let tokenizer = Tokenizer::for_model(model);
            assert!(tokenizer.is_approximate(), "{model}");
            let count = tokenizer.count(&text);
            assert_eq!(count, (exact as f64 * 1.2).ceil() as usize, "{model}");
            assert_eq!(tokenizer.count_up_to(&text, count), Some(count));
            assert_eq!(tokenizer.count_up_to(&text, count - 1), None);
            assert!(tokenizer.upper_bound(text.len()) >= text.len());
        }
        let half = Tokenizer::for_model("claude-opus-4-6").factor(0.5).unwrap();
        assert_eq!(half.count(&text), exact.div_ceil(2));
        assert!(
            Tokenizer::for_model("claude-opus-4-6")
                .factor(f64::NAN)
                .is_err()
        );
        let known = Tokenizer::for_model("gpt-5").factor(2.0).unwrap();
        assert_eq!(known.count(&text), exact);
    }

    #[test]
    fn special_tokens_count_as_text() {
        for (model, count) in [("gpt-5", 7), ("gpt-4", 7), ("gpt-oss-20b", 7)] {
            assert_eq!(
                Tokenizer::for_model(model).count("<|endoftext|>"),
                count,
                "{model}"
            );
        }
    }

    #[test]
    fn a_long_run_beyond_the_limit_is_not_counted_as_a_whole() {
        let tokenizer = Tokenizer::for_model("gpt-5");
        // As a whole, it takes seconds.
        let run = "=".repeat(4 << 20);
        assert_eq!(tokenizer.count_up_to(&run, 1_000), None);
        let prefix = tokenizer.prefix(&run, 100);
        assert!((1..=100).contains(&tokenizer.count(&run[..prefix])) && prefix > 6_000);
    }

    fn any_text() -> impl Strategy<Value = String> {
        let part =
            "\\PC{0,30}|[ \n\t]{0,9}|=[=]{0,200}|[a-zA-Z']{0,30}|[0-9]{0,9}|[日本語é😀👩‍🦰]{0,20}";
        proptest::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn limits_and_prefixes_agree_with_the_count(text in any_text(), limit in 0_usize..200) {
            for model in ["gpt-5", "gpt-4", "claude-opus-4-6", "text-davinci-003"] {
                let tokenizer = Tokenizer::for_model(model);
                let count = tokenizer.count(&text);
                let within = Some(count).filter(|count| *count <= limit);
                prop_assert_eq!(tokenizer.count_up_to(&text, limit), within);
                prop_assert!(count <= tokenizer.upper_bound(text.len()));
                let prefix = tokenizer.prefix(&text, limit);
                prop_assert!(tokenizer.count(&text[..prefix]) <= limit);
                prop_assert!(count > limit || prefix == text.len());
            }
        }

        #[test]
        fn both_implementations_count_the_same(text in any_text()) {
            for model in ["gpt-5", "gpt-4"] {
                let tokenizer = Tokenizer::for_model(model);
                let other = tiktoken_rs::bpe_for_tokenizer(tokenizer.encoding).unwrap();
                prop_assert_eq!(tokenizer.count(&text), other.count_ordinary(&text));
            }
        }
    }
}
