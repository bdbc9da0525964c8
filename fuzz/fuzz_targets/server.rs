//! Lines of a server, whatever bytes they are.
//!
//! The call that they follow ends, no call gets another's result, calls go on over the same
//! connection, and memory is bounded. Of an input the first byte says the revision. `$id` stands
//! for the call's id.
//!
//! ```console
//! cargo +nightly fuzz run server fuzz/corpus/server fuzz/seeds/server -- -max_len=65536
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use rmcp_layers_fuzz::{Counting, Peak, Script, answer, call, is_answer, run};
use serde_json::Value;

#[global_allocator]
static MEMORY: Counting = Counting;

fn with_id(input: &[u8], id: &Value) -> Vec<u8> {
    let id = id.to_string();
    let mut text = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some(byte) = rest.first() {
        match rest.strip_prefix(b"$id") {
            Some(after) => {
                text.extend_from_slice(id.as_bytes());
                rest = after;
            }
            None => {
                text.push(*byte);
                rest = &rest[1..];
            }
        }
    }
    text
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, input)) = data.split_first() else {
        return;
    };
    let peak = Peak::start();
    let told = input.to_vec();
    let script = Script::new(kind & 1 == 0, move |id| {
        [with_id(&told, id), b"\n".to_vec(), answer(id)].concat()
    });
    run(async {
        let upstream = script.upstream();
        call(&upstream).await;
        // A line that is left when the first call has ended may be the answer to the next, if its
        // id cannot be read.
        let lines = input.iter().filter(|byte| b"\n{".contains(byte)).count();
        let mut next = String::new();
        for _ in 0..lines + 2 {
            next = call(&upstream).await;
            if is_answer(&next) {
                break;
            }
            assert!(next.starts_with("error: "), "another call's answer: {next}");
        }
        assert!(is_answer(&next), "{next}");
        assert_eq!(script.connections(), 1, "the connection is lost");
    });
    peak.check(input);
});
