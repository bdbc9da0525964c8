//! A subscriber that keeps all spans of the layer.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// A span of the layer.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    id: u64,
    /// The name of the parent's metadata.
    pub parent: Option<String>,
    pub fields: BTreeMap<String, String>,
    pub closed: bool,
}

impl Seen {
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }
}

#[derive(Clone, Default)]
pub struct Spans(Arc<Mutex<Vec<Seen>>>);

impl Spans {
    /// Keeps the spans of this thread until the guard is dropped.
    pub fn keep() -> (Self, tracing::subscriber::DefaultGuard) {
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry().with(spans.clone());
        (spans, tracing::subscriber::set_default(subscriber))
    }

    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// The spans of this method.
    pub fn of(&self, method: &str) -> Vec<Seen> {
        let all = self.all();
        all.into_iter()
            .filter(|span| span.get("mcp.method.name") == Some(method))
            .collect()
    }

    /// The only span of a call.
    pub fn of_call(&self) -> Seen {
        let calls = self.of("tools/call");
        assert_eq!(calls.len(), 1, "{calls:#?}");
        calls.into_iter().next().unwrap()
    }

    fn edit(&self, id: &Id, edit: impl FnOnce(&mut Seen)) {
        let mut spans = self.0.lock().unwrap();
        // Ids are used again.
        if let Some(span) = spans.iter_mut().rev().find(|span| span.id == id.into_u64()) {
            edit(span);
        }
    }
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() != "rmcp_layers::metrics" {
            return;
        }
        let parent = context.span(id).and_then(|span| span.parent());
        let mut seen = Seen {
            id: id.into_u64(),
            parent: parent.map(|parent| parent.name().to_owned()),
            ..Seen::default()
        };
        attributes.record(&mut Fields(&mut seen.fields));
        self.0.lock().unwrap().push(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _context: Context<'_, S>) {
        self.edit(id, |span| values.record(&mut Fields(&mut span.fields)));
    }

    fn on_close(&self, id: Id, _context: Context<'_, S>) {
        self.edit(&id, |span| {
            span.closed = true;
            span.id = 0;
        });
    }
}
