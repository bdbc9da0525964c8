//! Params, read as the type of their method.

use std::fmt;

use rmcp::model::{Extensions, Request, RequestNoParam, RequestOptionalParam};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use crate::wire::{Beside, WithoutMeta};

/// A member of params that does not fit.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// `params`, or `params.` and the member's path.
    pub(crate) path: String,
    /// The reason. It may quote the member, so it is only for the sender.
    pub(crate) why: String,
}

/// A request of one method.
pub(super) trait TypedRequest: Sized {
    const REQUIRES_PARAMS: bool;
    fn read(params: &Value) -> Result<Self, Misfit>;
    fn read_from<'de, D: Deserializer<'de>>(params: D) -> Result<Self, D::Error>;
}

/// Reads a request from the text of its params.
pub(super) fn read_text<'a, R: TypedRequest>(
    params: &'a str,
    beside: &mut Beside<'a>,
) -> serde_json::Result<R> {
    let mut text = serde_json::Deserializer::from_str(params);
    let params = &mut text;
    let request = R::read_from(WithoutMeta { params, beside })?;
    text.end()?;
    Ok(request)
}

impl<M: Default, P: DeserializeOwned> TypedRequest for Request<M, P> {
    const REQUIRES_PARAMS: bool = true;
    fn read(params: &Value) -> Result<Self, Misfit> {
        read_params(params).map(Self::new)
    }
    fn read_from<'de, D: Deserializer<'de>>(params: D) -> Result<Self, D::Error> {
        P::deserialize(params).map(Self::new)
    }
}

impl<M: Default, P: DeserializeOwned> TypedRequest for RequestOptionalParam<M, P> {
    const REQUIRES_PARAMS: bool = false;
    fn read(params: &Value) -> Result<Self, Misfit> {
        read_params(params).map(Self::with_param)
    }
    fn read_from<'de, D: Deserializer<'de>>(params: D) -> Result<Self, D::Error> {
        P::deserialize(params).map(Self::with_param)
    }
}

impl<M: Default> TypedRequest for RequestNoParam<M> {
    const REQUIRES_PARAMS: bool = false;
    fn read(_params: &Value) -> Result<Self, Misfit> {
        Ok(Self {
            method: M::default(),
            extensions: Extensions::default(),
        })
    }
    fn read_from<'de, D: Deserializer<'de>>(params: D) -> Result<Self, D::Error> {
        params.deserialize_map(AnyMembers)?;
        Self::read(&Value::Null).map_err(|misfit| D::Error::custom(misfit.why))
    }
}

/// The members of params that a method does not have.
struct AnyMembers;

impl<'de> Visitor<'de> for AnyMembers {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

fn read_params<'de, P: Deserialize<'de>>(params: &'de Value) -> Result<P, Misfit> {
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        Misfit {
            path: match path.as_str() {
                "." => "params".to_owned(),
                index if index.starts_with('[') => format!("params{index}"),
                member => format!("params.{member}"),
            },
            why: error.into_inner().to_string(),
        }
    })
}
