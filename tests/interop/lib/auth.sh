# The gateway guarded by its [auth] section, an authorization server beside it, and official clients that get
# their tokens there.

auth() {
  local total=$work/auth.out python=$work/venv/bin/python issuer log=$work/audit.jsonl
  build_gateway
  : >"$total"
  rm -f "$log" "$log".*
  start "$work/issuer.log" "$python" "$here/issuer.py"
  issuer=$url
  auth_toml >"$work/auth.toml"
  start "$work/auth.log" "$gateway" --config "$work/auth.toml" --listen 127.0.0.1:0
  # The TypeScript SDK is looked for from where the script is, and it is installed below $work.
  cp "$here/checks.mjs" "$here/auth.mjs" "$work/"
  node "$work/auth.mjs" "$url" "$issuer" | tee -a "$total" || ended_badly "$total"
  "$python" "$here/auth.py" "$url" "$issuer" "$log" | tee -a "$total" || ended_badly "$total"
  stop_started
  tally "$total"
}

auth_toml() {
  cat <<TOML
status_tool = false

[auth]
issuer = "$issuer"
audience = "interop"
jwks_url = "$issuer/jwks.json"
scopes = ["calls"]
reveal_forbidden = true
audit_file = "$log"

[[auth.rules]]
tool = "add"
all_of = ["calls"]

[[auth.rules]]
tool = "echo"
all_of = ["calls", "deep"]
TOML
}
