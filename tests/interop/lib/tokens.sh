# Token counts against those of Python's tiktoken.

tokens() {
  local total=$work/tokens.out cache=$work/encodings
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p rmcp-layers-interop --bin token_counts
  encodings "$cache"
  TIKTOKEN_CACHE_DIR=$cache "$work/venv/bin/python" "$here/tokens.py" "$target/token_counts" "$root" |
    tee "$total" || ended_badly "$total"
  tally "$total"
}

# Puts the files that tiktoken would load by HTTP into its cache: encodings DIR. It compares each
# with the hash that it expects.
encodings() {
  local assets name url
  assets=$(cargo metadata --format-version 1 --locked --manifest-path "$root/Cargo.toml" |
    grep -o '"manifest_path":"[^"]*/tiktoken-rs-[^"]*"' | head -n 1 | cut -d '"' -f 4)
  assets=$(dirname "$assets")/assets
  mkdir -p "$1"
  for name in o200k_base cl100k_base p50k_base r50k_base; do
    url=https://openaipublic.blob.core.windows.net/encodings/$name.tiktoken
    cp "$assets/$name.tiktoken" "$1/$(printf %s "$url" | sha1sum | cut -d ' ' -f 1)"
  done
}
