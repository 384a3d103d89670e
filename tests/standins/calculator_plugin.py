"""A small MCP server on stdin and stdout, of the standard library alone: it adds numbers, and lists what it sees.

https://modelcontextprotocol.io/specification/2025-06-18/basic/transports
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "inputSchema": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}
DROP = {"name": "drop", "description": "Drops all tables.", "inputSchema": {"type": "object"}}


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    """The result, None for what is none of a server's."""
    match message.get("method"):
        case "initialize":
            version = message["params"]["protocolVersion"]
            info = {"name": "calculator", "version": "1"}
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [ADD, DROP]}
        case "tools/call":
            given = message["params"].get("arguments") or {}
            if message["params"]["name"] != "add":
                return {"content": [{"type": "text", "text": "dropped"}]}
            text = f"{given['a']} + {given['b']} = {given['a'] + given['b']}; sees {sorted(os.environ)}"
            return {"content": [{"type": "text", "text": text}]}
        case "ping":
            return {}
    return None


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        result = answer(message)
        if result is not None and "id" in message:
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()
