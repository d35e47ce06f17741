"""docs/rpc.md, written from the method definitions: `python -m chain.rpc.document > docs/rpc.md`.

A test fails when the file differs from what this module writes.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from chain.model.signed_read import SIGNED_READ_LIFETIME_MS_MAX, TAG_SIGNED_READ
from chain.rpc import values
from chain.rpc.errors import ERRORS
from chain.rpc.limits import BATCH_ITEMS_MAX, RpcLimits
from chain.rpc.openrpc import openrpc_document

_TITLES: Final = {
    "transactions": "Transactions",
    "contracts": "Contracts",
    "blocks": "Blocks and events",
    "proofs": "Proofs",
    "node": "The node",
}
_LIMITS: Final = RpcLimits()

_HEAD: Final = """\
# The API of a node

This page is generated from the method definitions the server runs on (`python -m chain.rpc.document`); the same
definitions make the OpenRPC document that `rpc.discover` answers.

A node speaks JSON-RPC 2.0 over HTTP: POST a request, or a batch of at most {batch}, to `/`.

```
curl -s -H 'Content-Type: application/json' http://127.0.0.1:PORT/ \\
     -d '{{"jsonrpc":"2.0","id":1,"method":"get_block","params":{{"height":12,"full":true}}}}'
```

| path | what |
|---|---|
| `POST /` | JSON-RPC 2.0 |
| `POST /transactions` | the binary volume path, below |
| `GET /health`, `/health/ready` | 200 if the node takes transactions and reads, else 503 |
| `GET /health/live` | 200 if the process works at all |
| `GET /metrics` | Prometheus text |

## Conventions

- **Parameters** come by name (an object) or by position (an array, in the order of the tables below).
- **Bytes** are `0x` and an even number of hex digits. **Integers** are JSON integers.
- **Every answer is certified** unless its method says otherwise, and carries `certified_height`: it speaks for all
  blocks up to there. `min_height` makes a read wait (at most 5 s) until that height is certified here, or fail with
  `not_ready`: give the height of your own receipt to read your own writes from any node.
- **Errors** are HTTP 200 with a code of the table below; `error.data` has `reason`, `certified_height` and, about a
  transaction, its `hash`. Only a body over the limit (413), late (408) or compressed (415) is an HTTP error.
- **Contracts** may be given by address or by name wherever a parameter is called `target` or `contract`.
- A **notification** (no `id`) is carried out and gets no answer (HTTP 204).
- **Waiting** methods hold the request until what is waited for happens, at most {wait} s. In a batch they wait side by
  side.

### What a client is told about a transaction

`accepted`: it is in this node's pool. `ordered`: its position is fixed. `certified`: final; its receipt is signed by a
quorum. A transaction is identified by the digest its sender signed: sending the same bytes again, to any node, is
harmless.

### Limits

| what | most |
|---|---|
| body | {body} bytes |
| answer | {answer} bytes |
| requests in a batch | {batch} |
| transactions at once | {transactions} |
| blocks of one `wait_blocks`, heights of one `get_stages` or `get_executions` | {blocks} |
| events of one `get_events` (the last block is given whole) | {events} |
| connections | {connections} (set in node.toml) |
| waiting requests, contract reads at one time | {waits}, {queries} |

### Contract values

{value_table}

### Signed reads

`call_signed` takes `encode((body, signature))`, canonical msgpack, where body is the encoding of the array (chain id,
scheme, public key, expiry in milliseconds since the epoch, target, method, packed arguments, gas limit). The signature
is over the SHA-256 of the domain tag `{tag}` (with its length in one byte before it) and the body. It
may expire at most {lifetime} minutes ahead. The contract then sees `ctx.is_signed` true. The Python client does all
that: `signed_call` of `chain.client.Client`.

### Binary volume path

POST a canonical msgpack array of raw transactions to `/transactions`. The answer is a msgpack array with one
`[hash, code, message]` for each, in the same order; code 0 means accepted. A malformed body is HTTP 400.

## Errors

| code | reason | meaning |
|---|---|---|
"""


def document() -> str:
    """The whole page."""
    openrpc = openrpc_document()
    lines = [_head()]
    lines += [f"| {number} | `{name}` | {text} |" for number, (name, text) in ERRORS.items()]
    for tag, title in _TITLES.items():
        lines += ["", f"## {title}"]
        for method in openrpc["methods"]:
            if method["tags"][0]["name"] == tag:
                lines += _method_lines(method)
    lines += ["", "## Results", ""]
    for name, schema in openrpc["components"]["schemas"].items():
        lines += _schema_lines(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _head() -> str:
    table = [line for line in (values.__doc__ or "").splitlines() if line.startswith("|")]
    rest = (values.__doc__ or "").split("\n\n")[2].strip()
    return _HEAD.format(
        batch=BATCH_ITEMS_MAX, wait=_LIMITS.wait_timeout_ms_max // 1_000, body=_LIMITS.body_bytes_max,
        answer=_LIMITS.answer_bytes_max, transactions=_LIMITS.transactions_max, blocks=_LIMITS.blocks_max,
        events=_LIMITS.events_max, connections=_LIMITS.connections_max, waits=_LIMITS.waits_max,
        queries=_LIMITS.queries_max, value_table="\n".join(table) + "\n\n" + rest, tag=TAG_SIGNED_READ.decode(),
        lifetime=SIGNED_READ_LIFETIME_MS_MAX // 60_000,
    ).rstrip("\n")  # fmt: skip


def _method_lines(method: dict[str, Any]) -> list[str]:
    lines = ["", f"### `{method['name']}`", "", method["summary"]]
    if "description" in method:
        lines += ["", method["description"]]
    if method["params"]:
        lines += ["", "| parameter | type | default | |", "|---|---|---|---|"]
        lines += [_param_line(param) for param in method["params"]]
    codes = ", ".join(f"`{ERRORS[error['code']][0]}`" for error in method["errors"])
    lines += ["", f"Result: [{method['result']['name']}](#{method['result']['name'].lower()})."]
    if codes:
        lines[-1] += f" Errors besides the general ones: {codes}."
    return lines


def _param_line(param: dict[str, Any]) -> str:
    default = "required" if param["required"] else f"`{_literal(param['schema'].get('default'))}`"
    return f"| `{param['name']}` | {_type_text(param['schema'])} | {default} | {param.get('description', '')} |"


def _schema_lines(name: str, schema: dict[str, Any]) -> list[str]:
    lines = [f"### {name}", ""]
    if "description" in schema:
        lines += [schema["description"], ""]
    if "enum" in schema:
        return [*lines, ", ".join(f"`{value}`" for value in schema["enum"]) + ".", ""]
    lines += ["| field | type |", "|---|---|"]
    lines += [f"| `{field}` | {_type_text(kind)} |" for field, kind in schema["properties"].items()]
    return [*lines, ""]


def _type_text(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type_text(item) for item in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if str(schema.get("pattern", "")).startswith("^0x"):
        return "0x-hex"
    kind = str(schema.get("type", "any"))
    if kind == "array" and schema.get("items"):
        return f"array of {_type_text(schema['items'])}"
    return kind


def _literal(value: Any) -> str:
    return json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(document())
