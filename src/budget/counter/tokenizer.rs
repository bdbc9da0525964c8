use std::{
    collections::HashSet,
    sync::{Mutex, OnceLock},
};

use tiktoken_rs::tokenizer::{Tokenizer as Encoding, get_tokenizer};

use super::TokenCounter;
use crate::{
    ConfigError,
    util::{lock, text::boundary},
};

/// The factor for models whose tokenizers are not public.
const FACTOR: f64 = 1.2;

/// The length in bytes of the longest token of any encoding.
const LONGEST_TOKEN: usize = 128;

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
            Some(fast) => fast.count(text),
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
        let count = match self.fast() {
            Some(fast) => fast.count_till_limit(&fast.normalize(text), limit),
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
        for piece in fast.split(text) {
            // A piece may be as long as the text. No more of it is looked at than may fit.
            let max = left.saturating_add(1).saturating_mul(LONGEST_TOKEN);
            let start = &piece[..boundary(piece, max)];
            let tokens = fast.bpe.encode_via_backtracking(start.as_bytes());
            if start.len() == piece.len() && tokens.len() <= left {
                end += piece.len();
                left -= tokens.len();
                continue;
            }
            let length = |token: &u32| fast.bpe.token_len(*token);
            let kept: usize = tokens.iter().take(left).map(length).sum();
            end += boundary(piece, kept);
            break;
        }
        // Tokens may join differently at another end.
        let mut max = left;
        while self.count_up_to(&text[..end], limit).is_none() {
            max += 1;
            end = boundary(text, end.saturating_sub(max));
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
