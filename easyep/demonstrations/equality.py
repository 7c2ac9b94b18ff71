"""Final answers: where they stand in a response, and whether two mean the same number."""

import ast
import re
from collections.abc import Callable
from typing import Any

from easyep.allocation_limit import allocation_limit
from easyep.errors import DemosError, MissingDependencyError
from easyep.time_limit import within

_LONGEST = 400  # characters of an answer; what is longer is prose
_LARGEST_POWER = 4000
_LARGEST = 100_000  # bits of a power
# Of a comparison; answers that are meant well need milliseconds.
LONGEST_COMPARISON = 5.0
_NAMES = {"pi": "pi", "e": "E", "i": "I", "infty": "oo", "oo": "oo"}
_FUNCTIONS = (
    "sqrt",
    "cbrt",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "log",
    "ln",
    "exp",
    "Abs",
)
_LATEX_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
_SIGNS = str.maketrans({"√": " sqrt ", "π": " pi ", "\u2212": "-", "\u00d7": "*"})
_TOKEN = re.compile(r"\d+\.?\d*|\.\d+|[A-Za-z_]\w*|\*\*|[-+*/^(),!=]")
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def final_answer(response: str) -> str:
    r"""The answer that a response ends with.

    That is what stands in the last ``\boxed{}``; without one, what follows the last "answer:" or
    "answer is"; without that, the last line.
    """
    response = response.strip()
    start = response.rfind(r"\boxed{")
    if start >= 0:
        return _braces(response, start + len(r"\boxed"))[0].strip()
    found = re.findall(r"answer(?:\s+is)?\s*[:=]?\s*\**\s*(.+)", response, re.I)
    answer = found[-1] if found else response.rpartition("\n")[2]
    return answer.strip().rstrip(".").strip("*$ ").rstrip(".")


def same_value(one: str, other: str) -> bool:
    """Whether two answers are equal, in LaTeX or plain notation; tuples element by element.

    Equality is exact where both are exact, and to 1e-6 where one of them is a decimal fraction.
    What is not found to be equal within `LONGEST_COMPARISON` seconds counts as different.

    Raises:
        MissingDependencyError: sympy is not installed.
    """
    if _plain(one) == _plain(other):
        return True
    _sympy()  # its first import takes time of its own
    try:
        with allocation_limit():
            return within(
                LONGEST_COMPARISON,
                lambda: _equal(parse(one), parse(other), "." in one or "." in other),
            )
    except (DemosError, TimeoutError, MemoryError):
        return False


def parse(text: str) -> Any:
    """A sympy expression, or a tuple of them, for an answer; nothing of the text is executed.

    Raises:
        DemosError: it is no expression that is known here.
    """
    sympy = _sympy()
    if len(text) > _LONGEST:
        raise DemosError("the answer is too long to be a value")
    source = _python(text)
    try:
        tree = ast.parse(source, mode="eval").body
        return _build(tree, sympy)
    except (SyntaxError, ValueError, TypeError, ZeroDivisionError, RecursionError) as error:
        raise DemosError(f"{text!r} is no value that can be compared: {error}") from None


def _sympy() -> Any:
    try:
        import sympy
    except ImportError:
        raise MissingDependencyError(
            "comparing mathematical answers needs sympy: pip install 'easyep[demos]'"
        ) from None
    return sympy


def _plain(text: str) -> str:
    return re.sub(r"\s|\$|\\[,;!]|\\left|\\right", "", text).rstrip(".").lower()


def _equal(a: Any, b: Any, approximate: bool) -> bool:
    if isinstance(a, tuple) or isinstance(b, tuple):
        if not (isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b)):
            return False
        return all(_equal(x, y, approximate) for x, y in zip(a, b, strict=True))
    difference = a - b
    if approximate and not difference.free_symbols:
        scale = max(1.0, abs(complex(b.evalf())))
        return abs(complex(difference.evalf())) <= 1e-6 * scale
    if difference == 0:
        return True
    if not difference.free_symbols and abs(complex(difference.evalf(30))) > 1e-12:
        return False
    return bool(difference.equals(0))


def _braces(text: str, start: int) -> tuple[str, int]:
    """What stands in the braces that open at `start`, and where they end."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start + 1 : i], i + 1
    return text[start + 1 :], len(text)


def _python(text: str) -> str:
    """LaTeX or plain notation -> Python, with every multiplication written out."""
    text = re.sub(
        r"\\(?:text|mathrm|mbox)\{[^{}]*\}|\\[,;! ]|\\(?:left|right|displaystyle)", "", text
    )
    text = text.replace("$", "").replace("\\%", "").replace("°", "").replace("^\\circ", "")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))|\{,\}", "", text.strip().rstrip("."))
    text = re.sub(r"\\[dt]?(frac|binom)\s*(\d)(\d)", r"\\\1{\2}{\3}", text)
    for command, form in (("frac", "(({0})/({1}))"), ("binom", "binomial({0},{1})")):
        text = _commands(text, rf"\\[dt]?{command}(?={{)", 2, form)
    text = re.sub(r"\\sqrt\[(\d+)\]", r"\\root{\1}", text)
    text = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", text)
    text = _commands(text, r"\\root(?={)", 2, "(({1})**(1/({0})))")
    text = _commands(text, r"\\sqrt(?={)", 1, "sqrt({0})")
    text = re.sub(r"\\(?:cdot|times)", "*", text).replace("{", "(").replace("}", ")")
    text = text.replace("\\", " ").replace("[", "(").replace("]", ")")
    text = text.translate(_SIGNS)
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s", "", text):
        raise DemosError(f"{text!r} is no value that can be compared")
    if "=" in tokens:
        tokens = tokens[len(tokens) - tokens[::-1].index("=") :]
    made: list[str] = []
    for token in tokens:
        token = {"^": "**", **_LATEX_NAMES}.get(token, token)
        if made and _ends_value(made[-1]) and (token == "(" or re.match(r"[\w.]", token)):
            made.append("*")
        bare = made and made[-1] in _FUNCTIONS and re.match(r"[\w.]", token)
        made.append(f"({token})" if bare else token)
    return "".join(made)


def _commands(text: str, pattern: str, count: int, form: str) -> str:
    r"""Replace commands such as ``\frac{a}{b}``, innermost last."""
    while match := re.search(pattern, text):
        arguments, end = [], match.end()
        for _ in range(count):
            argument, end = _braces(text, end)
            arguments.append(argument)
        text = text[: match.start()] + form.format(*arguments) + text[end:]
    return text


def _ends_value(token: str) -> bool:
    return (token[-1] == ")" or bool(re.match(r"[\w.]", token))) and token not in (
        *_FUNCTIONS,
        "binomial",
    )


def _bits(number: Any) -> int:
    """Of a fraction's larger part."""
    return max(int(number.p).bit_length(), int(number.q).bit_length())


def _build(node: ast.expr, sympy: Any) -> Any:
    """The sympy value of a syntax tree that holds nothing but arithmetic."""
    match node:
        case ast.Tuple(elts=parts):
            return tuple(_build(part, sympy) for part in parts)
        case ast.Constant(value=int() | float() as value):
            # Decimal fractions as they were written: 0.1 is one tenth.
            return sympy.Rational(str(value))
        case ast.Name(id=name):
            return getattr(sympy, _NAMES[name]) if name in _NAMES else sympy.Symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_build(operand, sympy)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _build(operand, sympy)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _build(left, sympy), _build(right, sympy)
            size = abs(float(power)) if power.is_number else 0.0
            if size > _LARGEST_POWER or (base.is_Rational and _bits(base) * size > _LARGEST):
                raise ValueError("the power is too large")
            return base**power
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _OPERATORS[type(operator)](_build(left, sympy), _build(right, sympy))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if name in _FUNCTIONS:
                return getattr(sympy, name)(*(_build(a, sympy) for a in arguments))
            if name == "binomial":
                n, k = (_build(a, sympy) for a in arguments)
                if max(abs(n), abs(k)) > _LARGEST_POWER:
                    raise ValueError("the binomial coefficient is too large")
                return sympy.binomial(n, k)
    raise ValueError("only arithmetic is compared")
