"""Pages for people, made here, without the internet: /docs of the OpenAPI document, /errors of the table of codes."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Route

from pbx_events.api.errors import CODES

POLICY: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "cache-control": "no-cache",
}
"""Nothing of another host, and no script: what the page shows was written by this process."""
STYLE: Final = """body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}
code,pre{font-family:monospace}
table{border-collapse:collapse;margin:.5em 0}td,th{border:1px solid #bbb;padding:.2em .6em;text-align:left}
td,th{vertical-align:top}
h2{border-top:1px solid #bbb;padding-top:.7em}summary{cursor:pointer}.m{font-weight:bold}"""


def routes(app: FastAPI) -> list[BaseRoute]:
    """The three of them."""

    async def docs(request: Request) -> HTMLResponse:
        return _html("sip-pbx API", _reference(app.openapi()))

    async def errors(request: Request) -> HTMLResponse:
        return _html("Errors of the sip-pbx API", _table(CODES))

    async def error(request: Request) -> HTMLResponse:
        code = request.path_params["code"]
        if code not in CODES:
            return _html("No such error", f"<p>There is no error of this code.</p>{_table(CODES)}", 404)
        return _html(f"Error {code}", _table({code: CODES[code]}))

    pages = {"/docs": docs, "/errors": errors, "/errors/{code}": error}
    return [Route(path, handler, include_in_schema=False) for path, handler in pages.items()]


def _html(title: str, body: str, status: int = 200) -> HTMLResponse:
    text = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return HTMLResponse(f"{text}<h1>{escape(title)}</h1>{body}</html>", status, POLICY)


def _table(codes: Any) -> str:
    rows = "".join(
        f"<tr><td><code>{each.code}</code><td>{each.status}<td>{escape(each.title)}<td>{escape(each.remedy)}"
        for each in codes.values()
    )
    return f"<table><tr><th>code<th>status<th>meaning<th>what to do{rows}</table>"


def _reference(document: dict[str, Any]) -> str:
    parts = [
        f"<p>{escape(document['info']['description'])}",
        '<p><a href="/openapi.json">openapi.json</a> · <a href="/errors">errors</a>',
    ]
    tag = ""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                parts.append(f"<h2>{escape(tag.capitalize())}</h2>")
            parts.append(_operation(method.upper(), path, operation))
    parts.append("<h2>Shapes</h2>")
    parts += (_shape(name, schema) for name, schema in document["components"]["schemas"].items())
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code><td>{each['in']}<td>{escape(_type(each['schema']))}"
        f"<td>{escape(each.get('description') or each['schema'].get('description') or '')}"
        for each in operation.get("parameters", ())
    )
    table = f"<table><tr><th>name<th>in<th>form<th>meaning{rows}</table>" if rows else ""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    sent = f"<p>Body: {escape(_type(body))}" if body else ""
    answers = ", ".join(f"{status} {escape(_answer(answer))}" for status, answer in operation["responses"].items())
    return (
        f'<details><summary><span class="m">{method}</span> <code>{escape(path)}</code> {escape(operation["summary"])}'
        f"</summary><p>{escape(operation.get('description', ''))}{table}{sent}<p>Answers: {answers}</details>"
    )


def _answer(answer: dict[str, Any]) -> str:
    kinds = ", ".join(sorted({_type(each.get("schema", {})) for each in answer.get("content", {}).values()} - {"any"}))
    return f"({kinds})" if kinds else ""


def _shape(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code><td>{escape(_type(each))}<td>{escape(each.get('description', ''))}"
        f"<td>{escape(', '.join(map(str, each.get('examples', ()))))}"
        for field, each in schema.get("properties", {}).items()
    )
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> '
        f"{escape(schema.get('description', ''))}</summary>"
        f"<table><tr><th>field<th>form<th>meaning<th>example{rows}</table></details>"
    )


def _type(schema: dict[str, Any]) -> str:
    return " or ".join(_types(schema))


def _types(schema: dict[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    elif "enum" in schema:
        yield " | ".join(map(str, schema["enum"]))
    elif "const" in schema:
        yield str(schema["const"])
    elif schema.get("type") == "array":
        yield f"list of {_type(schema.get('items', {}))}"
    elif "anyOf" in schema or "oneOf" in schema:
        for each in schema.get("anyOf") or schema["oneOf"]:
            yield from _types(each)
    else:
        yield schema.get("format") or str(schema.get("type", "any"))
