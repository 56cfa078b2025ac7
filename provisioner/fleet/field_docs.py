"""What the models say about their fields in the strings under them, which Python itself throws away."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from pathlib import Path

from pydantic import BaseModel


def description(model: type[BaseModel]) -> str:
    """The docstring of a model, as one paragraph."""
    return _one(inspect.getdoc(model) or "")


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """By field: the string under it."""
    return _of_module(inspect.getsourcefile(model) or "").get(model.__name__, {})


@cache
def _of_module(file: str) -> dict[str, dict[str, str]]:
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    field = ""
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            field = statement.target.id
        elif field and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            found[field] = _one(inspect.cleandoc(str(statement.value.value)))
            field = ""
        else:
            field = ""
    return found


def _one(text: str) -> str:
    return " ".join(text.split())
