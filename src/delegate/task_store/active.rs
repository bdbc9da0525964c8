//! The ids of plans that have not ended.

use super::TaskStore;
use crate::store::StoreError;

/// Number of records that the ids are spread over. Processes change them in turn.
const SHARDS: u32 = 64;

impl TaskStore {
    fn shard_key(&self, shard: u32) -> Vec<u8> {
        let name = &self.name;
        format!("delegate:{name}:active:{shard}").into_bytes()
    }

    /// Returns the key of the record that has the id of a plan.
    fn shard_key_of(&self, plan: &str) -> Vec<u8> {
        let sum = plan.bytes().fold(0_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
        self.shard_key(sum % SHARDS)
    }

    /// Returns `true` if a plan has not ended.
    pub(in crate::delegate) async fn is_active(&self, plan: &str) -> Result<bool, StoreError> {
        let keys = [self.shard_key_of(plan)];
        let found = self.ask(self.store.get(&keys)).await?;
        let mut shards = found.into_iter().flatten();
        Ok(shards.any(|stored| ids(&stored.value).iter().any(|id| id == plan)))
    }

    /// Returns the ids of plans that have not ended, also of those that other processes run.
    pub(in crate::delegate) async fn active(&self) -> Result<Vec<String>, StoreError> {
        let keys: Vec<_> = (0..SHARDS).map(|shard| self.shard_key(shard)).collect();
        let found = self.ask(self.store.get(&keys)).await?;
        let shards = found.into_iter().flatten();
        Ok(shards.flat_map(|stored| ids(&stored.value)).collect())
    }

    pub(super) async fn add_active(&self, plan: &str) -> Result<(), StoreError> {
        self.change_active(plan, |ids| {
            if !ids.iter().any(|id| id == plan) {
                ids.push(plan.to_owned());
            }
        })
        .await
    }

    pub(super) async fn remove_active(&self, plan: &str) -> Result<(), StoreError> {
        self.change_active(plan, |ids| ids.retain(|id| id != plan))
            .await
    }

    async fn change_active(
        &self,
        plan: &str,
        change: impl Fn(&mut Vec<String>),
    ) -> Result<(), StoreError> {
        let key = self.shard_key_of(plan);
        self.change_in_turn(&key, |now| {
            let mut ids = ids(now.unwrap_or_default());
            change(&mut ids);
            Ok((!ids.is_empty()).then(|| ids.join("\n").into_bytes()))
        })
        .await
    }
}

fn ids(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let ids = text.lines().filter(|id| !id.is_empty());
    ids.map(str::to_owned).collect()
}
