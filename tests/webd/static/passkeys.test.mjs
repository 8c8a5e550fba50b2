/** Passkeys in words and bytes: where one can be used, the line that enrols it, which may be asked. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  base64,
  credentials,
  enrolmentText,
  fingerprint,
  fromBase64,
  fromHex,
  keyWords,
  nameFault,
  obstacle,
} from "../../../webd/static/words/passkeys.js";

const place = (url) => new URL(url);

test("a passkey is for a name over https, and for localhost", () => {
  for (const url of ["https://hive.example/enrol", "http://localhost:7000/enrol", "https://localhost/"])
    assert.equal(obstacle(place(url), true), null);
  assert.match(obstacle(place("https://hive.example/"), false).why, /knows no passkeys/);
  assert.match(obstacle(place("http://hive.example/"), true).why, /over https/);
  assert.equal(obstacle(place("https://192.0.2.7/"), true).instead, null);
  assert.match(obstacle(place("http://[2001:db8::1]:7000/"), true).why, /by one/);
});

test("an address of this machine has a name to go to", () => {
  for (const host of ["127.0.0.1", "[::1]", "127.8.9.10"]) {
    const found = obstacle(place(`http://${host}:7000/agent/iris/config`), true);
    assert.equal(found.instead, "http://localhost:7000/agent/iris/config");
  }
  assert.equal(obstacle(place("http://127.0.0.1/enrol"), true).instead, "http://localhost/enrol");
});

test("bytes come and go", () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  assert.deepEqual(fromBase64(base64(bytes)), bytes);
  assert.deepEqual(fromHex("00ff10"), Uint8Array.of(0, 255, 16));
  assert.equal(fingerprint(new Uint8Array(32).buffer), `SHA256:${"A".repeat(43)}`);
});

test("the line is one word that holds the key", () => {
  const bytes = Uint8Array.from({ length: 91 }, (_, i) => 255 - i).buffer;
  const text = enrolmentText({ origin: "http://localhost:7000", credential: bytes, public_key: bytes });
  assert.match(text, /^[A-Za-z0-9_-]+$/);
  assert.deepEqual(JSON.parse(Buffer.from(text, "base64url").toString()), {
    v: 1,
    origin: "http://localhost:7000",
    credential: base64(bytes),
    public_key: base64(bytes),
  });
});

test("only passkeys that count are asked", () => {
  const passkey = (credential, revoked_ms = null) => ({ key: { kind: "passkey", credential, public_key: "" }, revoked_ms });
  const ssh = { key: { kind: "ssh", line: "ssh-ed25519 AAAA" }, revoked_ms: null };
  assert.deepEqual(credentials([passkey("a"), ssh, passkey("b", 5)]), ["a"]);
  assert.deepEqual([passkey("a").key, ssh.key].map(keyWords), ["passkey", "ssh-ed25519"]);
});

test("names of keys", () => {
  for (const name of ["laptop", "a", "yubi-1.old_x", "7of9"]) assert.equal(nameFault(name), "");
  for (const name of ["", "-x", "Laptop", "a b", "x".repeat(33), "ä"]) assert.notEqual(nameFault(name), "");
});
