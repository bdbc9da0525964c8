//! Tools that come and go while the server runs.

mod error;
mod handle;
mod health;
mod layer;
mod listen;
mod no_tools;
mod pin;
mod schema;
mod search;
mod service;
mod state;
mod tool;
mod version;

pub use error::RegistryError;
pub use handle::{RegistryHandle, ToolStatus};
pub use health::{HealthPolicy, HealthReport, HealthState, InnerHealth, Passive};
pub use layer::{RegistryLayer, RegistryLayerBuilder};
pub use no_tools::NoTools;
pub use pin::{Fingerprint, Quarantined};
pub use search::{CALL_TOOL, SEARCH_TOOLS, SearchMode};
pub use service::Registry;
pub use tool::{RegisteredTool, RegisteredToolBuilder};
pub use version::{DEPRECATED_META_KEY, VERSION_META_KEY, VERSIONS_META_KEY};
