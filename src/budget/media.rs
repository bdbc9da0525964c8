/// The tokens of images, audio and blobs.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaTokens {}

impl MediaTokens {
    /// Creates the rule of a model's family.
    pub fn for_model(model: &str) -> Self {
        let _ = model;
        Self {}
    }
}
