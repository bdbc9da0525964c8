//! An answer on one line with other text.
//!
//! Of an input, the first byte says the revision, and 0xff ends the text before the answer. Text
//! that has no character of JSON's structure hides no answer.
//!
//! ```console
//! cargo +nightly fuzz run documents fuzz/corpus/documents fuzz/seeds/documents -- -max_len=16384
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use rmcp_layers_fuzz::{Counting, Peak, Script, answer, call, is_answer, run};

#[global_allocator]
static MEMORY: Counting = Counting;

fuzz_target!(|data: &[u8]| {
    let Some((kind, input)) = data.split_first() else {
        return;
    };
    if input.contains(&b'\n') {
        return;
    }
    let peak = Peak::start();
    let at = input
        .iter()
        .position(|byte| *byte == 0xff)
        .unwrap_or(input.len());
    let (before, after) = (input[..at].to_vec(), input[at..].to_vec());
    let is_plain = !before.iter().any(|byte| b"{}[]\",:".contains(byte))
        && before.iter().any(u8::is_ascii_alphanumeric);
    let script = Script::new(kind & 1 == 0, move |id| {
        let answer = answer(id);
        // The same answer once more, for a line that hides the first.
        [&before[..], &answer, &after, &answer, b"\n", &answer].concat()
    });
    run(async {
        let upstream = script.upstream();
        let first = call(&upstream).await;
        assert!(is_answer(&first) || !is_plain, "{first}");
        let second = call(&upstream).await;
        assert!(is_answer(&second), "{second}");
    });
    peak.check(input);
});
