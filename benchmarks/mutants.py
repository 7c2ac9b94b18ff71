"""Small wrong changes to a function, as mutation testing makes them: each should fail a test.

What changes, one place at a time: comparisons (``<`` to ``<=``, ``in`` to ``not in``), arithmetic
(``+`` to ``-``), ``and`` to ``or``, conditions to their opposite, numbers and truth values, words,
``min`` to ``max`` and ``any`` to ``all``, keyword arguments left out, calls for their effect and
exceptions left out, ``continue`` to ``break``, and what is returned to None. Left alone: messages,
annotations, default values, decorators, assertions, ``strict`` of ``zip``, which is another, and
what is not in a function.
"""

import ast
import copy
import hashlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_EACH_OTHERS = [
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn)),
    *((ast.Is, ast.IsNot), (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.BitAnd, ast.BitOr)),
]
OPERATORS = {
    **{one: other for pair in _EACH_OTHERS for one, other in (pair, pair[::-1])},
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitXor: ast.BitOr,
}
OPPOSITE = {"min": "max", "max": "min", "any": "all", "all": "any"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Change = Callable[[ast.AST], ast.AST]


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        path: the source file.
        function: the outermost function that it lies in, as Python calls it (``Class.method``).
        line: where it lies.
        lines: the lines of the statement or expression that changes, first and last.
        what: the changed text, before and after.
        nth: which of the function's changes of that text it is, from 1 on.
        source: a digest of the function without the change.
        code: the compiled function with the change.
    """

    path: Path
    function: str
    line: int
    lines: tuple[int, int]
    what: str
    nth: int
    source: str
    code: CodeType

    @property
    def key(self) -> str:
        """What tells it apart, whatever the lines above it are."""
        return f"{self.path} {self.function}: {self.what} ({self.nth})"


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a source file, from its first line to its last."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function, name in _functions(tree, ""):
        seen: Counter[str] = Counter()
        source = hashlib.sha256(ast.unparse(function).encode()).hexdigest()[:12]
        for number, (node, statement) in enumerate(list(_places(function))):
            for changed in _changes(node):
                what = " ".join(f"{_text(node)} -> {_text(changed)}".split())
                seen[what] += 1
                where = node if hasattr(node, "lineno") else statement
                new = _changed(function, number, changed, where)
                yield Mutant(
                    path,
                    name,
                    where.lineno,
                    (statement.lineno, _last_line(where)),
                    what,
                    seen[what],
                    source,
                    _compiled(tree, function, new, path, name),
                )


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[Function, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from _functions(node, prefix)


def _places(function: Function) -> Iterator[tuple[ast.AST, ast.stmt]]:
    """The nodes of a function that may change, each with its statement, in a fixed order."""

    def walk(node: ast.AST, statement: ast.stmt) -> Iterator[tuple[ast.AST, ast.stmt]]:
        if isinstance(node, ast.stmt):
            statement = node
        yield node, statement
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr) or _is_strict(node):
            return
        if _is_docstring(node):
            return
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "args") and not isinstance(
                node, ast.Call
            ):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child, statement)

    for statement in function.body:
        yield from walk(statement, statement)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What `node` could be instead."""

    def with_(**fields: object) -> ast.AST:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    match node:
        case ast.Compare(ops=ops):
            for i, each in enumerate(ops):
                yield with_(ops=[*ops[:i], OPERATORS[type(each)](), *ops[i + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield with_(op=OPERATORS[type(op)]())
        case ast.BoolOp(op=op):
            yield with_(op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)):
            yield ast.Constant(f"XX{value}XX")
        case ast.Name(id=name) if name in OPPOSITE:
            yield ast.Name(OPPOSITE[name], ast.Load())
        case ast.Call(keywords=keywords):
            for i, keyword in enumerate(keywords):
                if keyword.arg is not None and not _is_strict(keyword):
                    yield with_(keywords=[*keywords[:i], *keywords[i + 1 :]])
        case ast.If() | ast.While() | ast.IfExp() if not _is_changed_anyway(node.test):
            yield with_(test=ast.UnaryOp(ast.Not(), node.test))
        case ast.comprehension(ifs=[test, *others]) if not _is_changed_anyway(test):
            yield with_(ifs=[ast.UnaryOp(ast.Not(), test), *others])
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) not in ("None", "False"):
            yield with_(value=ast.Constant(None))


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_strict(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg == "strict"


def _is_changed_anyway(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp)


def _changed(function: Function, number: int, changed: ast.AST, where: ast.AST) -> Function:
    """`function` with `changed` in its place `number`."""
    new = copy.deepcopy(function)
    twin = next(node for i, (node, _) in enumerate(_places(new)) if i == number)
    changed = copy.deepcopy(changed)
    for parent in ast.walk(new):
        for field, value in ast.iter_fields(parent):
            if value is twin:
                setattr(parent, field, changed)
            elif isinstance(value, list):
                value[:] = [changed if each is twin else each for each in value]
    for each in ast.walk(new):
        if "lineno" in each._attributes and not hasattr(each, "lineno"):
            ast.copy_location(each, where)
    return new


def _text(node: ast.AST) -> str:
    """The changed place in one line; of a compound statement its head."""
    if isinstance(node, ast.If | ast.While):
        return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
    if isinstance(node, ast.comprehension):
        return " ".join(f"if {ast.unparse(each)}" for each in node.ifs)
    return ast.unparse(node)


def _last_line(node: ast.AST) -> int:
    inner = node.test if isinstance(node, ast.If | ast.While) else node
    return inner.end_lineno or inner.lineno


def _compiled(
    tree: ast.Module, function: Function, new: Function, path: Path, name: str
) -> CodeType:
    """The code of `new` in the place of `function`."""
    for parent in ast.walk(tree):
        body = getattr(parent, "body", None)
        if isinstance(body, list) and function in body:
            at = body.index(function)
            body[at] = new
            try:
                return code_of(compile(tree, str(path), "exec"), name)
            finally:
                body[at] = function
    raise AssertionError(f"{name} is not in {path}")


def code_of(code: CodeType, name: str) -> CodeType:
    """The code of the function `name` in the code of its module."""
    for each in code.co_consts:
        if inspect.iscode(each):
            if each.co_qualname == name:
                return each
            if name.startswith(f"{each.co_qualname}."):
                return code_of(each, name)
    raise AssertionError(f"no code of {name}")
