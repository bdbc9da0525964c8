use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// The bytes of an image that are looked at for its size. In a JPEG, the size may come after a
/// preview image.
const IMAGE_HEADER: usize = 256 * 1024;

/// The bytes of audio that are looked at for its rate.
const AUDIO_HEADER: usize = 48;

/// The bytes a second of audio whose rate is not known: 128 kbit/s.
const AUDIO_RATE: usize = 16_000;

/// Base64 as a server may write it, also cut short.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The tokens of images, audio and blobs.
///
/// The families of models have different rules, which their vendors document. They are
/// approximations, because models of a family differ, and hosts scale images down:
///
/// | | images | if the size is not known | audio |
/// |---|---|---|---|
/// | OpenAI (`gpt-*`, `o1`, …) | scaled to 2048 by 2048, then to 768 on the shorter side: 85, and 170 for each tile of 512 by 512 | 1,445 | 10 a second |
/// | Anthropic (`claude-*`) | scaled to 1568 on the longer side: a token for 750 pixels, at most 1,600 | 1,600 | 32 a second |
/// | Google (`gemini-*`, `gemma-*`) | 258 up to 384 by 384, else 258 for each tile of 768 by 768 | 1,032 | 32 a second |
/// | other models | as Anthropic | 1,600 | 32 a second |
///
/// The size of an image is read from its header (PNG, JPEG, GIF, WebP). The length of audio comes
/// from the header of WAV, else from its bytes at 128 kbit/s. A blob of a resource is charged as
/// the base64 that it is: 70 tokens for 100 characters, as hosts that show blobs at all paste them as
/// text.
///
/// ```
/// use rmcp_layers::budget::MediaTokens;
///
/// // A host that leaves audio out, and scales each image to 512 by 512.
/// let media = MediaTokens::for_model("gpt-5").image_tokens(255).audio_tokens_per_second(0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaTokens {
    family: Family,
    image: Option<usize>,
    audio_per_second: usize,
    blob_per_100: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    OpenAi,
    Anthropic,
    Google,
}

impl MediaTokens {
    /// Creates the rule of a model's family. Case does not matter, and a provider may be in front of
    /// the name.
    pub fn for_model(model: &str) -> Self {
        let family = Family::of(model);
        Self {
            family,
            image: None,
            audio_per_second: match family {
                Family::OpenAi => 10,
                Family::Anthropic | Family::Google => 32,
            },
            blob_per_100: 70,
        }
    }

    /// Sets the tokens of an image, whatever its size. Default: by the rule of the family.
    #[must_use]
    pub fn image_tokens(mut self, tokens: usize) -> Self {
        self.image = Some(tokens);
        self
    }

    /// Sets the tokens of a second of audio. Default: by the rule of the family.
    #[must_use]
    pub fn audio_tokens_per_second(mut self, tokens: usize) -> Self {
        self.audio_per_second = tokens;
        self
    }

    /// Sets the tokens of 100 characters of a blob's base64. Default: 70.
    #[must_use]
    pub fn blob_tokens_per_100(mut self, tokens: usize) -> Self {
        self.blob_per_100 = tokens;
        self
    }

    /// Returns the tokens of an image in base64.
    pub(super) fn of_image(&self, data: &str) -> usize {
        if let Some(tokens) = self.image {
            return tokens;
        }
        let header = decoded(data, IMAGE_HEADER);
        match imagesize::blob_size(&header) {
            Ok(size) => self.family.image_tokens(size.width, size.height),
            Err(_) => match self.family {
                Family::OpenAi => 1_445,
                Family::Anthropic => 1_600,
                Family::Google => 1_032,
            },
        }
    }

    /// Returns the tokens of audio in base64.
    pub(super) fn of_audio(&self, data: &str) -> usize {
        let bytes = data.len() / 4 * 3;
        let rate = wav_rate(&decoded(data, AUDIO_HEADER)).unwrap_or(AUDIO_RATE);
        bytes.saturating_mul(self.audio_per_second).div_ceil(rate)
    }

    /// Returns the tokens of a blob in base64.
    pub(super) fn of_blob(&self, blob: &str) -> usize {
        blob.len().saturating_mul(self.blob_per_100).div_ceil(100)
    }
}

impl Family {
    fn of(model: &str) -> Self {
        let model = model.trim().to_ascii_lowercase();
        let name = model.rsplit('/').next().unwrap_or(&model);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        let starts_with = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        match () {
            () if starts_with(&["gpt", "chatgpt", "codex", "o1", "o3", "o4"]) => Self::OpenAi,
            () if starts_with(&["gemini", "gemma"]) => Self::Google,
            () => Self::Anthropic,
        }
    }

    fn image_tokens(self, width: usize, height: usize) -> usize {
        // No model looks at more, and a header may state any size.
        let (width, height) = (width.clamp(1, 100_000), height.clamp(1, 100_000));
        match self {
            Self::OpenAi => {
                let (width, height) = scaled(width, height, 2048, usize::max);
                let (width, height) = scaled(width, height, 768, usize::min);
                85 + 170 * width.div_ceil(512) * height.div_ceil(512)
            }
            Self::Anthropic => {
                let (width, height) = scaled(width, height, 1568, usize::max);
                (width * height).div_ceil(750).min(1_600)
            }
            Self::Google if width.max(height) <= 384 => 258,
            Self::Google => 258 * width.div_ceil(768) * height.div_ceil(768),
        }
    }
}

/// Returns a size that is scaled down, so that its longer or shorter side is at most `max`.
fn scaled(
    width: usize,
    height: usize,
    max: usize,
    side: impl Fn(usize, usize) -> usize,
) -> (usize, usize) {
    let side = side(width, height);
    if side <= max {
        return (width, height);
    }
    let scale = |length: usize| (length * max).div_ceil(side);
    (scale(width), scale(height))
}

/// Returns about the first `max` bytes of base64, or none if it is something else.
fn decoded(data: &str, max: usize) -> Vec<u8> {
    let start = data.len().min(max / 3 * 4);
    let start = data.as_bytes().get(..start).unwrap_or_default();
    BASE64.decode(start).unwrap_or_default()
}

/// Returns the bytes a second of a WAV file.
fn wav_rate(header: &[u8]) -> Option<usize> {
    if !header.starts_with(b"RIFF") || header.get(12..16)? != b"fmt " {
        return None;
    }
    let rate = u32::from_le_bytes(header.get(28..32)?.try_into().ok()?);
    usize::try_from(rate).ok().filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    /// The start of a PNG, with its size.
    fn png(width: u32, height: u32) -> String {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 6, 0, 0, 0]);
        bytes.extend([0; 100]);
        BASE64_STANDARD.encode(bytes)
    }

    #[test]
    fn an_image_costs_by_its_size_and_the_family_of_the_model() {
        for (model, tokens) in [
            ("gpt-4o", 765),
            ("OpenAI/GPT-5-mini", 765),
            ("claude-opus-4-6", 1_399),
            ("google/gemini-2.5-pro", 1_032),
            ("llama-4", 1_399),
        ] {
            let image = MediaTokens::for_model(model).of_image(&png(1024, 1024));
            assert_eq!(image, tokens, "{model}");
        }
        let gemini = MediaTokens::for_model("gemini-2.5-pro");
        assert_eq!(gemini.of_image(&png(384, 100)), 258);
        let claude = MediaTokens::for_model("claude-opus-4-6");
        assert_eq!(claude.of_image(&png(u32::MAX, u32::MAX)), 1_600);
        assert_eq!(
            MediaTokens::for_model("gpt-4o").of_image(&png(4096, 8192)),
            1_105
        );
    }

    #[test]
    fn an_image_without_a_known_size_costs_the_most() {
        for data in ["", "no base64!", "AAAA", &"A".repeat(1_000_000)] {
            assert_eq!(MediaTokens::for_model("gpt-4o").of_image(data), 1_445);
        }
        assert_eq!(
            MediaTokens::for_model("gpt-4o")
                .image_tokens(5)
                .of_image(""),
            5
        );
    }

    #[test]
    fn audio_costs_by_its_length() {
        let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend(8_000_u32.to_le_bytes());
        wav.extend(16_000_u32.to_le_bytes());
        wav.resize(160_000, 0);
        let gpt = MediaTokens::for_model("gpt-4o");
        assert_eq!(gpt.of_audio(&BASE64_STANDARD.encode(wav)), 101);
        let mp3 = "A".repeat(64_000 * 4 / 3);
        assert_eq!(MediaTokens::for_model("gemini-2.5-pro").of_audio(&mp3), 128);
        assert_eq!(gpt.audio_tokens_per_second(0).of_audio(&mp3), 0);
    }

    #[test]
    fn a_blob_costs_by_its_characters() {
        assert_eq!(
            MediaTokens::for_model("gpt-4o").of_blob(&"A".repeat(300)),
            210
        );
    }
}
