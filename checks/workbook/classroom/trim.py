"""A spec without what a class must not see: its bugs and variants, and what only they need."""

import ast
from collections.abc import Iterator

CUT = ("bugs", "variants")  # arguments of Exercise


def trimmed(source: str) -> str:
    """The source of a spec without them; whatever else it says stays byte for byte.

    Raises ValueError where they cannot be cut out by whole lines.
    """
    tree = ast.parse(source)
    before = _used(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Exercise"]
    source = _edited(source, [(word, "") for call in calls for word in call.keywords if word.arg in CUT])
    while edits := list(_idle(ast.parse(source), before)):
        source = _edited(source, edits)
    if left := {"Bug", "Variant"} & _used(ast.parse(source)):
        raise ValueError(f"{' and '.join(sorted(left))} would be left: they may stand in {' and '.join(CUT)} only")
    return source


def _used(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _idle(tree: ast.Module, before: set[str]) -> Iterator[tuple[ast.stmt, str]]:
    """Statements of the module of which nothing is used any more, and what stands in their place."""
    unused = before - _used(tree)
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) not in unused]
            if len(names) < len(node.names):
                node.names = names
                yield node, ast.unparse(node) + "\n" if names else ""
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if node.name in unused:
                yield node, ""
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = {x.id for x in ast.walk(node) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
            if targets <= unused:
                yield node, ""


def _edited(source: str, edits: list[tuple[ast.AST, str]]) -> str:
    """The source with other text in the lines of some nodes, whose comments above go with them."""
    lines = source.splitlines(keepends=True)
    for node, text in sorted(edits, key=lambda edit: -edit[0].lineno):
        first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", ()))]) - 1
        last = node.end_lineno
        before = lines[node.lineno - 1].encode()[: node.col_offset]
        behind = lines[last - 1].encode()[node.end_col_offset :].decode().strip()
        if before.strip() or behind.partition("#")[0].strip() not in ("", ","):
            raise ValueError(f"line {node.lineno}: what is cut out does not stand on lines of its own")
        if not text:
            while first and lines[first - 1].lstrip().startswith("#"):
                first -= 1
            while last < len(lines) and not lines[last].strip() and (first == 0 or not lines[first - 1].strip()):
                last += 1
        lines[first:last] = [text]
    return "".join(lines)
