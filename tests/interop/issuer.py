"""An authorization server on loopback, for the gateway to believe and for clients to get tokens from.

It lets everybody in as whoever they register as, and grants whatever scopes are asked for.
"""

import base64
import hashlib
import json
import secrets
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

AUDIENCE = "interop"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
JWK = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())) | {
    "kid": "one",
    "use": "sig",
    "alg": "RS256",
}

clients: dict[str, dict[str, object]] = {}
codes: dict[str, dict[str, str]] = {}
# The scopes of each authorization, in order.
asked: list[str] = []


def token(issuer: str, subject: str, scope: str, **more: object) -> str:
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": subject,
        "scope": scope,
        "iat": now,
        "exp": now + 600,
    }
    return jwt.encode(claims | more, KEY, algorithm="RS256", headers={"kid": "one"})


class Issuer(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, body: object, status: int = 200, **headers: str) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/jwks.json":
                self.answer({"keys": [JWK]})
            case "/.well-known/oauth-authorization-server":
                self.answer(
                    {
                        "issuer": self.issuer,
                        "authorization_endpoint": f"{self.issuer}/authorize",
                        "token_endpoint": f"{self.issuer}/token",
                        "registration_endpoint": f"{self.issuer}/register",
                        "jwks_uri": f"{self.issuer}/jwks.json",
                        "response_types_supported": ["code"],
                        "grant_types_supported": ["authorization_code"],
                        "code_challenge_methods_supported": ["S256"],
                        "token_endpoint_auth_methods_supported": ["none"],
                        "authorization_response_iss_parameter_supported": True,
                    }
                )
            case "/authorize":
                code = secrets.token_urlsafe()
                codes[code] = query
                asked.append(query.get("scope", ""))
                back = {"code": code, "state": query.get("state", ""), "iss": self.issuer}
                location = f"{query['redirect_uri']}?{urlencode(back)}"
                self.answer({}, 302, Location=location)
            # Not for clients: a token as a test wants it, and what was asked for so far.
            case "/make":
                more = json.loads(query.get("more", "{}"))
                self.answer(token(self.issuer, query["sub"], query.get("scope", ""), **more))
            case "/asked":
                self.answer(asked)
            case _:
                self.answer({"error": "not_found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        match urlsplit(self.path).path:
            case "/register":
                client = json.loads(body) | {"client_id": secrets.token_urlsafe(8)}
                client["token_endpoint_auth_method"] = "none"
                clients[client["client_id"]] = client
                self.answer(client, 201)
            case "/token":
                form = {name: values[0] for name, values in parse_qs(body).items()}
                asked_for = codes.pop(form.get("code", ""), None)
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                if not asked_for or asked_for.get("code_challenge") != challenge:
                    self.answer({"error": "invalid_grant"}, 400)
                    return
                scope = asked_for.get("scope", "")
                name = clients[asked_for["client_id"]]["client_name"]
                access = token(self.issuer, str(name), scope)
                self.answer({"access_token": access, "token_type": "Bearer", "expires_in": 600, "scope": scope})
            case _:
                self.answer({"error": "not_found"}, 404)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
