//! Counts tokens for `tokens.py`. Reads a line of JSON for each text, and writes one with its count,
//! its count up to a limit, and the length in bytes of its start with at most so many tokens.

use std::io::{self, BufRead, Write};

use rmcp_layers::budget::{TokenCounter, Tokenizer};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Asked {
    model: String,
    text: String,
    limit: usize,
}

#[derive(Serialize)]
struct Counted {
    count: usize,
    up_to: Option<usize>,
    prefix: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let asked: Asked = serde_json::from_str(&line?)?;
        let tokenizer = Tokenizer::for_model(&asked.model);
        let counted = Counted {
            count: tokenizer.count(&asked.text),
            up_to: tokenizer.count_up_to(&asked.text, asked.limit),
            prefix: tokenizer.prefix(&asked.text, asked.limit),
        };
        serde_json::to_writer(&mut out, &counted)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
