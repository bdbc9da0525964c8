use std::{fmt, sync::OnceLock, time::Duration};

use futures::future::BoxFuture;
use redis::{
    Client, Cmd, FromRedisValue, Pipeline, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::{Increment, MAX_COUNT, Store, StoreError, Stored};
use crate::ConfigError;

/// Maximum time of one connection attempt, and of the reply to one command. Users of the store may
/// set a shorter limit.
const PATIENCE: Duration = Duration::from_secs(1);
/// Maximum delay before a reconnection.
const RECONNECT: Duration = Duration::from_secs(2);

/// Sets a value if the present one is the expected one. Arguments: whether a value is expected, the
/// expected value, whether there is a new value, the new value, and its time to live in ms or "".
const COMPARE_AND_SET: &str = "\
local now = redis.call('GET', KEYS[1])
if ARGV[1] == '1' then
  if now ~= ARGV[2] then return 0 end
elseif now then
  return 0
end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
elseif ARGV[5] == '' then
  redis.call('SET', KEYS[1], ARGV[4])
else
  redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
end
return 1";

/// Adds to a counter, unless the sum would be over the limit. Arguments: the change, the limit, and
/// the time to live of a new counter in ms or "". Returns whether the change was made, the value,
/// and the remaining time to live (negative without one); or nothing if the value is not a counter.
const INCREMENT: &str = "\
local now = redis.call('GET', KEYS[1])
if now and (not string.match(now, '^%d+$') or tonumber(now) >= 2^53) then return false end
local change, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local before = tonumber(now or '0')
local sum = math.max(before + change, 0)
if change > 0 and sum > limit then
  return {0, before, redis.call('PTTL', KEYS[1])}
end
if not now and sum == 0 then return {1, 0, -2} end
local value = string.format('%.0f', sum)
if now then
  redis.call('SET', KEYS[1], value, 'KEEPTTL')
elseif ARGV[3] == '' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[3])
end
return {1, sum, redis.call('PTTL', KEYS[1])}";

/// Subtracts from a counter down to 0, unless a marker is there, and sets the marker. Arguments: the
/// amount, and the time to live of the marker in ms. Returns whether the change was made, or nothing
/// if the value is not a counter.
const DECREMENT_ONCE: &str = "\
local now = redis.call('GET', KEYS[1])
if now and (not string.match(now, '^%d+$') or tonumber(now) >= 2^53) then return false end
if not redis.call('SET', KEYS[2], '', 'NX', 'PX', ARGV[2]) then return 0 end
if now then
  local rest = math.max(tonumber(now) - tonumber(ARGV[1]), 0)
  redis.call('SET', KEYS[1], string.format('%.0f', rest), 'KEEPTTL')
end
return 1";

/// A [`Store`] in Redis 6 or Valkey. All calls share one connection, which is reopened when it is
/// lost.
///
/// Requires the feature `redis`.
///
/// The store connects on first use. Its keys begin with a prefix (default: `rmcp-layers:`), so that
/// the database can have other users. The conditional operations are Lua scripts, so the user needs
/// the right to run `EVAL`.
///
/// # Limits
///
/// Values are limited by Redis: 512 MB for one, and the memory of the server for all. If budgets,
/// leases or tasks are in the database, set its `maxmemory-policy` to `noeviction`, or else Redis
/// may evict them too. A failover to a replica may lose the last writes, because Redis replicates
/// without waiting.
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
///
/// Requires the feature `redis`.
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
    pub fn new(url: impl Into<String>) -> Result<Self, ConfigError> {
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

    async fn run<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection()?;
        command.query_async(&mut connection).await.map_err(failed)
    }

    /// Returns the command that runs a script with these keys; its arguments are to be added.
    fn script(&self, script: &str, keys: &[&[u8]]) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(keys.len());
        for key in keys {
            command.arg(self.key(key));
        }
        command
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
    pub fn build(self) -> Result<RedisStore, ConfigError> {
        // The URL may contain a password, so the error does not repeat it.
        let client = Client::open(self.url).map_err(|_| {
            let reason =
                "it is not a URL of Redis; write redis://[user:password@]host[:port][/database]";
            ConfigError::new("store", "url", reason)
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

/// Returns a time for a script, in which no text means no expiry.
fn millis_or_empty(time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| millis(time).to_string())
}

/// Reads Redis' remaining time: -1 means no expiry, and -2 that the value has expired meanwhile.
fn remaining(millis: i64) -> Option<Duration> {
    (millis != -1).then(|| Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

impl Store for RedisStore {
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>> {
        Box::pin(async move {
            // Redis has no command for no keys.
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let mut commands = Pipeline::new();
            for key in keys {
                let key = self.key(key);
                commands.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
            }
            let mut connection = self.connection()?;
            let found = commands.query_async(&mut connection).await;
            let found: Vec<redis::Value> = found.map_err(failed)?;
            let read = |pair: &[redis::Value]| {
                let [value, left] = pair else { return Ok(None) };
                let value = Option::<Vec<u8>>::from_redis_value_ref(value);
                let left = i64::from_redis_value_ref(left);
                let (value, left) =
                    value
                        .and_then(|value| Ok((value, left?)))
                        .map_err(|error| {
                            StoreError::new("Redis: the key has a value of another kind")
                                .with_source(error)
                        })?;
                Ok(value.map(|value| Stored::new(value, remaining(left))))
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
            let mut set = redis::cmd("SET");
            set.arg(self.key(key)).arg(value);
            if let Some(time) = time_to_live {
                set.arg("PX").arg(millis(time));
            }
            self.run(set).await
        })
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut remove = redis::cmd("DEL");
            remove.arg(self.key(key));
            self.run(remove).await
        })
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a [u8],
        expected: Option<&'a [u8]>,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let mut script = self.script(COMPARE_AND_SET, &[key]);
            script
                .arg(u8::from(expected.is_some()))
                .arg(expected.unwrap_or_default())
                .arg(u8::from(value.is_some()))
                .arg(value.unwrap_or_default())
                .arg(millis_or_empty(time_to_live));
            self.run(script).await
        })
    }

    fn increment<'a>(
        &'a self,
        key: &'a [u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<Increment, StoreError>> {
        Box::pin(async move {
            let mut script = self.script(INCREMENT, &[key]);
            script
                .arg(change)
                .arg(limit.min(MAX_COUNT))
                .arg(millis_or_empty(time_to_live));
            let reply: Option<(bool, u64, i64)> = self.run(script).await?;
            let (accepted, value, left) = reply.ok_or_else(StoreError::not_a_counter)?;
            // -2: there is no counter.
            let remaining = remaining(left).filter(|_| left != -2);
            Ok(Increment::new(accepted, value, remaining))
        })
    }

    fn decrement_once<'a>(
        &'a self,
        key: &'a [u8],
        amount: u64,
        marker: &'a [u8],
        time_to_live: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let mut script = self.script(DECREMENT_ONCE, &[key, marker]);
            script.arg(amount.min(MAX_COUNT)).arg(millis(time_to_live));
            let reply: Option<bool> = self.run(script).await?;
            reply.ok_or_else(StoreError::not_a_counter)
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may contain a password.
        f.debug_struct("RedisStoreBuilder")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
