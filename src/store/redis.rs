use std::{fmt, sync::OnceLock, time::Duration};

use futures::future::BoxFuture;
use redis::{
    Client, Cmd, FromRedisValue, Pipeline, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::{Store, StoreError, Stored};
use crate::{Error, Refusal, code};

/// Maximum time of one connection attempt, and of the reply to one command. Users of the store may
/// set a shorter limit.
const PATIENCE: Duration = Duration::from_secs(1);
/// Maximum delay before a reconnection.
const RECONNECT: Duration = Duration::from_secs(2);

/// A [`Store`] in Redis 6 or Valkey. All calls share one connection, which is reopened when it is
/// lost.
///
/// The store connects on first use. Its keys begin with a prefix (default: `rmcp-layers:`), so that
/// the database can have other users.
///
/// # Security
///
/// All users with read access to the database can read the stored values, including cached
/// responses that are private to one caller. Set a password (`redis://:password@host/`) and keep
/// the database off public networks. The connection is not encrypted.
///
/// # Example
///
/// ```
/// use rmcp_layers::{cache::CacheLayer, store::RedisStore};
///
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// let store = RedisStore::new("redis://127.0.0.1:6379")?;
/// let layer = CacheLayer::builder().store(store).build()?;
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
pub struct RedisStore {
    client: Client,
    prefix: Vec<u8>,
    /// Created in the runtime of the first call.
    connection: OnceLock<ConnectionManager>,
}

/// Builds a [`RedisStore`].
#[derive(Debug)]
#[must_use = "call `build` to make the store"]
pub struct RedisStoreBuilder {
    url: String,
    prefix: String,
}

impl RedisStore {
    /// Creates a store at this URL: `redis://[user:password@]host[:port][/database]`, or
    /// `unix:path`. It does not connect yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is not a Redis URL.
    pub fn new(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Returns a builder with default settings.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            url: url.into(),
            prefix: "rmcp-layers:".to_owned(),
        }
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&*self.prefix, key].concat()
    }

    fn connection(&self) -> Result<ConnectionManager, StoreError> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_max_delay(RECONNECT)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection =
            ConnectionManager::new_lazy_with_config(self.client.clone(), config).map_err(failed)?;
        Ok(self.connection.get_or_init(|| connection).clone())
    }

    async fn run<T: FromRedisValue>(&self, commands: Pipeline) -> Result<T, StoreError> {
        let mut connection = self.connection()?;
        commands.query_async(&mut connection).await.map_err(failed)
    }
}

impl RedisStoreBuilder {
    /// Sets the prefix of the store's keys. Default: `rmcp-layers:`.
    ///
    /// Processes with the same prefix share their values. Processes whose caches are in front of
    /// different servers need different prefixes.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Makes the store. It does not connect yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is not a Redis URL.
    pub fn build(self) -> Result<RedisStore, Error> {
        // The URL may contain a password, so the error does not repeat it.
        let client = Client::open(self.url).map_err(|error| {
            let message =
                "this is no URL of Redis: write redis://[user:password@]host[:port][/database]";
            Refusal::new("store", message)
                .with_code(code::FORBIDDEN)
                .with_source(error)
        })?;
        Ok(RedisStore {
            client,
            prefix: self.prefix.into_bytes(),
            connection: OnceLock::new(),
        })
    }
}

fn failed(error: RedisError) -> StoreError {
    StoreError::new("Redis").with_source(error)
}

/// Returns a time in milliseconds. Redis adds it to the time of day in 63 bits, so it is limited to
/// half of that.
fn millis(time: Duration) -> u64 {
    const MOST: u64 = i64::MAX as u64 / 2;
    u64::try_from(time.as_millis())
        .unwrap_or(MOST)
        .clamp(1, MOST)
}

impl Store for RedisStore {
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>> {
        Box::pin(async move {
            let mut commands = Pipeline::new();
            for key in keys {
                let key = self.key(key);
                commands.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
            }
            let found: Vec<redis::Value> = self.run(commands).await?;
            let read = |pair: &[redis::Value]| {
                let [value, left] = pair else { return Ok(None) };
                let value = Option::<Vec<u8>>::from_redis_value_ref(value);
                let left = i64::from_redis_value_ref(left);
                let (value, left) =
                    value
                        .and_then(|value| Ok((value, left?)))
                        .map_err(|error| {
                            StoreError::new("Redis has something else there").with_source(error)
                        })?;
                // -1 means no expiry. -2 means that the value has expired meanwhile.
                let left = match left {
                    -1 => None,
                    left => Some(Duration::from_millis(u64::try_from(left).unwrap_or(0))),
                };
                Ok(value.map(|value| Stored::new(value, left)))
            };
            found.chunks(2).map(read).collect()
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut set = Cmd::new();
            set.arg("SET").arg(self.key(key)).arg(value);
            if let Some(time) = time_to_live {
                set.arg("PX").arg(millis(time));
            }
            let mut commands = Pipeline::new();
            commands.add_command(set).ignore();
            self.run(commands).await
        })
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut commands = Pipeline::new();
            commands.cmd("DEL").arg(self.key(key)).ignore();
            self.run(commands).await
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}
